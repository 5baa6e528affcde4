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

	"github.com/cockroachdb/datadriven"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// collect drops the garbage of the keys in one batch, or until nothing is left.
func (s *script) collect(d *datadriven.TestData) string {
	var enc [][]byte
	for _, k := range s.keys(d) {
		enc = append(enc, codec.EncodeBytes(nil, k))
	}
	got, err := s.s.Collect(context.Background(), s.ctx(d, s.keys(d)[0]), s.ts(d, "safe"), enc)
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprintf("records=%d values=%d done=%d locked=%d", got.Records, got.Values, got.Done, got.Locked)
}

// Whatever is collected, and in however many steps: reads at or above the safe
// point see what they saw before, and reads below are refused.
func TestCollectKeepsWhatCanBeRead(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { checkCollect(t, rand.New(rand.NewPCG(seed, 19))) })
	}
}

func checkCollect(t *testing.T, r *rand.Rand) {
	h := newHeld(t)
	ctx := context.Background()
	m := model{}
	keys := map[string]bool{}
	ts := uint64(1)
	write := func() {
		ts += 2 + r.Uint64N(5)
		k := strings.Repeat("k", 1+r.IntN(9)) + string(rune('a'+r.IntN(4)))
		keys[k] = true
		mut := put(k, strings.Repeat("v", r.IntN(3)*200)+fmt.Sprint(ts))
		switch r.IntN(6) {
		case 0:
			mut.Op, mut.Value = kvrpcpb.Op_Del, nil
		case 1:
			mut.Op, mut.Value = kvrpcpb.Op_Lock, nil
		case 2:
			for range r.IntN(5) {
				if _, err := h.s.KvCleanup(ctx, &kvrpcpb.CleanupRequest{Context: h.e.Context(nil), Key: []byte(k), StartVersion: ts}); err != nil {
					t.Fatal(err)
				}
				ts++
			}
			return
		}
		ts += 2
		if resp := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{mut}, StartVersion: ts, TryOnePc: true}); resp.OnePcCommitTs == 0 {
			t.Fatal(resp)
		} else if mut.Op != kvrpcpb.Op_Lock {
			m[k] = append(m[k], version{resp.OnePcCommitTs, mut.Value})
		}
	}
	safe := uint64(0)
	for range 12 {
		for range 25 {
			write()
		}
		safe += r.Uint64N(ts - safe)
		if safe == 0 {
			continue
		}
		var enc [][]byte
		for k := range keys {
			if r.IntN(4) > 0 {
				enc = append(enc, codec.EncodeBytes(nil, []byte(k)))
			}
		}
		if len(enc) == 0 {
			continue
		}
		if _, err := h.s.Collect(ctx, h.e.Context(nil), safe, enc); err != nil {
			t.Fatal(err)
		}
		again, err := h.s.Collect(ctx, h.e.Context(nil), safe, enc)
		if err != nil || again.Records != 0 || again.Done != len(enc) {
			t.Fatalf("collected at %d again: %+v %v", safe, again, err)
		}
		h.s.SafePoints().Raise(safe, nil)
		for range 20 {
			checkReads(t, h, m, keys, safe+r.Uint64N(ts-safe+5))
		}
		if _, err := h.s.OpenReader(ctx, h.e.Context(nil), txn.ReaderOptions{TS: safe - 1}); !isTooOld(err) {
			t.Fatalf("read below the safe point %d: %v", safe, err)
		}
	}
}

func isTooOld(err error) bool {
	var old *txn.SafePointError
	return errors.As(err, &old)
}

func checkReads(t *testing.T, h *held, m model, keys map[string]bool, at uint64) {
	t.Helper()
	reader, err := h.s.OpenReader(context.Background(), h.e.Context(nil), txn.ReaderOptions{TS: at})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, desc := range []bool{false, true} {
		if got, want := scanRows(t, reader, "", "", desc), m.scan("", "", at, desc); !slices.Equal(got, want) {
			t.Fatalf("scan at %d, desc %t:\n got %q\nwant %q", at, desc, got, want)
		}
	}
	for k := range keys {
		value, _, ok, err := reader.Get([]byte(k))
		if want := m.get(k, at); err != nil || ok != (want != nil) || !bytes.Equal(value, want) {
			t.Fatalf("get %s at %d: %q %t %v, want %q", k, at, value, ok, err, want)
		}
	}
}

// A key with more garbage than one batch takes goes in steps, and at no step
// does anything come back that was deleted.
func TestCollectInSteps(t *testing.T) {
	h := newHeld(t)
	ctx := context.Background()
	ts := uint64(10)
	one := func(mut *kvrpcpb.Mutation) {
		ts += 10
		if resp := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{mut}, StartVersion: ts, TryOnePc: true}); resp.OnePcCommitTs == 0 {
			t.Fatal(resp)
		}
	}
	const versions = txn.CollectRecordsMax*2 + 100
	for range versions {
		one(put("a", strings.Repeat("v", 300)))
	}
	one(&kvrpcpb.Mutation{Op: kvrpcpb.Op_Del, Key: []byte("a")})
	one(put("b", "x"))
	safe := ts + 5
	enc := [][]byte{codec.EncodeBytes(nil, []byte("a")), codec.EncodeBytes(nil, []byte("b"))}
	dropped, steps := uint64(0), 0
	for len(enc) > 0 {
		got, err := h.s.Collect(ctx, h.e.Context(nil), safe, enc)
		if err != nil {
			t.Fatal(err)
		}
		if got.Records > txn.CollectRecordsMax+1 || got.Records == 0 && got.Done < len(enc) {
			t.Fatalf("a step of %+v", got)
		}
		dropped += got.Records
		enc, steps = enc[got.Done:], steps+1
		checkReads(t, h, model{"b": {{ts, []byte("x")}}}, map[string]bool{"a": true, "b": true}, safe)
	}
	if dropped != versions+1 || steps < 3 {
		t.Errorf("%d records dropped in %d steps, want %d", dropped, steps, versions+1)
	}
}

// The mark of a collected batch is there, and is no entry.
func TestCollectMarksItsBatch(t *testing.T) {
	h := newHeld(t)
	ctx := context.Background()
	for _, ts := range []uint64{10, 20} {
		h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("a", "v")}, StartVersion: ts, TryOnePc: true})
	}
	var marks []uint64
	h.e.OnWrite = func(_ uint64, b *kv.Batch) txntest.Outcome {
		if ts, ok := kv.SafePoint(b.Bytes()); ok {
			marks = append(marks, ts)
		}
		return txntest.Apply
	}
	if got, err := h.s.Collect(ctx, h.e.Context(nil), 30, [][]byte{codec.EncodeBytes(nil, []byte("a"))}); err != nil || got.Records != 1 {
		t.Fatal(got, err)
	}
	if !slices.Equal(marks, []uint64{30}) {
		t.Errorf("marks %d", marks)
	}
}
