package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

func open(t testing.TB, fs vfs.FS, onFatal func(error)) *Log {
	t.Helper()
	l, err := Open(Options{Dir: "raft", FS: fs, CacheBytes: 1 << 20, OnFatal: onFatal})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func entry(index, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryType_EntryNormal.Enum(), Data: []byte(data)}
}

func entries(lo, hi, term uint64) []*raftpb.Entry {
	var out []*raftpb.Entry
	for i := lo; i < hi; i++ {
		out = append(out, entry(i, term, fmt.Sprintf("e%d@%d", i, term)))
	}
	return out
}

func hardState(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func commit(t testing.TB, l *Log, fill func(b *Batch)) {
	t.Helper()
	b := l.NewBatch()
	defer b.Close()
	fill(b)
	if err := l.Commit(b, true); err != nil {
		t.Fatal(err)
	}
}

func show(es []*raftpb.Entry) string {
	var out []string
	for _, e := range es {
		out = append(out, fmt.Sprintf("%d:%s", e.GetIndex(), e.GetData()))
	}
	return strings.Join(out, " ")
}

func TestEntries(t *testing.T) {
	l := open(t, vfs.NewMem(), nil)
	defer l.Close()
	if _, ok, err := l.Load(7); ok || err != nil {
		t.Fatalf("an unknown region: %v %v", ok, err)
	}
	commit(t, l, func(b *Batch) {
		b.Append(7, entries(1, 11, 1), 0)
		b.Append(8, entries(1, 3, 9), 0)
		b.SetHardState(7, hardState(3, 2, 5))
		b.SetTruncated(7, 3, 1)
		b.PutMeta([]byte("k"), []byte("v"))
	})
	es, err := l.Entries(7, 4, 8, 1<<20)
	if err != nil || show(es) != "4:e4@1 5:e5@1 6:e6@1 7:e7@1" {
		t.Fatalf("%s %v", show(es), err)
	}
	if es, err = l.Entries(7, 4, 11, 0); err != nil || len(es) != 1 {
		t.Fatalf("one entry at least: %s %v", show(es), err)
	}
	if es, err = l.Entries(7, 4, 11, 15); err != nil || len(es) != 2 {
		t.Fatalf("size limit: %s %v", show(es), err)
	}
	for _, r := range [][2]uint64{{3, 5}, {9, 12}} {
		if _, err = l.Entries(7, r[0], r[1], 1<<20); !errors.Is(err, ErrMissing) {
			t.Fatalf("entries %v: %v", r, err)
		}
	}
	st, ok, err := l.Load(7)
	if err != nil || !ok || st.HardState.GetTerm() != 3 || st.HardState.GetVote() != 2 || st.HardState.GetCommit() != 5 ||
		st.TruncatedIndex != 3 || st.TruncatedTerm != 1 || st.LastIndex != 10 || st.LastTerm != 1 {
		t.Fatalf("state %+v %v %v", st, ok, err)
	}
	if term, err := l.Term(8, 2); err != nil || term != 9 {
		t.Fatalf("term %d %v", term, err)
	}
	// A region with entries only, one with states only, one deleted.
	commit(t, l, func(b *Batch) { b.SetTruncated(9, 20, 4); b.DeleteRegion(7) })
	var all []string
	err = l.LoadAll(func(id uint64, st RaftState) error {
		all = append(all, fmt.Sprintf("%d:%d/%d", id, st.TruncatedIndex, st.LastIndex))
		return nil
	})
	if err != nil || strings.Join(all, " ") != "8:0/2 9:20/20" {
		t.Fatalf("%v %v", all, err)
	}
	v, ok, err := l.GetMeta([]byte("k"))
	if err != nil || !ok || string(v) != "v" {
		t.Fatalf("meta %q %v %v", v, ok, err)
	}
	commit(t, l, func(b *Batch) { b.DeleteMeta([]byte("k")) })
	if err := l.ScanMeta(nil, func(k, v []byte) error { return fmt.Errorf("meta %q is left", k) }); err != nil {
		t.Fatal(err)
	}
}

// TestLogModel drives one region's log with random appends, conflicts and
// truncations against a slice, restarting after crashes that keep only what
// was synced.
func TestLogModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := vfs.NewCrashableMem()
		l := open(t, mem, nil)
		defer func() { l.Close() }()
		model := []string{} // model[i] is entry truncated+1+i
		truncated, term := uint64(0), uint64(1)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			last := truncated + uint64(len(model))
			b := l.NewBatch()
			switch rapid.SampledFrom([]string{"append", "conflict", "truncate", "crash"}).Draw(rt, "step") {
			case "append":
				es := entries(last+1, last+1+rapid.Uint64Range(1, 60).Draw(rt, "n"), term)
				b.Append(1, es, last)
				for _, e := range es {
					model = append(model, string(e.Data))
				}
			case "conflict":
				term++
				from := rapid.Uint64Range(truncated+1, last+1).Draw(rt, "from")
				es := entries(from, from+rapid.Uint64Range(1, 3).Draw(rt, "n"), term)
				b.Append(1, es, last)
				model = model[:from-truncated-1]
				for _, e := range es {
					model = append(model, string(e.Data))
				}
			case "truncate":
				to := rapid.Uint64Range(truncated, last).Draw(rt, "to")
				b.SetTruncated(1, to, term)
				model, truncated = slices.Clone(model[to-truncated:]), to
			case "crash":
				mem = mem.CrashClone(vfs.CrashCloneCfg{})
				if err := errors.Join(b.Close(), l.Close()); err != nil {
					rt.Fatal(err)
				}
				l = open(t, mem, nil)
				b = l.NewBatch()
			}
			if err := errors.Join(l.Commit(b, true), b.Close()); err != nil {
				rt.Fatal(err)
			}
			st, _, err := l.Load(1)
			if err != nil || st.LastIndex != truncated+uint64(len(model)) || st.TruncatedIndex != truncated {
				rt.Fatalf("state %+v %v, want truncated %d and %d entries", st, err, truncated, len(model))
			}
			es, err := l.Entries(1, truncated+1, st.LastIndex+1, 1<<30)
			if err != nil {
				rt.Fatal(err)
			}
			for i, e := range es {
				if string(e.Data) != model[i] {
					rt.Fatalf("entry %d is %s, want %s", e.GetIndex(), e.Data, model[i])
				}
			}
		}
	})
}

// TestHazard01_SyncedCommitSurvivesCrash crashes after every commit with random
// loss of unsynced bytes: a synced batch is there as a whole, and of unsynced
// ones only whole ones.
func TestHazard01_SyncedCommitSurvivesCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	mem := vfs.NewCrashableMem()
	l := open(t, mem, nil)
	defer l.Close()
	synced := uint64(0)
	for i := uint64(1); i <= 40; i++ {
		sync := rng.IntN(2) == 0
		b := l.NewBatch()
		b.Append(1, []*raftpb.Entry{entry(i, 1, strings.Repeat("x", rng.IntN(3000)))}, i-1)
		b.SetHardState(1, hardState(1, 1, i))
		if err := l.Commit(b, sync); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if sync {
			synced = i
		}
		c := open(t, mem.CrashClone(vfs.CrashCloneCfg{}), nil)
		st, _, err := c.Load(1)
		if err != nil || st.LastIndex < synced || st.LastIndex != st.HardState.GetCommit() {
			t.Fatalf("after commit %d (synced up to %d): last %d, hard state %v, %v", i, synced, st.LastIndex, st.HardState, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHazard02_SyncErrorIsSticky: after one failed sync no commit succeeds, even
// when the disk works again.
func TestHazard02_SyncErrorIsSticky(t *testing.T) {
	var broken bool
	injected := errors.New("injected disk error")
	inj := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			return injected
		}
		return nil
	})
	var fatal []error
	mem := vfs.NewCrashableMem()
	l := open(t, errorfs.Wrap(mem, inj), func(err error) { fatal = append(fatal, err) })
	commit(t, l, func(b *Batch) { b.Append(1, entries(1, 2, 1), 0) })
	broken = true
	b := l.NewBatch()
	b.Append(1, entries(2, 3, 1), 1)
	first := l.Commit(b, true)
	if !errors.Is(first, injected) || len(fatal) != 1 || !errors.Is(fatal[0], injected) {
		t.Fatalf("commit on a broken disk: %v, hook got %v", first, fatal)
	}
	broken = false
	for range 3 {
		b := l.NewBatch()
		b.Append(1, entries(2, 3, 1), 1)
		if err := l.Commit(b, true); !errors.Is(err, injected) {
			t.Fatalf("commit after a failed sync: %v", err)
		}
	}
	if err := l.Close(); !errors.Is(err, injected) {
		t.Fatalf("close: %v", err)
	}
	c := open(t, mem.CrashClone(vfs.CrashCloneCfg{}), nil)
	defer c.Close()
	if st, _, err := c.Load(1); err != nil || st.LastIndex != 1 {
		t.Fatalf("after restart: %+v %v", st, err)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	l := open(t, vfs.NewMem(), nil)
	defer l.Close()
	index := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		index++
		e := entry(index, rapid.Uint64().Draw(rt, "term"), string(rapid.SliceOf(rapid.Byte()).Draw(rt, "data")))
		e.Type = rapid.SampledFrom([]raftpb.EntryType{raftpb.EntryType_EntryNormal, raftpb.EntryType_EntryConfChange, raftpb.EntryType_EntryConfChangeV2}).Draw(rt, "type").Enum()
		commit(t, l, func(b *Batch) { b.Append(1, []*raftpb.Entry{e}, index-1) })
		got, err := l.Entries(1, index, index+1, 1)
		if err != nil || got[0].GetTerm() != e.GetTerm() || got[0].GetType() != e.GetType() || !bytes.Equal(got[0].Data, e.Data) {
			rt.Fatalf("got %v, want %v: %v", got, e, err)
		}
	})
}
