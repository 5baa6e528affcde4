package clientsuite

import (
	"bytes"
	"math"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// scripts are requests to one region; their answers are in testdata/wire.
var scripts = []struct {
	name string
	run  func(w *wire)
}{
	{"two-phases", twoPhases}, {"reads", reads}, {"rollbacks", rollbacks}, {"pessimistic", pessimisticLocks},
	{"async-commit", asyncCommit}, {"status", txnStatuses}, {"resolve", resolveLocks}, {"flush", flushes},
	{"key-errors", keyErrors}, {"raw", rawRequests}, {"admin", adminRequests},
}

func (w *wire) prewrite(start uint64, primary string, ms ...*kvrpcpb.Mutation) *kvrpcpb.PrewriteRequest {
	return &kvrpcpb.PrewriteRequest{Mutations: ms, PrimaryLock: w.key("%s", primary), StartVersion: start, LockTtl: 3000, TxnSize: uint64(len(ms))}
}

func (w *wire) commit(start, commit uint64, keys ...string) *kvrpcpb.CommitRequest {
	return &kvrpcpb.CommitRequest{StartVersion: start, CommitVersion: commit, Keys: w.list(keys...)}
}

func (w *wire) list(keys ...string) (out [][]byte) {
	for _, k := range keys {
		out = append(out, w.key("%s", k))
	}
	return out
}

func (w *wire) get(key string, at uint64) *kvrpcpb.GetRequest {
	return &kvrpcpb.GetRequest{Key: w.key("%s", key), Version: at, NeedCommitTs: true}
}

// write commits keys and values, in pairs.
func (w *wire) write(kvs ...string) (commit uint64) {
	w.Helper()
	start := w.ts("start")
	var ms []*kvrpcpb.Mutation
	var keys []string
	for i := 0; i < len(kvs); i += 2 {
		ms, keys = append(ms, w.put(kvs[i], kvs[i+1])), append(keys, kvs[i])
	}
	w.quiet(ms[0].Key, w.prewrite(start, kvs[0], ms...))
	commit = w.ts("commit")
	w.quiet(ms[0].Key, w.commit(start, commit, keys...))
	return commit
}

func twoPhases(w *wire) {
	k := w.key("a")
	t1 := w.ts("T1")
	w.say("prewrite, twice")
	for range 2 {
		w.ask(k, w.prewrite(t1, "a", w.put("a", "1"), w.put("b", string(bytes.Repeat([]byte("long"), 5)))))
	}
	w.say("readers meet the locks")
	t2 := w.ts("T2")
	w.ask(k, w.get("a", t2))
	w.ask(k, &kvrpcpb.BatchGetRequest{Keys: w.list("a", "nobody"), Version: t2})
	w.ask(k, &kvrpcpb.ScanRequest{StartKey: k, EndKey: w.key("c"), Limit: 10, Version: t2})
	w.ask(k, &kvrpcpb.ScanLockRequest{StartKey: k, EndKey: w.key("c"), Limit: 10, MaxVersion: t2})
	w.say("an earlier reader does not")
	w.ask(k, w.get("a", t1-1))
	w.say("a heartbeat")
	w.ask(k, &kvrpcpb.TxnHeartBeatRequest{PrimaryLock: k, StartVersion: t1, AdviseLockTtl: 9000})
	w.ask(k, &kvrpcpb.TxnHeartBeatRequest{PrimaryLock: k, StartVersion: t1, AdviseLockTtl: 1})
	w.say("commit, twice")
	t3 := w.ts("T3")
	for range 2 {
		w.ask(k, w.commit(t1, t3, "a", "b"))
	}
	w.ask(k, w.get("a", t2))
	w.ask(k, w.get("a", t3))
	w.say("history")
	w.ask(k, &kvrpcpb.MvccGetByKeyRequest{Key: k})
	w.ask(k, &kvrpcpb.MvccGetByStartTsRequest{StartTs: t1})
	w.say("one phase")
	t4 := w.ts("T4")
	one := w.prewrite(t4, "a", w.put("a", "2"), w.mutation(kvrpcpb.Op_Del, "b", ""))
	one.TryOnePc, one.UseAsyncCommit, one.MinCommitTs = true, true, t4+1
	w.ask(k, one)
	w.ask(k, w.get("b", w.ts("T5")))
	w.say("a commit timestamp that is too early")
	t6 := w.ts("T6")
	late := w.prewrite(t6, "a", w.put("a", "3"))
	late.MinCommitTs = t6 + 1000
	w.ask(k, late)
	w.ask(k, w.commit(t6, t6+1, "a"))
	w.ask(k, w.commit(t6, t6+2000, "a"))
	w.say("insert, and lock without a value")
	t7 := w.ts("T7") + 4000
	w.names[timestampText(t7)] = "T7"
	w.ask(k, w.prewrite(t7, "i", w.mutation(kvrpcpb.Op_Insert, "i", "x"), w.mutation(kvrpcpb.Op_Lock, "l", ""), w.mutation(kvrpcpb.Op_CheckNotExists, "n", "")))
	w.ask(k, w.commit(t7, t7+1, "i", "l"))
	w.ask(k, w.prewrite(t7+2, "a", w.mutation(kvrpcpb.Op_Insert, "a", "x")))
}

func reads(w *wire) {
	k := w.key("a")
	w.write("a", "1", "b", "2", "c", "3", "d", "4", "e", "5")
	w.write("c", "new")
	at := w.ts("T")
	scan := func(change func(*kvrpcpb.ScanRequest)) {
		req := &kvrpcpb.ScanRequest{StartKey: w.key("a"), EndKey: w.key("z"), Limit: 10, Version: at}
		change(req)
		w.ask(k, req)
	}
	w.ask(k, w.get("c", at))
	w.ask(k, w.get("nobody", at))
	w.ask(k, &kvrpcpb.BatchGetRequest{Keys: w.list("e", "a", "nobody", "c"), Version: at})
	scan(func(*kvrpcpb.ScanRequest) {})
	scan(func(r *kvrpcpb.ScanRequest) { r.Limit = 2 })
	scan(func(r *kvrpcpb.ScanRequest) { r.KeyOnly = true })
	scan(func(r *kvrpcpb.ScanRequest) { r.SampleStep = 2 })
	scan(func(r *kvrpcpb.ScanRequest) { r.Reverse, r.StartKey, r.EndKey = true, r.EndKey, r.StartKey })
	scan(func(r *kvrpcpb.ScanRequest) {
		r.Reverse, r.StartKey, r.EndKey, r.Limit = true, w.key("d"), w.key("a"), 2
	})
	scan(func(r *kvrpcpb.ScanRequest) { r.EndKey = r.StartKey })
	w.say("a lock that the reader knows to be committed, or rolled back")
	start := w.ts("S")
	w.quiet(k, w.prewrite(start, "p", w.put("b", "locked")))
	after := w.ts("T2")
	for _, rc := range []*kvrpcpb.Context{{}, {ResolvedLocks: []uint64{start}}, {CommittedLocks: []uint64{start}}, {IsolationLevel: kvrpcpb.IsolationLevel_RC}} {
		for {
			p := w.mustFind(w, k)
			full := w.contextOf(p)
			full.ResolvedLocks, full.CommittedLocks, full.IsolationLevel = rc.ResolvedLocks, rc.CommittedLocks, rc.IsolationLevel
			resp, err := w.send(p.node.Addr(), &kvrpcpb.GetRequest{Context: full, Key: w.key("b"), Version: after})
			w.must(err)
			if resp.(regional).GetRegionError() == nil {
				w.say("%v", w.show(resp))
				break
			}
		}
	}
	w.quiet(k, &kvrpcpb.BatchRollbackRequest{StartVersion: start, Keys: w.list("b")})
}

func rollbacks(w *wire) {
	k := w.key("a")
	t1 := w.ts("T1")
	w.ask(k, w.prewrite(t1, "a", w.put("a", "1"), w.put("b", "2")))
	for range 2 {
		w.ask(k, &kvrpcpb.BatchRollbackRequest{StartVersion: t1, Keys: w.list("a", "b", "c")})
	}
	w.say("the late copies of a transaction that was rolled back")
	w.ask(k, w.prewrite(t1, "a", w.put("a", "1")))
	w.ask(k, w.prewrite(t1, "a", w.put("c", "1")))
	w.ask(k, w.commit(t1, t1+1, "a"))
	w.say("a committed one cannot be rolled back")
	t2 := w.ts("T2")
	w.ask(k, w.prewrite(t2, "a", w.put("a", "1")))
	w.ask(k, w.commit(t2, t2+1, "a"))
	w.ask(k, &kvrpcpb.BatchRollbackRequest{StartVersion: t2, Keys: w.list("a")})
	w.say("cleanup: of a living one, of an expired one, of nothing, of a committed one")
	t3 := w.ts("T3")
	w.ask(k, w.prewrite(t3, "a", w.put("a", "2")))
	w.ask(k, &kvrpcpb.CleanupRequest{Key: k, StartVersion: t3, CurrentTs: w.ts("now")})
	w.ask(k, &kvrpcpb.CleanupRequest{Key: k, StartVersion: t3, CurrentTs: math.MaxUint64})
	w.ask(k, &kvrpcpb.CleanupRequest{Key: k, StartVersion: t3 + 1, CurrentTs: math.MaxUint64})
	w.ask(k, &kvrpcpb.CleanupRequest{Key: k, StartVersion: t2, CurrentTs: math.MaxUint64})
}

func (w *wire) lockRequest(start, forUpdate uint64, keys ...string) *kvrpcpb.PessimisticLockRequest {
	req := &kvrpcpb.PessimisticLockRequest{PrimaryLock: w.key("%s", keys[0]), StartVersion: start, ForUpdateTs: forUpdate, LockTtl: 3000,
		WaitTimeout: -1, MinCommitTs: forUpdate + 1}
	for _, k := range keys {
		req.Mutations = append(req.Mutations, w.mutation(kvrpcpb.Op_PessimisticLock, k, ""))
	}
	return req
}

func pessimisticLocks(w *wire) {
	k := w.key("a")
	w.write("a", "1", "b", "2")
	t1 := w.ts("T1")
	w.say("values, existence")
	req := w.lockRequest(t1, t1, "a", "nobody")
	req.ReturnValues = true
	for range 2 {
		w.ask(k, req)
	}
	req = w.lockRequest(t1, t1, "b", "nobody2")
	req.CheckExistence = true
	w.ask(k, req)
	req = w.lockRequest(t1, t1, "nobody3")
	req.ReturnValues, req.LockOnlyIfExists = true, true
	w.ask(k, req)
	w.say("another one does not wait")
	t2 := w.ts("T2")
	w.ask(k, w.lockRequest(t2, t2, "a"))
	w.say("readers pass")
	w.ask(k, w.get("a", t2))
	w.say("roll back, twice, by key and the whole region")
	for range 2 {
		w.ask(k, &kvrpcpb.PessimisticRollbackRequest{StartVersion: t1, ForUpdateTs: t1, Keys: w.list("a", "nobody")})
	}
	w.ask(k, &kvrpcpb.PessimisticRollbackRequest{StartVersion: t1, ForUpdateTs: t1})
	w.ask(k, &kvrpcpb.ScanLockRequest{StartKey: k, EndKey: w.key("z"), Limit: 10, MaxVersion: math.MaxUint64})
	w.say("a newer version: retry, or lock with a conflict")
	t3 := w.ts("T3")
	w.write("a", "newer")
	w.ask(k, w.lockRequest(t3, t3, "a"))
	force := w.lockRequest(t3, t3, "a")
	force.WakeUpMode, force.ReturnValues = kvrpcpb.PessimisticLockWakeUpMode_WakeUpModeForceLock, true
	w.ask(k, force)
	w.say("prewrite of a locked key, and of one whose lock is gone")
	pre := w.prewrite(t3, "a", w.put("a", "mine"))
	pre.ForUpdateTs = w.ts("T4")
	pre.PessimisticActions = []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK}
	w.ask(k, pre)
	lost := w.prewrite(t3, "a", w.put("b", "mine"))
	lost.ForUpdateTs, lost.PessimisticActions = pre.ForUpdateTs, pre.PessimisticActions
	w.ask(k, lost)
	w.say("a key that was not locked")
	free := w.prewrite(t3, "a", w.put("free", "mine"))
	free.ForUpdateTs = pre.ForUpdateTs
	free.PessimisticActions = []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_SKIP_PESSIMISTIC_CHECK}
	w.ask(k, free)
	w.ask(k, w.commit(t3, w.ts("T5"), "a", "free"))
	w.ask(k, w.get("a", w.ts("T6")))
}

func asyncCommit(w *wire) {
	k := w.key("p")
	pre := func(start uint64, keys ...string) *kvrpcpb.PrewriteRequest {
		var ms []*kvrpcpb.Mutation
		for _, key := range keys {
			ms = append(ms, w.put(key, "x"))
		}
		req := w.prewrite(start, "p", ms...)
		req.UseAsyncCommit, req.MinCommitTs = true, start+1
		if keys[0] == "p" {
			req.Secondaries = w.list("s1", "s2")
		}
		return req
	}
	w.say("all secondaries are locked")
	t1 := w.ts("T1")
	w.quiet(k, pre(t1, "p"))
	w.quiet(k, pre(t1, "s1", "s2"))
	r := w.quiet(k, &kvrpcpb.CheckSecondaryLocksRequest{Keys: w.list("s1", "s2"), StartVersion: t1}).(*kvrpcpb.CheckSecondaryLocksResponse)
	minCommit := uint64(0)
	for _, l := range r.Locks {
		minCommit = max(minCommit, l.MinCommitTs)
	}
	w.say("%d locks, committed at %d", len(r.Locks), r.CommitTs)
	w.quiet(k, &kvrpcpb.ResolveLockRequest{StartVersion: t1, CommitVersion: minCommit})
	w.ask(k, w.get("s1", w.ts("T2")))
	w.say("all are committed")
	c := w.quiet(k, &kvrpcpb.CheckSecondaryLocksRequest{Keys: w.list("s1", "s2"), StartVersion: t1}).(*kvrpcpb.CheckSecondaryLocksResponse)
	w.say("%d locks, at the commit's timestamp: %v", len(c.Locks), c.CommitTs == minCommit)
	w.say("one is missing: rolled back, and never prewritten")
	t3 := w.ts("T3")
	w.quiet(k, pre(t3, "p"))
	w.quiet(k, pre(t3, "s1"))
	w.ask(k, &kvrpcpb.CheckSecondaryLocksRequest{Keys: w.list("s1", "s2"), StartVersion: t3})
	w.ask(k, pre(t3, "s2"))
	w.ask(k, &kvrpcpb.ResolveLockRequest{StartVersion: t3})
	w.ask(k, w.get("p", w.ts("T4")))
	w.say("a bound on the commit timestamp: no lock of async commit")
	t5 := w.ts("T5")
	w.quiet(k, w.get("p", w.ts("T6"))) // raises max_ts
	bound := pre(t5, "p")
	bound.MaxCommitTs = t5 + 1
	w.ask(k, bound)
	w.ask(k, &kvrpcpb.BatchRollbackRequest{StartVersion: t5, Keys: w.list("p")})
}

func txnStatuses(w *wire) {
	k := w.key("p")
	ask := func(start uint64, change func(*kvrpcpb.CheckTxnStatusRequest)) {
		w.Helper()
		req := &kvrpcpb.CheckTxnStatusRequest{PrimaryKey: k, LockTs: start, CallerStartTs: w.ts("caller"), CurrentTs: w.ts("now"), VerifyIsPrimary: true}
		change(req)
		w.ask(k, req)
	}
	same := func(*kvrpcpb.CheckTxnStatusRequest) {}
	w.say("living: its commit is pushed behind the caller if it may be")
	t1 := w.ts("T1")
	req := w.prewrite(t1, "p", w.put("p", "x"))
	req.MinCommitTs = t1 + 1
	w.quiet(k, req)
	ask(t1, same)
	w.say("expired")
	ask(t1, func(r *kvrpcpb.CheckTxnStatusRequest) { r.CurrentTs = math.MaxUint64 })
	ask(t1, same)
	w.say("committed")
	t2 := w.ts("T2")
	w.quiet(k, w.prewrite(t2, "p", w.put("p", "x")))
	w.quiet(k, w.commit(t2, w.ts("C2"), "p"))
	ask(t2, same)
	w.say("nothing is known")
	t3 := w.ts("T3")
	ask(t3, same)
	ask(t3, func(r *kvrpcpb.CheckTxnStatusRequest) { r.RollbackIfNotExist = true })
	ask(t3, same)
	w.say("pessimistic: expired, and only a secondary is asked about")
	t4 := w.ts("T4")
	w.quiet(k, w.lockRequest(t4, t4, "p"))
	ask(t4, func(r *kvrpcpb.CheckTxnStatusRequest) { r.CurrentTs, r.ResolvingPessimisticLock = math.MaxUint64, true })
	ask(t4, func(r *kvrpcpb.CheckTxnStatusRequest) { r.ResolvingPessimisticLock, r.RollbackIfNotExist = true, true })
	w.say("not the primary")
	t5 := w.ts("T5")
	w.quiet(k, w.prewrite(t5, "other", w.put("p", "x")))
	ask(t5, same)
	w.quiet(k, &kvrpcpb.BatchRollbackRequest{StartVersion: t5, Keys: w.list("p")})
	w.say("told by others")
	w.ask(k, &kvrpcpb.BroadcastTxnStatusRequest{TxnStatus: []*kvrpcpb.TxnStatus{{StartTs: t5, RolledBack: true}}})
}

func resolveLocks(w *wire) {
	k := w.key("a")
	lock := func(keys ...string) uint64 {
		start := w.ts("S")
		var ms []*kvrpcpb.Mutation
		for _, key := range keys {
			ms = append(ms, w.put(key, "v"))
		}
		w.quiet(k, w.prewrite(start, "a", ms...))
		return start
	}
	left := func() {
		w.ask(k, &kvrpcpb.ScanLockRequest{StartKey: w.key("a"), EndKey: w.key("z"), Limit: 10, MaxVersion: math.MaxUint64})
	}
	w.say("keys")
	one := lock("a", "b", "c")
	w.ask(k, &kvrpcpb.ResolveLockRequest{StartVersion: one, CommitVersion: w.ts("C"), Keys: w.list("a", "b")})
	left()
	w.say("the whole region")
	w.ask(k, &kvrpcpb.ResolveLockRequest{StartVersion: one})
	left()
	w.say("many transactions")
	two, three := lock("a", "b"), lock("c", "d")
	w.ask(k, &kvrpcpb.ResolveLockRequest{TxnInfos: []*kvrpcpb.TxnInfo{{Txn: two, Status: w.ts("C2")}, {Txn: three}}})
	left()
	at := w.ts("T")
	w.ask(k, w.get("b", at))
	w.ask(k, w.get("d", at))
	w.say("nothing to resolve")
	w.ask(k, &kvrpcpb.ResolveLockRequest{StartVersion: w.ts("S4"), Keys: w.list("a")})
	w.say("a range is gone")
	w.ask(k, &kvrpcpb.DeleteRangeRequest{StartKey: w.key("b"), EndKey: w.key("z")})
	w.ask(k, &kvrpcpb.DeleteRangeRequest{StartKey: w.key("b"), EndKey: w.key("z"), NotifyOnly: true})
	w.ask(k, &kvrpcpb.ScanRequest{StartKey: k, EndKey: w.key("z"), Limit: 10, Version: w.ts("T3")})
}

func flushes(w *wire) {
	k := w.key("p")
	t1 := w.ts("T1")
	flush := func(generation uint64, ms ...*kvrpcpb.Mutation) {
		w.Helper()
		w.ask(k, &kvrpcpb.FlushRequest{Mutations: ms, PrimaryKey: k, StartTs: t1, MinCommitTs: t1 + 1, Generation: generation, LockTtl: 3000})
	}
	flush(1, w.put("a", "1"), w.put("p", "1"))
	flush(2, w.put("a", "2"), w.mutation(kvrpcpb.Op_Del, "b", ""))
	w.say("an older generation comes late")
	flush(1, w.put("a", "1"))
	w.ask(k, &kvrpcpb.BufferBatchGetRequest{Keys: w.list("a", "b", "p", "nobody"), Version: t1})
	w.say("others meet the locks")
	w.ask(k, w.get("a", w.ts("T2")))
	w.ask(k, w.commit(t1, w.ts("T3"), "p"))
	w.ask(k, &kvrpcpb.ResolveLockRequest{StartVersion: t1, CommitVersion: w.ts("T3")})
	w.ask(k, w.get("a", w.ts("T4")))
	w.ask(k, &kvrpcpb.BufferBatchGetRequest{Keys: w.list("a"), Version: t1})
}

// rawRequests are in a region like all others: V1's raw keys are routed as they
// are.
func rawRequests(w *wire) {
	k := w.key("a")
	pair := func(key, value string) *kvrpcpb.KvPair {
		return &kvrpcpb.KvPair{Key: w.key("%s", key), Value: []byte(value)}
	}
	w.ask(k, &kvrpcpb.RawPutRequest{Key: k, Value: []byte("1")})
	w.ask(k, &kvrpcpb.RawBatchPutRequest{Pairs: []*kvrpcpb.KvPair{pair("b", "2"), pair("c", "3"), pair("d", "4")}})
	w.ask(k, &kvrpcpb.RawGetRequest{Key: k})
	w.ask(k, &kvrpcpb.RawGetRequest{Key: w.key("nobody")})
	w.ask(k, &kvrpcpb.RawBatchGetRequest{Keys: w.list("a", "nobody", "c")})
	w.ask(k, &kvrpcpb.RawScanRequest{StartKey: k, EndKey: w.key("z"), Limit: 3})
	w.ask(k, &kvrpcpb.RawScanRequest{StartKey: k, EndKey: w.key("z"), Limit: 3, KeyOnly: true})
	w.ask(k, &kvrpcpb.RawScanRequest{StartKey: w.key("z"), EndKey: k, Limit: 2, Reverse: true})
	w.ask(k, &kvrpcpb.RawBatchScanRequest{EachLimit: 1, Ranges: []*kvrpcpb.KeyRange{{StartKey: k, EndKey: w.key("c")}, {StartKey: w.key("c"), EndKey: w.key("z")}}})
	w.ask(k, &kvrpcpb.RawGetKeyTTLRequest{Key: k})
	w.ask(k, &kvrpcpb.RawGetKeyTTLRequest{Key: w.key("nobody")})
	w.ask(k, &kvrpcpb.RawCASRequest{Key: k, Value: []byte("x"), PreviousValue: []byte("other")})
	w.ask(k, &kvrpcpb.RawCASRequest{Key: k, Value: []byte("x"), PreviousValue: []byte("1")})
	w.ask(k, &kvrpcpb.RawCASRequest{Key: w.key("new"), Value: []byte("x"), PreviousNotExist: true})
	w.ask(k, &kvrpcpb.RawDeleteRequest{Key: k})
	w.ask(k, &kvrpcpb.RawBatchDeleteRequest{Keys: w.list("b", "nobody")})
	w.ask(k, &kvrpcpb.RawDeleteRangeRequest{StartKey: w.key("c"), EndKey: w.key("d")})
	w.ask(k, &kvrpcpb.RawScanRequest{StartKey: k, EndKey: w.key("z"), Limit: 10})
	sum := w.quiet(k, &kvrpcpb.RawChecksumRequest{Algorithm: kvrpcpb.ChecksumAlgorithm_Crc64_Xor,
		Ranges: []*kvrpcpb.KeyRange{{StartKey: k, EndKey: w.key("z")}}}).(*kvrpcpb.RawChecksumResponse)
	w.say("checksum of %d pairs", sum.TotalKvs)
	w.say("what cannot be")
	w.ask(k, &kvrpcpb.RawPutRequest{Key: k, Value: []byte("1"), Cf: "nobody"})
	w.ask(k, &kvrpcpb.RawBatchPutRequest{Pairs: []*kvrpcpb.KvPair{pair("b", "2")}, Ttls: []uint64{1, 2}})
}

// adminRequests go to a store, or answer with what differs from run to run.
func adminRequests(w *wire) {
	k := w.key("a")
	w.write("a", "1", "m", "2")
	for _, n := range w.running() {
		for _, req := range []message{&kvrpcpb.StoreSafeTSRequest{KeyRange: &kvrpcpb.KeyRange{}}, &kvrpcpb.GetLockWaitInfoRequest{}, &kvrpcpb.GetLockWaitHistoryRequest{}, &tikvpb.BatchCommandsEmptyRequest{TestId: 7}} {
			if _, ok := req.(*tikvpb.BatchCommandsEmptyRequest); ok && !w.batch {
				continue // a batch's only
			}
			if _, err := w.send(n.Addr(), req); err != nil {
				w.Errorf("%T: %v", req, err)
			}
		}
		if _, err := w.send(n.Addr(), &kvrpcpb.CheckLeaderRequest{}); status.Code(err) != codes.InvalidArgument {
			w.Errorf("a call between stores, from somebody else: %v", err)
		}
		resp, err := w.send(n.Addr(), &kvrpcpb.GetHealthFeedbackRequest{Context: &kvrpcpb.Context{}})
		w.must(err)
		if f := resp.(*kvrpcpb.GetHealthFeedbackResponse).HealthFeedback; f.GetStoreId() != n.StoreID() || f.SlowScore < 1 {
			w.Errorf("health %v of store %d", f, n.StoreID())
		}
	}
	index := w.quiet(k, &kvrpcpb.ReadIndexRequest{StartTs: w.ts("T"), Ranges: []*kvrpcpb.KeyRange{{StartKey: k, EndKey: w.key("b")}}}).(*kvrpcpb.ReadIndexResponse)
	if index.ReadIndex == 0 || index.Locked != nil {
		w.Errorf("read index %v", index)
	}
	split := w.quiet(k, &kvrpcpb.SplitRegionRequest{SplitKeys: w.list("k", "l")}).(*kvrpcpb.SplitRegionResponse)
	if n := len(split.Regions); n != 3 && split.RegionError == nil {
		w.Errorf("split into %d regions", n)
	}
	for _, n := range w.running() {
		resp, err := w.send(n.Addr(), &kvrpcpb.UnsafeDestroyRangeRequest{Context: &kvrpcpb.Context{}, StartKey: w.key("l"), EndKey: w.key("z")})
		w.must(err)
		w.say("destroyed %s", w.show(resp))
	}
	w.ask(w.key("m"), w.get("m", w.ts("T")))
	w.ask(k, w.get("a", w.ts("T")))
}
