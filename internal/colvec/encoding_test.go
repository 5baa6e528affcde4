package colvec_test

import (
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// encode is a plain column in the encoding of its type.
func encode(t *rapid.T, a arrow.Array, typ sqltypes.Type) arrow.Array {
	v := colvec.Open(a, typ)
	valid := make([]byte, (v.N+7)/8)
	for i := range v.N {
		if !v.IsNull(i) {
			valid[i>>3] |= 1 << (i & 7)
		}
	}
	if v.Kind == colvec.Decimal {
		values := make([]int64, v.N)
		for i := range values {
			var ok bool
			if values[i], ok = colvec.ToDec64(v.Dec[i]); !ok {
				t.Fatalf("%v does not fit", v.Dec[i])
			}
		}
		return colvec.NewDec64(values, valid, v.Nulls)
	}
	dict, at, codes := colvec.NewBuilder(typ, 0), map[string]int32{}, make([]int32, v.N)
	for i := range codes {
		if v.IsNull(i) {
			continue
		}
		s := string(v.BytesAt(i))
		code, ok := at[s]
		if !ok {
			code = int32(len(at))
			at[s] = code
			dict.AppendString(s)
		}
		codes[i] = code
	}
	d, err := dict.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return colvec.NewDict(d, codes, valid, v.Nulls)
}

// An encoded column, sliced and gathered, has the values of the plain one.
func TestEncodings(t *testing.T) {
	types := []sqltypes.Type{sqltypes.NumericOf(15, 2), sqltypes.Text, sqltypes.Bytea, sqltypes.Bpchar}
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(types).Draw(t, "type")
		n := rapid.IntRange(0, 40).Draw(t, "rows")
		datums := make([]sqltypes.Datum, n)
		for i := range datums {
			switch {
			case rapid.IntRange(0, 4).Draw(t, "null") == 0:
			case typ.OID == sqltypes.OIDNumeric:
				datums[i] = sqltypes.NewDecimal(sqltypes.Dec128ToNumeric(decimal128.FromI64(rapid.Int64Range(-1e14, 1e14).Draw(t, "unscaled")), 2))
			case typ.OID == sqltypes.OIDBytea:
				datums[i] = sqltypes.NewBytes(rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 2).Draw(t, "bytes"))
			default:
				datums[i] = sqltypes.NewString(rapid.StringMatching("[ab]{0,2}").Draw(t, "text"))
			}
		}
		plain := sqltypes.ArrayOf(typ, datums)
		enc := encode(t, plain, typ)
		if n > 0 && colvec.IsPlain(enc, typ) || !colvec.IsPlain(plain, typ) {
			t.Fatal("IsPlain is wrong")
		}
		lo := rapid.IntRange(0, n).Draw(t, "lo")
		hi := rapid.IntRange(lo, n).Draw(t, "hi")
		datums, enc = datums[lo:hi], array.NewSlice(enc, int64(lo), int64(hi))
		if rapid.Bool().Draw(t, "take") && hi > lo {
			sel := rapid.SliceOfN(rapid.Int32Range(-1, int32(hi-lo-1)), 0, 20).Draw(t, "sel")
			var err error
			if enc, err = colvec.Take(enc, typ, sel); err != nil {
				t.Fatal(err)
			}
			if colvec.IsPlain(enc, typ) {
				t.Fatal("Take lost the encoding")
			}
			taken := make([]sqltypes.Datum, len(sel))
			for k, i := range sel {
				if i >= 0 {
					taken[k] = datums[i]
				}
			}
			datums = taken
		}
		want := sqltypes.ArrayOf(typ, datums)
		if got := colvec.Plain(enc, typ); !array.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		v := colvec.OpenEncoded(enc, typ)
		for i := range datums {
			if d := sqltypes.DatumAt(typ, enc, i); d.IsNull() != v.IsNull(i) || !slices.Equal(sqltypes.AppendText(nil, typ, d), sqltypes.AppendText(nil, typ, datums[i])) {
				t.Fatalf("row %d is %v, want %v", i, d, datums[i])
			}
		}
	})
}
