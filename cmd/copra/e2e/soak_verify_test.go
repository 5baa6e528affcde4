package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// verify holds the data against what the clients were told.
func (l *load) verify() {
	l.t.Helper()
	for _, addr := range l.c.sql {
		conn := connect(l.t, addr)
		l.verifyMoves(conn)
		l.verifyLedger(conn)
		l.verifyCopies(conn)
		checkIndex(l.t, conn, "ledger", "v", "ledger_v")
		if v := queryInt(l.t, conn, "SELECT v FROM counter"); v < l.counter.Load() || v < int64(len(l.counted)) {
			l.t.Errorf("the counter is %d, acknowledged were %d and %d increments", v, l.counter.Load(), len(l.counted))
		}
		if v := queryInt(l.t, conn, "SELECT sum(balance)::bigint FROM bank"); v != soakAccounts*soakBalance {
			l.t.Errorf("in the end the accounts hold %d", v)
		}
	}
	l.verifyKV()
	l.verifyBank()
	l.verifySwaps()
	l.verifyLists()
	l.verifyRecords()
}

// compare holds keys of the database against outcomes.
func compare[K comparable](t *testing.T, what string, told map[K]outcome, found map[K]int) {
	t.Helper()
	lost, wrong, count := 0, 0, 0
	for k, o := range told {
		switch {
		case o == done && found[k] == 0:
			lost++
		case o == failed && found[k] != 0:
			wrong++
		}
		if o == done {
			count++
		}
	}
	for k, n := range found {
		if _, ok := told[k]; !ok {
			t.Errorf("%s: %v was never written", what, k)
		}
		if n != 1 {
			t.Errorf("%s: %v is there %d times", what, k, n)
		}
	}
	if lost+wrong > 0 {
		t.Errorf("%s: of %d acknowledged %d are lost; %d are there although they were refused", what, count, lost, wrong)
	}
	t.Logf("%s: %d acknowledged, %d found", what, count, len(found))
}

func keysOf[K comparable](t *testing.T, conn *pgx.Conn, sql string) map[K]int {
	t.Helper()
	ctx, cancel := within(time.Minute)
	defer cancel()
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[K])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	found := map[K]int{}
	for _, k := range keys {
		found[k]++
	}
	return found
}

func (l *load) verifyMoves(conn *pgx.Conn) {
	l.t.Helper()
	compare(l.t, "transfers", l.moves, keysOf[int64](l.t, conn, "SELECT id FROM moves"))
}

func (l *load) verifyLedger(conn *pgx.Conn) {
	l.t.Helper()
	compare(l.t, "inserts", l.ledger, keysOf[int64](l.t, conn, "SELECT v FROM ledger"))
}

func (l *load) verifyCopies(conn *pgx.Conn) {
	l.t.Helper()
	ctx, cancel := within(time.Minute)
	defer cancel()
	rows, err := conn.Query(ctx, "SELECT batch, count(*) FROM copied GROUP BY batch")
	if err != nil {
		l.t.Fatal(err)
	}
	found := map[int]int{}
	var batch, n int
	if _, err := pgx.ForEachRow(rows, []any{&batch, &n}, func() error {
		if n != soakCopyRows {
			l.t.Errorf("COPY %d has %d rows", batch, n)
		}
		found[batch] = 1
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
	told := map[int]outcome{}
	for b, o := range l.batches {
		told[b] = o
		switch deleted, ok := l.gone[b]; {
		case ok && deleted == done:
			told[b] = failed
		case ok && deleted == unknown:
			told[b] = unknown
		}
	}
	compare(l.t, "COPYs", told, found)
}

// checkIndex compares what an index holds of a column with what the table does.
func checkIndex(t *testing.T, conn *pgx.Conn, table, column, index string) {
	t.Helper()
	viaIndex := "SELECT " + column + " FROM " + table + " WHERE " + column + " >= 0 ORDER BY " + column
	viaTable := "SELECT " + column + " FROM " + table + " WHERE " + column + " + 0 >= 0 AND note IS NOT NULL ORDER BY " + column + " + 0"
	if plan := explain(t, conn, viaIndex); !strings.Contains(plan, index) {
		t.Fatalf("the check of %s does not read it:\n%s", index, plan)
	}
	if plan := explain(t, conn, viaTable); strings.Contains(plan, index) {
		t.Fatalf("the check of %s does not read the table:\n%s", index, plan)
	}
	a, b := keysOf[int64](t, conn, viaIndex), keysOf[int64](t, conn, viaTable)
	for k, n := range a {
		if b[k] != n {
			t.Errorf("%s = %d: %d in index %s, %d in the table", column, k, n, index, b[k])
		}
	}
	for k, n := range b {
		if a[k] == 0 {
			t.Errorf("%s = %d: %d in the table, none in index %s", column, k, n, index)
		}
	}
}

func explain(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	rows, err := conn.Query(context.Background(), "EXPLAIN "+sql)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
