package mvcccheck_test

import (
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/stretchr/testify/require"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/mvcc"
	"github.com/copradb/copra/txn/mvcccheck"
	"github.com/copradb/copra/txn/txntest"
)

func put(commit, start uint64, value string) mvcccheck.Record {
	return mvcccheck.Record{CommitTS: commit, Write: mvcc.Write{Type: mvcc.WritePut, StartTS: start, HasShort: true, ShortValue: []byte(value)}}
}

func rollback(start uint64) mvcccheck.Record {
	return mvcccheck.Record{CommitTS: start, Write: mvcc.Write{Type: mvcc.WriteRollback, StartTS: start}}
}

// lockAbove is a record that changes nothing, above a change at last.
func lockAbove(commit, last uint64) mvcccheck.Record {
	return mvcccheck.Record{CommitTS: commit, Write: mvcc.Write{Type: mvcc.WriteLock, StartTS: commit - 1, LastChange: mvcc.LastChange{TS: last, Versions: 1}}}
}

func history(keys map[string][]mvcccheck.Record) *mvcccheck.History {
	h := mvcccheck.New()
	for name, records := range keys {
		h.Keys[name] = &mvcccheck.Key{Records: records, Values: map[uint64][]byte{}}
	}
	return h
}

type records = map[string][]mvcccheck.Record

func TestVerify(t *testing.T) {
	overlapped := put(20, 10, "v")
	overlapped.OverlappedRollback = true
	long := put(20, 10, "")
	long.HasShort = false
	for _, c := range []struct {
		name    string
		h       *mvcccheck.History
		change  func(*mvcccheck.History)
		o       mvcccheck.Options
		problem string
	}{
		{name: "good", h: history(records{"a": {put(40, 30, "y"), rollback(25), put(20, 10, "x")}, "b": {put(40, 30, "y")}})},
		{name: "overlapped", h: history(records{"a": {overlapped}})},
		{name: "two timestamps", h: history(records{"a": {put(20, 10, "x")}, "b": {put(21, 10, "x")}}), problem: `key "b": transaction 10 was committed here at 21 and on key "a" at 20`},
		{name: "half", h: history(records{"a": {put(20, 10, "x")}, "b": {rollback(10)}}), problem: `transaction 10 was rolled back here and committed at 20 on key "a"`},
		{name: "overlapped and committed", h: history(records{"a": {overlapped}, "b": {put(25, 20, "x")}}), problem: `transaction 20 was rolled back here and committed at 25`},
		{name: "twice", h: history(records{"a": {put(21, 10, "x"), put(20, 10, "x")}}), problem: "has two records"},
		{name: "before its start", h: history(records{"a": {put(10, 10, "x")}}), problem: "not after its start"},
		{name: "rollback elsewhere", h: history(records{"a": {{CommitTS: 9, Write: mvcc.Write{Type: mvcc.WriteRollback, StartTS: 8}}}}), problem: "the rollback of 8 is at 9"},
		{name: "conflict", h: history(records{"a": {put(40, 15, "y"), put(20, 10, "x")}}), problem: "transaction 15 (committed at 40) did not notice 10, which was committed at 20 while it ran"},
		{name: "pessimistic", h: history(records{"a": {put(40, 15, "y"), put(20, 10, "x")}}), o: mvcccheck.Options{Pessimistic: func(ts uint64) bool { return ts == 15 }}},
		{name: "last change", h: history(records{"a": {lockAbove(60, 50), put(50, 48, "y"), rollback(46), lockAbove(45, 20), put(20, 10, "x")}})},
		{name: "last change missed", h: history(records{"a": {lockAbove(60, 20), put(50, 48, "y"), put(20, 10, "x")}}), problem: "says that the last change below it is at 20, and there is one at 50"},
		{name: "last change denied", h: history(records{"a": {lockAbove(60, 0), put(20, 10, "x")}}), problem: "and there is one at 20"},
		{name: "value gone", h: history(records{"a": {long}}), problem: "the value that transaction 10 put is gone"},
		{name: "value there", h: history(records{"a": {long}}), change: func(h *mvcccheck.History) { h.Keys["a"].Values[10] = []byte("long") }},
		{name: "orphan", h: history(records{"a": {put(20, 10, "x")}}), change: func(h *mvcccheck.History) { h.Keys["a"].Values[12] = []byte("long") }, problem: "transaction 12 has left a value of 4 bytes"},
		{name: "lock", h: history(records{"a": {}}), change: func(h *mvcccheck.History) { h.Keys["a"].Lock = &mvcc.Lock{Type: mvcc.LockPut, StartTS: 7} }, problem: "the lock of 7 (Put"},
		{
			name: "lock and its value", h: history(records{"a": {}}), o: mvcccheck.Options{Locks: true},
			change: func(h *mvcccheck.History) {
				h.Keys["a"].Lock = &mvcc.Lock{Type: mvcc.LockPut, StartTS: 7}
				h.Keys["a"].Values[7] = []byte("long")
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				c.change(c.h)
			}
			if err := c.h.Verify(c.o); c.problem == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.problem)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	deleted := mvcccheck.Record{CommitTS: 60, Write: mvcc.Write{Type: mvcc.WriteDelete, StartTS: 50}}
	h := history(records{"a": {deleted, put(40, 30, "y"), rollback(25), put(20, 10, "x")}, "b": {put(40, 30, "z")}})
	val := func(key, value string) mvcccheck.Value {
		v := mvcccheck.Value{Key: key}
		if value != "" {
			v.Value = []byte(value)
		}
		return v
	}
	all := []mvcccheck.Value{val("a", "y"), val("b", "z")}
	for _, c := range []struct {
		t       mvcccheck.Txn
		problem string
	}{
		{t: mvcccheck.Txn{StartTS: 30, CommitTS: 40, Outcome: mvcccheck.Committed, Writes: all, Reads: []mvcccheck.Value{val("a", "x"), val("b", "")}}},
		{t: mvcccheck.Txn{StartTS: 30, Writes: all}},
		{t: mvcccheck.Txn{StartTS: 31, Writes: all}},
		{t: mvcccheck.Txn{StartTS: 50, CommitTS: 60, Outcome: mvcccheck.Committed, Writes: []mvcccheck.Value{val("a", "")}}},
		{t: mvcccheck.Txn{StartTS: 70, Reads: []mvcccheck.Value{val("a", "")}}},
		{t: mvcccheck.Txn{StartTS: 30, Outcome: mvcccheck.Failed, Writes: all}, problem: "it has failed, as its client was told, and was committed at 40"},
		{t: mvcccheck.Txn{StartTS: 31, Outcome: mvcccheck.Committed, Writes: all}, problem: "this write is not there"},
		{t: mvcccheck.Txn{StartTS: 30, Writes: append(all[:2:2], val("c", "w"))}, problem: "2 of 3 writes are there"},
		{t: mvcccheck.Txn{StartTS: 30, CommitTS: 41, Outcome: mvcccheck.Committed, Writes: all}, problem: "the client was told at 41"},
		{t: mvcccheck.Txn{StartTS: 30, Writes: []mvcccheck.Value{val("a", "other")}}, problem: `it wrote "other", and Put "y" is there`},
		{t: mvcccheck.Txn{StartTS: 39, Reads: []mvcccheck.Value{val("a", "y")}}, problem: `read "y" at 39, where it is "x"`},
		{t: mvcccheck.Txn{StartTS: 10, Reads: []mvcccheck.Value{{Key: "a", Value: []byte("x"), TS: 45}}}, problem: `read "x" at 45, where it is "y"`},
	} {
		if err := h.Check(c.t); c.problem == "" {
			require.NoError(t, err, "%+v", c.t)
		} else {
			require.ErrorContains(t, err, c.problem, "%+v", c.t)
		}
	}
}

// What was collected is not missed; what must be there still is.
func TestCheckAboveSafePoint(t *testing.T) {
	val := func(key, value string) mvcccheck.Value { return mvcccheck.Value{Key: key, Value: []byte(value)} }
	h := history(records{"a": {put(40, 30, "y")}, "b": {put(20, 10, "x")}})
	old := mvcccheck.Txn{StartTS: 10, CommitTS: 20, Outcome: mvcccheck.Committed, Writes: []mvcccheck.Value{val("a", "x"), val("b", "x")}}
	young := mvcccheck.Txn{StartTS: 30, CommitTS: 40, Outcome: mvcccheck.Committed, Writes: []mvcccheck.Value{val("a", "y"), val("b", "y")}}
	read := func(ts uint64, value string) mvcccheck.Txn {
		return mvcccheck.Txn{StartTS: ts, Reads: []mvcccheck.Value{val("b", value)}}
	}
	require.ErrorContains(t, h.Check(old), "this write is not there")
	h.SafePoint = 25
	require.NoError(t, h.Check(old))
	require.ErrorContains(t, h.Check(young), "this write is not there")
	require.NoError(t, h.Check(read(24, "older")))
	require.ErrorContains(t, h.Check(read(25, "older")), `read "older" at 25, where it is "x"`)
}

// What a store has is read the same way from a snapshot and from its answers to
// MvccGetByKey.
func TestFromStore(t *testing.T) {
	e, err := txntest.New()
	require.NoError(t, err)
	s := txn.NewStore(e, txn.Options{})
	defer func() {
		s.Close()
		require.NoError(t, e.Close())
	}()
	ctx := t.Context()
	long := make([]byte, 2*mvcc.ShortValueBytesMax)
	for i, value := range [][]byte{[]byte("short"), long} {
		key := []byte(fmt.Sprint("k", i))
		p, err := s.KvPrewrite(ctx, &kvrpcpb.PrewriteRequest{
			Context: e.Context(key), StartVersion: 10, PrimaryLock: []byte("k0"), LockTtl: 3000, Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: key, Value: value}},
		})
		require.NoError(t, err)
		require.Empty(t, p.Errors)
	}
	c, err := s.KvCommit(ctx, &kvrpcpb.CommitRequest{Context: e.Context([]byte("k0")), StartVersion: 10, CommitVersion: 20, Keys: [][]byte{[]byte("k0"), []byte("k1")}})
	require.NoError(t, err)
	require.Nil(t, c.Error)
	r, err := s.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: e.Context([]byte("k0")), StartVersion: 15, Keys: [][]byte{[]byte("k0")}})
	require.NoError(t, err)
	require.Nil(t, r.Error)

	snap, err := e.Snapshot(ctx, e.Context([]byte("k0")), kv.SnapshotOptions{})
	require.NoError(t, err)
	fromSnapshot := mvcccheck.New()
	require.NoError(t, fromSnapshot.AddSnapshot(snap, codec.EncodeBytes(nil, []byte("k")), nil))
	require.NoError(t, snap.Close())
	fromAnswers := mvcccheck.New()
	for _, key := range []string{"k0", "k1"} {
		info, err := s.MvccGetByKey(ctx, &kvrpcpb.MvccGetByKeyRequest{Context: e.Context([]byte(key)), Key: []byte(key)})
		require.NoError(t, err)
		require.NoError(t, fromAnswers.AddInfo([]byte(key), info.Info))
	}
	for _, h := range []*mvcccheck.History{fromSnapshot, fromAnswers} {
		require.NoError(t, h.Verify(mvcccheck.Options{}))
		keys, commits, rollbacks := h.Count()
		require.Equal(t, [3]int{2, 2, 1}, [3]int{keys, commits, rollbacks})
		require.NoError(t, h.Check(mvcccheck.Txn{StartTS: 20, Reads: []mvcccheck.Value{{Key: "k0", Value: []byte("short")}, {Key: "k1", Value: long}}}))
		require.Error(t, h.Check(mvcccheck.Txn{StartTS: 19, Reads: []mvcccheck.Value{{Key: "k0", Value: []byte("short")}}}))
	}
}
