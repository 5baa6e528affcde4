package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/copradb/copra/txn/mvcc"
)

const startTS, commitTS = 100, 110

// cluster runs a test on three stores that the loader reaches.
func cluster(t *testing.T, test func(t *testing.T, c *rafttest.Cluster, l *Local, j bulkload.Job)) {
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.NewCluster(t, 3, 3, raftstore.Config{})
		defer c.Close()
		l := &Local{}
		for _, id := range c.IDs() {
			l.Add(id, c.Node(id).Store)
		}
		j, err := l.Begin(startTS, commitTS)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		test(t, c, l, j)
	})
}

func valueOf(i int) []byte { return []byte(strings.Repeat(fmt.Sprint(i%10), i%400)) }

func keyOf(i int) []byte { return fmt.Appendf(nil, "key%06d", i) }

// tableOf writes a table of these keys.
func tableOf(t *testing.T, j bulkload.Job, keys ...int) bulkload.Table {
	t.Helper()
	w, err := j.NewTable()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	for _, i := range keys {
		if err := w.Add(keyOf(i), valueOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	table, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// visible counts the keys below n that a reader at ts finds, with their values,
// through the leader.
func visible(t *testing.T, c *rafttest.Cluster, n int, ts uint64) (found int) {
	t.Helper()
	for i := range n {
		region := c.RegionAt(string(codec.EncodeBytes(nil, keyOf(i))))
		lead := c.WaitLeader(region.Id)
		snap, err := c.Node(lead).Store.Snapshot(context.Background(), c.Context(lead, region.Id), kv.SnapshotOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var r mvcc.Reader
		r.Init(snap)
		enc := codec.EncodeBytes(nil, keyOf(i))
		_, w, ok, err := r.GetWrite(enc, ts)
		if err == nil && ok {
			var value []byte
			if value, err = r.LoadValue(enc, w); !bytes.Equal(value, valueOf(i)) {
				t.Errorf("key %d has a value of %d bytes, not %d", i, len(value), len(valueOf(i)))
			}
			found++
		}
		if err = errors.Join(err, r.Close(), snap.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// TestMergeAndIngest: tables in any order, with long values, become what one
// transaction would have committed.
func TestMergeAndIngest(t *testing.T) {
	cluster(t, func(t *testing.T, c *rafttest.Cluster, _ *Local, j bulkload.Job) {
		c.WaitLeader(rafttest.FirstRegion)
		const n = 1200
		order := rand.New(rand.NewPCG(3, 4)).Perm(n)
		var in []bulkload.Table
		for part := range slices.Chunk(order, 250) {
			in = append(in, tableOf(t, j, part...))
		}
		middle := keyOf(n / 2)
		var merged []bulkload.Table
		for _, bounds := range [][2][]byte{{nil, middle}, {middle, nil}} {
			part, err := j.Merge(t.Context(), in, bounds[0], bounds[1], 40<<10)
			if err != nil {
				t.Fatal(err)
			}
			merged = append(merged, part...)
		}
		var keys int64
		for i, m := range merged {
			keys += m.Keys
			if i > 0 && bytes.Compare(merged[i-1].Last, m.First) >= 0 {
				t.Errorf("table %d ends at %s, the next begins at %s", i-1, merged[i-1].Last, m.First)
			}
		}
		if keys != n || len(merged) < 4 {
			t.Fatalf("%d keys in %d tables", keys, len(merged))
		}
		j.Drop(in)
		if _, err := j.Merge(t.Context(), in[:1], nil, nil, 1<<20); err == nil {
			t.Error("a table that was dropped can be merged")
		}
		if err := j.Ingest(t.Context(), c.RegionAt("k"), merged); err != nil {
			t.Fatal(err)
		}
		if got := visible(t, c, n, commitTS); got != n {
			t.Errorf("%d keys are visible", got)
		}
		if got := visible(t, c, n, commitTS-1); got != 0 {
			t.Errorf("%d keys are visible before the commit", got)
		}
		if err := j.Ingest(t.Context(), c.RegionAt("k"), merged); err != nil { // an outcome that was not known
			t.Fatal(err)
		}
		if got := visible(t, c, n, commitTS); got != n {
			t.Errorf("%d keys are visible after they were ingested twice", got)
		}
	})
}

func TestDuplicates(t *testing.T) {
	cluster(t, func(t *testing.T, _ *rafttest.Cluster, _ *Local, j bulkload.Job) {
		a, b := tableOf(t, j, 1, 3, 350), tableOf(t, j, 2, 350, 360)
		var dup *bulkload.DuplicateError
		for _, size := range []int64{1, 1 << 20} { // the duplicate would begin a table, or not
			if _, err := j.Merge(t.Context(), []bulkload.Table{a, b}, nil, nil, size); !errors.As(err, &dup) || !bytes.Equal(dup.Key, keyOf(350)) {
				t.Errorf("tables of %d bytes: %v", size, err)
			}
		}
		w, err := j.NewTable()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		for _, step := range []struct {
			key string
			ok  bool
		}{{"b", true}, {"b", false}, {"a", false}, {"c", true}} {
			if err := w.Add([]byte(step.key), nil); (err == nil) != step.ok {
				t.Errorf("add %s: %v", step.key, err)
			}
		}
	})
}

// TestNotReached: a region with a replica elsewhere, or at another epoch, takes
// nothing.
func TestNotReached(t *testing.T) {
	cluster(t, func(t *testing.T, c *rafttest.Cluster, l *Local, j bulkload.Job) {
		table := tableOf(t, j, 1, 2)
		c.Put("a", "1")
		region := c.RegionAt("k")
		old := &metapb.Region{Id: region.Id, Peers: region.Peers, RegionEpoch: &metapb.RegionEpoch{ConfVer: region.RegionEpoch.ConfVer}}
		err := j.Ingest(t.Context(), old, []bulkload.Table{table})
		if re := kv.AsRegionError(err); re.GetEpochNotMatch() == nil {
			t.Errorf("an old epoch: %v", err)
		}
		store := l.store(2)
		l.Remove(2)
		if l.Reaches(2) || !l.Reaches(1) {
			t.Error("the loader does not know what it reaches")
		}
		if err := j.Ingest(t.Context(), region, []bulkload.Table{table}); err == nil || kv.AsRegionError(err) != nil {
			t.Errorf("a replica elsewhere: %v", err)
		}
		for _, id := range c.IDs() {
			names, err := c.Node(id).FS.List(c.Node(id).Store.ImportDir())
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(names, func(s string) bool { return strings.HasSuffix(s, ".sst") }) {
				t.Errorf("store %d has %q", id, names)
			}
		}
		l.Add(2, store)
		if err := j.Ingest(t.Context(), region, []bulkload.Table{table}); err != nil {
			t.Error(err)
		}
		if got := visible(t, c, 3, commitTS); got != 2 {
			t.Errorf("%d keys are visible", got)
		}
	})
}
