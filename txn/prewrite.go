package txn

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/mvcc"
)

// commitKind is how a prewrite means to commit.
type commitKind byte

const (
	twoPhase commitKind = iota
	asyncCommit
	onePhase
)

// prewriter carries one KvPrewrite or KvFlush through its keys.
type prewriter struct {
	c *command

	primary     []byte
	startTS     uint64
	forUpdateTS uint64 // 0: optimistic
	ttl         uint64
	txnSize     uint64
	minCommitTS uint64
	maxCommitTS uint64
	secondaries [][]byte
	kind        commitKind
	level       kvrpcpb.AssertionLevel
	generation  uint64 // not 0: a flush
	skipChecks  bool   // the client vouches that the keys are new
	retry       bool

	pending []pendingLock
	// commitTS is the largest min_commit_ts so far; 0 once kind fell back to
	// twoPhase.
	commitTS uint64
}

// pendingLock is a key that passed its checks; it goes into the batch when all
// keys have, since only then the kind of commit is known.
type pendingLock struct {
	enc     []byte
	lock    *mvcc.Lock
	value   []byte     // long value for the default family
	baseMin uint64     // min_commit_ts without async commit
	fresh   bool       // not held before
	pessim  bool       // replaces a pessimistic lock
	shared  *mvcc.Lock // the shared lock it is to be part of
	stale   bool       // a long value of an earlier flush has to go
}

func (p *prewriter) pessimistic() bool { return p.forUpdateTS != 0 }

// KvPrewrite locks the keys of a transaction and stores its values. Errors of
// several locked keys are reported together; nothing is written then.
func (s *Store) KvPrewrite(ctx context.Context, req *kvrpcpb.PrewriteRequest) (*kvrpcpb.PrewriteResponse, error) {
	if err := checkPrewrite(req); err != nil {
		return nil, err
	}
	p := prewriter{
		primary: req.PrimaryLock, startTS: req.StartVersion, forUpdateTS: req.ForUpdateTs,
		ttl: req.LockTtl, txnSize: req.TxnSize, minCommitTS: req.MinCommitTs, maxCommitTS: req.MaxCommitTs,
		secondaries: req.Secondaries, level: req.AssertionLevel, skipChecks: req.SkipConstraintCheck,
		retry: req.Context.GetIsRetryRequest() || s.status.committed(req.StartVersion),
	}
	switch {
	case req.TryOnePc:
		p.kind = onePhase
	case req.UseAsyncCommit:
		p.kind = asyncCommit
	}
	actions, constraints, err := pessimisticChecks(req)
	if err != nil {
		return nil, err
	}
	resp := &kvrpcpb.PrewriteResponse{}
	err = s.exec(ctx, cmdPrewrite, req.Context, req.StartVersion, mutationKeys(req.Mutations), func(c *command) error {
		p.c = c
		if onlyFrees(req.Mutations) {
			c.allowOnDisk(onAlmostFull)
		}
		locked, err := p.run(req.Mutations, actions, constraints)
		resp.Errors = locked
		return err
	})
	if re, ke, err := splitMany(err); re != nil || ke != nil || err != nil {
		if req.TryOnePc || req.UseAsyncCommit { // it may have been all that was missing
			if err := noAnswer(re); err != nil {
				return nil, err
			}
		}
		return &kvrpcpb.PrewriteResponse{RegionError: re, Errors: ke}, err
	}
	if len(resp.Errors) > 0 {
		return resp, nil
	}
	switch p.kind {
	case onePhase:
		resp.OnePcCommitTs = p.commitTS
		s.status.put(p.startTS, mvcc.TxnStatus{CommitTS: p.commitTS})
	case asyncCommit:
		resp.MinCommitTs = p.commitTS
	}
	return resp, nil
}

func checkPrewrite(req *kvrpcpb.PrewriteRequest) error {
	if len(req.Mutations) == 0 {
		return invalid("prewrite without mutations")
	}
	if req.StartVersion == 0 {
		return invalid("prewrite without start_version")
	}
	if len(req.TxnFileChunks) > 0 {
		return unimplemented("transaction files (txn_file_chunks)")
	}
	return checkMutations(req.Mutations, req.ForUpdateTs != 0)
}

func checkMutations(ms []*kvrpcpb.Mutation, pessimistic bool) error {
	for _, m := range ms {
		switch m.Op {
		case kvrpcpb.Op_Put, kvrpcpb.Op_Del, kvrpcpb.Op_Lock, kvrpcpb.Op_Insert:
		case kvrpcpb.Op_CheckNotExists:
			if pessimistic {
				return invalid("CheckNotExists in a pessimistic prewrite")
			}
		case kvrpcpb.Op_SharedLock:
			if !pessimistic {
				return invalid("SharedLock in an optimistic prewrite or a flush; lock the key with SharedPessimisticLock first")
			}
		default:
			return invalid("prewrite of operation %s", m.Op)
		}
	}
	return checkDistinct(ms)
}

// checkDistinct refuses a key that comes twice: its two mutations would be
// checked against the same snapshot, which has the lock of neither.
func checkDistinct(ms []*kvrpcpb.Mutation) error {
	byKey := func(a, b *kvrpcpb.Mutation) int { return bytes.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(ms, byKey) { // clients send them in order
		ms = slices.Clone(ms)
		slices.SortFunc(ms, byKey)
	}
	for i := 1; i < len(ms); i++ {
		if bytes.Equal(ms[i-1].Key, ms[i].Key) {
			return invalid("key %x comes twice in one request", ms[i].Key)
		}
	}
	return nil
}

// pessimisticChecks spreads the request's sparse lists over its mutations.
func pessimisticChecks(req *kvrpcpb.PrewriteRequest) ([]kvrpcpb.PrewriteRequest_PessimisticAction, []uint64, error) {
	n := len(req.Mutations)
	if req.ForUpdateTs == 0 {
		return nil, nil, nil
	}
	if len(req.PessimisticActions) != n && len(req.PessimisticActions) != 0 {
		return nil, nil, invalid("%d pessimistic actions for %d mutations", len(req.PessimisticActions), n)
	}
	if len(req.ForUpdateTsConstraints) == 0 {
		return req.PessimisticActions, nil, nil
	}
	constraints := make([]uint64, n)
	for _, c := range req.ForUpdateTsConstraints {
		if int(c.Index) >= n {
			return nil, nil, invalid("for_update_ts constraint for mutation %d of %d", c.Index, n)
		}
		constraints[c.Index] = c.ExpectedForUpdateTs
	}
	return req.PessimisticActions, constraints, nil
}

func mutationKeys(ms []*kvrpcpb.Mutation) [][]byte {
	keys := make([][]byte, len(ms))
	for i, m := range ms {
		keys[i] = m.Key
	}
	return keys
}

// run checks all keys and fills the batch. locked are the errors of keys that
// other transactions hold.
func (p *prewriter) run(ms []*kvrpcpb.Mutation, actions []kvrpcpb.PrewriteRequest_PessimisticAction, constraints []uint64) (locked []*kvrpcpb.KeyError, err error) {
	var failedAssertion error
	p.pending = make([]pendingLock, 0, len(ms))
	for i, m := range ms {
		k := prewriteKey{prewriter: p, enc: p.c.keys[i], m: m}
		if actions != nil {
			k.action = actions[i]
		}
		if constraints != nil {
			k.expectedForUpdateTS = constraints[i]
		}
		minCommitTS, err := k.prewrite()
		if err == nil {
			p.took(minCommitTS)
			continue
		}
		var ke *keyError
		if !errors.As(err, &ke) {
			return nil, err
		}
		switch {
		case ke.pb.AssertionFailed != nil:
			// Another key may have a conflict, which is the better reason.
			if failedAssertion == nil {
				failedAssertion = err
			}
			continue
		case ke.pb.Locked != nil, ke.lostLock, ke.pb.Conflict != nil && ke.pb.Conflict.ConflictCommitTs > p.startTS:
			done, err := p.alreadyCommitted(i)
			if err != nil || done {
				return nil, err
			}
		}
		if ke.pb.Locked == nil {
			return nil, ke
		}
		locked = append(locked, ke.pb)
	}
	if failedAssertion != nil {
		return nil, failedAssertion
	}
	if len(locked) > 0 {
		return locked, nil
	}
	p.flush()
	return nil, nil
}

// took takes the min_commit_ts of one more key; 0 means that the key's lock is
// a plain one, so the whole transaction has to commit in two phases.
func (p *prewriter) took(minCommitTS uint64) {
	if p.kind == twoPhase {
		return
	}
	if minCommitTS == 0 {
		p.fallBack()
		return
	}
	p.commitTS = max(p.commitTS, minCommitTS)
}

// fallBack turns an async commit or 1PC into two phases, for the keys that
// were taken already, too.
func (p *prewriter) fallBack() {
	p.kind, p.commitTS = twoPhase, 0
	for i := range p.pending {
		pl := &p.pending[i]
		if !pl.lock.UseAsyncCommit && !pl.lock.UseOnePC {
			continue
		}
		plain := *pl.lock // readers may look at the published one
		plain.UseAsyncCommit, plain.UseOnePC = false, false
		plain.Secondaries, plain.MinCommitTS = nil, pl.baseMin
		pl.lock = &plain
	}
	p.c.s.mem.Withdraw(p.c.published)
	p.c.published = p.c.published[:0]
}

// alreadyCommitted reports whether the transaction has a commit record on key
// i, or, in a request that is known to be a repeated one, on any of its keys:
// then this is a late copy of a request whose transaction has ended, and the
// answer is success without a write (hazard 23).
func (p *prewriter) alreadyCommitted(i int) (bool, error) {
	keys := p.c.keys[i : i+1]
	if p.retry {
		keys = p.c.keys
	}
	for _, enc := range keys {
		rec, err := p.c.r.TxnRecord(enc, p.startTS)
		if err != nil {
			return false, err
		}
		if rec.Fate != mvcc.FateCommitted {
			continue
		}
		p.c.s.mem.Withdraw(p.c.published)
		p.c.published = p.c.published[:0]
		p.pending = p.pending[:0]
		p.commitTS = rec.CommitTS
		p.c.s.status.put(p.startTS, mvcc.TxnStatus{CommitTS: rec.CommitTS})
		return true, nil
	}
	return false, nil
}

// flush writes the locks, or with 1PC the commit records, into the batch.
func (p *prewriter) flush() {
	c := p.c
	for i := range p.pending {
		pl := &p.pending[i]
		if pl.value != nil {
			c.putValue(pl.enc, p.startTS, pl.value)
		} else if pl.stale {
			c.deleteValue(pl.enc, p.startTS)
		}
		if pl.shared != nil {
			pl.shared.PutHolder(*pl.lock)
			c.putLock(pl.enc, pl.shared, false)
			continue
		}
		if p.kind != onePhase {
			c.putLock(pl.enc, pl.lock, pl.fresh)
			continue
		}
		w := commitRecord(pl.lock)
		c.putWrite(pl.enc, p.commitTS, &w)
		if pl.pessim {
			c.unlock(pl.enc, pl.lock, pl.lock, p.commitTS)
		}
	}
}
