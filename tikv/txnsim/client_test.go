package txnsim_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/copradb/copra/txn/mvcccheck"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"github.com/tikv/client-go/v2/txnkv/txnsnapshot"
)

// client is a process with client-go in it, and with one session. When it
// dies another process takes its place.
type client struct {
	r   *run
	id  int
	rng *rand.Rand
	n   int // processes so far
	rpc *rpc
	kv  *tikv.KVStore
	err error // the last one
	// group is the last group of keys of the long fork that it wrote to.
	group int64
}

func (r *run) newClient(id int) *client {
	c := &client{r: r, id: id, rng: r.s.Rng("txn client", uint64(id))}
	c.open()
	return c
}

func (c *client) open() {
	c.n++
	c.rpc = newRPC(c.r, c.r.s.Rng("txn network", uint64(c.id), uint64(c.n)))
	pd := tikv.NewCodecPDClient(tikv.ModeTxn, &pdClient{r: c.r, s: c.r.s, routes: c.r.routes, tso: &c.r.tso})
	var err error
	c.kv, err = tikv.NewKVStore(fmt.Sprintf("sim-%d-%d", c.id, c.n), pd, tikv.NewMockSafePointKV(), c.rpc)
	if err != nil {
		panic(fmt.Sprintf("txnsim: client-go does not start: %v", err))
	}
}

// close ends the process; what it has under way fails.
func (c *client) close() {
	c.rpc.wait()
	if err := c.kv.Close(); err != nil {
		c.r.s.Fail("client %d: close: %v", c.id, err)
	}
}

// rise starts another process if this one has died.
func (c *client) rise() {
	if c.rpc.left.Load() < 0 {
		return
	}
	c.rpc.left.Store(0)
	c.r.s.Log(0, 0, "client %d dies", c.id)
	c.close()
	c.open()
}

// mode is how a transaction reads and commits.
type mode struct {
	pessimistic  bool
	async, onePC bool
	// causal leaves the choice of the commit timestamp to the stores alone: they
	// must know up to where was read.
	causal bool
	// force locks keys even if they were changed since (fair locking); pipelined
	// writes locks while the transaction goes on.
	force, pipelined bool
}

var optimistic = mode{}

func (c *client) mode() mode {
	if c.rng.IntN(12) == 0 && !c.r.s.Without("pipelined") {
		return mode{pipelined: true}
	}
	m := mode{pessimistic: c.rng.IntN(3) == 0, async: c.rng.IntN(2) == 0, onePC: c.rng.IntN(2) == 0, causal: c.rng.IntN(2) == 0, force: c.rng.IntN(2) == 0}
	for part, on := range map[string]*bool{"pessimistic": &m.pessimistic, "async": &m.async, "1pc": &m.onePC, "causal": &m.causal, "force": &m.force} {
		*on = *on && !c.r.s.Without(part)
	}
	return m
}

// txnTimeout bounds every step of a transaction; fake time.
const txnTimeout = 30 * time.Second

// tx is one transaction and what is to be checked of it.
type tx struct {
	c      *client
	mode   mode
	txn    *transaction.KVTxn
	begin  int64
	end    int64
	reads  []mvcccheck.Value
	writes map[string][]byte
	locked map[string][]byte // values as of their locking
	broken error             // a flush has failed: it must not be committed
}

func (c *client) begin(m mode) (*tx, error) {
	x := &tx{c: c, mode: m, begin: c.r.now(), writes: map[string][]byte{}, locked: map[string][]byte{}}
	var options []tikv.TxnOption
	if m.pipelined {
		options = append(options, tikv.WithDefaultPipelinedTxn())
	}
	t, err := c.kv.Begin(options...)
	if err != nil {
		c.err = err
		return nil, err
	}
	if !m.pipelined { // which has its own ways
		t.SetPessimistic(m.pessimistic)
		t.SetEnableAsyncCommit(m.async)
		t.SetEnable1PC(m.onePC)
		t.SetCausalConsistency(m.causal)
	}
	x.txn = t
	if m.pessimistic {
		c.r.mu.Lock()
		c.r.locking[t.StartTS()] = true
		c.r.mu.Unlock()
	}
	return x, nil
}

// get reads a key, in pessimistic transactions as SELECT FOR UPDATE does: the
// newest value, and locked.
func (x *tx) get(key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), txnTimeout)
	defer cancel()
	if value, ok := x.writes[key]; ok {
		return value, nil
	}
	if value, ok := x.locked[key]; ok {
		return value, nil
	}
	if x.mode.pessimistic {
		return x.lock(ctx, key, false)
	}
	entry, err := x.txn.Get(ctx, []byte(key))
	if err != nil && !tikverr.IsErrNotFound(err) {
		x.c.err = err
		return nil, err
	}
	x.reads = append(x.reads, mvcccheck.Value{Key: key, Value: entry.Value})
	return entry.Value, nil
}

const lockWaitMs = 3000

// share reads a key as SELECT FOR SHARE does. Another one must be locked before:
// client-go makes no shared key a transaction's primary.
func (x *tx) share(key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), txnTimeout)
	defer cancel()
	return x.lock(ctx, key, true)
}

// lock locks a key at a new timestamp, until that works.
func (x *tx) lock(ctx context.Context, key string, shared bool) ([]byte, error) {
	for {
		ts, err := x.c.kv.CurrentTimestamp(oracle.GlobalTxnScope)
		if err != nil {
			x.c.err = err
			return nil, err
		}
		lockCtx := kv.NewLockCtx(ts, lockWaitMs, time.Now())
		lockCtx.InitReturnValues(1)
		lockCtx.InShareMode = shared
		if x.mode.force {
			x.txn.StartAggressiveLocking()
		}
		err = x.txn.LockKeys(ctx, lockCtx, []byte(key))
		switch in := x.txn.IsInAggressiveLockingMode(); {
		case in && err == nil:
			x.txn.DoneAggressiveLocking(ctx)
			ts = max(ts, lockCtx.Values[key].LockedWithConflictTS)
		case in:
			x.txn.CancelAggressiveLocking(ctx)
		}
		if tikverr.IsErrWriteConflict(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			x.c.err = err
			return nil, err
		}
		value := lockCtx.Values[key].Value
		if !lockCtx.Values[key].Exists {
			value = nil
		}
		x.locked[key] = value
		x.reads = append(x.reads, mvcccheck.Value{Key: key, Value: value, TS: ts})
		return value, nil
	}
}

// keep makes an optimistic transaction fail if one of the keys is changed by
// another one.
func (x *tx) keep(keys ...string) error {
	var bytes [][]byte
	for _, key := range keys {
		bytes = append(bytes, []byte(key))
	}
	x.c.err = x.txn.LockKeys(context.Background(), kv.NewLockCtx(x.txn.StartTS(), kv.LockAlwaysWait, time.Now()), bytes...)
	return x.c.err
}

func (x *tx) set(key string, value []byte) {
	x.writes[key] = value
	if err := x.txn.Set([]byte(key), value); err != nil {
		panic(fmt.Sprintf("txnsim: set: %v", err)) // it is in memory
	}
	if x.mode.pipelined && x.c.rng.IntN(2) == 0 {
		// The error may be that of the flush before: it is told once.
		if _, err := x.txn.GetMemBuffer().Flush(true); err != nil && x.broken == nil {
			x.broken = err
		}
	}
}

func (x *tx) delete(key string) {
	x.writes[key] = nil
	if err := x.txn.Delete([]byte(key)); err != nil {
		panic(fmt.Sprintf("txnsim: delete: %v", err)) // it is in memory
	}
}

func (x *tx) rollback() {
	_ = x.txn.Rollback() // its locks are resolved later
	x.record("rolled back", mvcccheck.Failed)
}

// commit commits and says what is known then.
func (x *tx) commit(kind string) mvcccheck.Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), txnTimeout)
	defer cancel()
	if x.broken != nil {
		x.c.err = x.broken
		x.rollback()
		return mvcccheck.Failed
	}
	err := x.txn.Commit(ctx)
	x.c.err = err
	return x.record(kind, outcomeOf(err))
}

// outcomeOf: only errors that say so mean that a transaction has failed.
func outcomeOf(err error) mvcccheck.Outcome {
	var deadlock *tikverr.ErrDeadlock
	switch {
	case err == nil:
		return mvcccheck.Committed
	case tikverr.IsErrorUndetermined(err):
		return mvcccheck.Unknown
	case tikverr.IsErrWriteConflict(err), errors.As(err, &deadlock):
		return mvcccheck.Failed
	}
	return mvcccheck.Unknown
}

func (x *tx) record(kind string, outcome mvcccheck.Outcome) mvcccheck.Outcome {
	r := x.c.r
	x.end = r.now()
	t := mvcccheck.Txn{StartTS: x.txn.StartTS(), Outcome: outcome}
	// A 1PC whose answer was lost is repeated as 2PC if its region was split
	// meanwhile. It was committed then, but not at client-go's timestamp.
	if outcome == mvcccheck.Committed && len(x.writes) > 0 && !x.mode.onePC {
		t.CommitTS = x.txn.CommitTS()
	}
	for _, key := range slices.Sorted(maps.Keys(x.writes)) {
		t.Writes = append(t.Writes, mvcccheck.Value{Key: key, Value: x.writes[key]})
	}
	t.Reads = x.reads
	r.s.Op(0, 0, "client %d: %s %d..%d %v: %v: reads %s writes %s: %v", x.c.id, kind, t.StartTS, t.CommitTS, x.mode, outcome, describe(t.Reads), describe(t.Writes), x.c.err)
	unknown, writes := 0, 0
	switch {
	case outcome == mvcccheck.Unknown:
		unknown = 1
	case outcome == mvcccheck.Committed:
		writes = 1
	}
	r.s.Count(len(x.reads), writes, unknown)
	r.mu.Lock()
	defer r.mu.Unlock()
	if outcome == mvcccheck.Committed {
		r.done[kind]++
	}
	r.txns = append(r.txns, t)
	return outcome
}

func describe(values []mvcccheck.Value) string {
	const shownMax = 30 // of each value's end
	out := ""
	for _, v := range values {
		out += fmt.Sprintf(" %s=%s", v.Key, v.Value[max(0, len(v.Value)-shownMax):])
	}
	return "[" + out + " ]"
}

// reading is how a read-only transaction reads.
type reading struct {
	follower bool
	// stale is how old the snapshot is.
	stale time.Duration
	// scan and back read all keys in their order, or against it.
	scan, back bool
}

func (c *client) reading() (how reading) {
	switch c.rng.IntN(5) {
	case 0, 1:
		how.follower = true
	case 2:
		how.stale = time.Duration(200+c.rng.IntN(4000)) * time.Millisecond
	}
	how.follower = how.follower && !c.r.s.Without("follower")
	if c.r.s.Without("stale") {
		how.stale = 0
	}
	how.scan, how.back = c.rng.IntN(4) == 0, c.rng.IntN(2) == 0
	return how
}

// iterator is client-go's.
type iterator interface {
	Valid() bool
	Key() []byte
	Value() []byte
	Next() error
	Close()
}

// find reads keys from a snapshot.
func (how reading) find(ctx context.Context, snap *txnsnapshot.KVSnapshot, keys []string) (map[string][]byte, error) {
	found := map[string][]byte{}
	if !how.scan {
		var names [][]byte
		for _, key := range keys {
			names = append(names, []byte(key))
		}
		values, err := snap.BatchGet(ctx, names)
		for key, entry := range values {
			found[key] = entry.Value
		}
		return found, err
	}
	var it iterator
	var err error
	first, last := slices.Min(keys), slices.Max(keys)+"\x00"
	if how.back {
		it, err = snap.IterReverse([]byte(last), []byte(first))
	} else {
		it, err = snap.Iter([]byte(first), []byte(last))
	}
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for it.Valid() {
		if key := string(it.Key()); slices.Contains(keys, key) {
			found[key] = slices.Clone(it.Value())
		}
		if err := it.Next(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// readAll reads keys in one snapshot, and keeps what it saw for the check.
func (c *client) readAll(how reading, keys []string) (values map[string][]byte, begin, end int64, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), txnTimeout)
	defer cancel()
	begin = c.r.now()
	ts := c.r.tso.next()
	if how.stale > 0 {
		ts -= min(uint64(how.stale.Milliseconds())<<logicalBits, ts)
	}
	snap := c.kv.GetSnapshot(ts)
	switch {
	case how.stale > 0:
		snap.SetIsStalenessReadOnly(true)
		snap.SetReplicaRead(kv.ReplicaReadMixed)
	case how.follower:
		snap.SetReplicaRead(kv.ReplicaReadFollower)
	}
	found, err := how.find(ctx, snap, keys)
	end = c.r.now()
	if err != nil {
		c.err = err
		c.r.s.Op(0, 0, "client %d: read %v at %d: %v", c.id, how, ts, err)
		return nil, 0, 0, false
	}
	t := mvcccheck.Txn{StartTS: ts}
	values = map[string][]byte{}
	for _, key := range keys {
		value := found[key]
		values[key] = value
		t.Reads = append(t.Reads, mvcccheck.Value{Key: key, Value: value})
	}
	c.r.s.Op(0, 0, "client %d: read %v at %d: %s", c.id, how, ts, describe(t.Reads))
	c.r.s.Count(len(keys), 0, 0)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.txns = append(c.r.txns, t)
	return values, begin, end, true
}
