package sqlfront

import (
	"context"
	"strings"
	"testing"

	tikverr "github.com/tikv/client-go/v2/error"

	"github.com/copradb/copra/internal/pgerror"
)

// TestHazard23_UnknownOutcomeOutranksCancel: a cancelled statement whose commit
// nobody answered for is not told to have been cancelled.
func TestHazard23_UnknownOutcomeOutranksCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := pgerror.Code(kvError(ctx, tikverr.ErrResultUndetermined, nil)); got != pgerror.StatementCompletionUnknown {
		t.Errorf("an unknown outcome has code %s", got)
	}
}

// TestTableOfSavepointIsForgotten: a table that was created and filled after a
// savepoint, and is gone with it, does not stand in the way of COMMIT.
func TestTableOfSavepointIsForgotten(t *testing.T) {
	c := newTestDB(t, Options{}).client(t)
	c.ok("create table t (a int primary key)")
	c.ok("begin")
	c.ok("savepoint s; create table u (a int); insert into u values (1); rollback to s")
	c.ok("insert into t values (1)")
	c.ok("commit")
	if got := c.value("select count(*) from t"); got != "1" {
		t.Errorf("%s rows", got)
	}
}

// TestAloneWaitsForLocks: a statement of its own that meets a lock waits as one
// in a transaction does: it can be cancelled and has a lock_timeout.
func TestAloneWaitsForLocks(t *testing.T) {
	db := newTestDB(t, Options{})
	a, b := db.client(t), db.client(t)
	a.ok("create table t (a int primary key, n int); insert into t values (1, 0)")
	a.ok("begin; update t set n = n + 1 where a = 1")
	b.ok("set lock_timeout = '50ms'")
	if got := b.simple("update t set n = n + 1 where a = 1", ""); !strings.HasPrefix(got, "ERROR 55P03") {
		t.Error(got)
	}
	b.ok("set lock_timeout = 0; set statement_timeout = '50ms'")
	if got := b.simple("delete from t where a = 1", ""); !strings.HasPrefix(got, "ERROR 57014") {
		t.Error(got)
	}
	b.ok("set statement_timeout = 0")
	done := make(chan string)
	go func() { done <- b.simple("update t set n = n + 1 where a = 1", "") }()
	a.ok("commit")
	if got := <-done; got != "UPDATE 1\n" {
		t.Error(got)
	}
	if got := a.value("select n from t"); got != "2" {
		t.Errorf("n = %s", got)
	}
}

// TestPreparedOfRolledBackSchema: a statement prepared with a schema that was
// rolled back does not run with it when another change gets its version.
func TestPreparedOfRolledBackSchema(t *testing.T) {
	c := newTestDB(t, Options{}).client(t)
	c.ok("begin; create table t (a int, b text)")
	p := c.prepare("select a from t")
	c.ok("rollback")
	c.ok("create table u (x text, y text); insert into u values ('p', 'q')")
	if got := c.run(p); !strings.HasPrefix(got, "ERROR 42P01") {
		t.Error(got)
	}
}

// TestKeysLockedAndAbsent: a key that the transaction has locked without a row
// under it can be inserted, by ON CONFLICT and after a savepoint's rollback.
func TestKeysLockedAndAbsent(t *testing.T) {
	c := newTestDB(t, Options{}).client(t)
	c.ok("create table t (a int primary key, b int unique, n int)")
	c.ok("begin; insert into t values (1, 1, 1) on conflict (a) do update set n = 2; commit")
	c.ok("begin; insert into t values (2, 2, 1) on conflict do nothing; commit")
	c.ok("begin; savepoint s; insert into t values (3, 3, 1); rollback to s")
	c.ok("insert into t values (3, 3, 2); commit")
	c.ok("begin; savepoint s; insert into t values (4, 4, 1); rollback to s")
	c.ok("insert into t values (4, 4, 3) on conflict (b) do update set n = 9; commit")
	if got := c.value("select string_agg(a || ':' || n, ' ' order by a) from t"); got != "1:1 2:1 3:2 4:3" {
		t.Error(got)
	}
	c.ok("begin; select * from t where a = 1 for update")
	if got := c.simple("insert into t values (1, 9, 9)", ""); !strings.HasPrefix(got, "ERROR 23505") {
		t.Error(got)
	}
	c.ok("rollback; begin; delete from t where a = 1; insert into t values (1, 1, 7); commit")
	if got := c.value("select n from t where a = 1"); got != "7" {
		t.Errorf("n = %s", got)
	}
	c.ok("begin; savepoint s; delete from t where a = 1; rollback to s")
	if got := c.simple("insert into t values (1, 9, 9)", ""); !strings.HasPrefix(got, "ERROR 23505") {
		t.Error(got)
	}
	c.ok("rollback")
}

// TestCancelCause: an operator that notices the end of its context does not know
// why it ended; the client is told.
func TestCancelCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	noticed := pgerror.New(pgerror.QueryCanceled, "canceling statement due to user request")
	if got := kvError(ctx, noticed, nil); got != error(noticed) {
		t.Errorf("before: %v", got)
	}
	cancel(pgerror.New(pgerror.QueryCanceled, "canceling statement due to statement timeout"))
	if got := pgerror.From(kvError(ctx, noticed, nil)).Message; got != "canceling statement due to statement timeout" {
		t.Error(got)
	}
}

// TestCursorAndLaterWrites: what a transaction writes after DECLARE does not show
// in the cursor, even where the query reads a table row by row as it goes.
func TestCursorAndLaterWrites(t *testing.T) {
	for _, query := range []string{
		"select n from t where b between 1 and 3000",
		"select (select n from t where t.a = g) from generate_series(1, 3000) g",
		"select n from t order by a limit 3000",
		"select t.n from generate_series(1, 3000) g join t on t.a = g",
	} {
		c := newTestDB(t, Options{}).client(t)
		c.ok("create table t (a int primary key, b int, n int); create index on t (b)")
		c.ok("insert into t select g, g, 0 from generate_series(1, 3000) g")
		c.ok("begin; declare c cursor for " + query)
		c.ok("fetch 1 from c")
		c.ok("update t set n = 1 where a % 2 = 0; delete from t where a % 2 = 1")
		rows := strings.Split(c.ok("fetch all from c"), "\n")
		zero := 0
		for _, r := range rows {
			if r == "0" {
				zero++
			}
		}
		if zero != 2999 {
			t.Errorf("%s: %d rows of 2999 are as they were; %d lines", query, zero, len(rows))
		}
	}
}
