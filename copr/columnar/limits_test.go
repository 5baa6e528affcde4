package columnar_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/txn"
)

// fill writes rows 0 to n-1 and reads them twice, so that the columns are kept.
func fill(w *world, n int64) []mutation {
	var ms []mutation
	for i := range n {
		ms = append(ms, number(i, i))
	}
	w.put(10, 11, ms...)
	for range 2 {
		w.read(request(numbers, w.e.Context(ms[0].key), 20, true, tableRange(tableID)))
	}
	return ms
}

// What is kept stays within the budget: what was not used for a while makes
// room, what is in use does not.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rows, bytesMax = 3000, 20 << 10
		w := newWorld(t, columnar.Options{BytesMax: bytesMax, BlockRowsMax: 500, BuildRowsMin: -1})
		defer w.close()
		ms := fill(w, rows)
		const other = tableID + 1
		for i := range ms {
			_, handle, err := tablecodec.SplitRowKey(ms[i].key)
			if err != nil {
				t.Fatal(err)
			}
			ms[i].key = tablecodec.AppendRowKey(nil, other, handle)
		}
		w.put(12, 13, ms...)
		second := &plan.Plan{Nodes: []plan.Node{&plan.TableScan{
			TableID: other, KeyColumns: []plan.Column{idColumn}, Columns: []plan.Column{idColumn, sumColumn, {ID: 3, Type: sqltypes.Text}},
		}}}
		rc := w.e.Context(ms[0].key)
		read := func(p *plan.Plan, id int64) uint64 {
			defer func() {
				if n := w.cache.Bytes(); n > bytesMax {
					t.Errorf("%d bytes are kept", n)
				}
			}()
			return w.compare(t, request(p, rc, 20, true, tableRange(id)))
		}
		first := read(numbers, tableID)
		if first == 0 || first == rows {
			t.Fatalf("%d of %d rows are kept in %d bytes: the test wants a part", first, rows, w.cache.Bytes())
		}
		read(second, other)
		if n := read(second, other); n > 500 {
			t.Errorf("%d rows of another table, while the first is in use", n)
		}
		if n := read(numbers, tableID); n < first {
			t.Errorf("the first table has only %d rows left of %d", n, first)
		}
		time.Sleep(columnar.KeepMin + time.Second)
		read(second, other)
		if n := read(second, other); n <= 500 {
			t.Errorf("%d rows of the other table, when the first is not in use", n)
		}
		w.cache.Drop(rc.RegionId)
		if n := w.cache.Bytes(); n != 0 {
			t.Errorf("%d bytes are kept of nothing", n)
		}
	})
}

// A block with too many changed keys goes, and comes back.
func TestTooManyDirtyKeys(t *testing.T) {
	w := newWorld(t, columnar.Options{BuildRowsMin: -1})
	defer w.close()
	const rows = columnar.BlockRowsMax
	ms := fill(w, rows)
	rc := w.e.Context(ms[0].key)
	if n := w.compare(t, request(numbers, rc, 20, true, tableRange(tableID))); n != rows {
		t.Fatalf("%d rows from columns", n)
	}
	before := w.cache.Bytes()
	w.put(30, 31, ms[:columnar.BlockDirtyKeysMax+1]...)
	if n := w.cache.Bytes(); n >= before {
		t.Errorf("%d bytes are kept, %d before", n, before)
	}
	for range 2 { // old reads don't build: all is new to them
		if n := w.compare(t, request(numbers, rc, 25, true, tableRange(tableID))); n > rows-columnar.BlockDirtyKeysMax {
			t.Errorf("%d rows from columns, read below the change", n)
		}
	}
	w.compare(t, request(numbers, rc, 40, true, tableRange(tableID)))
	if n := w.compare(t, request(numbers, rc, 40, true, tableRange(tableID))); n != rows {
		t.Errorf("%d rows from columns, built anew", n)
	}
	w.put(50, 51, ms[:columnar.BlockDirtyKeysMax]...) // as many as a block bears
	if n := w.compare(t, request(numbers, rc, 55, true, rangeFrom(ms[1:]))); n != rows-columnar.BlockDirtyKeysMax {
		t.Errorf("%d rows from columns, of a part, which is no reason to build", n)
	}
	w.compare(t, request(numbers, rc, 60, true, tableRange(tableID)))
	if n := w.compare(t, request(numbers, rc, 60, true, tableRange(tableID))); n != rows {
		t.Errorf("%d rows from columns, of a block with many dirty keys", n)
	}
	w.cache.DropRange(nil, nil)
	if n := w.cache.Bytes(); n != 0 {
		t.Errorf("%d bytes are kept of nothing", n)
	}
}

// rangeFrom is the table's range from the first of some rows on.
func rangeFrom(ms []mutation) []kv.KeyRange {
	r := tableRange(tableID)
	r[0].Start = ms[0].key
	return r
}

// With more locks than are looked at one by one, rows are read.
func TestManyLocks(t *testing.T) {
	w := newWorld(t, columnar.Options{BuildRowsMin: -1})
	defer w.close()
	ms := fill(w, 1000)
	rc := w.e.Context(ms[0].key)
	if err := w.prewrite(30, ms[:columnar.ScanLocksMax]); err != nil {
		t.Fatal(err)
	}
	r := request(numbers, rc, 40, true, tableRange(tableID))
	w.compare(t, r) // locked
	r.ResolvedLocks = []uint64{30}
	if n := w.compare(t, r); n != 1000-columnar.ScanLocksMax {
		t.Errorf("%d rows from columns", n)
	}
	if err := w.prewrite(31, ms[columnar.ScanLocksMax:columnar.ScanLocksMax+1]); err != nil {
		t.Fatal(err)
	}
	r.ResolvedLocks = []uint64{30, 31}
	if n := w.compare(t, r); n != 0 {
		t.Errorf("%d rows from columns, over %d locks", n, columnar.ScanLocksMax+1)
	}
}

// Requests for regions that are not here don't use up what is for those that are.
func TestManyRegions(t *testing.T) {
	w := newWorld(t, columnar.Options{BuildRowsMin: -1})
	defer w.close()
	ms := fill(w, 100)
	rc := w.e.Context(ms[0].key)
	scan := numbers.Nodes[0].(*plan.TableScan)
	for id := range uint64(columnar.RegionsMax + 1000) {
		v := w.cache.Visit(1000+id, scan, nil)
		if v == nil {
			t.Fatalf("no room for region %d", id)
		}
		v.Close()
	}
	if n := w.compare(t, request(numbers, rc, 40, true, tableRange(tableID))); n != 100 {
		t.Errorf("%d rows from columns", n)
	}
}

// A region that has little of a table is not kept; neither is what only a part
// of was read.
func TestWhatIsKept(t *testing.T) {
	w := newWorld(t, columnar.Options{BuildRowsMin: 100})
	defer w.close()
	var ms []mutation
	for i := range int64(100) {
		ms = append(ms, number(i, i))
	}
	w.put(10, 11, ms[:99]...)
	rc := w.e.Context(ms[0].key)
	read := func() uint64 { return w.compare(t, request(numbers, rc, 40, true, tableRange(tableID))) }
	for range 3 {
		if n := read(); n != 0 {
			t.Errorf("%d rows of a small table from columns", n)
		}
	}
	w.put(20, 21, ms[99])
	part := tableRange(tableID)
	part[0].Start = ms[1].key
	for range 3 {
		w.compare(t, request(numbers, rc, 40, true, part))
	}
	if n := read(); n != 0 {
		t.Errorf("the read that finds that it has grown: %d rows from columns", n)
	}
	if n := read(); n != 0 {
		t.Errorf("the first read of all since: %d rows from columns", n)
	}
	if n := read(); n != 100 {
		t.Errorf("the second: %d rows from columns", n)
	}
	if n := w.compare(t, request(numbers, rc, 40, true, part)); n != 99 {
		t.Errorf("a part: %d rows from columns", n)
	}
}

// A scan of a column of the wrong type is its own error, not that of the scans
// behind it, which build the columns that were asked for before.
func TestColumnThatIsNot(t *testing.T) {
	w := newWorld(t, columnar.Options{BuildRowsMin: -1})
	defer w.close()
	const rows = 100
	var ms []mutation
	for i := range int64(rows) {
		ms = append(ms, number(i, i))
	}
	w.put(10, 11, ms...)
	rc := w.e.Context(ms[0].key)
	for _, wrong := range []plan.Column{{ID: sumColumn.ID, Type: sqltypes.Bool}, {ID: sumColumn.ID, Type: sqltypes.Interval}} {
		w.cache.DropRange(nil, nil)
		bad := &plan.Plan{Nodes: []plan.Node{&plan.TableScan{TableID: tableID, KeyColumns: []plan.Column{idColumn}, Columns: []plan.Column{wrong}}}}
		if a, err := run(w.s, request(bad, rc, 20, true, tableRange(tableID))); err != nil || a.end.Err == nil {
			t.Fatalf("%v: %+v, %v; the test wants an error", wrong, a, err)
		}
		r := request(numbers, rc, 20, true, tableRange(tableID))
		w.compare(t, r)
		w.compare(t, r)
		if n := w.compare(t, r); n != rows {
			t.Errorf("behind a scan of %v: %d rows from columns", wrong, n)
		}
	}
}

// readerSource is a Reader as a scan's source.
type readerSource struct{ *txn.Reader }

func (s readerSource) Get(key []byte) (value []byte, ok bool, err error) {
	value, _, ok, err = s.Reader.Get(key)
	return value, ok, err
}

func (s readerSource) Rows(r kv.KeyRange, keyOnly bool) (columnar.Rows, error) {
	return s.NewScanner(txn.ScanOptions{Start: r.Start, End: r.End, KeyOnly: keyOnly})
}

// Blocks that were built while a scan began, by who reads the keys otherwise,
// are not for it.
func TestKeysReadOtherwise(t *testing.T) {
	w := newWorld(t, columnar.Options{BuildRowsMin: -1})
	defer w.close()
	const rows = 100
	ms := fill(w, rows)
	rc := w.e.Context(ms[0].key)
	w.cache.DropRange(nil, nil)
	begun := w.cache.Visit(rc.RegionId, numbers.Nodes[0].(*plan.TableScan), nil)
	first := w.cache.Visit(rc.RegionId, numbers.Nodes[0].(*plan.TableScan), nil)
	begun.Close() // it builds, first does not
	defer first.Close()
	other := &plan.TableScan{TableID: tableID, KeyColumns: []plan.Column{{ID: 9, Type: sqltypes.Int8}}, Columns: []plan.Column{idColumn, sumColumn}}
	if a, err := run(w.s, request(&plan.Plan{Nodes: []plan.Node{other}}, rc, 20, true, tableRange(tableID))); err != nil || a.end.Err != nil {
		t.Fatal(a, err)
	}
	if w.cache.Bytes() == 0 {
		t.Fatal("nothing was built")
	}
	reader, err := w.store.OpenReader(t.Context(), rc, txn.ReaderOptions{TS: 20, Ranges: tableRange(tableID)})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	sc, err := first.Open(t.Context(), numbers.Nodes[0].(*plan.TableScan), readerSource{reader}, tableRange(tableID), columnar.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sc != nil {
		t.Errorf("columns serve who reads the keys otherwise: %+v", sc)
	}
}
