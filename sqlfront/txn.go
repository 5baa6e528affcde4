package sqlfront

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/transaction"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/mutate"
	"github.com/copradb/copra/sqlfront/settings"
)

// Limits of transactions.
const (
	// statementTriesMax bounds how often a statement is run again on a newer
	// snapshot after a write conflict.
	statementTriesMax = 24
	// optimisticTriesMax is after how many conflicts an autocommit statement
	// starts to take locks.
	optimisticTriesMax = 2
)

// txn is a transaction: explicit (BEGIN), implicit (several statements of one
// message) or a single statement's own.
//
// The store's transaction begins with the first write. Reads before it, and of
// tables that were not written, are snapshot reads at the statement's timestamp
// (READ COMMITTED) or the transaction's (REPEATABLE READ).
type txn struct {
	s        *session
	explicit bool
	failed   bool
	readOnly bool
	// snapshotTS is REPEATABLE READ's timestamp: 0 until the first statement.
	repeatable bool
	snapshotTS uint64
	now        time.Time // transaction_timestamp
	// pessimistic transactions lock what they write at once; a single statement
	// first tries without.
	pessimistic bool

	held    hold // its oldest timestamp
	kv      *transaction.KVTxn
	written map[int64]*mutate.Table // by table id, as first written
	change  *catalog.Change
	catalog *catalog.Snapshot // REPEATABLE READ's

	// conflictRetry makes a key that exists a reason to run the statement again:
	// ON CONFLICT must see it.
	conflictRetry bool

	// row is what an optimistic statement writes, if that is a row or two; hasTurn
	// that others of this node who write it wait for this one.
	row     []byte
	hasTurn bool

	takesRoom  bool // a statement was none of those that free room
	savepoints []savepoint
	onCommit   []func()
}

func (s *session) newTxn(explicit bool) *txn {
	t := &txn{s: s, explicit: explicit, pessimistic: true, now: time.Now(), written: map[int64]*mutate.Table{}, held: hold{all: &s.db.holds}}
	t.repeatable = s.settings.Text("default_transaction_isolation") == "repeatable read"
	t.readOnly = s.settings.Bool("default_transaction_read_only")
	return t
}

// BeginImplicit implements Session.
func (s *session) BeginImplicit(context.Context) error {
	if s.txn == nil {
		s.txn = s.newTxn(false)
		s.settings.Begin()
	}
	return nil
}

// EndImplicit implements Session.
func (s *session) EndImplicit(ctx context.Context, ok bool) error {
	if s.txn == nil || s.txn.explicit {
		return nil
	}
	if !ok || s.txn.failed {
		s.rollback()
		return nil
	}
	return s.commit(ctx)
}

// begin handles BEGIN: an implicit transaction becomes explicit, as in PostgreSQL.
func (s *session) begin(b *ast.Begin) error {
	if s.txn != nil && s.txn.explicit {
		s.notice("WARNING", pgerror.ActiveSQLTransaction, "there is already a transaction in progress")
		return s.characteristics(b)
	}
	if s.txn == nil {
		s.txn = s.newTxn(true)
		s.settings.Begin()
	}
	s.txn.explicit = true
	if err := s.characteristics(b); err != nil {
		s.rollback()
		return err
	}
	return nil
}

// characteristics applies BEGIN's or SET TRANSACTION's modes.
func (s *session) characteristics(b *ast.Begin) error {
	t := s.txn
	switch b.Isolation {
	case "":
	case "read committed", "read uncommitted", "repeatable read":
		repeatable := b.Isolation == "repeatable read"
		if repeatable != t.repeatable && (t.snapshotTS != 0 || t.kv != nil) {
			return pgerror.New(pgerror.ActiveSQLTransaction, "SET TRANSACTION ISOLATION LEVEL must be called before any query")
		}
		t.repeatable = repeatable
	case "serializable":
		return settings.Serializable()
	default:
		return pgerror.New(pgerror.InvalidParameterValue, "invalid value for parameter \"transaction_isolation\": \"%s\"", b.Isolation)
	}
	if b.ReadOnly != nil {
		if !*b.ReadOnly && t.readOnly && t.snapshotTS != 0 {
			return pgerror.New(pgerror.ActiveSQLTransaction, "transaction read-write mode must be set before any query")
		}
		t.readOnly = *b.ReadOnly
	}
	return nil
}

func (t *txn) isolation() string {
	if t.repeatable {
		return "repeatable read"
	}
	return "read committed"
}

// readTS is the timestamp that a statement which starts now reads at.
func (t *txn) readTS(ctx context.Context) (uint64, error) {
	if t.repeatable && t.snapshotTS != 0 {
		return t.snapshotTS, nil
	}
	if t.kv != nil && t.repeatable {
		return t.kv.StartTS(), nil
	}
	ts, err := t.s.db.timestamp(ctx)
	if err == nil && t.repeatable {
		t.snapshotTS = ts
	}
	if err == nil {
		t.held.note(ts)
	}
	return ts, err
}

// store returns the store's transaction, which begins at ts if it has not yet.
func (t *txn) store(ts uint64) (*transaction.KVTxn, error) {
	if t.kv != nil {
		return t.kv, nil
	}
	tx, err := t.s.db.kv.Begin(tikv.WithStartTS(ts))
	if err != nil {
		return nil, kvError(context.Background(), err, nil)
	}
	tx.SetPessimistic(t.pessimistic)
	tx.SetEnableAsyncCommit(true)
	tx.SetEnable1PC(true)
	tx.GetMemBuffer().SetEntrySizeLimit(EntryBytesMax, TransactionBytesMax)
	tx.SetSchemaLeaseChecker(schemaChecker{t})
	tx.SetSchemaVer(schemaVersion(0))
	tx.SetCommitCallback(t.committed)
	t.kv = tx
	t.stageSavepoints()
	return tx, nil
}

// committed is told by client-go how it has committed.
func (t *txn) committed(info string, _ error) {
	if c := t.s.costs; c != nil {
		c.commitInfo = info
	}
}

type schemaVersion int64

// SchemaMetaVersion implements client-go's SchemaVer.
func (v schemaVersion) SchemaMetaVersion() int64 { return int64(v) }

// schemaChecker is asked by client-go before a commit: no table that the
// transaction wrote may have changed since.
type schemaChecker struct{ t *txn }

// CheckBySchemaVer implements client-go's SchemaLeaseChecker.
func (c schemaChecker) CheckBySchemaVer(uint64, transaction.SchemaVer) (*transaction.RelatedSchemaChange, error) {
	if c.t.change != nil {
		return nil, c.t.unchangedSince(c.t.change.Base(), true)
	}
	now, err := c.t.s.db.catalog.Latest(context.Background())
	if err != nil {
		return nil, err
	}
	return nil, c.t.unchangedSince(now, false)
}

// unchangedSince fails if a written table is not in now as it was written. A
// transaction that changes the schema itself writes tables that are newer.
func (t *txn) unchangedSince(now *catalog.Snapshot, own bool) error {
	for id, w := range t.written {
		is := now.TableByID(id)
		if own && (is == nil || is.Version < w.Desc.Version) {
			continue
		}
		if is == nil || is.Version != w.Desc.Version || is.FencedUntil != 0 {
			return &errSchemaChanged{w.Desc.Name}
		}
	}
	return nil
}

// table returns the writer's side of a table and notes that it is written.
func (t *txn) table(desc *catalog.Table) *mutate.Table {
	if w := t.written[desc.ID]; w != nil && w.Desc == desc {
		return w
	}
	w := mutate.New(desc)
	if t.written[desc.ID] == nil || t.change != nil {
		t.written[desc.ID] = w
	}
	return w
}

func (t *txn) tables() []*mutate.Table {
	out := make([]*mutate.Table, 0, len(t.written))
	for _, w := range t.written {
		out = append(out, w)
	}
	return out
}

// dirty reports whether a scan of the table must look at the transaction's own
// writes.
func (t *txn) dirty(tableID int64) bool {
	return t.kv != nil && t.written[tableID] != nil
}

// lockContext makes the options of taking locks at ts.
func (t *txn) lockContext(ctx context.Context, ts uint64, wait lockWait) (*kv.LockCtx, func()) {
	ms := int64(kv.LockAlwaysWait)
	if d := t.s.settings.Millis("lock_timeout"); d > 0 {
		ms = d.Milliseconds()
	}
	if wait == lockNoWait {
		ms = kv.LockNoWait
	}
	lc := kv.NewLockCtx(ts, ms, time.Now())
	killed := new(uint32)
	lc.Killed = killed
	stop := context.AfterFunc(ctx, func() { storeKilled(killed) })
	return lc, func() { stop() }
}

type lockWait int

const (
	lockWaits lockWait = iota
	lockNoWait
)

// lock takes pessimistic locks; what is locked already costs nothing.
func (t *txn) lock(ctx context.Context, ts uint64, keys [][]byte, wait lockWait) error {
	if len(keys) == 0 {
		return nil
	}
	if !t.pessimistic {
		return t.queue(keys)
	}
	lc, done := t.lockContext(ctx, ts, wait)
	defer done()
	// What is locked and absent may be inserted later: without the answer
	// client-go takes every locked key for one that exists.
	lc.InitCheckExistence(len(keys))
	wanted := t.notLocked(keys)
	if err := t.kv.LockKeys(ctx, lc, keys...); err != nil {
		if ctx.Err() != nil {
			t.giveBack(ctx, wanted)
		}
		return err
	}
	if lc.MaxLockedWithConflictTS > ts {
		return errLockedNewer
	}
	return nil
}

// queue notes which row an optimistic statement writes. If another statement of
// this node is at it the commit would likely fail: better to wait first.
func (t *txn) queue(keys [][]byte) error {
	if len(keys) > queuedKeysMax {
		return nil
	}
	t.row = keys[0]
	if !t.hasTurn && t.s.db.rows.busy(t.row) {
		return errRowBusy
	}
	return nil
}

// commit ends the transaction.
func (s *session) commit(ctx context.Context) error {
	t := s.txn
	s.txn = nil
	s.closeCursors()
	defer t.held.release()
	err := t.commit(ctx)
	if err != nil {
		s.settings.Rollback()
		return kvError(ctx, err, t.tables())
	}
	s.settings.Commit()
	return nil
}

// commit commits the store's transaction, if there is one, and returns
// client-go's error as it is.
func (t *txn) commit(ctx context.Context) error {
	if t.kv == nil {
		return nil
	}
	t.releaseSavepoints(0)
	if len(t.written) == 0 && t.change == nil {
		return t.kv.Rollback() // it holds locks at most
	}
	ctx, cancel := graceful(ctx)
	defer cancel()
	began := time.Now()
	err := t.kv.Commit(ctx)
	t.s.costs.committed(time.Since(began))
	t.s.db.metrics.commits.WithLabelValues(outcome(err)).Inc()
	if t.change != nil {
		t.s.db.catalog.Invalidate()
		if err == nil && t.change.Replaces() {
			waitForOthers(ctx)
		}
	}
	if err == nil {
		for _, fn := range t.onCommit {
			fn()
		}
	}
	return err
}

// waitForOthers returns when no other node can begin a statement with the
// schema that was: after that a change of a table may be acknowledged, for what
// its client then writes through any node goes to the table as it is now.
func waitForOthers(ctx context.Context) {
	timer := time.NewTimer(catalog.VersionLease)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// commitGrace is how long a commit under way may go on when its statement is
// cancelled or the node stops.
const commitGrace = 3 * time.Second

// graceful returns a context that ends commitGrace after ctx: a commit on its
// way should not end with an unknown outcome because of a cancelled statement,
// but a node that stops cannot wait for a cluster that does not answer.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(commitGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-late.Done():
		}
	})
	return late, func() {
		stop()
		cancel()
	}
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case isConflict(err):
		return "conflict"
	case pgerror.Code(kvError(context.Background(), err, nil)) == pgerror.StatementCompletionUnknown:
		return "unknown"
	}
	return "error"
}

// rollback ends the transaction without its effects.
func (s *session) rollback() {
	t := s.txn
	s.txn = nil
	s.closeCursors()
	t.rollback()
	s.settings.Rollback()
}

func (t *txn) rollback() {
	defer t.held.release()
	if t.kv == nil {
		return
	}
	if err := t.kv.Rollback(); err != nil {
		// Its locks time out; nothing of it can commit any more.
		t.s.db.log.Warn("rolling a transaction back failed", "session", t.s.id, "error", err)
	}
	t.kv = nil
}

// pause waits a little, longer with each try, before a statement is run again.
func pause(ctx context.Context, try int) error {
	d := time.Duration(rand.Int64N(int64(time.Millisecond)<<min(try, 5)) + 1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return cancelError(ctx)
	case <-timer.C:
		return nil
	}
}
