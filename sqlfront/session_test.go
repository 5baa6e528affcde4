package sqlfront

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/mutate"
)

// ok runs statements that must succeed and returns what they print.
func (c *testClient) ok(sql string) string {
	c.t.Helper()
	out := c.simple(sql, "")
	if strings.Contains(out, "ERROR") {
		c.t.Fatalf("%s: %s", sql, out)
	}
	return out
}

// value runs a query of one value.
func (c *testClient) value(sql string) string {
	c.t.Helper()
	lines := strings.Split(c.ok(sql), "\n")
	return lines[1]
}

// prepare prepares one statement as the extended protocol does.
func (c *testClient) prepare(sql string, oids ...uint32) Prepared {
	c.t.Helper()
	stmts, err := c.s.Parse(context.Background(), sql)
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := c.s.Prepare(context.Background(), stmts[0], oids)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *testClient) run(p Prepared, params ...sqltypes.Datum) string {
	var b strings.Builder
	if err := c.execute(context.Background(), p, params, "", &b); err != nil {
		c.s.Fail()
		return formatError(err)
	}
	return b.String()
}

func TestPreparedFollowsTheSchema(t *testing.T) {
	c := newTestDB(t, Options{}).client(t)
	c.ok("create table t (a int primary key, b text); insert into t values (1, 'x')")
	star := c.prepare("select * from t where a = $1")
	named := c.prepare("select b from t where a = $1", sqltypes.OIDInt8)
	if got := star.Params(); len(got) != 1 || got[0] != sqltypes.Int4 {
		t.Errorf("inferred %v", got)
	}
	if got := named.Params()[0]; got != sqltypes.Int8 {
		t.Errorf("declared type became %v", got)
	}
	for range 2 {
		if got := c.run(star, sqltypes.NewInt(1)); got != "a | b\n1 | x\nSELECT 1\n" {
			t.Error(got)
		}
	}
	c.ok("alter table t add column c int default 5")
	if got := c.run(named, sqltypes.NewInt(1)); got != "b\nx\nSELECT 1\n" {
		t.Error(got)
	}
	if got := c.run(star, sqltypes.NewInt(1)); !strings.HasPrefix(got, "ERROR 0A000: cached plan must not change result type") {
		t.Error(got)
	}
	if got := c.run(named); !strings.HasPrefix(got, "ERROR 08P01") {
		t.Error(got)
	}
	c.ok("drop table t")
	if got := c.run(named, sqltypes.NewInt(1)); !strings.HasPrefix(got, "ERROR 42P01") {
		t.Error(got)
	}
}

func TestPositionsCountTheQueryString(t *testing.T) {
	c := newTestDB(t, Options{}).client(t)
	if got := c.simple("select 1;  select ü", ""); !strings.Contains(got, `column "ü" does not exist @19`) {
		t.Error(got)
	}
}

func TestLogin(t *testing.T) {
	db := newTestDB(t, Options{})
	ctx := context.Background()
	if _, err := db.Credentials(ctx, "nobody"); pgerror.Code(err) != pgerror.InvalidAuthorization {
		t.Error(err)
	}
	if c, err := db.Credentials(ctx, RootUser); err != nil || c.Verifier != "" {
		t.Error(c, err)
	}
	if _, err := db.NewSession(ctx, SessionOptions{User: RootUser, Database: "other"}); pgerror.Code(err) != pgerror.InvalidCatalogName {
		t.Error(err)
	}
	if _, err := db.NewSession(ctx, SessionOptions{User: RootUser, Settings: map[string]string{"client_encoding": "LATIN1"}}); pgerror.Code(err) != pgerror.FeatureNotSupported {
		t.Error(err)
	}
	s, err := db.NewSession(ctx, SessionOptions{User: RootUser, Settings: map[string]string{
		"application_name": "app", "options": `-c statement_timeout=5s --search-path=a\ b -cextra_float_digits=3`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"statement_timeout": "5s", "search_path": "a b", "extra_float_digits": "3", "application_name": "app"} {
		if got, _ := s.Setting(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := db.sessions.Load(); n != 0 {
		t.Errorf("%d sessions are open", n)
	}
}

func TestCancel(t *testing.T) {
	c := newTestDB(t, Options{}).client(t)
	c.ok("create table t (a int)")
	c.ok("begin; insert into t values (1)")
	done := make(chan string)
	go func() { done <- c.simple("select pg_sleep(60) from t", "") }()
	for {
		c.s.Cancel() // before it runs there is nothing to cancel
		select {
		case got := <-done:
			if !strings.Contains(got, "ERROR 57014: canceling statement due to user request") {
				t.Error(got)
			}
			if got := c.simple("select 1", ""); !strings.HasPrefix(got, "ERROR 25P02") {
				t.Error(got)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// TestCounter: updates of one row lose none and none counts twice, whether they go
// through optimistically or with locks. (The store of this test may refuse a
// commit where TiKV's protocol would not; then the client is told so.)
func TestCounter(t *testing.T) {
	db := newTestDB(t, Options{})
	db.client(t).ok("create table t (a int primary key, n int); insert into t values (1, 0)")
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 6 {
		c := db.client(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 25 {
				sql := "update t set n = n + 1 where a = 1"
				if i%2 == 1 {
					sql = "begin; " + sql + "; commit"
				}
				switch out := c.simple(sql, ""); {
				case !strings.Contains(out, "ERROR"):
					done.Add(1)
				case !strings.Contains(out, "ERROR 40001"):
					t.Error(out)
				}
			}
		}()
	}
	wg.Wait()
	if got := db.client(t).value("select n from t"); got != fmt.Sprint(done.Load()) || done.Load() < 75 {
		t.Errorf("%d updates succeeded, the counter is %s", done.Load(), got)
	}
}

// TestHazard25_OnlyUnseenStatementsRunAgain: in REPEATABLE READ, where the client
// has seen the old value, a conflict is the client's to handle; nothing is lost
// and nothing is done twice.
func TestHazard25_OnlyUnseenStatementsRunAgain(t *testing.T) {
	db := newTestDB(t, Options{})
	db.client(t).ok("create table t (a int primary key, n int); insert into t values (1, 0)")
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 4 {
		c := db.client(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				c.ok("begin isolation level repeatable read")
				n := c.value("select n from t where a = 1")
				out := c.simple("update t set n = "+n+" + 1 where a = 1", "")
				if strings.Contains(out, "ERROR") {
					if !strings.HasPrefix(out, "ERROR 40001") {
						t.Error(out)
					}
					c.ok("rollback")
					continue
				}
				if out = c.simple("commit", ""); !strings.Contains(out, "ERROR") {
					mu.Lock()
					done++
					mu.Unlock()
				} else if !strings.HasPrefix(out, "ERROR 40001") {
					t.Error(out)
				}
			}
		}()
	}
	wg.Wait()
	if got := db.client(t).value("select n from t"); got != fmt.Sprint(done) {
		t.Errorf("%d transactions were committed, the counter is %s", done, got)
	}
}

// TestUpsertRace: many sessions upsert the same keys; each is there once and
// counts every statement.
func TestUpsertRace(t *testing.T) {
	db := newTestDB(t, Options{})
	db.client(t).ok("create table t (a int primary key, b int unique, n int)")
	var wg sync.WaitGroup
	const workers, each = 5, 12
	for range workers {
		c := db.client(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				out := c.simple(fmt.Sprintf("insert into t values (%d, %d, 1) on conflict (a) do update set n = t.n + 1", i%3, i%3), "")
				if strings.Contains(out, "ERROR") {
					t.Error(out)
				}
			}
		}()
	}
	wg.Wait()
	if got := db.client(t).value("select count(*) || ' ' || sum(n) from t"); got != fmt.Sprintf("3 %d", workers*each) {
		t.Errorf("rows and upserts: %s", got)
	}
}

// TestOtherNodeSeesSchema: two SQL nodes over one store.
func TestOtherNodeSeesSchema(t *testing.T) {
	store := newTestKV(t)
	here, there := newTestDB(t, Options{KV: store}), newTestDB(t, Options{KV: store})
	a, b := here.client(t), there.client(t)
	a.ok("create table t (a int primary key); insert into t values (1)")
	there.catalog.Invalidate() // or wait for VersionLease
	if got := b.value("select count(*) from t"); got != "1" {
		t.Error(got)
	}
	// A transaction that wrote the table as it was cannot commit.
	b.ok("begin; insert into t values (2)")
	a.ok("alter table t add column c int default 7")
	there.catalog.Invalidate()
	if got := b.simple("commit", ""); !strings.HasPrefix(got, `ERROR 40001: could not serialize access: the definition of table "t" changed`) {
		t.Error(got)
	}
	// A statement of its own is run again with the new schema.
	stale := b.prepare("insert into t (a) values ($1) returning *")
	a.ok("alter table t add column d int default 8")
	there.catalog.Invalidate()
	if got := b.run(stale, sqltypes.NewInt(3)); !strings.Contains(got, "cached plan must not change result type") {
		t.Error(got)
	}
	if got := b.ok("insert into t (a) values (3) returning *"); got != "a | c | d\n3 | 7 | 8\nINSERT 0 1\n" {
		t.Error(got)
	}
}

// TestChangeIsAcknowledgedWhenAllKnow: what is written through another node right
// after a TRUNCATE must not go to the table that was.
func TestChangeIsAcknowledgedWhenAllKnow(t *testing.T) {
	store := newTestKV(t)
	a, b := newTestDB(t, Options{KV: store}).client(t), newTestDB(t, Options{KV: store}).client(t)
	a.ok("create table t (a int primary key)")
	for i := range 5 {
		b.simple("select count(*) from t", "") // the other node knows the schema as it is
		a.ok("truncate t")
		b.ok(fmt.Sprintf("insert into t values (%d)", i))
		if got := a.value("select count(*) from t"); got != "1" {
			t.Fatalf("round %d: %s rows behind a truncate and an insert", i, got)
		}
	}
}

// TestIndexUnderLoad: an index that is created while rows come, change and go
// has exactly the entries of the rows that are there in the end.
func TestIndexUnderLoad(t *testing.T) {
	store := newTestKV(t)
	db, other := newTestDB(t, Options{KV: store}), newTestDB(t, Options{KV: store})
	ddl := db.client(t)
	ddl.ok("create table t (a int primary key, b int)")
	for i := range 300 {
		ddl.ok(fmt.Sprintf("insert into t values (%d, %d)", i, i%50))
	}
	other.catalog.Invalidate()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w, node := range []*DB{db, other} {
		c := node.client(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; ; i += 2 {
				select {
				case <-stop:
					return
				default:
				}
				a := i * 7 % 300
				for _, sql := range []string{
					fmt.Sprintf("update t set b = b + 1 where a = %d", a),
					fmt.Sprintf("delete from t where a = %d", (a+1)%300),
					fmt.Sprintf("insert into t values (%d, %d) on conflict do nothing", (a+2)%300, a),
					fmt.Sprintf("begin; update t set b = 5 where a = %d; update t set b = 6 where a = %d; commit", a, (a+4)%300),
				} {
					if out := c.simple(sql, ""); strings.Contains(out, "ERROR") && !strings.Contains(out, "ERROR 40") {
						t.Error(out)
						return
					}
					if c.s.TxStatus() != TxIdle {
						c.simple("rollback", "")
					}
				}
			}
		}()
	}
	ddl.ok("create index t_b on t (b)")
	close(stop)
	wg.Wait()
	checkIndexEntries(t, db, "t", 1)
}

// checkIndexEntries compares an index's entries with the table's rows.
func checkIndexEntries(t *testing.T, db *DB, name string, id int64) {
	t.Helper()
	ctx := context.Background()
	db.catalog.Invalidate()
	snap, err := db.catalog.Latest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	desc := snap.Table("public", name)
	ts, err := db.timestamp(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kvSnap := db.kv.GetSnapshot(ts)
	want := map[string]bool{}
	r := tablecodec.RecordRange(desc.ID)
	it, err := kvSnap.Iter(r.Start, r.End)
	if err != nil {
		t.Fatal(err)
	}
	rows, _, err := readRows(ctx, desc, it, 1<<20)
	it.Close()
	if err != nil {
		t.Fatal(err)
	}
	w := mutate.New(desc)
	for _, row := range rows {
		key, _, _, err := w.IndexEntry(id, row.row, row.handle)
		if err != nil {
			t.Fatal(err)
		}
		want[string(key)] = true
	}
	ir := tablecodec.IndexRange(desc.ID, id)
	entries, err := kvSnap.Iter(ir.Start, ir.End)
	if err != nil {
		t.Fatal(err)
	}
	defer entries.Close()
	got := 0
	for entries.Valid() {
		if !want[string(entries.Key())] {
			t.Errorf("entry %x has no row", entries.Key())
		}
		got++
		if err := entries.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if got != len(want) || got == 0 {
		t.Errorf("the index has %d entries, the table %d rows", got, len(want))
	}
}

func TestDroppedDataIsDeleted(t *testing.T) {
	db := newTestDB(t, Options{DropAtOnce: true})
	c := db.client(t)
	c.ok("create table t (a serial, b int); insert into t (b) values (1), (2); create index on t (b)")
	snap, err := db.catalog.Latest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r := tablecodec.TableRange(snap.Table("public", "t").ID)
	count := func() int {
		ts, err := db.timestamp(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		it, err := db.kv.GetSnapshot(ts).Iter(r.Start, r.End)
		if err != nil {
			t.Fatal(err)
		}
		defer it.Close()
		n := 0
		for it.Valid() {
			n++
			if err := it.Next(); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if count() != 4 {
		t.Errorf("%d keys", count())
	}
	c.ok("drop table t")
	if count() != 4 {
		t.Error("the data went at once")
	}
	if n, err := db.SweepDropped(context.Background()); err != nil || n != 1 || count() != 0 {
		t.Errorf("swept %d ranges (%v), %d keys are left", n, err, count())
	}
	if n, err := db.SweepDropped(context.Background()); err != nil || n != 0 {
		t.Errorf("swept %d ranges again (%v)", n, err)
	}
}

func TestStatementMemory(t *testing.T) {
	db := newTestDB(t, Options{StatementBytesMax: 64 << 10})
	c := db.client(t)
	if got := c.simple("select count(distinct g) from generate_series(1, 200000) g", ""); !strings.Contains(got, "ERROR 53200") {
		t.Error(got)
	}
	if got := c.value("select 1"); got != "1" {
		t.Error(got)
	}
	if used := db.mem.Used(); used != 0 {
		t.Errorf("%d bytes are still charged", used)
	}
}

func TestSketch(t *testing.T) {
	for _, n := range []int{0, 1, 100, 5000, 200_000} {
		var s sketch
		for i := range n {
			s.add(fmt.Appendf(nil, "value %d", i))
			s.add(fmt.Appendf(nil, "value %d", i))
		}
		if got := s.count(); math.Abs(float64(got)-float64(n)) > 0.05*float64(n) {
			t.Errorf("%d different values are counted as %d", n, got)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("t", 60)
	for _, tc := range [][4]string{
		{"t", "a_b", "key", "t_a_b_key"}, {"t", "", "pkey", "t_pkey"}, {long, "column", "idx", strings.Repeat("t", 52) + "_column_idx"},
		{long, long, "idx", strings.Repeat("t", 29) + "_" + strings.Repeat("t", 29) + "_idx"},
	} {
		if got := objectName(tc[0], tc[1], tc[2]); got != tc[3] || len(got) > 63 {
			t.Errorf("%q, %q, %q make %q, want %q", tc[0], tc[1], tc[2], got, tc[3])
		}
	}
	if got := splitQualified(`a."B.c".D`); fmt.Sprint(got) != "[a B.c d]" {
		t.Error(got)
	}
}
