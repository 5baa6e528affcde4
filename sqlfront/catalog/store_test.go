package catalog

import (
	"context"
	"encoding/json"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/tikv"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// newKV is client-go over its own in-memory store.
func newKV(t *testing.T) *tikv.KVStore {
	t.Helper()
	client, cluster, pdClient, err := testutils.NewMockTiKV("", nil)
	if err != nil {
		t.Fatal(err)
	}
	testutils.BootstrapWithSingleStore(cluster)
	store, err := tikv.NewTestTiKVStore(client, pdClient, nil, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// change runs fn in a schema change of its own.
func change(t *testing.T, s *Store, fn func(c *Change)) {
	t.Helper()
	ctx := context.Background()
	txn, err := s.kv.Begin()
	if err != nil {
		t.Fatal(err)
	}
	txn.SetPessimistic(true)
	ts, err := s.kv.CurrentTimestamp("global")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Begin(ctx, txn, kv.NewLockCtx(ts, kv.LockAlwaysWait, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	fn(c)
	if err := txn.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	s.Invalidate()
}

func testTable(id int64, name string) *Table {
	return &Table{
		ID: id, Schema: SchemaPublic, Name: name, NextColumnID: 3, NextIndexID: 2,
		Columns: []Column{
			{ID: 1, Name: "a", Type: sqltypes.Int8, NotNull: true},
			{ID: 2, Name: "b", Type: sqltypes.NumericOf(10, 2), Missing: must(sqltypes.ParseText(sqltypes.NumericOf(10, 2), "1.50"))},
		},
		PrimaryKey: &Index{Name: name + "_pkey", Unique: true, Primary: true, Columns: []IndexColumn{{Column: 0}}},
		Indexes:    []*Index{{ID: 1, Name: name + "_b", Columns: []IndexColumn{{Column: 1, Desc: true}}, State: StateWriteOnly}},
		Checks:     []Check{{Name: "c", Expr: "a > 0"}},
	}
}

func must(d sqltypes.Datum, err error) sqltypes.Datum {
	if err != nil {
		panic(err)
	}
	return d
}

func TestChangesBecomeVisible(t *testing.T) {
	ctx := context.Background()
	store := newKV(t)
	here, there := NewStore(store, nil), NewStore(store, nil)
	empty, err := here.Latest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if empty.Version() != 0 || empty.Schema("public") == nil || empty.Schema("pg_catalog") == nil {
		t.Fatalf("a new catalog is %+v", empty)
	}
	var id int64
	change(t, here, func(c *Change) {
		if id, err = c.NewID(); err != nil || id != FirstUserObjectID {
			t.Fatalf("first id %d: %v", id, err)
		}
		if err := c.PutTable(testTable(id, "t")); err != nil {
			t.Fatal(err)
		}
		if c.Snapshot().Table("public", "t") == nil {
			t.Error("the change does not see its own table")
		}
	})
	for _, s := range []*Store{here, there} {
		snap, err := s.Latest(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got := snap.Table("public", "t")
		want := testTable(id, "t")
		want.Version = 1
		if snap.Version() != 1 || got == nil || !reflect.DeepEqual(asJSON(t, got), asJSON(t, want)) {
			t.Errorf("version %d has %s, want %s", snap.Version(), asJSON(t, got), asJSON(t, want))
		}
		if got.Columns[1].Missing.IsNull() {
			t.Error("the value of rows from before the column is lost")
		}
		if snap.IndexTable("public", "t_pkey") != got || !snap.NameTaken("public", "t_b") {
			t.Error("the indexes are not found by name")
		}
	}
	change(t, here, func(c *Change) {
		if err := c.DropTable(c.Snapshot().TableByID(id), DropRange{Start: []byte("t1"), End: []byte("t2"), What: "table t"}); err != nil {
			t.Fatal(err)
		}
	})
	snap, err := here.Latest(ctx)
	if err != nil || snap.TableByID(id) != nil || snap.NameTaken("public", "t_b") {
		t.Errorf("the table is still there (%v)", err)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestResolve(t *testing.T) {
	s := newSnapshot(1, nil)
	s.addTable(testTable(1, "t"))
	v := s.View(Env{SearchPath: []string{"nowhere", "public"}})
	for _, tc := range []struct{ schema, name, code string }{
		{"", "t", ""}, {"public", "t", ""}, {"", "u", pgerror.UndefinedTable}, {"public", "u", pgerror.UndefinedTable},
		{"nowhere", "t", pgerror.UndefinedTable}, {"pg_catalog", "pg_class", pgerror.UndefinedTable},
	} {
		r, err := v.Resolve(tc.schema, tc.name)
		if tc.code == "" && (err != nil || r.Table == nil) || tc.code != "" && pgerror.Code(err) != tc.code {
			t.Errorf("%s.%s: %v, %v", tc.schema, tc.name, r, err)
		}
	}
	if in, err := v.CreationSchema(); err != nil || in != "public" {
		t.Errorf("creates in %q: %v", in, err)
	}
	if _, err := s.View(Env{SearchPath: []string{"nowhere"}}).CreationSchema(); pgerror.Code(err) != pgerror.InvalidSchemaName {
		t.Errorf("no schema to create in: %v", err)
	}
}

// TestCounters: ids are given out once, whoever asks.
func TestCounters(t *testing.T) {
	store := newKV(t)
	ctx := context.Background()
	nodes := []*Store{NewStore(store, nil), NewStore(store, nil)}
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 200 {
				first, n, err := nodes[i%2].RowIDs(ctx, 7, 50)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for id := first; id < first+int64(n); id++ {
					if seen[id] {
						t.Errorf("row id %d was given out twice", id)
					}
					seen[id] = true
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	for want := int64(1); want <= 100; want++ {
		got, err := nodes[0].NextSequenceValue(ctx, 9, 1<<31-1)
		if err != nil || got != want {
			t.Fatalf("nextval gives %d (%v), want %d", got, err, want)
		}
	}
	if _, err := nodes[0].NextSequenceValue(ctx, 9, 50); pgerror.Code(err) != "2200H" {
		t.Errorf("past the maximum: %v", err)
	}
}

func TestDropQueue(t *testing.T) {
	store := newKV(t)
	ctx := context.Background()
	s := NewStore(store, nil)
	txn, err := store.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"t1a", "t1b", "t3"} {
		if err := txn.Set([]byte(k), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := txn.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	change(t, s, func(c *Change) {
		if err := c.AddDropRange(DropRange{Start: []byte("t1"), End: []byte("t2"), What: "table t"}); err != nil {
			t.Fatal(err)
		}
	})
	queue, err := s.DropRanges(ctx)
	if err != nil || len(queue) != 1 || queue[0].What != "table t" {
		t.Fatalf("the queue is %v (%v)", queue, err)
	}
	if err := s.DeleteRange(ctx, queue[0]); err != nil {
		t.Fatal(err)
	}
	if queue, err = s.DropRanges(ctx); err != nil || len(queue) != 0 {
		t.Errorf("the queue is %v (%v)", queue, err)
	}
	ts, err := store.CurrentTimestamp("global")
	if err != nil {
		t.Fatal(err)
	}
	for k, there := range map[string]bool{"t1a": false, "t1b": false, "t3": true} {
		if _, err := store.GetSnapshot(ts).Get(ctx, []byte(k)); isNotFound(err) == there {
			t.Errorf("%s: %v", k, err)
		}
	}
	if err := s.DeleteRange(ctx, DropRange{Start: []byte("m"), End: []byte("t"), What: "x"}); pgerror.Code(err) != pgerror.DataCorrupted {
		t.Errorf("a range outside tables: %v", err)
	}
}

// TestNewerFormat: a document of a newer copra is refused, not misread.
func TestNewerFormat(t *testing.T) {
	var tab Table
	if err := decode([]byte("k"), []byte(`{"Format":99,"Body":{}}`), &tab); pgerror.Code(err) != pgerror.FeatureNotSupported {
		t.Errorf("got %v", err)
	}
	if err := decode([]byte("k"), []byte(`{"Format":`), &tab); pgerror.Code(err) != pgerror.DataCorrupted {
		t.Errorf("got %v", err)
	}
}

// TestInvalidateOvertakesLooks: a look for a newer version that began before a
// change was committed here, and ends after, does not hide the change.
func TestInvalidateOvertakesLooks(t *testing.T) {
	ctx := context.Background()
	s := NewStore(newKV(t), nil)
	if _, err := s.Latest(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Since(s.epoch)
	ts, err := s.kv.CurrentTimestamp("global")
	if err != nil {
		t.Fatal(err)
	}
	change(t, s, func(c *Change) {
		if err := c.PutTable(testTable(100, "new")); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := s.at(ctx, ts, began); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Latest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if snap.TableByID(100) == nil {
		t.Error("the new table is not there")
	}
}
