package server_test

import (
	"context"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/copr/coprtest"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// write prewrites all rows at start, and commits them if commit is not 0.
func write(t *testing.T, e *txntest.Engine, s *txn.Store, keys, values [][]byte, start, commit uint64) {
	t.Helper()
	req := &kvrpcpb.PrewriteRequest{Context: e.Context(keys[0]), PrimaryLock: keys[0], StartVersion: start, LockTtl: 3000}
	for i := range keys {
		req.Mutations = append(req.Mutations, &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: keys[i], Value: values[i]})
	}
	resp, err := s.KvPrewrite(context.Background(), req)
	if err != nil || resp.RegionError != nil || len(resp.Errors) > 0 {
		t.Fatalf("prewrite: %v, %v", resp, err)
	}
	if commit == 0 {
		return
	}
	done, err := s.KvCommit(context.Background(), &kvrpcpb.CommitRequest{Context: e.Context(keys[0]), Keys: keys, StartVersion: start, CommitVersion: commit})
	if err != nil || done.RegionError != nil || done.Error != nil {
		t.Fatalf("commit: %v, %v", done, err)
	}
}

// Plans over a real transactional store: what is committed is seen, at its
// timestamp; a lock comes back to the client; an old epoch is refused.
func TestOverTransactionalStore(t *testing.T) {
	e, err := txntest.New()
	if err != nil {
		t.Fatal(err)
	}
	store := txn.NewStore(e, txn.Options{})
	defer func() {
		store.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows := coprtest.New(addr)
	rows.Fill(100)
	keys, values := rows.Pairs()
	write(t, e, store, keys[:90], values[:90], 10, 20)
	write(t, e, store, keys[90:], values[90:], 30, 0)
	s := server.New(server.Options{Source: server.TxnSource(store)})
	defer s.Close()

	read := func(ts uint64, desc bool, change func(*plan.Request), ranges ...kv.KeyRange) *answer {
		t.Helper()
		p := &plan.Plan{Nodes: []plan.Node{coprtest.Scan(desc)}}
		rc := e.Context(keys[0])
		r := &plan.Request{Plan: p, ReadTS: ts, Regions: []plan.RegionTask{{ID: rc.RegionId, Epoch: rc.RegionEpoch, Peer: rc.Peer, Ranges: ranges}}}
		if change != nil {
			change(r)
		}
		a, err := collect(t, p, func(emit func(*plan.Event) error) error { return s.Run(context.Background(), r, emit) })
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	all := tablecodec.RecordRange(coprtest.TableID)
	if a := read(15, false, nil, all); a.ends[0].Err != nil || len(a.rows[0]) != 0 {
		t.Errorf("before the commit: %d rows, %+v", len(a.rows[0]), a.ends[0])
	}
	if a := read(25, false, nil, all); a.ends[0].Err != nil || len(a.rows[0]) != 90 || a.rows[0][89] != "89 5 row 89" {
		t.Errorf("after the commit: %d rows, %+v", len(a.rows[0]), a.ends[0])
	}
	two := []kv.KeyRange{{Start: keys[3], End: keys[5]}, tablecodec.PointRange(keys[70])}
	if a := read(25, true, nil, two...); len(a.rows[0]) != 3 || a.rows[0][0] != "70 NULL row 70" || a.rows[0][2] != "3 3 row 3" {
		t.Errorf("ranges backwards: %q, %+v", a.rows[0], a.ends[0])
	}
	if a := read(35, false, nil, all); len(a.ends[0].Locks) != 10 || a.ends[0].Locks[0].LockVersion != 30 {
		t.Errorf("into locks: %+v", a.ends[0])
	}
	if a := read(35, false, func(r *plan.Request) { r.ResolvedLocks = []uint64{30} }, all); len(a.rows[0]) != 90 {
		t.Errorf("past resolved locks: %d rows, %+v", len(a.rows[0]), a.ends[0])
	}
	old := read(25, false, func(r *plan.Request) { r.Regions[0].Epoch = &metapb.RegionEpoch{ConfVer: 1} }, all)
	if old.ends[0].RegionError.GetEpochNotMatch() == nil {
		t.Errorf("an old epoch: %+v", old.ends[0])
	}
}
