package txn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
)

// version is what the model remembers of a commit; a nil value is a delete.
type version struct {
	commitTS uint64
	value    []byte
}

type model map[string][]version // oldest first

func (m model) get(key string, ts uint64) []byte {
	vs := m[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].commitTS <= ts {
			return vs[i].value
		}
	}
	return nil
}

// scan lists the rows in [start, end), as "key=value".
func (m model) scan(start, end string, ts uint64, desc bool) []string {
	var out []string
	for key := range m {
		if v := m.get(key, ts); v != nil && key >= start && (end == "" || key < end) {
			out = append(out, key+"="+string(v))
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		ka, _, _ := strings.Cut(a, "=")
		kb, _, _ := strings.Cut(b, "=")
		return strings.Compare(ka, kb)
	})
	if desc {
		slices.Reverse(out)
	}
	return out
}

// Random committed histories, with rollbacks, lock records and many versions,
// read at random timestamps, by key and by range in both directions, agree with
// a model.
func TestReadsAgreeWithModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { checkModel(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func checkModel(t *testing.T, r *rand.Rand) {
	h := newHeld(t)
	ctx := context.Background()
	m := model{}
	ts := uint64(1)
	key := func() string { return strings.Repeat("k", 1+r.IntN(9)) + string(rune('a'+r.IntN(6))) }
	for range 150 {
		ts += 2 + r.Uint64N(5)
		k := key()
		mut := put(k, strings.Repeat("v", r.IntN(3)*200)+fmt.Sprint(ts))
		switch r.IntN(6) {
		case 0:
			mut.Op, mut.Value = kvrpcpb.Op_Del, nil
		case 1:
			mut.Op, mut.Value = kvrpcpb.Op_Lock, nil
		case 2:
			// Several protected rollbacks in a row.
			for range r.IntN(12) {
				if _, err := h.s.KvCleanup(ctx, &kvrpcpb.CleanupRequest{Context: h.e.Context(nil), Key: []byte(k), StartVersion: ts}); err != nil {
					t.Fatal(err)
				}
				ts++
			}
			continue
		}
		for range 1 + r.IntN(4)*r.IntN(4) {
			ts += 2
			if resp := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{mut}, StartVersion: ts, TryOnePc: true}); resp.OnePcCommitTs == 0 {
				t.Fatal(resp)
			} else if mut.Op != kvrpcpb.Op_Lock {
				m[k] = append(m[k], version{resp.OnePcCommitTs, mut.Value})
			}
		}
	}
	for range 60 {
		at := r.Uint64N(ts + 10)
		var start, end string
		if r.IntN(3) > 0 {
			start = key()
		}
		if r.IntN(3) > 0 {
			end = key()
		}
		if end != "" && start >= end {
			start, end = "", start
		}
		reader, err := h.s.OpenReader(ctx, h.e.Context(nil), txn.ReaderOptions{TS: at, Ranges: []kv.KeyRange{{Start: []byte(start), End: []byte(end)}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, desc := range []bool{false, true} {
			if got, want := scanRows(t, reader, start, end, desc), m.scan(start, end, at, desc); !slices.Equal(got, want) {
				t.Errorf("scan [%s, %s) at %d, desc %t:\n got %q\nwant %q", start, end, at, desc, got, want)
			}
		}
		for range 5 {
			k := key()
			value, _, ok, err := reader.Get([]byte(k))
			want := m.get(k, at)
			if err != nil || ok != (want != nil) || !bytes.Equal(value, want) {
				t.Errorf("get %s at %d: %q %t %v, want %q", k, at, value, ok, err, want)
			}
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func scanRows(t *testing.T, reader *txn.Reader, start, end string, desc bool) []string {
	t.Helper()
	sc, err := reader.NewScanner(txn.ScanOptions{Start: []byte(start), End: []byte(end), Desc: desc})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sc.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out []string
	for {
		k, v, ok, err := sc.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		out = append(out, string(k)+"="+string(v))
	}
}

// A scanner that was asked to collects the locks of its range.
func TestScannerCollectsLocks(t *testing.T) {
	h := newHeld(t)
	for i, k := range []string{"a", "b", "c", "d", "e"} {
		h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put(k, "v")}, StartVersion: uint64(10 + i)})
	}
	for _, desc := range []bool{false, true} {
		reader, err := h.s.OpenReader(context.Background(), h.e.Context(nil), txn.ReaderOptions{TS: 13})
		if err != nil {
			t.Fatal(err)
		}
		sc, err := reader.NewScanner(txn.ScanOptions{Start: []byte("b"), Desc: desc, LocksMax: 2})
		if err != nil {
			t.Fatal(err)
		}
		_, _, _, err = sc.Next()
		want := "b c"
		if desc {
			want = "d c" // e is locked after the read timestamp
		}
		var locked *txn.LockedError
		if !errors.As(err, &locked) || len(locked.More) != 1 || fmt.Sprintf("%s %s", locked.Info.Key, locked.More[0].Key) != want {
			t.Errorf("desc %t: %v", desc, locked)
		}
		if err := errors.Join(sc.Close(), reader.Close()); err != nil {
			t.Error(err)
		}
	}
}
