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
