package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/lib/pq"
)

// TestPgx drives every way that pgx has of running a statement.
func TestPgx(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	c := p.connect()
	exec1(t, c, `CREATE TABLE kinds (id int PRIMARY KEY, b bool, s smallint, l bigint, r real, f float8, n numeric(20,4), v varchar(20), x text,
		by bytea, u uuid, d date, ts timestamp, tz timestamptz, iv interval)`)
	for i, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) { pgxRoundTrip(t, c, mode, i) })
	}
	t.Run("batch", func(t *testing.T) { pgxBatch(t, c) })
	t.Run("copy", func(t *testing.T) { pgxCopy(t, c) })
	t.Run("transactions", func(t *testing.T) { pgxTransactions(t, c) })
	t.Run("errors", func(t *testing.T) { pgxErrors(t, c) })
	t.Run("hot row", func(t *testing.T) { pgxHotRow(t, p) })
	p.stop()
}

// kind is a row of the table kinds.
type kind struct {
	B    *bool
	S    *int16
	L    *int64
	R    *float32
	F    *float64
	N    *string
	V, X *string
	By   []byte
	U    *string
	D    *time.Time
	Ts   *time.Time
	Tz   *time.Time
	Iv   pgtype.Interval
}

func ptr[T any](v T) *T { return &v }

func (k *kind) fields() []any {
	return []any{&k.B, &k.S, &k.L, &k.R, &k.F, &k.N, &k.V, &k.X, &k.By, &k.U, &k.D, &k.Ts, &k.Tz, &k.Iv}
}

// pgxRoundTrip writes values as parameters and reads them back, in the formats
// that the mode chooses.
func pgxRoundTrip(t *testing.T, c *pgx.Conn, mode pgx.QueryExecMode, id int) {
	ctx := context.Background()
	ts := time.Date(2024, 2, 29, 13, 14, 15, 123456000, time.UTC)
	for j, want := range []kind{
		{B: ptr(true), S: ptr(int16(-7)), L: ptr(int64(1) << 60), R: ptr(float32(1.5)), F: ptr(-2.25e-8), N: ptr("-12345678.9000"), V: ptr("héllo"),
			X: ptr("a'b\\c\n"), By: []byte{0, 255, '\\'}, U: ptr("11223344-5566-7788-99aa-bbccddeeff00"), D: ptr(time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)),
			Ts: &ts, Tz: &ts, Iv: pgtype.Interval{Months: 14, Days: -3, Microseconds: 1500000, Valid: true}},
		{},
	} {
		key := 10*id + j
		args := []any{mode, key, want.B, want.S, want.L, want.R, want.F, want.N, want.V, want.X, want.By, want.U, want.D, want.Ts, want.Tz, want.Iv}
		if _, err := c.Exec(ctx, "INSERT INTO kinds VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)", args...); err != nil {
			t.Fatal(err)
		}
		var got kind
		err := c.QueryRow(ctx, "SELECT b, s, l, r, f, n, v, x, by, u::text, d, ts, tz, iv FROM kinds WHERE id = $1", mode, key).Scan(got.fields()...)
		if err != nil {
			t.Fatal(err)
		}
		if got.Tz != nil {
			got.Tz = ptr(got.Tz.UTC())
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("row %d: got %+v, want %+v", j, got, want)
		}
	}
	var n int
	if err := c.QueryRow(ctx, "SELECT count(*) FROM kinds WHERE id = ANY($1) AND coalesce(v, 'none') = ANY($2)", mode,
		[]int32{int32(10 * id), int32(10*id + 1)}, []string{"héllo", "none"}).Scan(&n); err != nil || n != 2 {
		t.Errorf("arrays as parameters find %d rows: %v", n, err)
	}
	rows, err := c.Query(ctx, "SELECT array_agg(id ORDER BY id), array_agg(x ORDER BY id) FROM kinds WHERE id / 10 = $1", mode, id)
	if err != nil {
		t.Fatal(err)
	}
	type pair struct {
		IDs   []int32
		Texts []*string
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[pair])
	if err != nil || !reflect.DeepEqual(got.IDs, []int32{int32(10 * id), int32(10*id + 1)}) || len(got.Texts) != 2 || *got.Texts[0] != "a'b\\c\n" || got.Texts[1] != nil {
		t.Errorf("arrays as results: %+v, %v", got, err)
	}
}

func pgxBatch(t *testing.T, c *pgx.Conn) {
	ctx := context.Background()
	exec1(t, c, "CREATE TABLE batched (id int PRIMARY KEY, v text)")
	b := &pgx.Batch{}
	for i := range 100 {
		b.Queue("INSERT INTO batched VALUES ($1, $2)", i, fmt.Sprint("v", i))
	}
	sum := 0
	b.Queue("SELECT sum(id) FROM batched").QueryRow(func(r pgx.Row) error { return r.Scan(&sum) })
	if err := c.SendBatch(ctx, b).Close(); err != nil || sum != 4950 {
		t.Fatalf("sum %d: %v", sum, err)
	}
	// One failure takes the whole batch back: it is one implicit transaction.
	b = &pgx.Batch{}
	b.Queue("INSERT INTO batched VALUES (200, 'x')")
	b.Queue("INSERT INTO batched VALUES (1, 'again')")
	b.Queue("INSERT INTO batched VALUES (201, 'x')")
	var pe *pgconn.PgError
	if err := c.SendBatch(ctx, b).Close(); !errors.As(err, &pe) || pe.Code != "23505" {
		t.Fatalf("got %v, want a unique violation", err)
	}
	if n := queryInt(t, c, "SELECT count(*) FROM batched"); n != 100 {
		t.Errorf("%d rows after a failed batch, want 100", n)
	}
}

// pgxCopy loads and unloads in the binary format, which is pgx's, and in text.
func pgxCopy(t *testing.T, c *pgx.Conn) {
	ctx := context.Background()
	exec1(t, c, "CREATE TABLE copied (id int PRIMARY KEY, n numeric(10,2) CHECK (n >= 0), x text, ts timestamptz, by bytea)")
	const rows = 5000
	ts := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	columns := []string{"id", "n", "x", "ts", "by"}
	source := func(from int) pgx.CopyFromSource {
		return pgx.CopyFromSlice(rows, func(i int) ([]any, error) {
			x := any(fmt.Sprintf("row\t%d\\", i))
			if i%10 == 0 {
				x = nil
			}
			return []any{from + i, pgtype.Numeric{Int: big.NewInt(int64(i)), Exp: -2, Valid: true}, x, ts.Add(time.Duration(i) * time.Hour), []byte{byte(i)}}, nil
		})
	}
	if n, err := c.CopyFrom(ctx, pgx.Identifier{"copied"}, columns, source(0)); err != nil || n != rows {
		t.Fatalf("%d rows: %v", n, err)
	}
	if n := queryInt(t, c, "SELECT count(*) FROM copied WHERE (x IS NULL) = (id % 10 = 0) AND n = id / 100.0 AND ts = '2024-01-01 00:00+00'::timestamptz + id * interval '1 hour'"); n != rows {
		t.Errorf("%d rows came as they were sent, want %d", n, rows)
	}
	var pe *pgconn.PgError
	if _, err := c.CopyFrom(ctx, pgx.Identifier{"copied"}, columns, source(rows-1)); !errors.As(err, &pe) || pe.Code != "23505" {
		t.Errorf("a row that exists already: %v", err)
	}
	if n := queryInt(t, c, "SELECT count(*) FROM copied"); n != rows {
		t.Errorf("%d rows after a failed COPY, want %d", n, rows)
	}
	for _, format := range []string{"binary", "csv", "text"} {
		var file bytes.Buffer
		if _, err := c.PgConn().CopyTo(ctx, &file, "COPY copied TO STDOUT (FORMAT "+format+")"); err != nil {
			t.Fatal(err)
		}
		exec1(t, c, "CREATE TABLE copied_"+format+" (id int PRIMARY KEY, n numeric(10,2), x text, ts timestamptz, by bytea)")
		if _, err := c.PgConn().CopyFrom(ctx, &file, "COPY copied_"+format+" FROM STDIN (FORMAT "+format+")"); err != nil {
			t.Fatal(err)
		}
		if n := queryInt(t, c, "SELECT count(*) FROM copied a JOIN copied_"+format+" b USING (id) WHERE a.n = b.n AND a.x IS NOT DISTINCT FROM b.x AND a.ts = b.ts AND a.by = b.by"); n != rows {
			t.Errorf("%d rows came back from a %s file, want %d", n, format, rows)
		}
	}
}

func pgxTransactions(t *testing.T, c *pgx.Conn) {
	ctx := context.Background()
	exec1(t, c, "CREATE TABLE nested (id int PRIMARY KEY)")
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO nested VALUES (1)"); err != nil {
			return err
		}
		inner := pgx.BeginFunc(ctx, tx, func(sp pgx.Tx) error {
			_, err := sp.Exec(ctx, "INSERT INTO nested VALUES (2), (1)")
			return err
		})
		if inner == nil {
			return errors.New("a duplicate key was accepted")
		}
		_, err := tx.Exec(ctx, "INSERT INTO nested VALUES (3)")
		return err
	})
	if n := queryInt(t, c, "SELECT sum(id) FROM nested"); err != nil || n != 4 {
		t.Errorf("the sum is %d: %v", n, err)
	}
	for _, o := range []pgx.TxOptions{{IsoLevel: pgx.ReadCommitted}, {IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, {AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable}} {
		tx, err := c.BeginTx(ctx, o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		_, err = tx.Exec(ctx, "INSERT INTO nested VALUES (9)")
		var pe *pgconn.PgError
		if readOnly := o.AccessMode == pgx.ReadOnly; readOnly != (errors.As(err, &pe) && pe.Code == "25006") {
			t.Errorf("%+v: writing gives %v", o, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Error(err)
		}
	}
}

// pgxErrors: what a driver shows of an error.
func pgxErrors(t *testing.T, c *pgx.Conn) {
	_, err := c.Exec(context.Background(), "SELECT nope FROM kinds")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "42703" || pe.Position != 8 || pe.Severity != "ERROR" || pe.Message != `column "nope" does not exist` {
		t.Errorf("got %+v", pe)
	}
	_, err = c.Exec(context.Background(), "INSERT INTO kinds (id) VALUES (0)")
	if !errors.As(err, &pe) || pe.Code != "23505" || pe.ConstraintName != "kinds_pkey" || pe.TableName != "kinds" || pe.SchemaName != "public" || pe.Detail != "Key (id)=(0) already exists." {
		t.Errorf("got %+v", pe)
	}
}

// TestLibPQ drives database/sql with lib/pq, by the statements of go-ycsb and
// go-tpc.
func TestLibPQ(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	db, err := sql.Open("postgres", dsn(p.addr(5433)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	t.Run("ycsb", func(t *testing.T) { ycsbStatements(t, db) })
	t.Run("tpcc", func(t *testing.T) { tpccStatements(t, db) })
	t.Run("tpch", func(t *testing.T) { tpchStatements(t, db) })
	t.Run("copy", func(t *testing.T) { pqCopy(t, db) })
	other, err := sql.Open("postgres", strings.Replace(dsn(p.addr(5433)), "dbname=copra", "dbname=nope", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := other.Ping(); err == nil || !strings.Contains(err.Error(), `database "nope" does not exist`) {
		t.Errorf("a missing database: %v", err)
	}
	p.stop()
}

// must runs a statement that has to succeed.
func must(t *testing.T, db interface {
	Exec(query string, args ...any) (sql.Result, error)
}, query string, args ...any) int64 {
	t.Helper()
	r, err := db.Exec(query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// one reads a single value as text.
func one(t *testing.T, db interface {
	QueryRow(query string, args ...any) *sql.Row
}, query string, args ...any) string {
	t.Helper()
	var s string
	if err := db.QueryRow(query, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

// ycsbStatements: go-ycsb passes []byte for every value, so that parameters
// must be told to be text.
func ycsbStatements(t *testing.T, db *sql.DB) {
	const create = "CREATE TABLE IF NOT EXISTS usertable (YCSB_KEY VARCHAR(64) PRIMARY KEY, FIELD0 VARCHAR(100), FIELD1 VARCHAR(100))"
	must(t, db, "DROP TABLE IF EXISTS usertable")
	must(t, db, create)
	must(t, db, create)
	stmt := func(query string) *sql.Stmt {
		s, err := db.Prepare(query)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	insert := stmt("INSERT INTO usertable (YCSB_KEY, FIELD0, FIELD1) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
	for _, key := range []string{"user1", "user2", "user3", "user2"} {
		if _, err := insert.Exec(key, []byte("f0-"+key), []byte("f1-"+key)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stmt("UPDATE usertable SET FIELD0 = $1 WHERE YCSB_KEY = $2").Exec([]byte("new"), "user2"); err != nil {
		t.Fatal(err)
	}
	rows, err := stmt("SELECT * FROM usertable WHERE YCSB_KEY >= $1 LIMIT $2").Query("user2", 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for rows.Next() {
		var key, f0, f1 []byte
		if err := rows.Scan(&key, &f0, &f1); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s", key, f0, f1))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || fmt.Sprint(got) != "[user2 new f1-user2 user3 f0-user3 f1-user3]" {
		t.Errorf("the scan finds %q: %v", got, err)
	}
	if _, err := stmt("DELETE FROM usertable WHERE YCSB_KEY = $1").Exec("user3"); err != nil {
		t.Fatal(err)
	}
	if n := one(t, db, "SELECT count(FIELD1) FROM usertable WHERE YCSB_KEY = $1 OR YCSB_KEY = $2", "user2", "user3"); n != "1" {
		t.Errorf("%s rows are left", n)
	}
}

// tpccStatements are go-tpc's transactions' shapes.
func tpccStatements(t *testing.T, db *sql.DB) {
	must(t, db, `CREATE TABLE IF NOT EXISTS stock (s_i_id INT NOT NULL, s_w_id INT NOT NULL, s_quantity INT, s_ytd DECIMAL(8,0), PRIMARY KEY (s_w_id, s_i_id))`)
	must(t, db, `CREATE TABLE IF NOT EXISTS customer (c_id INT NOT NULL, c_d_id INT NOT NULL, c_w_id INT NOT NULL, c_last VARCHAR(16), c_first VARCHAR(16), c_balance DECIMAL(12,2),
		c_since TIMESTAMP, PRIMARY KEY (c_w_id, c_d_id, c_id))`)
	must(t, db, "CREATE INDEX idx_customer ON customer (c_w_id, c_d_id, c_last, c_first)")
	must(t, db, `CREATE TABLE IF NOT EXISTS order_line (ol_o_id INT NOT NULL, ol_w_id INT NOT NULL, ol_number INT NOT NULL, ol_i_id INT, ol_amount DECIMAL(6,2), PRIMARY KEY (ol_w_id, ol_o_id, ol_number))`)
	var values []string
	for i := range 1024 {
		values = append(values, fmt.Sprintf("(%d, 1, %d, 0)", i, i%100))
	}
	if n := must(t, db, "INSERT INTO stock (s_i_id, s_w_id, s_quantity, s_ytd) VALUES "+strings.Join(values, ",")); n != 1024 {
		t.Errorf("%d rows were inserted", n)
	}
	must(t, db, "INSERT INTO customer VALUES (1, 1, 1, 'BAR', 'b', -10, '2020-01-01'), (2, 1, 1, 'BAR', 'a', 20.5, '2020-01-02'), (3, 1, 1, 'OUGHT', 'c', 5, NULL)")
	must(t, db, "INSERT INTO order_line VALUES (1, 1, 1, 5, 10), (1, 1, 2, 15, 20), (2, 1, 1, 15, 30)")

	tx, err := db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query("SELECT s_i_id, s_quantity FROM stock WHERE (s_w_id, s_i_id) IN (($1,$2),($3,$4)) FOR UPDATE", 1, 5, 1, 15)
	if err != nil {
		t.Fatal(err)
	}
	locked := 0
	for rows.Next() {
		locked++
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || locked != 2 {
		t.Errorf("%d rows were locked: %v", locked, err)
	}
	must(t, tx, "UPDATE stock SET s_quantity = s_quantity + $1, s_ytd = s_ytd + $2 WHERE s_w_id = $3 AND s_i_id = $4", 3, 7, 1, 5)
	must(t, tx, "UPDATE customer SET c_balance = c_balance + $1 WHERE c_w_id = $2 AND c_d_id = $3 AND c_id = $4", 12.25, 1, 1, 3)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"SELECT s_quantity FROM stock WHERE s_w_id = 1 AND s_i_id = 5":                                                                                                        "8",
		"SELECT c_balance FROM customer WHERE c_w_id = 1 AND c_d_id = 1 AND c_id = 3":                                                                                         "17.25",
		"SELECT c_id FROM customer WHERE c_w_id = 1 AND c_d_id = 1 AND c_last = 'BAR' ORDER BY c_first LIMIT 1":                                                               "2",
		"SELECT sum(ol_amount) FROM order_line WHERE ol_o_id = 1 AND ol_w_id = 1":                                                                                             "30.00",
		"SELECT /*+ TIDB_INLJ(order_line,stock) */ COUNT(DISTINCT (s_i_id)) FROM order_line, stock WHERE ol_w_id = 1 AND s_w_id = 1 AND s_i_id = ol_i_id AND s_quantity < 10": "1",
		"SELECT ol_o_id FROM order_line WHERE ol_w_id = 1 ORDER BY ol_o_id DESC LIMIT 1":                                                                                      "2",
		// its checks
		"SELECT POWER((SELECT count(*) FROM customer), 2)":                                                                         "9",
		"SELECT count(*) FROM customer c LEFT JOIN order_line o ON c.c_id = o.ol_number AND o.ol_o_id = 1 WHERE o.ol_i_id IS NULL": "1",
		"SELECT count(*) FROM (SELECT ol_o_id, sum(ol_amount) AS s FROM order_line GROUP BY ol_o_id) d WHERE d.s = 30":             "2",
		"SELECT count(*) FROM customer c WHERE c_balance > (SELECT avg(x.c_balance) FROM customer x WHERE x.c_last = c.c_last)":    "1",
	} {
		if got := one(t, db, query); got != want {
			t.Errorf("%s gives %s, want %s", query, got, want)
		}
	}
	must(t, db, "BEGIN READ WRITE; COMMIT")
}

func tpchStatements(t *testing.T, db *sql.DB) {
	must(t, db, "CREATE TABLE IF NOT EXISTS nation (N_NATIONKEY BIGINT NOT NULL, N_NAME CHAR(25) NOT NULL, N_REGIONKEY BIGINT NOT NULL, N_COMMENT VARCHAR(152), PRIMARY KEY (N_NATIONKEY))")
	must(t, db, "INSERT INTO nation (n_nationkey, n_name, n_regionkey, n_comment) VALUES (0, 'ALGERIA', 0, 'x'), (1, 'ARGENTINA', 1, NULL)")
	must(t, db, "ANALYZE nation")
	if got := one(t, db, "SELECT date_add('1995-01-31'::timestamptz, interval '1' month)::date"); !strings.HasPrefix(got, "1995-02-28") {
		t.Errorf("date_add gives %s", got)
	}
	if got := one(t, db, "SELECT count(*) FROM nation WHERE n_name = 'ALGERIA'"); got != "1" {
		t.Errorf("%s nations", got)
	}
}

// pqCopy is lib/pq's CopyIn, and its words for a failure.
func pqCopy(t *testing.T, db *sql.DB) {
	must(t, db, "CREATE TABLE pq_copied (a int PRIMARY KEY, b text)")
	load := func(rows ...[]any) error {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		stmt, err := tx.Prepare(pq.CopyIn("pq_copied", "a", "b"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if _, err := stmt.Exec(r...); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		if _, err := stmt.Exec(); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return errors.Join(stmt.Close(), tx.Commit())
	}
	if err := load([]any{1, "x\ty"}, []any{2, nil}); err != nil {
		t.Fatal(err)
	}
	err := load([]any{3, "x"}, []any{"q", nil})
	var pe *pq.Error
	if !errors.As(err, &pe) || pe.Code != "22P02" || pe.Where != `COPY pq_copied, line 2, column a: "q"` {
		t.Errorf("got %v", err)
	}
	if got := one(t, db, "SELECT count(*) || coalesce(max(b), '') FROM pq_copied"); got != "2x\ty" {
		t.Errorf("%q is there", got)
	}
}

// TestPostgresTools runs the programs of a PostgreSQL installation.
func TestPostgresTools(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	for _, tc := range []struct {
		tool, stdin string
		args, want  []string
	}{
		{tool: "pgbench", args: []string{"-i", "-s", "1", "copra"}, want: []string{"creating primary keys...", "done in"}},
		{tool: "pgbench", args: []string{"-n", "-S", "-M", "prepared", "-t", "50", "copra"}, want: []string{"50/50", "number of failed transactions: 0"}},
		{tool: "pgbench", args: []string{"-M", "simple", "-c", "2", "-t", "10", "copra"}, want: []string{"20/20", "number of failed transactions: 0"}},
		{tool: "pgbench", args: []string{"-n", "-M", "extended", "-t", "10", "copra"}, want: []string{"10/10", "number of failed transactions: 0"}},
		{tool: "psql", args: []string{"-At", "-v", "FETCH_COUNT=100", "-c", "SELECT aid FROM pgbench_accounts WHERE aid <= 250 ORDER BY aid", "copra"}, want: []string{"1\n2\n3\n", "\n250\n"}},
		{tool: "psql", stdin: "SELECT 1 AS a, 'x'::varchar(5) AS b, 'pg_class'::regclass \\gdesc\n", args: []string{"-At", "copra"}, want: []string{"a|integer", "b|character varying(5)", "regclass|regclass"}},
		{tool: "psql", stdin: "\\copy (SELECT bid, tbalance * 0 FROM pgbench_tellers ORDER BY tid) TO STDOUT CSV HEADER\n", args: []string{"copra"}, want: []string{"bid,?column?\n1,0\n"}},
		{tool: "psql", args: []string{"-At", "-c", "SELECT 'pg_class'::regclass, 'pgbench_tellers'::regclass, 23::regtype", "copra"}, want: []string{"pg_class|pgbench_tellers|integer"}},
		{tool: "psql", args: []string{"-c", "\\d+ pgbench_accounts", "copra"}, want: []string{"abalance", `"pgbench_accounts_pkey" PRIMARY KEY, btree (aid)`}},
		{tool: "pg_dump", args: []string{"-t", "pgbench_branches", "copra"}, want: []string{"CREATE TABLE public.pgbench_branches (\n    bid integer NOT NULL,", "COPY public.pgbench_branches (bid, bbalance, filler) FROM stdin;\n1\t",
			"ADD CONSTRAINT pgbench_branches_pkey PRIMARY KEY (bid);"}},
	} {
		name := tc.tool + " " + strings.Join(tc.args, " ")
		if _, err := exec.LookPath(tc.tool); err != nil {
			t.Logf("no %s here: its statements are covered by sqlfront's tests", tc.tool)
			continue
		}
		cmd := exec.Command(tc.tool, append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(5433 + p.offset), "-U", "root"}, tc.args...)...)
		cmd.Stdin = strings.NewReader(tc.stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s does not show %q:\n%.4000s", name, want, out)
			}
		}
	}
	p.stop()
}
