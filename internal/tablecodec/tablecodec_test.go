package tablecodec_test

import (
	"bytes"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

func drawColumns(t *rapid.T) []tablecodec.Column {
	cols := make([]tablecodec.Column, rapid.IntRange(1, 3).Draw(t, "cols"))
	for i := range cols {
		cols[i] = tablecodec.IndexColumn(coltest.Type(t), rapid.Bool().Draw(t, "desc"))
	}
	return cols
}

func drawRow(t *rapid.T, cols []tablecodec.Column) []sqltypes.Datum {
	out := make([]sqltypes.Datum, len(cols))
	for i, c := range cols {
		out[i] = coltest.Nullable(t, c.Type)
	}
	return out
}

func encode(t *rapid.T, cols []tablecodec.Column, vals []sqltypes.Datum) []byte {
	var key []byte
	var err error
	for i, c := range cols {
		if key, err = tablecodec.AppendDatum(key, c, vals[i]); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

// order is what the keys must have: column by column, NULLs last ascending and
// first descending.
func order(cols []tablecodec.Column, a, b []sqltypes.Datum) int {
	for i, c := range cols {
		r := coltest.Compare(c.Type, a[i], b[i])
		if c.Desc {
			r = -r
		}
		if r != 0 {
			return r
		}
	}
	return 0
}

func TestKeysOrderAsRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cols := drawColumns(t)
		a, b := drawRow(t, cols), drawRow(t, cols)
		if got, want := bytes.Compare(encode(t, cols, a), encode(t, cols, b)), order(cols, a, b); got != want {
			t.Fatalf("keys compare %d, rows %d: %v and %v", got, want, a, b)
		}
	})
}

func TestKeysRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cols := drawColumns(t)
		vals := drawRow(t, cols)
		key := encode(t, cols, vals)
		got, rest, err := tablecodec.NewDecoder(cols).DecodeDatums(append(bytes.Clone(key), "rest"...))
		if err != nil || string(rest) != "rest" {
			t.Fatalf("decode: rest %q, %v", rest, err)
		}
		for i, c := range cols {
			if coltest.Compare(c.Type, got[i], vals[i]) != 0 {
				t.Fatalf("column %d (%s): %s, want %s", i, c.Type.Name(), coltest.Text(c.Type, got[i]), coltest.Text(c.Type, vals[i]))
			}
			zero := vals[i].Kind() == sqltypes.KindFloat && vals[i].Float() == 0 // -0 comes back as 0
			if !tablecodec.Lossy(c.Type) && !zero && coltest.Text(c.Type, got[i]) != coltest.Text(c.Type, vals[i]) {
				t.Fatalf("column %d (%s): %s, want %s", i, c.Type.Name(), coltest.Text(c.Type, got[i]), coltest.Text(c.Type, vals[i]))
			}
		}
		if rest, hasNull, err := tablecodec.NewDecoder(cols).Skip(key); err != nil || len(rest) != 0 || hasNull != anyNull(vals) {
			t.Fatalf("skip: %q, %v, %v", rest, hasNull, err)
		}
		cols2 := make([]arrow.Array, len(cols))
		for i, c := range cols {
			cols2[i] = coltest.Array(t, c.Type, []sqltypes.Datum{sqltypes.Null, vals[i]})
		}
		enc := tablecodec.NewEncoder(cols)
		enc.Bind(cols2)
		viaArrow, hasNull, err := enc.Append(nil, 1)
		if err != nil || !bytes.Equal(viaArrow, key) || hasNull != anyNull(vals) {
			t.Fatalf("from Arrow %x (%v, %v), from Datums %x", viaArrow, hasNull, err, key)
		}
	})
}

func anyNull(vals []sqltypes.Datum) bool {
	for _, d := range vals {
		if d.IsNull() {
			return true
		}
	}
	return false
}

func TestHandleRefusesNull(t *testing.T) {
	if _, err := tablecodec.AppendHandle(nil, []sqltypes.Type{sqltypes.Int4}, []sqltypes.Datum{sqltypes.Null}); err == nil {
		t.Error("NULL in a primary key was encoded")
	}
}

func TestIndexKeys(t *testing.T) {
	cols := []tablecodec.Column{tablecodec.IndexColumn(sqltypes.Int4, false)}
	handle := tablecodec.AppendRowID(nil, 7)
	for _, c := range []struct {
		name       string
		unique     bool
		val        sqltypes.Datum
		withHandle bool
	}{
		{"unique", true, sqltypes.NewInt(5), false},
		{"unique, NULL", true, sqltypes.Null, true},
		{"not unique", false, sqltypes.NewInt(5), true},
	} {
		key, withHandle, err := tablecodec.AppendIndexKey(nil, 10, 2, c.unique, cols, []sqltypes.Datum{c.val}, handle)
		if err != nil || withHandle != c.withHandle || bytes.HasSuffix(key, handle) != c.withHandle {
			t.Errorf("%s: %x, %v, %v", c.name, key, withHandle, err)
		}
		table, index, rest, err := tablecodec.SplitIndexKey(key)
		if err != nil || table != 10 || index != 2 || len(rest) == 0 {
			t.Errorf("%s: split into %d, %d, %x, %v", c.name, table, index, rest, err)
		}
		if !inRange(tablecodec.IndexRange(10, 2), key) || inRange(tablecodec.IndexRange(10, 3), key) || inRange(tablecodec.RecordRange(10), key) {
			t.Errorf("%s: %x is in the wrong range", c.name, key)
		}
	}
	row := tablecodec.AppendRowKey(nil, 10, handle)
	table, h, err := tablecodec.SplitRowKey(row)
	if err != nil || table != 10 || !bytes.Equal(h, handle) {
		t.Errorf("row key: %d, %x, %v", table, h, err)
	}
	if id, err := tablecodec.DecodeRowID(h); err != nil || id != 7 {
		t.Errorf("row id %d, %v", id, err)
	}
	if !inRange(tablecodec.RecordRange(10), row) || !inRange(tablecodec.TableRange(10), row) || inRange(tablecodec.TableRange(11), row) {
		t.Errorf("row key %x is in the wrong range", row)
	}
}

func inRange(r kv.KeyRange, key []byte) bool {
	return bytes.Compare(r.Start, key) <= 0 && (len(r.End) == 0 || bytes.Compare(key, r.End) < 0)
}

// A range holds exactly the keys of the rows that satisfy the condition.
func TestIntervalRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cols := drawColumns(t)
		prefix := tablecodec.AppendIndexPrefix(nil, 1, 1)
		equal := rapid.IntRange(0, len(cols)).Draw(t, "equal")
		iv := tablecodec.Interval{Equal: drawRow(t, cols)[:equal]}
		if equal < len(cols) {
			iv.Low, iv.High = drawBound(t, cols[equal].Type), drawBound(t, cols[equal].Type)
		}
		r, ok, err := iv.Range(prefix, cols)
		if err != nil {
			t.Fatal(err)
		}
		row := drawRow(t, cols)
		for i := range row {
			if i < equal && rapid.IntRange(0, 3).Draw(t, "same") > 0 {
				row[i] = iv.Equal[i]
			}
		}
		key := append(bytes.Clone(prefix), encode(t, cols, row)...)
		if got, want := ok && inRange(r, key), satisfies(cols, iv, row); got != want {
			t.Fatalf("row %v in range: %v, want %v (%+v)", row, got, want, iv)
		}
	})
}

func drawBound(t *rapid.T, typ sqltypes.Type) tablecodec.Bound {
	return tablecodec.Bound{Set: rapid.Bool().Draw(t, "set"), Value: coltest.Nullable(t, typ), Exclusive: rapid.Bool().Draw(t, "exclusive")}
}

func satisfies(cols []tablecodec.Column, iv tablecodec.Interval, row []sqltypes.Datum) bool {
	for i, d := range iv.Equal {
		if coltest.Compare(cols[i].Type, d, row[i]) != 0 {
			return false
		}
	}
	if !iv.Low.Set && !iv.High.Set {
		return true
	}
	typ, v := cols[len(iv.Equal)].Type, row[len(iv.Equal)]
	if v.IsNull() {
		return false
	}
	if b := iv.Low; b.Set {
		if c := coltest.Compare(typ, v, b.Value); b.Value.IsNull() || c < 0 || c == 0 && b.Exclusive {
			return false
		}
	}
	if b := iv.High; b.Set {
		if c := coltest.Compare(typ, v, b.Value); b.Value.IsNull() || c > 0 || c == 0 && b.Exclusive {
			return false
		}
	}
	return true
}

func TestMergeRanges(t *testing.T) {
	r := func(a, b string) kv.KeyRange { return kv.KeyRange{Start: []byte(a), End: []byte(b)} }
	got := tablecodec.MergeRanges([]kv.KeyRange{r("m", "p"), r("a", "c"), r("c", "d"), r("b", "bb"), r("n", ""), r("x", "y")})
	if len(got) != 2 || string(got[0].Start) != "a" || string(got[0].End) != "d" || string(got[1].Start) != "m" || len(got[1].End) != 0 {
		t.Errorf("merged to %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	var cols []tablecodec.Column
	for i, typ := range coltest.Types {
		cols = append(cols, tablecodec.IndexColumn(typ, i%2 == 1))
	}
	f.Add(uint8(0), []byte{1, 1})
	f.Add(uint8(9), []byte("\xfe\xfb\x7f\xff\xff\xff\x0b\x00"))
	f.Fuzz(func(t *testing.T, which uint8, key []byte) {
		c := cols[int(which)%len(cols)]
		d := tablecodec.NewDecoder([]tablecodec.Column{c})
		b := colvec.NewBuilder(c.Type, 1)
		rest, err := d.Decode(key, []*colvec.Builder{b})
		if err != nil {
			return
		}
		a, err := b.Finish()
		if err != nil || a.Len() != 1 {
			t.Fatalf("%d rows, %v", a.Len(), err)
		}
		v := colvec.Open(a, c.Type)
		again, err := tablecodec.AppendVec(nil, c, &v, 0)
		if err != nil {
			t.Fatalf("decoded %x and cannot encode it: %v", key, err)
		}
		want := key[:len(key)-len(rest)]
		if !bytes.Equal(again, want) && !colvec.KindOf(c.Type).IsBytes() && colvec.KindOf(c.Type) != colvec.Float32 && colvec.KindOf(c.Type) != colvec.Float64 {
			t.Fatalf("%s: %x decodes and encodes to %x", c.Type.Name(), want, again)
		}
	})
}
