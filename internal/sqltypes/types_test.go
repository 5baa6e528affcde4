package sqltypes

import (
	"testing"

	"github.com/copradb/copra/internal/pgerror"
)

func TestNames(t *testing.T) {
	for _, c := range []struct {
		names []string
		mods  []int32
		dims  int
		want  string // or an SQLSTATE
	}{
		{[]string{"pg_catalog", "int4"}, nil, 0, "integer"},
		{[]string{"integer"}, nil, 1, "integer[]"},
		{[]string{"numeric"}, []int32{15, 2}, 0, "numeric(15,2)"},
		{[]string{"decimal"}, []int32{15}, 0, "numeric(15,0)"},
		{[]string{"numeric"}, nil, 0, "numeric"},
		{[]string{"varchar"}, []int32{25}, 0, "character varying(25)"},
		{[]string{"character"}, nil, 0, "character(1)"},
		{[]string{"bpchar"}, nil, 0, "bpchar"},
		{[]string{"char"}, nil, 0, `"char"`},
		{[]string{"timestamptz"}, []int32{3}, 0, "timestamp(3) with time zone"},
		{[]string{"time"}, []int32{9}, 0, "time(6) without time zone"},
		{[]string{"interval"}, []int32{8}, 0, "interval day"},
		{[]string{"interval"}, []int32{0x7fff, 2}, 0, "interval(2)"},
		{[]string{"float"}, []int32{24}, 0, "real"},
		{[]string{"float"}, []int32{53}, 0, "double precision"},
		{[]string{"_text"}, nil, 0, "text[]"},
		{[]string{"text[]"}, nil, 0, "text[]"},
		{[]string{"float"}, []int32{54}, 0, "22023"},
		{[]string{"varchar"}, []int32{0}, 0, "22023"},
		{[]string{"numeric"}, []int32{1001}, 0, "22023"},
		{[]string{"numeric"}, []int32{5, -2}, 0, "0A000"},
		{[]string{"int4"}, []int32{5}, 0, "42601"},
		{[]string{"foo"}, nil, 0, "42704"},
		{[]string{"public", "int4"}, nil, 0, "42704"},
		{[]string{"jsonb"}, nil, 0, "0A000"},
		{nil, nil, 0, "42704"},
	} {
		typ, err := ByName(c.names, c.mods, c.dims)
		got := typ.Name()
		if err != nil {
			got = pgerror.Code(err)
		}
		if got != c.want {
			t.Errorf("ByName(%v, %v, %d) = %s, want %s", c.names, c.mods, c.dims, got, c.want)
		}
		if err == nil && FromTypmod(typ.OID, typ.Typmod()) != typ {
			t.Errorf("%s: FromTypmod(%d) = %+v", typ, typ.Typmod(), FromTypmod(typ.OID, typ.Typmod()))
		}
	}
	if got := NumericOf(15, 2).Typmod(); got != 983046 {
		t.Errorf("typmod of numeric(15,2) = %d", got)
	}
}

// TestTypes: every type has a name, an Arrow layout, and finds itself again.
func TestTypes(t *testing.T) {
	seen := map[uint32]bool{}
	for _, typ := range Types() {
		if seen[typ.OID] {
			t.Errorf("%s is listed twice", typ)
		}
		seen[typ.OID] = true
		if typ.Arrow() == nil || typ.Name() == "???" || typ.PgName() == "" {
			t.Errorf("type %d: %s %v", typ.OID, typ.Name(), typ.Arrow())
		}
		if arr, ok := typ.ArrayType(); ok {
			if e, ok := arr.Elem(); !ok || e != typ {
				t.Errorf("%s: elements of its array are %s", typ, e)
			}
		}
	}
}

func TestFitErrors(t *testing.T) {
	for _, c := range []struct {
		typ       Type
		in        string
		out, code string
	}{
		{Type{OID: OIDVarchar, Precision: 3}, "abcd", "", "22001"},
		{Type{OID: OIDVarchar, Precision: 3}, "abc  ", "abc", ""},
		{Type{OID: OIDBpchar, Precision: 3}, "ab", "ab ", ""},
		{Type{OID: OIDBpchar, Precision: 3}, "abcd", "", "22001"},
		{NumericOf(4, 2), "99.994", "99.99", ""},
		{NumericOf(4, 2), "99.995", "", "22003"},
		{NumericOf(4, 2), "NaN", "", "0A000"},
		{NumericOf(50, 2), "1e40", "10000000000000000000000000000000000000000.00", ""},
		{Int2, "32768", "", "22003"},
		{Text, "\xff", "", "22021"},
		{Date, "2021-02-29", "", "22008"},
		{Timestamp, "foo", "", "22007"},
		{Timestamp, "a_b", "", "22007"},
		{Record, "(1)", "", "0A000"},
		{Regclass, "pg_class", "", "0A000"},
	} {
		b := NewBuilder(c.typ)
		err := b.AppendText(c.in)
		if c.code != "" {
			if err == nil || pgerror.Code(err) != c.code {
				t.Errorf("%s %q: %v, want %s", c.typ, c.in, err, c.code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %q: %v", c.typ, c.in, err)
			continue
		}
		if got := string(AppendArrowText(nil, c.typ, b.Finish(), 0, nil)); got != c.out {
			t.Errorf("%s %q = %q, want %q", c.typ, c.in, got, c.out)
		}
	}
}

// TestFloatDigits is extra_float_digits at 0 and below.
func TestFloatDigits(t *testing.T) {
	col := ArrayOf(Float8, []Datum{NewFloat(0.30000000000000004), NewFloat(1e15), NewFloat(-1.0 / 3)})
	for _, c := range []struct {
		digits int
		want   [3]string
	}{
		{1, [3]string{"0.30000000000000004", "1e+15", "-0.3333333333333333"}},
		{0, [3]string{"0.3", "1e+15", "-0.333333333333333"}},
		{-10, [3]string{"0.3", "1e+15", "-0.33333"}},
	} {
		for i, want := range c.want {
			got := string(AppendArrowText(nil, Float8, col, i, &TextOptions{ExtraFloatDigits: c.digits, FloatDigitsSet: true}))
			if got != want {
				t.Errorf("digits %d: %s, want %s", c.digits, got, want)
			}
		}
	}
}
