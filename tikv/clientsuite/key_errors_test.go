package clientsuite

import (
	"strconv"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

func timestampText(ts uint64) string { return strconv.FormatUint(ts, 10) }

// keyErrors provokes each key error that clients act on, with each reason of a
// write conflict. (Deadlock is TestMethods/deadlock.)
func keyErrors(w *wire) {
	k := w.key("a")
	t1 := w.ts("T1")
	w.say("Locked")
	w.ask(k, w.prewrite(t1, "a", w.put("a", "1")))
	t2 := w.ts("T2")
	w.ask(k, w.prewrite(t2, "a", w.put("a", "2")))
	w.ask(k, w.lockRequest(t2, t2, "a"))
	w.say("WriteConflict, Optimistic")
	w.ask(k, w.commit(t1, w.ts("C1"), "a"))
	w.ask(k, w.prewrite(t2, "a", w.put("a", "2")))
	w.say("WriteConflict, PessimisticRetry")
	w.ask(k, w.lockRequest(t2, t2, "a"))
	w.say("WriteConflict, SelfRolledBack")
	w.ask(k, &kvrpcpb.BatchRollbackRequest{StartVersion: t2, Keys: w.list("b")})
	w.ask(k, w.prewrite(t2, "b", w.put("b", "2")))
	w.say("WriteConflict, LazyUniquenessCheck")
	t3 := w.ts("T3")
	w.write("lazy", "newer")
	lazy := w.prewrite(t3, "lazy", w.mutation(kvrpcpb.Op_Put, "lazy", "x"))
	lazy.ForUpdateTs = t3
	lazy.PessimisticActions = []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_CONSTRAINT_CHECK}
	w.ask(k, lazy)
	w.say("a newer version of a key that was not locked (TiKV, too, has no NotLockedKeyConflict): seen when the request is sent again")
	t4 := w.ts("T4")
	w.write("free", "newer")
	free := w.prewrite(t4, "free", w.put("free", "x"))
	free.ForUpdateTs = t4
	free.PessimisticActions = []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_SKIP_PESSIMISTIC_CHECK}
	w.retry = true
	w.ask(k, free)
	w.retry = false
	w.say("AlreadyExist")
	t5 := w.ts("T5")
	w.ask(k, w.prewrite(t5, "a", w.mutation(kvrpcpb.Op_Insert, "a", "x")))
	w.ask(k, w.prewrite(t5, "a", w.mutation(kvrpcpb.Op_CheckNotExists, "a", "")))
	exists := w.lockRequest(t5, t5, "a")
	exists.Mutations[0].Assertion = kvrpcpb.Assertion_NotExist
	w.ask(k, exists)
	w.say("AssertionFailed")
	t6 := w.ts("T6")
	for _, a := range []struct {
		key string
		as  kvrpcpb.Assertion
	}{{"a", kvrpcpb.Assertion_NotExist}, {"nobody", kvrpcpb.Assertion_Exist}} {
		req := w.prewrite(t6, a.key, w.put(a.key, "x"))
		req.Mutations[0].Assertion, req.AssertionLevel = a.as, kvrpcpb.AssertionLevel_Strict
		w.ask(k, req)
	}
	w.say("CommitTsExpired")
	t7 := w.ts("T7")
	early := w.prewrite(t7, "c", w.put("c", "x"))
	early.MinCommitTs = t7 + 100
	w.ask(k, early)
	w.ask(k, w.commit(t7, t7+1, "c"))
	w.say("TxnNotFound")
	t8 := w.ts("T8")
	w.ask(k, &kvrpcpb.CheckTxnStatusRequest{PrimaryKey: k, LockTs: t8, CallerStartTs: t8, CurrentTs: t8})
	w.ask(k, &kvrpcpb.TxnHeartBeatRequest{PrimaryLock: k, StartVersion: t8, AdviseLockTtl: 1000})
	w.say("PrimaryMismatch")
	w.ask(k, w.prewrite(t8, "elsewhere", w.put("m", "x")))
	w.ask(k, &kvrpcpb.CheckTxnStatusRequest{PrimaryKey: w.key("m"), LockTs: t8, CallerStartTs: t8, CurrentTs: t8, VerifyIsPrimary: true})
	w.say("TxnLockNotFound, Retryable")
	w.ask(k, w.commit(w.ts("T9"), w.ts("C9"), "n"))
	w.say("CommitTsTooLarge: no timestamp of its own for one phase")
	t10 := w.ts("T10")
	w.quiet(k, w.get("o", w.ts("T11")))
	bound := w.prewrite(t10, "o", w.put("o", "x"))
	bound.TryOnePc, bound.UseAsyncCommit, bound.MinCommitTs, bound.MaxCommitTs = true, true, t10+1, t10+1
	w.ask(k, bound)
	w.say("Abort: a lock that was lost")
	t12 := w.ts("T12")
	w.write("q", "newer")
	lost := w.prewrite(t12, "q", w.put("q", "x"))
	lost.ForUpdateTs = t12
	lost.PessimisticActions = []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK}
	w.ask(k, lost)
}
