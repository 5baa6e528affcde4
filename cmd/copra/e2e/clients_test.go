package e2e

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	adbcflight "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/tikv/client-go/v2/config"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestTiKVClients runs the unmodified client-go against the playground: raw and
// transactional data, and SQL's, share the cluster and do not meet. The programs
// of docs/clients.md run there, too.
func TestTiKVClients(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	ctx := context.Background()
	sql := p.connect()
	exec1(t, sql, "CREATE TABLE t (a int PRIMARY KEY)")
	exec1(t, sql, "INSERT INTO t SELECT g FROM generate_series(1, 100) g")

	raw, err := rawkv.NewClient(ctx, []string{p.addr(2379)}, config.DefaultConfig().Security)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	txn, err := txnkv.NewClient([]string{p.addr(2379)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = txn.Close() }()

	// The same key on both sides.
	key := []byte("shared")
	if err := raw.Put(ctx, key, []byte("raw")); err != nil {
		t.Fatal(err)
	}
	for name, configure := range map[string]func(*transaction.KVTxn){
		"optimistic": func(*transaction.KVTxn) {}, "async commit": func(x *transaction.KVTxn) { x.SetEnableAsyncCommit(true) },
		"1PC": func(x *transaction.KVTxn) { x.SetEnable1PC(true) }, "pessimistic": func(x *transaction.KVTxn) { x.SetPessimistic(true) },
	} {
		tx, err := txn.Begin()
		if err != nil {
			t.Fatal(err)
		}
		configure(tx)
		if err := tx.Set(key, []byte("txn "+name)); err != nil {
			t.Fatal(err)
		}
		if tx.IsPessimistic() {
			if err := tx.LockKeysWithWaitTime(ctx, 1000, key); err != nil {
				t.Fatalf("%s: lock: %v", name, err)
			}
		}
		if err := tx.Commit(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check, err := txn.Begin()
		if err != nil {
			t.Fatal(err)
		}
		entry, err := check.Get(ctx, key)
		if err != nil || string(entry.Value) != "txn "+name {
			t.Errorf("%s: read %q, %v", name, entry.Value, err)
		}
		_ = check.Rollback()
	}
	if v, err := raw.Get(ctx, key); err != nil || string(v) != "raw" {
		t.Errorf("raw value is %q, %v", v, err)
	}
	keys, _, err := raw.Scan(ctx, nil, nil, 1000)
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0], key) {
		t.Errorf("a raw scan of everything sees %d keys (%v)", len(keys), err)
	}
	scan, err := txn.Begin()
	if err != nil {
		t.Fatal(err)
	}
	it, err := scan.Iter(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for ; it.Valid(); seen++ {
		if !bytes.Equal(it.Key(), key) {
			t.Errorf("a transactional scan of everything sees key %q", it.Key())
		}
		if err := it.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if seen != 1 {
		t.Errorf("a transactional scan of everything sees %d keys", seen)
	}
	_ = scan.Rollback()
	writeConflict(t, txn)
	if n := queryInt(t, sql, "SELECT count(*) FROM t"); n != 100 {
		t.Errorf("SQL sees %d rows", n)
	}
	runExamples(t, p)
	p.stop()
}

func writeConflict(t *testing.T, c *txnkv.Client) {
	t.Helper()
	a, err := c.Begin()
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Set([]byte("contended"), []byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := b.Set([]byte("contended"), []byte("b")); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(context.Background()); !tikverr.IsErrWriteConflict(err) {
		t.Errorf("the loser of a write conflict got %v", err)
	}
}

// TestFlightSQL uses arrow's own client: metadata, query, prepared statement
// with parameters, update; and the same rows as over pgwire.
func TestFlightSQL(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	ctx := context.Background()
	sql := p.connect()
	exec1(t, sql, "CREATE TABLE m (id int PRIMARY KEY, name text, price numeric(10,2), day date)")
	exec1(t, sql, "INSERT INTO m SELECT g, 'name ' || g, g * 1.25, date '2026-01-01' + g FROM generate_series(1, 1000) g")

	client, err := flightsql.NewClient(p.addr(8815), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	info, err := client.GetTables(ctx, &flightsql.GetTablesOpts{TableTypes: []string{"TABLE"}, IncludeSchema: true})
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	each(t, client, info, func(rec arrow.Record) {
		for i := range int(rec.NumRows()) {
			tables = append(tables, rec.Column(2).(*array.String).Value(i))
		}
	})
	if fmt.Sprint(tables) != "[m]" {
		t.Errorf("tables: %v", tables)
	}
	if info, err = client.Execute(ctx, "SELECT id, name, price, day FROM m ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	if len(info.GetSchema()) == 0 {
		t.Error("FlightInfo has no schema")
	}
	rows := 0
	each(t, client, info, func(rec arrow.Record) {
		if rec.Column(2).DataType().ID() != arrow.DECIMAL128 || rec.Column(3).DataType().ID() != arrow.DATE32 {
			t.Errorf("schema: %s", rec.Schema())
		}
		rows += int(rec.NumRows())
	})
	if rows != 1000 {
		t.Errorf("%d rows", rows)
	}
	stmt, err := client.Prepare(ctx, "SELECT name FROM m WHERE id = $1")
	if err != nil {
		t.Fatal(err)
	}
	stmt.SetParameters(int32Record(7))
	if info, err = stmt.Execute(ctx); err != nil {
		t.Fatal(err)
	}
	each(t, client, info, func(rec arrow.Record) {
		if rec.NumRows() != 1 || rec.Column(0).(*array.String).Value(0) != "name 7" {
			t.Errorf("prepared: %v", rec)
		}
	})
	if err := stmt.Close(ctx); err != nil {
		t.Error(err)
	}
	if n, err := client.ExecuteUpdate(ctx, "UPDATE m SET price = 0 WHERE id <= 10"); err != nil || n != 10 {
		t.Errorf("update: %d, %v", n, err)
	}
	if n := queryInt(t, sql, "SELECT count(*) FROM m WHERE price = 0"); n != 10 {
		t.Errorf("pgwire sees %d updated rows", n)
	}
	if _, err := client.Execute(ctx, "SELECT nothing FROM nowhere"); err == nil {
		t.Error("a bad query was accepted")
	}
	p.stop()
}

func int32Record(v int32) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int32}}, nil))
	b.Field(0).(*array.Int32Builder).Append(v)
	return b.NewRecord()
}

func each(t *testing.T, c *flightsql.Client, info *flight.FlightInfo, visit func(arrow.Record)) {
	t.Helper()
	for _, ep := range info.Endpoint {
		r, err := c.DoGet(context.Background(), ep.Ticket)
		if err != nil {
			t.Fatal(err)
		}
		for r.Next() {
			visit(r.Record())
		}
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		r.Release()
	}
}

// TestADBC uses ADBC's Go driver for Flight SQL.
func TestADBC(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	ctx := context.Background()
	db, err := adbcflight.NewDriver(memory.DefaultAllocator).NewDatabase(map[string]string{adbc.OptionKeyURI: "grpc://" + p.addr(8815)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	run := func(sql string) {
		t.Helper()
		st, err := conn.NewStatement()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		if err := st.SetSqlQuery(sql); err != nil {
			t.Fatal(err)
		}
		if _, err := st.ExecuteUpdate(ctx); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run("CREATE TABLE adbc (a int PRIMARY KEY, b text)")
	run("INSERT INTO adbc VALUES (1, 'x'), (2, NULL)")
	st, err := conn.NewStatement()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if err := st.SetSqlQuery("SELECT a, b FROM adbc ORDER BY a"); err != nil {
		t.Fatal(err)
	}
	r, _, err := st.ExecuteQuery(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for r.Next() {
		rows += int(r.Record().NumRows())
	}
	if err := r.Err(); err != nil || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
	r.Release()
	p.stop()
}
