package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pgxHotRow: statements of their own and transactions that all write one row
// lose no update, and one that waited for a row sees it as it is then.
func pgxHotRow(t *testing.T, p *playground) {
	c := p.connect()
	exec1(t, c, "CREATE TABLE hot (a int PRIMARY KEY, n int)")
	exec1(t, c, "INSERT INTO hot VALUES (1, 0), (2, 0)")
	t.Run("counter", func(t *testing.T) { hotCounter(t, p) })
	t.Run("changed while waiting", func(t *testing.T) { hotRowChanged(t, p) })
	t.Run("lock timeout", func(t *testing.T) { hotRowTimeout(t, p) })
	t.Run("cancelled while waiting", func(t *testing.T) { hotRowCancelled(t, p.connect) })
}

func hotCounter(t *testing.T, p *playground) {
	const sessions, rounds = 8, 25
	scripts := []string{
		"UPDATE hot SET n = n + 1 WHERE a = 1",
		"BEGIN; UPDATE hot SET n = n + 1 WHERE a = 1; COMMIT",
		"BEGIN; SELECT n FROM hot WHERE a = 1 FOR UPDATE; UPDATE hot SET n = n + 1 WHERE a = 1; COMMIT",
		"INSERT INTO hot VALUES (1, 0) ON CONFLICT (a) DO UPDATE SET n = hot.n + 1",
		"BEGIN; INSERT INTO hot VALUES (1, 0) ON CONFLICT (a) DO UPDATE SET n = hot.n + 1; COMMIT",
	}
	var all sync.WaitGroup
	for i := range sessions {
		c := p.connect()
		all.Go(func() {
			for r := range rounds {
				sql := scripts[(i+r)%len(scripts)]
				if _, err := c.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
					t.Errorf("%s: %v", sql, err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := queryInt(t, p.connect(), "SELECT n FROM hot WHERE a = 1"); got != sessions*rounds {
		t.Errorf("n = %d after %d updates", got, sessions*rounds)
	}
}

// waiting returns once a statement waits for a lock on some store.
func waiting(t *testing.T, p *playground) {
	t.Helper()
	poll(t, 20*time.Second, "a statement that waits for a lock", func() bool {
		return metric(t, p.addr(10080), "tikv_lock_manager_waiter_count", "") > 0
	})
}

func hotRowChanged(t *testing.T, p *playground) {
	a, b, c := p.connect(), p.connect(), p.connect()
	exec1(t, a, "BEGIN")
	exec1(t, a, "UPDATE hot SET n = 5 WHERE a = 2")
	exec1(t, b, "BEGIN")
	type result struct {
		n   int64
		err error
	}
	done := make(chan result)
	go func() {
		tag, err := b.Exec(context.Background(), "UPDATE hot SET n = n + 10 WHERE a = 2 AND n = 0")
		done <- result{tag.RowsAffected(), err}
	}()
	waiting(t, p)
	exec1(t, a, "COMMIT")
	if r := <-done; r.err != nil || r.n != 0 {
		t.Errorf("a row that no longer fits: %d updated, %v", r.n, r.err)
	}
	// The lock that it waited for was given back: others need not wait for b.
	exec1(t, c, "SET lock_timeout = '10s'")
	exec1(t, c, "UPDATE hot SET n = n + 1 WHERE a = 2")

	exec1(t, a, "BEGIN")
	exec1(t, a, "UPDATE hot SET n = 20 WHERE a = 2")
	go func() {
		var n int64
		err := b.QueryRow(context.Background(), "UPDATE hot SET n = n + 10 WHERE a = 2 RETURNING n").Scan(&n)
		done <- result{n, err}
	}()
	waiting(t, p)
	exec1(t, a, "COMMIT")
	if r := <-done; r.err != nil || r.n != 30 {
		t.Errorf("a row that was changed meanwhile: n = %d, %v", r.n, r.err)
	}
	exec1(t, b, "COMMIT")
	if got := queryInt(t, c, "SELECT n FROM hot WHERE a = 2"); got != 30 {
		t.Errorf("n = %d", got)
	}
}

// A statement that was cancelled while it waited for a row has no lock of it, not
// later either, though its transaction goes on.
func hotRowCancelled(t *testing.T, connect func() *pgx.Conn) {
	a, b, c := connect(), connect(), connect()
	exec1(t, a, "BEGIN")
	exec1(t, a, "UPDATE hot SET n = 0 WHERE a = 1")
	exec1(t, b, "BEGIN")
	exec1(t, b, "UPDATE hot SET n = 0 WHERE a = 2")
	exec1(t, b, "SAVEPOINT s")
	exec1(t, b, "SET LOCAL statement_timeout = '200ms'")
	var pg *pgconn.PgError
	if _, err := b.Exec(context.Background(), "UPDATE hot SET n = 1 WHERE a = 1"); !errors.As(err, &pg) || pg.Code != "57014" {
		t.Fatalf("behind a lock: %v", err)
	}
	exec1(t, a, "COMMIT")
	exec1(t, b, "ROLLBACK TO s")
	exec1(t, c, "SET lock_timeout = '5s'")
	exec1(t, c, "UPDATE hot SET n = 2 WHERE a = 1")
	exec1(t, b, "UPDATE hot SET n = n + 1 WHERE a = 1")
	exec1(t, b, "COMMIT")
	if got := queryInt(t, c, "SELECT n FROM hot WHERE a = 1"); got != 3 {
		t.Errorf("n = %d", got)
	}
}

func hotRowTimeout(t *testing.T, p *playground) {
	a := p.connect()
	exec1(t, a, "BEGIN")
	exec1(t, a, "UPDATE hot SET n = 1 WHERE a = 1")
	var all sync.WaitGroup
	for range 3 { // the first waits in the store, the others for it
		c := p.connect()
		exec1(t, c, "SET lock_timeout = '100ms'")
		all.Go(func() {
			_, err := c.Exec(context.Background(), "UPDATE hot SET n = 2 WHERE a = 1")
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "55P03" {
				t.Error(fmt.Errorf("behind a lock: %w", err))
			}
		})
	}
	all.Wait()
	exec1(t, a, "COMMIT")
	exec1(t, p.connect(), "UPDATE hot SET n = 3 WHERE a = 1")
}
