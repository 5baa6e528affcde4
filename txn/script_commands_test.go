package txn_test

import (
	"context"
	"fmt"
	"strings"
	"testing/synctest"

	"github.com/cockroachdb/datadriven"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/txntest"
)

func (s *script) command(d *datadriven.TestData) string {
	ctx := context.Background()
	switch d.Cmd {
	case "prewrite":
		return s.prewrite(ctx, d)
	case "flush":
		return s.flush(ctx, d)
	case "pessimistic-lock":
		return s.pessimisticLock(ctx, d)
	case "pessimistic-rollback":
		keys := s.keys(d)
		rc := s.ctx(d, nil)
		if len(keys) > 0 {
			rc = s.ctx(d, keys[0])
		}
		r, err := s.s.KVPessimisticRollback(ctx, &kvrpcpb.PessimisticRollbackRequest{
			Context: rc, Keys: keys, StartVersion: s.ts(d, "start"), ForUpdateTs: s.ts(d, "for_update"),
		})
		return orOK(failure(err, r.GetRegionError(), r.GetErrors()...), "ok")
	case "commit":
		r, err := s.s.KvCommit(ctx, &kvrpcpb.CommitRequest{
			Context: s.ctx(d, s.keys(d)[0]), Keys: s.keys(d), StartVersion: s.ts(d, "start"), CommitVersion: s.ts(d, "commit"),
		})
		return orOK(failure(err, r.GetRegionError(), r.GetError()), "ok")
	case "rollback":
		r, err := s.s.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{
			Context: s.ctx(d, s.keys(d)[0]), Keys: s.keys(d), StartVersion: s.ts(d, "start"),
		})
		return orOK(failure(err, r.GetRegionError(), r.GetError()), "ok")
	case "cleanup":
		key := s.keys(d)[0]
		r, err := s.s.KvCleanup(ctx, &kvrpcpb.CleanupRequest{
			Context: s.ctx(d, key), Key: key, StartVersion: s.ts(d, "start"), CurrentTs: s.ts(d, "current"),
		})
		return orOK(failure(err, r.GetRegionError(), r.GetError()), "ok commit="+showTS(r.GetCommitVersion()))
	case "heartbeat":
		key := s.keys(d)[0]
		r, err := s.s.KvTxnHeartBeat(ctx, &kvrpcpb.TxnHeartBeatRequest{
			Context: s.ctx(d, key), PrimaryLock: key, StartVersion: s.ts(d, "start"), AdviseLockTtl: s.ts(d, "ttl"), MinCommitTs: s.ts(d, "min_commit"),
		})
		return orOK(failure(err, r.GetRegionError(), r.GetError()), fmt.Sprintf("ok ttl=%d", r.GetLockTtl()))
	case "check-txn-status":
		return s.checkTxnStatus(ctx, d)
	case "check-secondary-locks":
		r, err := s.s.KvCheckSecondaryLocks(ctx, &kvrpcpb.CheckSecondaryLocksRequest{
			Context: s.ctx(d, s.keys(d)[0]), Keys: s.keys(d), StartVersion: s.ts(d, "start"),
		})
		out := []string{"commit=" + showTS(r.GetCommitTs())}
		for _, l := range r.GetLocks() {
			out = append(out, showLock(l))
		}
		return orOK(failure(err, r.GetRegionError(), r.GetError()), strings.Join(out, "\n"))
	case "resolve":
		return s.resolve(ctx, d)
	case "get":
		return s.get(ctx, d)
	case "batch-get":
		r, err := s.s.KvBatchGet(ctx, &kvrpcpb.BatchGetRequest{Context: s.ctx(d, s.keys(d)[0]), Keys: s.keys(d), Version: s.ts(d, "ts")})
		return orOK(failure(err, r.GetRegionError(), r.GetError()), showPairs(r.GetPairs()))
	case "buffer-get":
		r, err := s.s.KvBufferBatchGet(ctx, &kvrpcpb.BufferBatchGetRequest{Context: s.ctx(d, s.keys(d)[0]), Keys: s.keys(d), Version: s.ts(d, "start")})
		return orOK(failure(err, r.GetRegionError(), r.GetError()), showPairs(r.GetPairs()))
	case "scan":
		return s.scan(ctx, d)
	case "scan-lock":
		r, err := s.s.KvScanLock(ctx, &kvrpcpb.ScanLockRequest{
			Context: s.ctx(d, nil), MaxVersion: s.ts(d, "max"), StartKey: []byte(s.str(d, "from")), EndKey: []byte(s.str(d, "to")), Limit: uint32(s.ts(d, "limit")),
		})
		var out []string
		for _, l := range r.GetLocks() {
			out = append(out, showLock(l))
		}
		return orOK(failure(err, r.GetRegionError(), r.GetError()), strings.Join(append(out, "end"), "\n"))
	case "delete-range":
		r, err := s.s.KvDeleteRange(ctx, &kvrpcpb.DeleteRangeRequest{
			Context: s.ctx(d, []byte(s.str(d, "from"))), StartKey: []byte(s.str(d, "from")), EndKey: []byte(s.str(d, "to")), NotifyOnly: d.HasArg("notify"),
		})
		return orOK(failure(err, r.GetRegionError()), "ok"+r.GetError())
	case "by-start-ts":
		r, err := s.s.MvccGetByStartTs(ctx, &kvrpcpb.MvccGetByStartTsRequest{Context: s.ctx(d, nil), StartTs: s.ts(d, "start")})
		return orOK(failure(err, r.GetRegionError()), fmt.Sprintf("key %q", r.GetKey()))
	case "broadcast":
		_, err := s.s.BroadcastTxnStatus(ctx, &kvrpcpb.BroadcastTxnStatusRequest{TxnStatus: []*kvrpcpb.TxnStatus{{
			StartTs: s.ts(d, "start"), MinCommitTs: s.ts(d, "min_commit"), CommitTs: s.ts(d, "commit"), RolledBack: d.HasArg("rolled-back"),
		}}})
		return orOK(failure(err, nil), "ok")
	}
	return s.control(d)
}

// control are the commands that are no requests.
func (s *script) control(d *datadriven.TestData) string {
	switch d.Cmd {
	case "reset":
		s.close()
		*s = *newScript(s.t)
		return "ok"
	case "locks":
		return s.locks(d)
	case "newest":
		lines := strings.SplitN(s.records(s.str(d, "key")), "\n", 4)
		return strings.Join(lines[:3], "\n")
	case "records":
		var out []string
		for _, k := range s.keys(d) {
			out = append(out, s.records(string(k)))
		}
		return strings.Join(out, "\n")
	case "max-ts":
		if ts := s.ts(d, "raise"); ts != 0 {
			s.s.UpdateMaxTS(ts)
		}
		return showTS(s.s.MaxTS())
	case "next-writes":
		for _, f := range strings.Fields(d.Input) {
			s.next = append(s.next, map[string]txntest.Outcome{
				"apply": txntest.Apply, "refuse": txntest.Refuse, "lose-answer": txntest.LostApplied, "lose": txntest.LostDropped,
			}[f])
		}
		return "ok"
	case "max-ts-synced":
		s.e.SetMaxTSSynced(1, d.HasArg("yes"))
		return "ok"
	case "step-down":
		s.e.SetLeader(1, false)
		s.s.OnRoleChange(1, false)
		synctest.Wait()
		return "ok"
	case "step-up":
		s.e.SetLeader(1, true)
		s.s.OnRoleChange(1, true)
		return "ok"
	case "safe-point":
		s.s.SafePoints().Raise(s.ts(d, "raise"), nil)
		return "ok"
	case "collect":
		return s.collect(d)
	case "join":
		name := s.str(d, "name")
		out := <-s.bg[name]
		delete(s.bg, name)
		return out
	}
	s.t.Fatalf("unknown command %q", d.Cmd)
	return ""
}

func (s *script) prewrite(ctx context.Context, d *datadriven.TestData) string {
	req := &kvrpcpb.PrewriteRequest{
		PrimaryLock: []byte(s.str(d, "primary")), StartVersion: s.ts(d, "start"), ForUpdateTs: s.ts(d, "for_update"),
		LockTtl: s.ts(d, "ttl"), MinCommitTs: s.ts(d, "min_commit"), MaxCommitTs: s.ts(d, "max_commit"),
		UseAsyncCommit: d.HasArg("async"), TryOnePc: d.HasArg("1pc"), SkipConstraintCheck: d.HasArg("skip-checks"),
		AssertionLevel: kvrpcpb.AssertionLevel_Fast,
	}
	if d.HasArg("strict") {
		req.AssertionLevel = kvrpcpb.AssertionLevel_Strict
	}
	if v := s.str(d, "secondaries"); v != "" {
		for _, k := range strings.Split(v, "/") {
			req.Secondaries = append(req.Secondaries, []byte(k))
		}
	}
	s.mutations(d, req)
	req.Context = s.ctx(d, req.Mutations[0].Key)
	r, err := s.s.KvPrewrite(ctx, req)
	out := "ok"
	if r.GetMinCommitTs() != 0 {
		out += " min_commit=" + showTS(r.GetMinCommitTs())
	}
	if r.GetOnePcCommitTs() != 0 {
		out += " 1pc commit=" + showTS(r.GetOnePcCommitTs())
	}
	return orOK(failure(err, r.GetRegionError(), r.GetErrors()...), out)
}

func (s *script) flush(ctx context.Context, d *datadriven.TestData) string {
	var p kvrpcpb.PrewriteRequest
	s.mutations(d, &p)
	r, err := s.s.KvFlush(ctx, &kvrpcpb.FlushRequest{
		Context: s.ctx(d, p.Mutations[0].Key), Mutations: p.Mutations, PrimaryKey: []byte(s.str(d, "primary")),
		StartTs: s.ts(d, "start"), Generation: s.ts(d, "generation"), LockTtl: s.ts(d, "ttl"), AssertionLevel: kvrpcpb.AssertionLevel_Fast,
	})
	return orOK(failure(err, r.GetRegionError(), r.GetErrors()...), "ok")
}

func (s *script) pessimisticLock(ctx context.Context, d *datadriven.TestData) string {
	req := &kvrpcpb.PessimisticLockRequest{
		PrimaryLock: []byte(s.str(d, "primary")), StartVersion: s.ts(d, "start"), ForUpdateTs: s.ts(d, "for_update"),
		LockTtl: s.ts(d, "ttl"), MinCommitTs: s.ts(d, "min_commit"), IsFirstLock: d.HasArg("first"),
		ReturnValues: d.HasArg("values"), CheckExistence: d.HasArg("existence"), LockOnlyIfExists: d.HasArg("only-if-exists"),
		WaitTimeout: int64(s.ts(d, "wait")),
	}
	if d.HasArg("no-wait") {
		req.WaitTimeout = -1
	}
	if d.HasArg("force") {
		req.WakeUpMode = kvrpcpb.PessimisticLockWakeUpMode_WakeUpModeForceLock
	}
	for _, k := range s.keys(d) {
		m := &kvrpcpb.Mutation{Op: kvrpcpb.Op_PessimisticLock, Key: k}
		if d.HasArg("shared") {
			m.Op = kvrpcpb.Op_SharedPessimisticLock
		}
		if d.HasArg("not-exist") {
			m.Assertion = kvrpcpb.Assertion_NotExist
		}
		req.Mutations = append(req.Mutations, m)
	}
	req.Context = s.ctx(d, req.Mutations[0].Key)
	r, err := s.s.KvPessimisticLock(ctx, req)
	out := "ok"
	for i, nf := range r.GetNotFounds() {
		switch {
		case nf:
			out += " not-found"
		case len(r.Values) > 0:
			out += " " + showValue(r.Values[i])
		default:
			out += " exists"
		}
	}
	for _, res := range r.GetResults() {
		out += fmt.Sprintf(" %s exists=%t", res.Type, res.Existence)
		if res.Value != nil {
			out += " " + showValue(res.Value)
		}
		if res.LockedWithConflictTs != 0 {
			out += " conflict=" + showTS(res.LockedWithConflictTs)
		}
	}
	return orOK(failure(err, r.GetRegionError(), r.GetErrors()...), out)
}

func (s *script) checkTxnStatus(ctx context.Context, d *datadriven.TestData) string {
	key := s.keys(d)[0]
	r, err := s.s.KvCheckTxnStatus(ctx, &kvrpcpb.CheckTxnStatusRequest{
		Context: s.ctx(d, key), PrimaryKey: key, LockTs: s.ts(d, "start"), CallerStartTs: s.ts(d, "caller"), CurrentTs: s.ts(d, "current"),
		RollbackIfNotExist: d.HasArg("rollback-if-not-exist"), ForceSyncCommit: d.HasArg("force-sync"),
		ResolvingPessimisticLock: d.HasArg("resolving-pessimistic"), VerifyIsPrimary: !d.HasArg("no-verify"),
	})
	out := r.GetAction().String()
	if r.GetCommitVersion() != 0 {
		out += " commit=" + showTS(r.CommitVersion)
	}
	if r.GetLockTtl() != 0 {
		out += fmt.Sprintf(" ttl=%d", r.LockTtl)
	}
	if r.GetLockInfo() != nil {
		out += "\n" + showLock(r.LockInfo)
	}
	return orOK(failure(err, r.GetRegionError(), r.GetError()), out)
}

func (s *script) resolve(ctx context.Context, d *datadriven.TestData) string {
	req := &kvrpcpb.ResolveLockRequest{Context: s.ctx(d, nil), StartVersion: s.ts(d, "start"), CommitVersion: s.ts(d, "commit")}
	if v := s.str(d, "txns"); v != "" { // 10:11/20:0
		for _, t := range strings.Split(v, "/") {
			start, commit, _ := strings.Cut(t, ":")
			req.TxnInfos = append(req.TxnInfos, &kvrpcpb.TxnInfo{Txn: parseTS(s.t, start), Status: parseTS(s.t, commit)})
		}
	}
	req.Keys = s.keys(d)
	r, err := s.s.KvResolveLock(ctx, req)
	return orOK(failure(err, r.GetRegionError(), r.GetError()), "ok")
}

func (s *script) get(ctx context.Context, d *datadriven.TestData) string {
	key := s.keys(d)[0]
	r, err := s.s.KvGet(ctx, &kvrpcpb.GetRequest{Context: s.ctx(d, key), Key: key, Version: s.ts(d, "ts"), NeedCommitTs: !d.HasArg("committed") || d.HasArg("commit-ts")})
	if f := failure(err, r.GetRegionError(), r.GetError()); f != "" {
		return f
	}
	if r.NotFound {
		return "not found"
	}
	return fmt.Sprintf("%s commit=%s", showValue(r.Value), showTS(r.CommitTs))
}

func (s *script) scan(ctx context.Context, d *datadriven.TestData) string {
	limit := uint32(100)
	if d.HasArg("limit") {
		limit = uint32(s.ts(d, "limit"))
	}
	r, err := s.s.KvScan(ctx, &kvrpcpb.ScanRequest{
		Context: s.ctx(d, nil), Version: s.ts(d, "ts"), StartKey: []byte(s.str(d, "from")), EndKey: []byte(s.str(d, "to")),
		Limit: limit, Reverse: d.HasArg("reverse"), KeyOnly: d.HasArg("key-only"), SampleStep: uint32(s.ts(d, "step")),
	})
	return orOK(failure(err, r.GetRegionError(), r.GetError()), showPairs(r.GetPairs()))
}

func showPairs(pairs []*kvrpcpb.KvPair) string {
	var out []string
	for _, p := range pairs {
		if p.Error != nil {
			out = append(out, fmt.Sprintf("%s: %s", p.Key, showKeyError(p.Error)))
			continue
		}
		out = append(out, fmt.Sprintf("%s=%s", p.Key, showValue(p.Value)))
	}
	return strings.Join(append(out, "end"), "\n")
}

// locks commits n transactions that only lock the key, at from, from+2, …
func (s *script) locks(d *datadriven.TestData) string {
	key := []byte(s.str(d, "key"))
	for i := range s.ts(d, "n") {
		start := s.ts(d, "from") + 2*i
		p, err := s.s.KvPrewrite(context.Background(), &kvrpcpb.PrewriteRequest{
			Context: s.e.Context(key), PrimaryLock: key, StartVersion: start,
			Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Lock, Key: key}},
		})
		if f := failure(err, p.GetRegionError(), p.GetErrors()...); f != "" {
			return f
		}
		c, err := s.s.KvCommit(context.Background(), &kvrpcpb.CommitRequest{
			Context: s.e.Context(key), Keys: [][]byte{key}, StartVersion: start, CommitVersion: start + 1,
		})
		if f := failure(err, c.GetRegionError(), c.GetError()); f != "" {
			return f
		}
	}
	return "ok"
}
