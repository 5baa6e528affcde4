// Package coltest draws random types and values of columns, for property tests
// of whatever stores or computes them.
package coltest

import (
	"math"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/cockroachdb/apd/v3"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Types are types of every layout.
var Types = []sqltypes.Type{
	sqltypes.Bool, sqltypes.Int2, sqltypes.Int4, sqltypes.Int8, sqltypes.Oid, sqltypes.Float4, sqltypes.Float8,
	sqltypes.NumericOf(15, 2), sqltypes.NumericOf(38, 0), sqltypes.Numeric, sqltypes.Text,
	{OID: sqltypes.OIDVarchar, Precision: 20}, sqltypes.Bpchar, sqltypes.Bytea, sqltypes.Date, sqltypes.Time,
	sqltypes.Timestamp, sqltypes.Timestamptz, sqltypes.Interval,
}

// Type draws one of Types.
func Type(t *rapid.T) sqltypes.Type { return rapid.SampledFrom(Types).Draw(t, "type") }

// Value draws a value of a type, edges often, never NULL.
func Value(t *rapid.T, typ sqltypes.Type) sqltypes.Datum {
	integer := func(lo, hi int64) sqltypes.Datum {
		return sqltypes.NewInt(rapid.OneOf(rapid.Int64Range(max(lo, -3), min(hi, 3)), rapid.Int64Range(lo, hi)).Draw(t, "int"))
	}
	switch colvec.KindOf(typ) {
	case colvec.Bool:
		return sqltypes.NewBool(rapid.Bool().Draw(t, "bool"))
	case colvec.Int16:
		return integer(math.MinInt16, math.MaxInt16)
	case colvec.Date:
		return integer(-1<<20, 1<<30)
	case colvec.Int32:
		return integer(math.MinInt32, math.MaxInt32)
	case colvec.Time:
		return integer(0, 86_400_000_000)
	case colvec.Timestamp:
		return integer(-1<<57, 1<<60)
	case colvec.Int64:
		if typ.OID == sqltypes.OIDOid {
			return integer(0, math.MaxUint32)
		}
		return integer(math.MinInt64, math.MaxInt64)
	case colvec.Float32:
		return sqltypes.NewFloat(float64(rapid.OneOf(rapid.Float32(), rapid.SampledFrom([]float32{0, 1, -1, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))})).Draw(t, "float4")))
	case colvec.Float64:
		return sqltypes.NewFloat(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, -1, math.NaN(), math.Inf(1), math.Inf(-1)})).Draw(t, "float8"))
	case colvec.Decimal:
		c := rapid.OneOf(rapid.Int64Range(-5, 5), rapid.Int64Range(-999_999_999_999_999, 999_999_999_999_999)).Draw(t, "unscaled")
		return sqltypes.NewDecimal(apd.New(c, -typ.Scale))
	case colvec.NumericText:
		return sqltypes.NewDecimal(numeric(t))
	case colvec.Binary:
		return sqltypes.NewBytes(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes"))
	case colvec.Interval:
		return sqltypes.NewInterval(sqltypes.IntervalValue{
			Months: rapid.Int32Range(-30, 30).Draw(t, "months"), Days: rapid.Int32Range(-400, 400).Draw(t, "days"),
			Micros: rapid.OneOf(rapid.Int64Range(-2, 2), rapid.Int64Range(-1<<50, 1<<50)).Draw(t, "micros"),
		})
	}
	s := rapid.OneOf(rapid.StringMatching(`[ab\x00 ]{0,3}`), rapid.StringN(0, 20, -1)).Draw(t, "string")
	if typ.OID == sqltypes.OIDBpchar {
		s = strings.TrimRight(s, " ")
	}
	return sqltypes.NewString(s)
}

func numeric(t *rapid.T) *apd.Decimal {
	texts := []string{"NaN", "Infinity", "-Infinity", "0", "0.00", "1", "1.0", "-1", "10", "100", "0.1", "0.01", "-0.001", "99", "100.5", "-99.99"}
	text := rapid.OneOf(rapid.SampledFrom(texts), rapid.StringMatching(`-?[0-9]{1,25}(\.[0-9]{1,20})?`)).Draw(t, "numeric")
	d, err := sqltypes.ParseNumeric(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// Nullable draws NULL one time in five.
func Nullable(t *rapid.T, typ sqltypes.Type) sqltypes.Datum {
	if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
		return sqltypes.Null
	}
	return Value(t, typ)
}

// Array is a column of these values.
func Array(t interface{ Fatal(...any) }, typ sqltypes.Type, vals []sqltypes.Datum) arrow.Array {
	b := colvec.NewBuilder(typ, len(vals))
	for _, d := range vals {
		if err := b.AppendDatum(d); err != nil {
			t.Fatal(err)
		}
	}
	a, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Text is a value for comparing and for messages; NULL is "NULL".
func Text(typ sqltypes.Type, d sqltypes.Datum) string {
	if d.IsNull() {
		return "NULL"
	}
	return string(sqltypes.AppendText(nil, typ, d))
}

// Compare orders two values as PostgreSQL does, NULL last; for reference
// implementations.
func Compare(typ sqltypes.Type, a, b sqltypes.Datum) int {
	switch {
	case a.IsNull() && b.IsNull():
		return 0
	case a.IsNull():
		return 1
	case b.IsNull():
		return -1
	}
	switch a.Kind() {
	case sqltypes.KindBool, sqltypes.KindInt:
		return cmp(datumInt(a), datumInt(b))
	case sqltypes.KindFloat:
		x, y := a.Float(), b.Float()
		switch {
		case x != x && y != y:
			return 0
		case x != x:
			return 1
		case y != y:
			return -1
		}
		return cmp(x, y)
	case sqltypes.KindDecimal:
		return cmp(int64(sqltypes.NumericCmp(a.Decimal(), b.Decimal())), 0)
	case sqltypes.KindInterval:
		x, y := a.Interval(), b.Interval()
		const day = 86400 * 1e6
		return cmp(int64(x.Months)*30*day+int64(x.Days)*day+x.Micros, int64(y.Months)*30*day+int64(y.Days)*day+y.Micros)
	case sqltypes.KindBytes:
		return strings.Compare(string(a.Bytes()), string(b.Bytes()))
	}
	x, y := a.Str(), b.Str()
	if typ.OID == sqltypes.OIDBpchar {
		x, y = strings.TrimRight(x, " "), strings.TrimRight(y, " ")
	}
	return strings.Compare(x, y)
}

func datumInt(d sqltypes.Datum) int64 {
	if d.Kind() == sqltypes.KindBool {
		if d.Bool() {
			return 1
		}
		return 0
	}
	return d.Int()
}

func cmp[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
