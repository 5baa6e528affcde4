package colvec_test

import (
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// What a builder takes, the array gives back: whole, sliced, and gathered.
func TestBuildAndRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typ := coltest.Type(t)
		vals := make([]sqltypes.Datum, rapid.IntRange(0, 40).Draw(t, "n"))
		for i := range vals {
			vals[i] = coltest.Nullable(t, typ)
		}
		a := coltest.Array(t, typ, vals)
		if a.DataType().String() != typ.Arrow().String() {
			t.Fatalf("array of %s for %s", a.DataType(), typ.Name())
		}
		lo := rapid.IntRange(0, len(vals)).Draw(t, "lo")
		hi := rapid.IntRange(lo, len(vals)).Draw(t, "hi")
		slice := array.NewSlice(a, int64(lo), int64(hi))
		v := colvec.Open(slice, typ)
		if v.N != hi-lo {
			t.Fatalf("%d rows, want %d", v.N, hi-lo)
		}
		var sel []int32
		for i := range v.N {
			want := vals[lo+i]
			if got := v.At(i, typ); coltest.Text(typ, got) != coltest.Text(typ, want) {
				t.Fatalf("%s row %d: %s, want %s", typ.Name(), i, coltest.Text(typ, got), coltest.Text(typ, want))
			}
			if got := sqltypes.DatumAt(typ, slice, i); coltest.Text(typ, got) != coltest.Text(typ, want) {
				t.Fatalf("sqltypes.DatumAt: %s, want %s", coltest.Text(typ, got), coltest.Text(typ, want))
			}
			if rapid.Bool().Draw(t, "pick") {
				sel = append(sel, int32(i))
			} else if rapid.Bool().Draw(t, "miss") {
				sel = append(sel, -1)
			}
		}
		taken, err := colvec.Take(slice, typ, sel)
		if err != nil {
			t.Fatal(err)
		}
		tv := colvec.Open(taken, typ)
		for i, s := range sel {
			want := sqltypes.Null
			if s >= 0 {
				want = vals[lo+int(s)]
			}
			if got := tv.At(i, typ); coltest.Text(typ, got) != coltest.Text(typ, want) {
				t.Fatalf("take %s row %d: %s, want %s", typ.Name(), i, coltest.Text(typ, got), coltest.Text(typ, want))
			}
		}
	})
}

func TestAppendDatumRefusesWhatDoesNotFit(t *testing.T) {
	b := colvec.NewBuilder(sqltypes.Int2, 1)
	if b.AppendDatum(sqltypes.NewInt(40000)) == nil {
		t.Error("40000 passed as a smallint")
	}
	if b.AppendDatum(sqltypes.NewString("x")) == nil {
		t.Error("a string passed as a smallint")
	}
	d, _ := sqltypes.ParseNumeric("1.234")
	if _, err := colvec.DecimalOf(d, 2); err == nil {
		t.Error("1.234 passed as a numeric of scale 2")
	}
}
