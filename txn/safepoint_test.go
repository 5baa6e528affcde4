package txn_test

import (
	"context"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/txn"
)

func key7(k string) []byte { return []byte("x\x00\x00\x07" + k) }

// What a store hears of a keyspace with the data, before it has asked PD about
// it, is no safe point for the others: their locks are not resolved up to there,
// and their readers may be older.
func TestSafePointOfAKeyspaceIsNobodyElses(t *testing.T) {
	var p txn.SafePoints
	p.Raise(100, nil)
	p.RaiseAt(key7(""), 500)
	check := func(shared, own uint64) {
		t.Helper()
		for key, want := range map[string]uint64{"a": shared, "x\x00\x00\x06a": shared, "x\x00\x00\x07a": own, "x\x00\x00\x08a": shared, "": shared} {
			if got := p.At([]byte(key)); got != want {
				t.Errorf("safe point at %q: %d, want %d", key, got, want)
			}
		}
	}
	check(100, 500)
	p.Raise(110, nil) // PD was asked before that
	check(110, 500)
	p.Raise(120, map[uint32]uint64{7: 510})
	check(120, 510)
	p.RaiseAt(nil, 130)
	check(130, 510)
	p.Raise(600, nil) // it shares again, or always did
	check(600, 600)

	var q txn.SafePoints
	p.Raise(600, map[uint32]uint64{7: 700, 9: 900})
	for _, c := range p.In(codec.EncodeBytes(nil, key7("b")), codec.EncodeBytes(nil, key7("c"))) {
		q.RaiseAt(c.Key, c.TS)
	}
	if q.At([]byte("a")) != 600 || q.At(key7("")) != 700 || q.At([]byte("x\x00\x00\x09")) != 600 {
		t.Errorf("of a part of keyspace 7 %v is known", p.In(key7("b"), key7("c")))
	}
	if got := p.In(nil, nil); len(got) != 3 {
		t.Errorf("safe points of all keys: %v", got)
	}
}

// A region can have keys of several keyspaces.
func TestReadsKnowTheirKeyspacesSafePoint(t *testing.T) {
	h := newHeld(t)
	ctx := context.Background()
	for ts := uint64(10); ts <= 20; ts += 10 {
		h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put(string(key7("k")), "v")}, StartVersion: ts, TryOnePc: true})
	}
	h.s.SafePoints().Raise(5, map[uint32]uint64{7: 30})
	if _, err := h.s.Collect(ctx, h.e.Context(nil), 30, [][]byte{codec.EncodeBytes(nil, key7("k"))}); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func() (any, error){
		"get": func() (any, error) {
			return h.s.KvGet(ctx, &kvrpcpb.GetRequest{Context: h.e.Context(nil), Key: key7("k"), Version: 15})
		},
		"batch get": func() (any, error) {
			return h.s.KvBatchGet(ctx, &kvrpcpb.BatchGetRequest{Context: h.e.Context(nil), Keys: [][]byte{key7("k")}, Version: 15})
		},
		"scan": func() (any, error) {
			return h.s.KvScan(ctx, &kvrpcpb.ScanRequest{Context: h.e.Context(nil), StartKey: key7(""), Limit: 10, Version: 15})
		},
		"reverse scan": func() (any, error) {
			return h.s.KvScan(ctx, &kvrpcpb.ScanRequest{Context: h.e.Context(nil), StartKey: key7("z"), EndKey: key7(""), Reverse: true, Limit: 10, Version: 15})
		},
	} {
		if resp, err := read(); !isTooOld(err) && resp.(interface{ GetError() *kvrpcpb.KeyError }).GetError().GetAbort() == "" {
			t.Errorf("%s below the keyspace's safe point: %v, %v", name, resp, err)
		}
	}
}
