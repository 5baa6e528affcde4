package txn_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// client is a small transaction client that speaks the requests directly. It
// repeats a request after every region error, lost answers included, and
// resolves the locks it meets.
type client struct {
	e   *txntest.Engine
	s   *txn.Store
	tso *atomic.Uint64
	r   *rand.Rand
	// shares are the start timestamps of those who share locks; nil: not noted.
	shares *sync.Map
}

// tsoStep makes every timestamp a millisecond, so that locks expire after as
// many timestamps as their ttl says.
const tsoStep = 1 << 18

const lockTTL = 40

func (c *client) ts() uint64 { return c.tso.Add(tsoStep) }

// repeat calls f until it is answered without a region error.
func (c *client) repeat(key []byte, f func(rc *kvrpcpb.Context) *errorpb.Error) {
	for try := 0; ; try++ {
		rc := c.e.Context(key)
		rc.IsRetryRequest = try > 0
		if f(rc) == nil {
			return
		}
	}
}

// unanswered makes repeat send a request again that has got no answer.
var unanswered = &errorpb.Error{Message: "no answer"}

func must[T any](r T, err error) T {
	if err != nil {
		panic(err)
	}
	return r
}

// get reads a key, resolving locks; a nil value does not exist.
func (c *client) get(key []byte, ts uint64) (value []byte) {
	var resolved []uint64
	for {
		var locked *kvrpcpb.LockInfo
		c.repeat(key, func(rc *kvrpcpb.Context) *errorpb.Error {
			rc.ResolvedLocks = resolved
			r := must(c.s.KvGet(context.Background(), &kvrpcpb.GetRequest{Context: rc, Key: key, Version: ts}))
			locked, value = r.Error.GetLocked(), r.Value
			return r.RegionError
		})
		if locked == nil {
			return value
		}
		if c.resolve(locked, ts) {
			resolved = append(resolved, locked.LockVersion)
		}
	}
}

// resolve finds out how the lock's transaction ended and resolves it. pushed
// says that it lives, but will be committed after callerTS.
func (c *client) resolve(l *kvrpcpb.LockInfo, callerTS uint64) (pushed bool) {
	if l.LockType == kvrpcpb.Op_SharedLock {
		for _, h := range l.SharedLockInfos {
			c.resolve(h, callerTS)
		}
		return false
	}
	forceSync := false
	for {
		now := c.ts()
		st := c.status(l, callerTS, now, forceSync)
		if st == nil {
			return false // its primary is still to come
		}
		if st.LockTtl == 0 {
			c.resolveKeys(l.LockVersion, st.CommitVersion, [][]byte{l.Key})
			return false
		}
		p := st.LockInfo
		if !p.UseAsyncCommit || forceSync {
			return st.Action == kvrpcpb.Action_MinCommitTSPushed
		}
		if p.LockVersion>>18+p.LockTtl >= now>>18 {
			return false
		}
		commitTS, ok := c.secondaries(p)
		if !ok {
			forceSync = true
			continue
		}
		c.resolveKeys(l.LockVersion, commitTS, append([][]byte{p.Key}, p.Secondaries...))
		return false
	}
}

func (c *client) status(l *kvrpcpb.LockInfo, callerTS, now uint64, forceSync bool) (st *kvrpcpb.CheckTxnStatusResponse) {
	expired := l.LockVersion>>18+l.LockTtl < now>>18
	c.repeat(l.PrimaryLock, func(rc *kvrpcpb.Context) *errorpb.Error {
		st = must(c.s.KvCheckTxnStatus(context.Background(), &kvrpcpb.CheckTxnStatusRequest{
			Context: rc, PrimaryKey: l.PrimaryLock, LockTs: l.LockVersion, CallerStartTs: callerTS, CurrentTs: now,
			RollbackIfNotExist: expired, ForceSyncCommit: forceSync, VerifyIsPrimary: true,
			ResolvingPessimisticLock: l.LockType == kvrpcpb.Op_PessimisticLock,
		}))
		return st.RegionError
	})
	if st.Error != nil {
		if st.Error.TxnNotFound == nil {
			panic(fmt.Sprintf("status of %v: %v", l, st.Error))
		}
		return nil
	}
	if st.Action == kvrpcpb.Action_LockNotExistDoNothing || st.Action == kvrpcpb.Action_TTLExpirePessimisticRollback {
		c.repeat(l.Key, func(rc *kvrpcpb.Context) *errorpb.Error {
			return must(c.s.KVPessimisticRollback(context.Background(), &kvrpcpb.PessimisticRollbackRequest{
				Context: rc, StartVersion: l.LockVersion, ForUpdateTs: l.LockForUpdateTs, Keys: [][]byte{l.Key},
			})).RegionError
		})
		return nil
	}
	return st
}

// secondaries asks all secondaries of an async-commit transaction; ok is false
// when one of them is a plain lock.
func (c *client) secondaries(p *kvrpcpb.LockInfo) (commitTS uint64, ok bool) {
	commitTS = p.MinCommitTs
	for _, key := range p.Secondaries {
		var r *kvrpcpb.CheckSecondaryLocksResponse
		c.repeat(key, func(rc *kvrpcpb.Context) *errorpb.Error {
			r = must(c.s.KvCheckSecondaryLocks(context.Background(), &kvrpcpb.CheckSecondaryLocksRequest{Context: rc, Keys: [][]byte{key}, StartVersion: p.LockVersion}))
			return r.RegionError
		})
		if len(r.Locks) == 0 {
			return r.CommitTs, true
		}
		if !r.Locks[0].UseAsyncCommit {
			return 0, false
		}
		commitTS = max(commitTS, r.Locks[0].MinCommitTs)
	}
	return commitTS, true
}

// resolveKeys commits or rolls back what it can; a key whose fate is the other
// one would be a broken invariant and panics.
func (c *client) resolveKeys(startTS, commitTS uint64, keys [][]byte) {
	for _, key := range keys {
		c.repeat(key, func(rc *kvrpcpb.Context) *errorpb.Error {
			r := must(c.s.KvResolveLock(context.Background(), &kvrpcpb.ResolveLockRequest{Context: rc, StartVersion: startTS, CommitVersion: commitTS, Keys: [][]byte{key}}))
			if r.Error != nil {
				panic(fmt.Sprintf("resolve %s of %d to %d: %v", key, startTS, commitTS, r.Error))
			}
			return r.RegionError
		})
	}
}

// txnMode is how a transaction commits.
type txnMode int

const (
	modeOptimistic txnMode = iota
	modeAsync
	modeOnePC
	modePessimistic
	modeCount
)

// write commits the values at startTS; the first key is the primary. committed
// is false when it was rolled back, or given up half way (crash > 0).
func (c *client) write(mode txnMode, startTS uint64, keys, values [][]byte) (committed bool) {
	crash := c.r.IntN(20) // 0: after the prewrite, 1: after the primary's commit, 2: between prewrites
	forUpdateTS := uint64(0)
	if mode == modePessimistic {
		forUpdateTS = startTS
		if !c.lockAll(startTS, keys) {
			return false
		}
	}
	minCommitTS, kind := uint64(0), mode
	for i, key := range keys {
		if crash == 2 && i == 1 {
			return false
		}
		req := &kvrpcpb.PrewriteRequest{
			Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: key, Value: values[i]}}, PrimaryLock: keys[0], StartVersion: startTS,
			ForUpdateTs: forUpdateTS, LockTtl: lockTTL, UseAsyncCommit: kind == modeAsync, Secondaries: keys[1:], MinCommitTs: startTS + 1,
		}
		if forUpdateTS != 0 {
			req.PessimisticActions = []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK}
		}
		if mode == modeOnePC {
			req.Mutations = append(req.Mutations, &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: keys[1], Value: values[1]})
			req.TryOnePc = true
		}
		r, ok := c.prewriteAll(req)
		if r.RegionError != nil {
			// Split between the keys: two phases, whatever became of the 1PC.
			return c.write(modeOptimistic, startTS, keys, values)
		}
		if !ok {
			c.rollback(startTS, keys)
			return false
		}
		if mode == modeOnePC {
			if r.OnePcCommitTs != 0 {
				return true
			}
			break // fell back: both keys are locked
		}
		if r.MinCommitTs == 0 {
			kind = modeOptimistic
		}
		minCommitTS = max(minCommitTS, r.MinCommitTs)
	}
	if crash == 0 {
		return false
	}
	commitTS := c.ts()
	if kind == modeAsync {
		commitTS = minCommitTS
	}
	return c.commit(startTS, commitTS, keys, kind == modeAsync, crash == 1)
}

// prewriteAll repeats a prewrite over locks of others; ok is false on conflict.
func (c *client) prewriteAll(req *kvrpcpb.PrewriteRequest) (r *kvrpcpb.PrewriteResponse, ok bool) {
	for {
		c.repeat(req.Mutations[0].Key, func(rc *kvrpcpb.Context) *errorpb.Error {
			req.Context = rc
			var err error
			if r, err = c.s.KvPrewrite(context.Background(), req); errors.Is(err, txn.ErrUndetermined) {
				return unanswered
			}
			r = must(r, err)
			if r.RegionError.GetKeyNotInRegion() != nil {
				return nil
			}
			return r.RegionError
		})
		if r.RegionError != nil {
			return r, false
		}
		if len(r.Errors) == 0 {
			return r, true
		}
		for _, e := range r.Errors {
			if e.Locked == nil {
				return r, false
			}
			c.resolve(e.Locked, 0)
		}
	}
}

func (c *client) lockAll(startTS uint64, keys [][]byte) bool {
	return c.lock(kvrpcpb.Op_PessimisticLock, startTS, keys[0], keys)
}

// lock locks keys at start_ts; after a failure everything is rolled back.
func (c *client) lock(op kvrpcpb.Op, startTS uint64, primary []byte, keys [][]byte) bool {
	all := append([][]byte{primary}, keys...)
	for try := range 20 {
		failed := false
		for i, key := range keys {
			var r *kvrpcpb.PessimisticLockResponse
			c.repeat(key, func(rc *kvrpcpb.Context) *errorpb.Error {
				r = must(c.s.KvPessimisticLock(context.Background(), &kvrpcpb.PessimisticLockRequest{
					Context: rc, Mutations: []*kvrpcpb.Mutation{{Op: op, Key: key}}, PrimaryLock: primary,
					StartVersion: startTS, ForUpdateTs: startTS, LockTtl: lockTTL, WaitTimeout: 5, IsFirstLock: i == 0 && try == 0 && op == kvrpcpb.Op_PessimisticLock,
				}))
				return r.RegionError
			})
			if len(r.Errors) == 0 {
				continue
			}
			failed = true
			if r.Errors[0].Locked != nil {
				c.resolve(r.Errors[0].Locked, 0)
				break
			}
			c.rollback(startTS, all) // conflict or deadlock: what was read is old
			return false
		}
		if !failed {
			return true
		}
	}
	c.rollback(startTS, all)
	return false
}

func (c *client) rollback(startTS uint64, keys [][]byte) {
	for _, key := range keys {
		c.repeat(key, func(rc *kvrpcpb.Context) *errorpb.Error {
			r := must(c.s.KvBatchRollback(context.Background(), &kvrpcpb.BatchRollbackRequest{Context: rc, StartVersion: startTS, Keys: [][]byte{key}}))
			if r.Error != nil {
				panic(fmt.Sprintf("rollback of %d on %s: %v", startTS, key, r.Error))
			}
			return r.RegionError
		})
	}
}

// commit commits the primary and then, unless it stops there, the others. A
// primary that was rolled back by a reader is no commit; with async commit the
// transaction is committed before this is called.
func (c *client) commit(startTS, commitTS uint64, keys [][]byte, decided, stop bool) bool {
	for i, key := range keys {
		var ke *kvrpcpb.KeyError
		for {
			c.repeat(key, func(rc *kvrpcpb.Context) *errorpb.Error {
				r, err := c.s.KvCommit(context.Background(), &kvrpcpb.CommitRequest{Context: rc, StartVersion: startTS, CommitVersion: commitTS, Keys: [][]byte{key}})
				if errors.Is(err, txn.ErrUndetermined) {
					return unanswered
				}
				r = must(r, err)
				ke = r.Error
				return r.RegionError
			})
			if i == 0 && !decided && ke.GetCommitTsExpired() != nil {
				commitTS = c.ts()
				continue
			}
			break
		}
		if ke != nil && (i > 0 || decided) {
			panic(fmt.Sprintf("commit of %d at %d on %s, which is decided: %v", startTS, commitTS, key, ke))
		}
		if ke != nil {
			return false
		}
		if stop && i == 0 {
			return true
		}
	}
	return true
}

// guard writes own and keeps keys as they are by sharing their locks: what it
// read of them at its start is still so at commitTS.
func (c *client) guard(own []byte, keys [][]byte) (startTS, commitTS uint64, committed bool) {
	startTS = c.ts()
	c.shares.Store(startTS, true)
	if !c.lockAll(startTS, [][]byte{own}) || !c.lock(kvrpcpb.Op_SharedPessimisticLock, startTS, own, keys) {
		return 0, 0, false
	}
	crash := c.r.IntN(20) // as in write
	all := append([][]byte{own}, keys...)
	for i, key := range all {
		if crash == 2 && i == 1 {
			return 0, 0, false
		}
		m := &kvrpcpb.Mutation{Op: kvrpcpb.Op_SharedLock, Key: key}
		if i == 0 {
			m = &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: key, Value: []byte("x")}
		}
		_, ok := c.prewriteAll(&kvrpcpb.PrewriteRequest{
			Mutations: []*kvrpcpb.Mutation{m}, PrimaryLock: own, StartVersion: startTS, ForUpdateTs: startTS, LockTtl: lockTTL, MinCommitTs: startTS + 1,
			PessimisticActions: []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK},
		})
		if !ok {
			c.rollback(startTS, all)
			return 0, 0, false
		}
	}
	if crash == 0 {
		return 0, 0, false
	}
	commitTS = c.ts()
	return startTS, commitTS, c.commit(startTS, commitTS, all, false, crash == 1)
}
