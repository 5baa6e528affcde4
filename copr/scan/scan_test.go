package scan_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

type pair struct{ key, value []byte }

// source yields pairs through one buffer, as an iterator does.
type source struct {
	pairs      []pair
	key, value []byte
}

func (s *source) Next() (key, value []byte, ok bool, err error) {
	if len(s.pairs) == 0 {
		return nil, nil, false, nil
	}
	p := s.pairs[0]
	s.pairs = s.pairs[1:]
	s.key, s.value = append(s.key[:0], p.key...), append(s.value[:0], p.value...)
	return s.key, s.value, true, nil
}

const tableID, indexID = 9, 4

// table is a table with a random primary key, written as DML writes it.
type table struct {
	keys, cols []plan.Column
	rows       [][]sqltypes.Datum // keys, then cols
	row, index []pair
	indexCols  []plan.IndexColumn
}

func draw(t *rapid.T) *table {
	tb := &table{}
	for i := range rapid.IntRange(1, 2).Draw(t, "keys") {
		tb.keys = append(tb.keys, plan.Column{ID: uint32(i + 1), Type: coltest.Type(t)})
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "columns") {
		tb.cols = append(tb.cols, plan.Column{ID: uint32(i + 5), Type: coltest.Type(t)})
	}
	for _, c := range tb.cols {
		if rapid.Bool().Draw(t, "indexed") {
			tb.indexCols = append(tb.indexCols, plan.IndexColumn{Column: c, Desc: rapid.Bool().Draw(t, "desc")})
		}
	}
	var stored []rowcodec.Column
	var from []int
	var keyTypes []sqltypes.Type
	for i, c := range append(slices.Clone(tb.keys), tb.cols...) {
		if i < len(tb.keys) {
			keyTypes = append(keyTypes, c.Type)
		}
		if i >= len(tb.keys) || tablecodec.Lossy(c.Type) {
			stored, from = append(stored, rowcodec.Column{ID: c.ID, Type: c.Type}), append(from, i)
		}
	}
	unique := rapid.Bool().Draw(t, "unique")
	enc := rowcodec.NewEncoder(stored)
	for range rapid.IntRange(0, 10).Draw(t, "rows") {
		var vals []sqltypes.Datum
		for _, c := range tb.keys {
			vals = append(vals, coltest.Value(t, c.Type))
		}
		for _, c := range tb.cols {
			vals = append(vals, coltest.Nullable(t, c.Type))
		}
		tb.rows = append(tb.rows, vals)
		handle, err := tablecodec.AppendHandle(nil, keyTypes, vals[:len(tb.keys)])
		if err != nil {
			t.Fatal(err)
		}
		var in []sqltypes.Datum
		for _, i := range from {
			in = append(in, vals[i])
		}
		value, err := enc.Encode(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		tb.row = append(tb.row, pair{tablecodec.AppendRowKey(nil, tableID, handle), value})
		tb.index = append(tb.index, tb.entry(t, vals, handle, unique))
	}
	return tb
}

func (tb *table) entry(t *rapid.T, vals []sqltypes.Datum, handle []byte, unique bool) pair {
	var cols []tablecodec.Column
	var in []sqltypes.Datum
	for _, c := range tb.indexCols {
		cols = append(cols, tablecodec.IndexColumn(c.Type, c.Desc))
		in = append(in, vals[len(tb.keys)+int(c.ID)-5])
	}
	key, withHandle, err := tablecodec.AppendIndexKey(nil, tableID, indexID, unique, cols, in, handle)
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, tablecodec.IndexValue(handle, withHandle)}
}

func (tb *table) value(row int, id uint32) sqltypes.Datum {
	if int(id) <= len(tb.keys) {
		return tb.rows[row][id-1]
	}
	return tb.rows[row][len(tb.keys)+int(id)-5]
}

// check reads node over pairs and compares every value. exact is false where
// values need only compare equal (from keys).
func (tb *table) check(t *rapid.T, node plan.Node, cols []plan.Column, pairs []pair, exact func(plan.Column) bool) {
	s, err := scan.New(node, &source{pairs: pairs}, scan.Options{BatchRowsFirst: rapid.IntRange(1, 4).Draw(t, "first")})
	if err != nil {
		t.Fatal(err)
	}
	row := 0
	for {
		b, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			break
		}
		vecs := colvec.OpenAll(b.Cols, s.Types())
		for i := range b.N {
			for c, col := range cols {
				got, want := vecs[c].At(i, col.Type), tb.value(row, col.ID)
				same := coltest.Compare(col.Type, got, want) == 0
				if same && exact(col) {
					same = coltest.Text(col.Type, got) == coltest.Text(col.Type, want)
				}
				if !same {
					t.Fatalf("row %d column %d (%s): %s, want %s", row, col.ID, col.Type.Name(), coltest.Text(col.Type, got), coltest.Text(col.Type, want))
				}
			}
			if handle := vecs[len(cols)].BytesAt(i); !bytes.HasSuffix(tb.row[row].key, handle) || len(handle) != len(tb.row[row].key)-tablecodec.RecordPrefixLen {
				t.Fatalf("row %d has handle %x, its key is %x", row, handle, tb.row[row].key)
			}
			row++
		}
		if !bytes.Equal(s.LastKey(), pairs[row-1].key) {
			t.Fatalf("last key %x, want %x", s.LastKey(), pairs[row-1].key)
		}
	}
	if row != len(tb.rows) || s.Stats().Rows != uint64(row) {
		t.Fatalf("%d rows, want %d", row, len(tb.rows))
	}
}

func subset(t *rapid.T, cols []plan.Column) []plan.Column {
	var out []plan.Column
	for _, c := range cols {
		if rapid.Bool().Draw(t, "wanted") {
			out = append(out, c)
		}
	}
	return out
}

func TestScans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := draw(t)
		cols := subset(t, append(slices.Clone(tb.cols), tb.keys...))
		isFloat := func(c plan.Column) bool { return c.Type.IsFloat() } // -0 in a key is 0
		tb.check(t, &plan.TableScan{TableID: tableID, KeyColumns: tb.keys, Columns: cols, Handle: true}, cols, tb.row,
			func(c plan.Column) bool { return !isFloat(c) })
		if len(tb.indexCols) == 0 {
			return
		}
		have := slices.Clone(tb.keys)
		for _, c := range tb.indexCols {
			have = append(have, c.Column)
		}
		cols = subset(t, have)
		tb.check(t, &plan.IndexScan{TableID: tableID, IndexID: indexID, IndexColumns: tb.indexCols, KeyColumns: tb.keys, Columns: cols, Handle: true},
			cols, tb.index, func(c plan.Column) bool { return !isFloat(c) && !tablecodec.Lossy(c.Type) })
	})
}

func TestAddedColumnReadsItsDefault(t *testing.T) {
	key := tablecodec.AppendRowKey(nil, tableID, tablecodec.AppendRowID(nil, 1))
	value, err := rowcodec.NewEncoder([]rowcodec.Column{{ID: 1, Type: sqltypes.Int4}}).Encode(nil, []sqltypes.Datum{sqltypes.NewInt(5)})
	if err != nil {
		t.Fatal(err)
	}
	node := &plan.TableScan{TableID: tableID, KeyColumns: []plan.Column{{ID: plan.RowIDColumn, Type: sqltypes.Int8}}, Columns: []plan.Column{
		{ID: 2, Type: sqltypes.Text, Default: sqltypes.NewString("new")}, {ID: 1, Type: sqltypes.Int4}, {ID: plan.RowIDColumn, Type: sqltypes.Int8},
	}}
	s, err := scan.New(node, &source{pairs: []pair{{key, value}}}, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	v := colvec.OpenAll(b.Cols, s.Types())
	if string(v[0].BytesAt(0)) != "new" || v[1].IntAt(0) != 5 || v[2].IntAt(0) != 1 {
		t.Errorf("%s, %d, %d", v[0].BytesAt(0), v[1].IntAt(0), v[2].IntAt(0))
	}
}

func TestCorruptRowsAreErrors(t *testing.T) {
	node := &plan.TableScan{TableID: tableID, KeyColumns: []plan.Column{{ID: 1, Type: sqltypes.Int4}}, Columns: []plan.Column{{ID: 1, Type: sqltypes.Int4}, {ID: 2, Type: sqltypes.Int4}}}
	good := tablecodec.AppendRowKey(nil, tableID, tablecodec.AppendRowID(nil, 1))
	row, err := rowcodec.NewEncoder(nil).Encode(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]pair{
		"value": {good, []byte("garbage")}, "empty value": {good, nil}, "key": {good[:len(good)-1], row},
	} {
		s, err := scan.New(node, &source{pairs: []pair{p}}, scan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(); pgerror.Code(err) != pgerror.DataCorrupted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A wide value ends a batch early.
func TestBatchBytes(t *testing.T) {
	node := &plan.TableScan{TableID: tableID, KeyColumns: []plan.Column{{ID: 1, Type: sqltypes.Int8}}, Columns: []plan.Column{{ID: 2, Type: sqltypes.Text}}}
	value, err := rowcodec.NewEncoder([]rowcodec.Column{{ID: 2, Type: sqltypes.Text}}).Encode(nil, []sqltypes.Datum{sqltypes.NewString(string(make([]byte, 400)))})
	if err != nil {
		t.Fatal(err)
	}
	var pairs []pair
	for i := range int64(10) {
		pairs = append(pairs, pair{tablecodec.AppendRowKey(nil, tableID, tablecodec.AppendRowID(nil, i)), value})
	}
	s, err := scan.New(node, &source{pairs: pairs}, scan.Options{BatchBytesMax: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for {
		b, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			break
		}
		sizes = append(sizes, b.N)
	}
	if !slices.Equal(sizes, []int{3, 3, 3, 1}) {
		t.Errorf("batches of %v rows", sizes)
	}
}
