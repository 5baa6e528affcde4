package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"golang.org/x/sync/errgroup"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// fenceTest is a table with a load's target, into which a row was written as a
// load would.
type fenceTest struct {
	t      *testing.T
	db     *DB
	c      *testClient
	s      *session
	table  *catalog.Table
	target bulkTarget
}

func newFenceTest(t *testing.T) *fenceTest {
	f := &fenceTest{t: t, db: newTestDB(t, Options{})}
	f.c = f.db.client(t)
	f.s = f.c.s.(*session)
	f.ok(f.c, "CREATE TABLE f (a int, s serial)")
	snap, err := f.s.bindSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.table, err = resolveTable(snap.View(f.s.env()), ast.TableName{Name: "f"}); err != nil {
		t.Fatal(err)
	}
	if f.target, err = f.s.reserveBulk(t.Context(), f.table); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fenceTest) ok(c *testClient, sql string) string {
	f.t.Helper()
	out := c.simple(sql, "")
	if strings.Contains(out, "ERROR") {
		f.t.Fatalf("%s: %s", sql, out)
	}
	return out
}

func (f *fenceTest) fence(long time.Duration) (uint64, int64) {
	f.t.Helper()
	until, version, err := f.s.fence(f.t.Context(), f.table, long)
	if err != nil {
		f.t.Fatal(err)
	}
	return until, version
}

// Statements that write a fenced table wait, and go to the table as it is then;
// transactions that have written it do not commit.
func TestFence(t *testing.T) {
	for _, adopted := range []bool{true, false} {
		f := newFenceTest(t)
		before := f.db.client(t)
		f.ok(before, "BEGIN")
		f.ok(before, "INSERT INTO f VALUES (1)")
		until, version := f.fence(bulkFence)
		waiting := make(chan string)
		go func() { waiting <- f.db.client(t).simple("INSERT INTO f VALUES (2)", "") }()
		if out := before.simple("COMMIT", ""); !strings.Contains(out, pgerror.SerializationFailure) {
			t.Errorf("a transaction that wrote the table before: %s", out)
		}
		if adopted {
			if err := f.s.adoptFenced(t.Context(), f.target, f.table, version, 7); err != nil {
				t.Fatal(err)
			}
		} else {
			f.s.unfence(t.Context(), f.table.ID, until)
		}
		if out := <-waiting; strings.Contains(out, "ERROR") {
			t.Errorf("a statement that waited: %s", out)
		}
		if out := f.ok(f.c, "SELECT a FROM f"); !strings.Contains(out, "2") || strings.Contains(out, "1 row") && !strings.Contains(out, "2") {
			t.Errorf("adopted=%v: there is %s", adopted, out)
		}
		snap, err := f.db.catalog.Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if is := snap.TableByID(f.target.tableID) != nil; is != adopted {
			t.Errorf("the table has the new id: %v", is)
		}
		queue, err := f.db.catalog.DropRanges(t.Context())
		if err != nil || len(queue) != 1 {
			t.Fatalf("%d ranges are queued for deletion: %v", len(queue), err)
		}
		left := f.target.tableID
		if adopted {
			left = f.table.ID
		}
		if r := tablecodec.TableRange(left); string(queue[0].Start) != string(r.Start) {
			t.Errorf("adopted=%v: %s is queued for deletion", adopted, queue[0].What)
		}
	}
}

// A load is not adopted by a table that was written or changed, after its fence,
// or when its range may be gone.
func TestNotAdopted(t *testing.T) {
	refused := func(name string, f *fenceTest, err error, want string) {
		t.Helper()
		if err == nil || want != "" && pgerror.Code(err) != want {
			t.Errorf("%s: %v", name, err)
		}
		snap, serr := f.db.catalog.Latest(t.Context())
		if serr != nil {
			t.Fatal(serr)
		}
		if snap.TableByID(f.target.tableID) != nil {
			t.Errorf("%s: adopted", name)
		}
	}
	f := newFenceTest(t)
	f.ok(f.c, "INSERT INTO f VALUES (1)")
	refused("written", f, f.s.adoptBulk(t.Context(), f.target, f.table, 1), pgerror.SerializationFailure)
	f.ok(f.c, "DELETE FROM f")
	f.ok(f.c, "INSERT INTO f VALUES (2)") // the fence is gone

	f = newFenceTest(t)
	f.ok(f.c, "ALTER TABLE f ADD COLUMN b int")
	refused("altered", f, f.s.adoptBulk(t.Context(), f.target, f.table, 1), pgerror.SerializationFailure)
	f.ok(f.c, "DROP TABLE f")
	refused("dropped", f, f.s.adoptBulk(t.Context(), f.target, f.table, 1), pgerror.SerializationFailure)

	f = newFenceTest(t)
	_, version := f.fence(time.Hour)
	f.ok(f.c, "ALTER TABLE f ADD COLUMN b int")
	f.ok(f.c, "INSERT INTO f VALUES (1)") // the fence is gone
	refused("altered in the fence", f, f.s.adoptFenced(t.Context(), f.target, f.table, version, 1), pgerror.SerializationFailure)

	f = newFenceTest(t)
	f.db.o.DropAtOnce = true
	if n, err := f.db.SweepDropped(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d ranges deleted: %v", n, err)
	}
	refused("swept", f, f.s.adoptBulk(t.Context(), f.target, f.table, 1), pgerror.ObjectNotInPrerequisiteState)
	f.ok(f.c, "INSERT INTO f VALUES (2)")

	f = newFenceTest(t)
	if queued, err := f.db.catalog.BeginDelete(t.Context(), f.target.drop); !queued || err != nil {
		t.Fatalf("queued=%v, %v", queued, err)
	}
	refused("being swept", f, f.s.adoptBulk(t.Context(), f.target, f.table, 1), pgerror.ObjectNotInPrerequisiteState)
}

// A fence ends for those who write the table when they have ended it, and the load
// with it; until then the load goes first, however late.
func TestFenceIsOver(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before []string // in the transaction that writes
		after  string
	}{{"alone", nil, ""}, {"block", []string{"BEGIN"}, "COMMIT"}} {
		f := newFenceTest(t)
		_, version := f.fence(0)
		w := f.db.client(t)
		for _, sql := range tc.before {
			f.ok(w, sql)
		}
		f.ok(w, "INSERT INTO f VALUES (1)")
		if err := f.s.adoptFenced(t.Context(), f.target, f.table, version, 7); pgerror.Code(err) != pgerror.SerializationFailure {
			t.Errorf("%s: adopted behind a write: %v", tc.name, err)
		}
		if tc.after != "" {
			f.ok(w, tc.after)
		}
		if out := f.ok(f.c, "SELECT count(*) FROM f"); !strings.Contains(out, "1") {
			t.Errorf("%s: there is %s", tc.name, out)
		}
	}
	f := newFenceTest(t)
	before := f.db.client(t)
	f.ok(before, "BEGIN")
	f.ok(before, "INSERT INTO f VALUES (1)")
	_, version := f.fence(0)
	if err := f.s.adoptFenced(t.Context(), f.target, f.table, version, 7); err != nil {
		t.Errorf("late: %v", err)
	}
	if out := before.simple("COMMIT", ""); !strings.Contains(out, pgerror.SerializationFailure) {
		t.Errorf("a transaction that wrote the table before: %s", out)
	}
	f.ok(f.c, "INSERT INTO f VALUES (2)")
}

// A range that a load takes back is not deleted by who found it queued before.
func TestTakenBackIsNotSwept(t *testing.T) {
	f := newFenceTest(t)
	queue, err := f.db.catalog.DropRanges(t.Context())
	if err != nil || len(queue) != 1 {
		t.Fatalf("%d ranges are queued: %v", len(queue), err)
	}
	if err := f.s.adoptBulk(t.Context(), f.target, f.table, 1); err != nil {
		t.Fatal(err)
	}
	if queued, err := f.db.catalog.BeginDelete(t.Context(), queue[0]); queued || err != nil {
		t.Errorf("its deletion may begin: %v", err)
	}
}

// TestRowIDsGoOn: rows that come after a load get ids behind its rows'.
func TestRowIDsGoOn(t *testing.T) {
	f := newFenceTest(t)
	first, n, err := f.db.catalog.RowIDs(t.Context(), f.table.ID, 5000)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.s.adoptBulk(t.Context(), f.target, f.table, 1); err != nil {
		t.Fatal(err)
	}
	next, _, err := f.db.catalog.RowIDs(t.Context(), f.target.tableID, 1)
	if err != nil || next < first+int64(n) {
		t.Errorf("the next row id is %d, and %d was given out before: %v", next, first+int64(n)-1, err)
	}
	if out := f.ok(f.c, "INSERT INTO f (a) VALUES (1) RETURNING s"); !strings.Contains(out, "1") {
		t.Errorf("the sequence does not go on: %s", out)
	}
}

// TestMergeBounds: tables that overlap are found, and cut where samples are.
func TestMergeBounds(t *testing.T) {
	f := func(first, last string, bytes int64) (out bulkload.Table) {
		out.First, out.Last, out.Bytes = []byte(first), []byte(last), bytes
		return out
	}
	var sizes []int
	for _, c := range clusters([]bulkload.Table{f("m", "p", 1), f("a", "c", 1), f("c", "d", 1), f("e", "f", 1), f("n", "o", 1), f("o", "z", 1)}) {
		sizes = append(sizes, len(c))
	}
	if len(sizes) != 3 || sizes[0] != 2 || sizes[1] != 1 || sizes[2] != 3 {
		t.Errorf("clusters of %v tables", sizes)
	}
	samples := [][]byte{[]byte("a"), []byte("b"), []byte("b"), []byte("c"), []byte("d"), []byte("x")}
	bounds := mergeBounds([]bulkload.Table{f("a", "d", 300), f("b", "c", 100)}, samples, 100)
	if len(bounds) != 2 || string(bounds[0]) >= string(bounds[1]) || string(bounds[0]) <= "a" || string(bounds[1]) > "d" {
		t.Errorf("cut at %q", bounds)
	}
	if bounds := mergeBounds([]bulkload.Table{f("a", "d", 300)}, nil, 100); len(bounds) != 0 {
		t.Errorf("without samples cut at %q", bounds)
	}
}

// memoryJob is a bulkload.Job whose tables are lists of keys in memory.
type memoryJob struct {
	bulkload.Job
	tables map[uint64][]string
}

func (j *memoryJob) table(keys []string) bulkload.Table {
	id := uint64(len(j.tables) + 1)
	j.tables[id] = keys
	return bulkload.Table{ID: id, First: []byte(keys[0]), Last: []byte(keys[len(keys)-1]), Keys: int64(len(keys))}
}

func (j *memoryJob) Merge(_ context.Context, in []bulkload.Table, lower, upper []byte, _ int64) ([]bulkload.Table, error) {
	var keys []string
	for _, t := range in {
		if j.tables[t.ID] == nil {
			return nil, fmt.Errorf("table %d was dropped", t.ID)
		}
		for _, k := range j.tables[t.ID] {
			if k >= string(lower) && (upper == nil || k < string(upper)) {
				keys = append(keys, k)
			}
		}
	}
	return []bulkload.Table{j.table(keys)}, nil
}

func (j *memoryJob) Drop(tables []bulkload.Table) {
	for _, t := range tables {
		j.tables[t.ID] = nil
	}
}

// TestLocateCutsOnce: a table that lies in two regions is cut, and its parts are
// what is tried again if PD doesn't know the second one yet.
func TestLocateCutsOnce(t *testing.T) {
	j := &memoryJob{tables: map[uint64][]string{}}
	b := &bulkCopy{c: &copyIn{ctx: t.Context()}, job: j}
	tables := []bulkload.Table{j.table([]string{"a", "b", "n", "o"}), j.table([]string{"p"})}
	known := false
	regionOf := func(key []byte) (*metapb.Region, error) {
		switch {
		case string(key) < "m":
			return &metapb.Region{Id: 1, EndKey: []byte("m")}, nil
		case known:
			return &metapb.Region{Id: 2, StartKey: []byte("m")}, nil
		}
		return nil, errRegionUnknown
	}
	_, tables, err := b.locate(tables, regionOf)
	if !errors.Is(err, errRegionUnknown) || len(tables) != 3 {
		t.Fatalf("%d tables: %v", len(tables), err)
	}
	known = true
	groups, _, err := b.locate(tables, regionOf)
	if err != nil || len(groups) != 2 {
		t.Fatalf("%d regions: %v", len(groups), err)
	}
	var got []string
	for _, g := range groups {
		for _, table := range g.tables {
			got = append(got, fmt.Sprintf("%d%v", g.region.Id, j.tables[table.ID]))
		}
	}
	if want := "1[a b] 2[n o] 2[p]"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// discardJob writes nothing.
type discardJob struct{ bulkload.Job }

type discardWriter struct{ t bulkload.Table }

func (discardJob) NewTable() (bulkload.Writer, error) { return &discardWriter{}, nil }
func (w *discardWriter) Add(key, _ []byte) error {
	w.t.Keys++
	return nil
}
func (w *discardWriter) Finish() (bulkload.Table, error) { return w.t, nil }
func (w *discardWriter) Abort()                          {}

// TestBulkRunsEnd: a run holds keys of a bounded part of the input, however few
// of its bytes they are.
func TestBulkRunsEnd(t *testing.T) {
	b := &bulkCopy{c: &copyIn{ctx: t.Context()}, job: discardJob{}, prefix: tablecodec.AppendTablePrefix(nil, 2), runBytes: 4 << 10, spaces: map[string]*bulkSpace{}}
	b.g, b.ctx = errgroup.WithContext(t.Context())
	index := func(i int) entry { return entry{key: tablecodec.AppendIndexPrefix(nil, 1, int64(i))} }
	const chunks = 200
	for i := range chunks {
		row := entry{key: tablecodec.AppendRowKey(nil, 1, fmt.Appendf(nil, "%06d", i)), value: make([]byte, 1<<10)}
		rare := index(1)
		rare.key = fmt.Appendf(rare.key, "%06d", i)
		if err := b.add([]entry{row, rare}); err != nil {
			t.Fatal(err)
		}
		for _, sp := range b.spaces {
			if held := b.taken - sp.began; len(sp.run) > 0 && held > bulkWindowRuns*b.runBytes {
				t.Fatalf("a run of %d keys holds %d bytes of input", len(sp.run), held)
			}
		}
	}
	if err := b.g.Wait(); err != nil {
		t.Fatal(err)
	}
	var keys int64
	for _, sp := range b.spaces {
		keys += int64(len(sp.run))
		for _, table := range sp.tables {
			keys += table.Keys
		}
	}
	if keys != 2*chunks {
		t.Errorf("%d keys, want %d", keys, 2*chunks)
	}
}
