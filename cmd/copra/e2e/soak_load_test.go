package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/internal/isolation"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/config"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/txnkv"
)

const (
	soakAccounts  = 30
	soakBalance   = 1000
	soakCopyRows  = 300
	soakOpTimeout = 30 * time.Second
)

// outcome is what a client knows of its write.
type outcome int

const (
	unknown outcome = iota // may or may not be there
	done
	failed // certainly not there
)

// outcomeOf reads an error of SQL.
func outcomeOf(err error) outcome {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return done
	case errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01"):
		return failed
	}
	return unknown
}

// load is all clients, and what they were told.
type load struct {
	t    *testing.T
	c    *soakCluster
	raw  *rawkv.Client
	txn  *txnkv.Client
	stop atomic.Bool
	wg   sync.WaitGroup

	workers []*worker
	mu      sync.Mutex
	errs    map[string]int
	ledger  map[int64]outcome // by v
	moves   map[int64]outcome // transfers by id
	batches map[int]outcome
	gone    map[int]outcome // batches whose DELETE was sent
	counted map[int64]bool  // values that the counter returned
	counter atomic.Int64    // the largest of them
	sums    atomic.Int64
	lists   lists
	bank    bankKV
	swaps   swaps
	swap    *rawkv.Client // in a keyspace, for compare-and-swap
}

// keyWorkers are those that need no connection to a SQL node.
var keyWorkers = []string{"raw", "txn", "list by key", "bank by key", "swap"}

// worker is one client.
type worker struct {
	l       *load
	id      int
	name    string
	rng     *rand.Rand
	conn    *pgx.Conn
	success atomic.Int64
	step    func(w *worker) error
	kv      keyState
}

func newLoad(t *testing.T, c *soakCluster) *load {
	l := &load{t: t, c: c, errs: map[string]int{}, ledger: map[int64]outcome{}, moves: map[int64]outcome{},
		batches: map[int]outcome{}, gone: map[int]outcome{}, counted: map[int64]bool{},
		lists: lists{began: time.Now(), history: map[string][]isolation.Txn{}, locking: map[uint64]bool{}},
		bank:  bankKV{moves: map[string]outcome{}}, swaps: swaps{acked: map[string]map[int64]string{}, high: map[string]int64{}}}
	var err error
	if l.raw, err = rawkv.NewClient(context.Background(), strings.Split(c.pd, ","), config.DefaultConfig().Security); err != nil {
		t.Fatal(err)
	}
	if l.txn, err = txnkv.NewClient(strings.Split(c.pd, ",")); err != nil {
		t.Fatal(err)
	}
	if l.swap, err = rawkv.NewClientWithOpts(context.Background(), strings.Split(c.pd, ","),
		rawkv.WithAPIVersion(kvrpcpb.APIVersion_V2), rawkv.WithKeyspace("DEFAULT")); err != nil {
		t.Fatal(err)
	}
	l.swap.SetAtomicForCAS(true)
	t.Cleanup(func() {
		l.halt()
		_ = l.raw.Close()
		_ = l.swap.Close()
		_ = l.txn.Close()
	})
	return l
}

func (l *load) create() {
	conn := connect(l.t, l.c.sql[0])
	exec1(l.t, conn, "CREATE TABLE bank (id int PRIMARY KEY, balance bigint NOT NULL, pad text)")
	exec1(l.t, conn, "INSERT INTO bank SELECT g, $1, repeat('x', 3000) FROM generate_series(1, $2) g", soakBalance, soakAccounts)
	exec1(l.t, conn, "CREATE TABLE moves (id bigint, a int, b int, amount bigint)")
	exec1(l.t, conn, "CREATE TABLE ledger (client int, n int, v bigint, note text)")
	exec1(l.t, conn, "CREATE INDEX ledger_v ON ledger (v)")
	exec1(l.t, conn, "CREATE TABLE copied (batch int, n int, t text, PRIMARY KEY (batch, n))")
	exec1(l.t, conn, "CREATE TABLE counter (id int PRIMARY KEY, v bigint)")
	exec1(l.t, conn, "INSERT INTO counter VALUES (1, 0)")
	writeSkew(l.t, l.c.sql[0])
	exec1(l.t, conn, "CREATE TABLE lists (id bigint PRIMARY KEY, v text NOT NULL)")
	l.createBank()
}

func (l *load) start(seed int64) {
	for name, steps := range map[string]struct {
		n    int
		step func(*worker) error
	}{
		"transfer": {3, (*worker).transfer}, "single statement": {2, (*worker).single}, "insert": {4, (*worker).insert},
		"copy": {2, (*worker).copyBatch}, "count": {2, (*worker).count}, "read": {3, (*worker).read},
		"raw": {2, (*worker).rawStep}, "txn": {3, (*worker).txnStep},
		"list": {3, (*worker).listSQL}, "list by key": {2, (*worker).listKV},
		"bank by key": {3, (*worker).bankStep}, "swap": {2, (*worker).swapStep},
	} {
		for range steps.n {
			id := len(l.workers)
			w := &worker{l: l, id: id, name: name, rng: rand.New(rand.NewSource(seed + int64(id))), step: steps.step}
			l.workers = append(l.workers, w)
		}
	}
	for _, w := range l.workers {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			w.run()
		}()
	}
}

func (w *worker) run() {
	defer w.hangUp()
	for !w.l.stop.Load() {
		if w.conn != nil && w.conn.IsClosed() {
			w.conn = nil
		}
		if w.conn == nil && !slices.Contains(keyWorkers, w.name) {
			ctx, cancel := within(soakOpTimeout)
			conn, err := pgx.Connect(ctx, dsn(w.l.c.sql[w.rng.Intn(len(w.l.c.sql))]))
			cancel()
			if err != nil {
				w.l.failed("connect", err)
				time.Sleep(50 * time.Millisecond) // not to spin
				continue
			}
			w.conn = conn
		}
		if err := w.step(w); err != nil {
			w.l.failed(w.name, err)
			time.Sleep(5 * time.Millisecond) // not to spin
			continue
		}
		w.success.Add(1)
	}
}

func (w *worker) hangUp() {
	if w.conn != nil {
		ctx, cancel := within(time.Second)
		defer cancel()
		_ = w.conn.Close(ctx)
	}
}

// failed counts errors by their kind.
func (l *load) failed(what string, err error) {
	key := err.Error()
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		key = pg.Code + " " + pg.Message
	}
	key = what + ": " + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs[key[:min(len(key), 160)]]++
}

func (l *load) halt() {
	l.stop.Store(true)
	l.wg.Wait()
}

func (l *load) finish() {
	l.t.Helper()
	finished := make(chan struct{})
	go func() {
		l.halt()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(2 * soakOpTimeout):
		l.t.Fatal("the clients hang")
	}
}

// awaitProgress wants a success of each worker from now on.
func (l *load) awaitProgress(what string, atMost time.Duration) {
	l.t.Helper()
	before := make([]int64, len(l.workers))
	for i, w := range l.workers {
		before[i] = w.success.Load()
	}
	var stuck string
	defer func() {
		if l.t.Failed() {
			l.t.Logf("stuck: %s\n%s", stuck, l.summary())
			l.c.goroutines(l.t)
		}
	}()
	poll(l.t, atMost, what, func() bool {
		stuck = ""
		for i, w := range l.workers {
			// Two: the first may have been on its way before.
			if w.success.Load() < before[i]+2 {
				stuck += " " + w.name
			}
		}
		return stuck == "" || l.t.Failed()
	})
}

func (l *load) summary() string {
	var b strings.Builder
	for _, w := range l.workers {
		fmt.Fprintf(&b, "%s: %d, ", w.name, w.success.Load())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var keys []string
	for k := range l.errs {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return l.errs[keys[i]] > l.errs[keys[j]] })
	for _, k := range keys {
		fmt.Fprintf(&b, "\n%6d %s", l.errs[k], k)
	}
	return b.String()
}

func note[K comparable](l *load, m map[K]outcome, key K, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m[key] = o
}

// id is unique among all workers.
func (w *worker) next() int64 { return int64(w.id)*1_000_000_000 + w.l.sums.Add(1) }

// twoAccounts in either order: deadlocks are part of the load.
func (w *worker) twoAccounts() (a, b int) {
	a = 1 + w.rng.Intn(soakAccounts)
	b = 1 + (a+w.rng.Intn(soakAccounts-1))%soakAccounts
	return a, b
}

// transfer is an explicit transaction with row locks.
func (w *worker) transfer() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	a, b := w.twoAccounts()
	id, amount := w.next(), int64(1+w.rng.Intn(10))
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	move := func() error {
		balances := make(map[int]int64)
		for _, account := range []int{a, b} {
			var v int64
			if err := tx.QueryRow(ctx, "SELECT balance FROM bank WHERE id = $1 FOR UPDATE", account).Scan(&v); err != nil {
				return err
			}
			balances[account] = v
		}
		if _, err := tx.Exec(ctx, "UPDATE bank SET balance = $2 WHERE id = $1", a, balances[a]-amount); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE bank SET balance = balance + $2 WHERE id = $1", b, amount); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO moves VALUES ($1, $2, $3, $4)", id, a, b, amount)
		return err
	}
	if err := move(); err != nil {
		note(w.l, w.l.moves, id, failed) // COMMIT was never sent
		_ = tx.Rollback(ctx)
		return err
	}
	if w.rng.Intn(10) == 0 {
		note(w.l, w.l.moves, id, failed)
		return tx.Rollback(ctx)
	}
	note(w.l, w.l.moves, id, unknown)
	err = tx.Commit(ctx)
	note(w.l, w.l.moves, id, outcomeOf(err))
	return err
}

// single moves money in one statement; what it does is kept in the sum alone.
func (w *worker) single() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	a, b := w.twoAccounts()
	_, err := w.conn.Exec(ctx, "UPDATE bank SET balance = balance + CASE id WHEN $1 THEN -1 ELSE 1 END WHERE id = $1 OR id = $2", a, b)
	return err
}

func (w *worker) insert() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	v := w.next()
	note(w.l, w.l.ledger, v, unknown)
	_, err := w.conn.Exec(ctx, "INSERT INTO ledger VALUES ($1, $2, $3, repeat('n', 200))", w.id, v%1000, v)
	note(w.l, w.l.ledger, v, outcomeOf(err))
	return err
}

func (w *worker) copyBatch() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	batch := int(w.l.sums.Add(1))
	var data strings.Builder
	for n := range soakCopyRows {
		fmt.Fprintf(&data, "%d\t%d\t%s\n", batch, n, strings.Repeat("c", 200))
	}
	note(w.l, w.l.batches, batch, unknown)
	_, err := w.conn.PgConn().CopyFrom(ctx, strings.NewReader(data.String()), "COPY copied FROM STDIN")
	note(w.l, w.l.batches, batch, outcomeOf(err))
	if err != nil || w.rng.Intn(3) != 0 {
		time.Sleep(50 * time.Millisecond) // bounds the size of the data
		return err
	}
	note(w.l, w.l.gone, batch, unknown)
	tag, err := w.conn.Exec(ctx, "DELETE FROM copied WHERE batch = $1", batch)
	note(w.l, w.l.gone, batch, outcomeOf(err))
	if err == nil && tag.RowsAffected() != soakCopyRows {
		w.l.t.Errorf("DELETE of an acknowledged COPY removed %d rows", tag.RowsAffected())
	}
	return err
}

func (w *worker) count() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	low := w.l.counter.Load()
	var v int64
	if err := w.conn.QueryRow(ctx, "UPDATE counter SET v = v + 1 WHERE id = 1 RETURNING v").Scan(&v); err != nil {
		return err
	}
	if v <= low {
		w.l.t.Errorf("the counter returned %d after %d was acknowledged", v, low)
	}
	w.l.mu.Lock()
	again := w.l.counted[v]
	w.l.counted[v] = true
	w.l.mu.Unlock()
	if again {
		w.l.t.Errorf("the counter returned %d twice: an update is lost", v)
	}
	for {
		old := w.l.counter.Load()
		if v <= old || w.l.counter.CompareAndSwap(old, v) {
			return nil
		}
	}
}

// read checks what must hold in every snapshot.
func (w *worker) read() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	low := w.l.counter.Load()
	var v, sum, rows int64
	if err := w.conn.QueryRow(ctx, "SELECT v FROM counter WHERE id = 1").Scan(&v); err != nil {
		return err
	}
	if v < low {
		w.l.t.Errorf("stale read: the counter is %d, and %d was acknowledged before", v, low)
	}
	if err := w.conn.QueryRow(ctx, "SELECT sum(balance)::bigint, count(*) FROM bank").Scan(&sum, &rows); err != nil {
		return err
	}
	if sum != soakAccounts*soakBalance || rows != soakAccounts {
		w.l.t.Errorf("%d accounts hold %d, want %d with %d", rows, sum, soakAccounts, soakAccounts*soakBalance)
	}
	// The same in an explicit snapshot, with the moves that explain it.
	tx, err := w.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var first, second int64
	const batches = "SELECT count(*) FROM (SELECT batch FROM copied GROUP BY batch HAVING count(*) <> $1) x"
	if err := tx.QueryRow(ctx, "SELECT balance FROM bank WHERE id = 1").Scan(&first); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, batches, soakCopyRows).Scan(&rows); err != nil {
		return err
	}
	if rows != 0 {
		w.l.t.Errorf("%d COPYs are there in part", rows)
	}
	if err := tx.QueryRow(ctx, "SELECT balance FROM bank WHERE id = 1").Scan(&second); err != nil {
		return err
	}
	if first != second {
		w.l.t.Errorf("one snapshot has balance %d and %d", first, second)
	}
	return tx.Commit(ctx)
}
