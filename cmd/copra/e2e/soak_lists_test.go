package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/isolation"
	"github.com/copradb/copra/txn/mvcccheck"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
)

// lists is the part of the load that looks for anomalies of isolation: rows, and
// keys, that hold lists to which transactions append. Transactions keep to the
// lists of one generation, so that each generation is a history of its own, of
// bounded lists.
type lists struct {
	began time.Time
	next  atomic.Int64 // values so far

	mu      sync.Mutex
	history map[string][]isolation.Txn // by side and generation
	txns    []mvcccheck.Txn            // of listKV
	locking map[uint64]bool            // start timestamps of pessimistic transactions
}

const (
	listKeys = 6
	// listGeneration is how many values go to the lists of a generation.
	listGeneration = 600
)

func (l *lists) now() int64 { return int64(time.Since(l.began)) + 1 }

func (l *lists) add(side string, generation int64, t isolation.Txn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := fmt.Sprint(side, " ", generation)
	l.history[name] = append(l.history[name], t)
}

func (l *lists) addRecords(t mvcccheck.Txn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.txns = append(l.txns, t)
}

// lock notes that a transaction is a pessimistic one.
func (l *lists) lock(startTS uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locking[startTS] = true
}

func parseList(text string) (out []int64, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		v, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%.60q is no list: %w", text, err)
		}
		out = append(out, v)
	}
	return out, nil
}

func listOutcome(o outcome) isolation.Outcome {
	return [...]isolation.Outcome{unknown: isolation.Unknown, done: isolation.Committed, failed: isolation.Aborted}[o]
}

// listTxn is one transaction of either side.
type listTxn struct {
	w          *worker
	side       string
	generation int64
	t          isolation.Txn
}

func (w *worker) beginList(side string) *listTxn {
	l := &w.l.lists
	return &listTxn{w: w, side: side, generation: l.next.Load() / listGeneration, t: isolation.Txn{Process: w.id, Begin: l.now()}}
}

func (x *listTxn) key() int64 { return x.generation*listKeys + int64(x.w.rng.Intn(listKeys)) }

// read notes what a read of a list has found.
func (x *listTxn) read(key int64, text string) error {
	values, err := parseList(text)
	if err != nil {
		x.w.l.t.Errorf("%s list %d: %v", x.side, key, err)
		return err
	}
	x.t.Ops = append(x.t.Ops, isolation.Read(fmt.Sprint(key), values...))
	return nil
}

// value notes an append.
func (x *listTxn) value(key int64) string {
	v := x.w.l.lists.next.Add(1)
	x.t.Ops = append(x.t.Ops, isolation.Append(fmt.Sprint(key), v))
	return strconv.FormatInt(v, 10) + ","
}

func (x *listTxn) end(o outcome) {
	x.t.End, x.t.Outcome = x.w.l.lists.now(), listOutcome(o)
	x.w.l.lists.add(x.side, x.generation, x.t)
}

// listSQL appends to lists in a transaction: in one snapshot, or with locks
// under READ COMMITTED.
func (w *worker) listSQL() error {
	defer time.Sleep(5 * time.Millisecond) // bounds the history
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	if w.rng.Intn(3) == 0 {
		return w.listSQLRead(ctx)
	}
	x := w.beginList("row")
	locking := w.rng.Intn(3) == 0
	level, lock := pgx.RepeatableRead, ""
	if locking {
		level, lock = pgx.ReadCommitted, " FOR UPDATE"
	}
	tx, err := w.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
	if err != nil {
		return err
	}
	change := func() error {
		seen := map[int64]bool{}
		for range 1 + w.rng.Intn(3) {
			key := x.key()
			if seen[key] {
				continue
			}
			seen[key] = true
			var text string
			err := tx.QueryRow(ctx, "SELECT v FROM lists WHERE id = $1"+lock, key).Scan(&text)
			if errors.Is(err, pgx.ErrNoRows) && locking {
				continue // there is no row to lock
			}
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			if err := x.read(key, text); err != nil {
				return err
			}
			if w.rng.Intn(4) == 0 {
				continue
			}
			if _, err := tx.Exec(ctx, "INSERT INTO lists VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = lists.v || excluded.v", key, x.value(key)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := change(); err != nil {
		x.end(failed) // COMMIT was never sent
		_ = tx.Rollback(ctx)
		return ignoreConflict(err)
	}
	err = tx.Commit(ctx)
	x.end(outcomeOf(err))
	return ignoreConflict(err)
}

// ignoreConflict: a transaction that lost against another one is a success of
// the database.
func ignoreConflict(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "40001" {
		return nil
	}
	return err
}

// listSQLRead reads all lists in one statement.
func (w *worker) listSQLRead(ctx context.Context) error {
	x := w.beginList("row")
	found, err := x.rows(ctx)
	if err != nil {
		return err
	}
	return x.readAll(found)
}

func (x *listTxn) readAll(found map[int64]string) error {
	for i := range int64(listKeys) {
		key := x.generation*listKeys + i
		if err := x.read(key, found[key]); err != nil {
			return err
		}
	}
	x.end(done)
	return nil
}

// listPrefix begins the keys of lists; those of other workers begin with "txn-".
const listPrefix = "list-"

func listKey(key int64) []byte { return fmt.Appendf(nil, "%s%08d", listPrefix, key) }

// listKV does the same with client-go: optimistic or pessimistic, committed in
// any way.
func (w *worker) listKV() error {
	defer time.Sleep(5 * time.Millisecond) // bounds the history
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	if w.rng.Intn(3) == 0 {
		return w.listKVRead(ctx)
	}
	x := w.beginList("key")
	tx, err := w.l.txn.Begin()
	if err != nil {
		return err
	}
	tx.SetEnableAsyncCommit(w.rng.Intn(2) == 0)
	tx.SetEnable1PC(w.rng.Intn(2) == 0)
	locking := w.rng.Intn(3) == 0
	tx.SetPessimistic(locking)
	if locking {
		w.l.lists.lock(tx.StartTS())
	}
	m := mvcccheck.Txn{StartTS: tx.StartTS()}
	get := func(key []byte) ([]byte, error) {
		if !locking {
			entry, err := tx.Get(ctx, key)
			if tikverr.IsErrNotFound(err) {
				err = nil
			}
			m.Reads = append(m.Reads, mvcccheck.Value{Key: string(key), Value: entry.Value})
			return entry.Value, err
		}
		for {
			ts, err := w.l.txn.CurrentTimestamp(oracle.GlobalTxnScope)
			if err != nil {
				return nil, err
			}
			lock := kv.NewLockCtx(ts, int64(soakOpTimeout/time.Millisecond), time.Now())
			lock.InitReturnValues(1)
			if err = tx.LockKeys(ctx, lock, key); !tikverr.IsErrWriteConflict(err) || ctx.Err() != nil {
				return lock.Values[string(key)].Value, err
			}
		}
	}
	change := func() error {
		seen := map[int64]bool{}
		for range 1 + w.rng.Intn(3) {
			key := x.key()
			if seen[key] {
				continue
			}
			seen[key] = true
			value, err := get(listKey(key))
			if err != nil {
				return err
			}
			if err := x.read(key, string(value)); err != nil {
				return err
			}
			if w.rng.Intn(4) == 0 {
				continue
			}
			after := []byte(string(value) + x.value(key))
			m.Writes = append(m.Writes, mvcccheck.Value{Key: string(listKey(key)), Value: after})
			if err := tx.Set(listKey(key), after); err != nil {
				return err
			}
		}
		return nil
	}
	defer func() { w.l.lists.addRecords(m) }()
	if err := change(); err != nil {
		m.Outcome, m.Reads = mvcccheck.Failed, nil
		x.end(failed)
		_ = tx.Rollback()
		return err
	}
	err = tx.Commit(ctx)
	switch {
	case err == nil:
		m.Outcome = mvcccheck.Committed
		x.end(done)
	case tikverr.IsErrWriteConflict(err):
		m.Outcome = mvcccheck.Failed
		x.end(failed)
		return nil
	default:
		x.end(unknown)
	}
	return err
}

// listKVRead reads all lists at one timestamp, on leaders or followers.
func (w *worker) listKVRead(ctx context.Context) error {
	x := w.beginList("key")
	found, err := x.keys(ctx, w.rng.Intn(2) == 0)
	if err != nil {
		return err
	}
	return x.readAll(found)
}

func (x *listTxn) keys(ctx context.Context, follower bool) (map[int64]string, error) {
	tx, err := x.w.l.txn.Begin()
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	snap := tx.GetSnapshot()
	if follower {
		snap.SetReplicaRead(kv.ReplicaReadFollower)
	}
	var keys [][]byte
	for i := range int64(listKeys) {
		keys = append(keys, listKey(x.generation*listKeys+i))
	}
	values, err := snap.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	found := map[int64]string{}
	for i, key := range keys {
		found[x.generation*listKeys+int64(i)] = string(values[string(key)].Value)
	}
	return found, nil
}

// verifyLists reads all lists once more and looks for anomalies in the
// histories.
func (l *load) verifyLists() {
	l.t.Helper()
	last := l.lists.next.Load() / listGeneration
	conn := connect(l.t, l.c.sql[0])
	w := &worker{l: l, id: len(l.workers), conn: conn}
	for g := range last + 1 {
		for side, read := range map[string]func(x *listTxn) (map[int64]string, error){"row": w.finalRows, "key": w.finalKeys} {
			x := &listTxn{w: w, side: side, generation: g, t: isolation.Txn{Name: "the end", Process: w.id, Begin: l.lists.now()}}
			found, err := read(x)
			if err == nil {
				err = x.readAll(found)
			}
			if err != nil {
				l.t.Errorf("final read of %s lists: %v", side, err)
			}
		}
	}
	txns, committed := 0, 0
	for name, history := range l.lists.history {
		report := isolation.Check(history)
		txns, committed = txns+len(history), committed+report.Committed
		if err := report.Err(isolation.StrongSnapshotIsolation); err != nil {
			l.t.Errorf("%s: %v", name, err)
		}
	}
	l.t.Logf("lists: %d transactions in %d histories, %d committed, no anomaly but write skew", txns, len(l.lists.history), committed)
}

func (w *worker) finalKeys(x *listTxn) (map[int64]string, error) {
	ctx, cancel := within(time.Minute)
	defer cancel()
	return x.keys(ctx, false)
}

func (w *worker) finalRows(x *listTxn) (map[int64]string, error) {
	ctx, cancel := within(time.Minute)
	defer cancel()
	return x.rows(ctx)
}

func (x *listTxn) rows(ctx context.Context) (map[int64]string, error) {
	rows, err := x.w.conn.Query(ctx, "SELECT id, v FROM lists WHERE id >= $1 AND id < $2", x.generation*listKeys, (x.generation+1)*listKeys)
	if err != nil {
		return nil, err
	}
	found := map[int64]string{}
	var id int64
	var text string
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		found[id] = text
		return nil
	})
	return found, err
}
