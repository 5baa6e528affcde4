package columnar

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// drawColumn draws a column, often of values that are near each other.
func drawColumn(t *rapid.T, typ sqltypes.Type) arrow.Array {
	n := rapid.IntRange(0, 70).Draw(t, "rows")
	few := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) sqltypes.Datum { return coltest.Nullable(t, typ) }), 1, 4).Draw(t, "few")
	near := rapid.SampledFrom([]int64{0, 200, 60_000, 1 << 31, math.MaxInt64 >> 1}).Draw(t, "near")
	b := colvec.NewBuilder(typ, n)
	for range n {
		d := rapid.SampledFrom(few).Draw(t, "value")
		switch rapid.IntRange(0, 2).Draw(t, "kind of value") {
		case 0:
			d = coltest.Nullable(t, typ)
		case 1:
			if b.Kind().IsInt() && !d.IsNull() && d.Int() <= 0 && (b.Kind() == colvec.Int64 || near < math.MaxInt16) && d.Int()+near <= math.MaxInt16 {
				d = sqltypes.NewInt(d.Int() + rapid.Int64Range(0, near).Draw(t, "offset"))
			}
		}
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

func texts(a arrow.Array, typ sqltypes.Type) []string {
	v := colvec.Open(a, typ)
	out := make([]string, v.N)
	for i := range out {
		if out[i] = "NULL"; !v.IsNull(i) {
			out[i] = fmt.Sprintf("%v", v.At(i, typ))
			switch {
			case v.Kind.IsBytes():
				out[i] = fmt.Sprintf("%q", v.BytesAt(i))
			case v.Kind == colvec.Decimal:
				out[i] = fmt.Sprint(v.Dec[i])
			}
		}
	}
	return out
}

// A chunk is its column, whole and in pieces, whatever form it is kept in.
func TestChunkIsItsColumn(t *testing.T) {
	forms := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		typ := coltest.Type(t)
		if rapid.Bool().Draw(t, "padded") {
			typ = sqltypes.Type{OID: sqltypes.OIDBpchar, Precision: 10}
		}
		var dict *dictionary
		if dictEncodable(typ) {
			dict = newDictionary(typ)
		}
		var buf []byte
		for range 3 {
			a := drawColumn(t, typ)
			want := texts(a, typ)
			c := newChunk(a, typ, dict)
			forms[fmt.Sprintf("%v %v %v", c.plain != nil, c.dict != nil, c.width)]++
			for range 4 {
				lo := rapid.IntRange(0, c.n).Draw(t, "lo")
				hi := rapid.IntRange(lo, c.n).Draw(t, "hi")
				if rapid.Bool().Draw(t, "whole") {
					lo, hi = 0, c.n
				}
				into := &buf
				if rapid.Bool().Draw(t, "fresh") {
					into = nil
				}
				got := c.array(lo, hi, into)
				if s := texts(got, typ); !slices.Equal(s, want[lo:hi]) {
					t.Fatalf("%v, rows %d to %d: %q, want %q", typ, lo, hi, s, want[lo:hi])
				}
				nulls := 0
				for _, s := range want[lo:hi] {
					if s == "NULL" {
						nulls++
					}
				}
				if v := colvec.OpenEncoded(got, typ); v.Nulls != nulls || v.N != hi-lo {
					t.Fatalf("%d rows with %d NULLs, want %d and %d", v.N, v.Nulls, hi-lo, nulls)
				}
			}
		}
	})
	for _, f := range []string{"true false 0", "false true 1", "false false 0", "false false 1", "false false 2", "false false 8"} {
		if forms[f] == 0 {
			t.Errorf("no chunk of the form %q: %v", f, forms)
		}
	}
}

// Handles are what they were, and found.
func TestHandles(t *testing.T) {
	fixed := 0
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(0, 20).Draw(t, "size")
		common := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "common")
		keys := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			k := bytes.Clone(common)
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				if size > 0 {
					k[rapid.IntRange(0, size-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
				}
			}
			if rapid.IntRange(0, 99).Draw(t, "longer") == 0 {
				k = append(k, 7)
			}
			return string(k)
		}), 0, 60).Draw(t, "keys")
		slices.Sort(keys)
		keys = slices.Compact(keys)
		b := colvec.NewBuilder(sqltypes.Bytea, 0)
		for _, k := range keys {
			b.AppendString(k)
		}
		a, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		h := newHandles(a)
		if h.template != nil {
			fixed++
		}
		var buf []byte
		for i, k := range keys {
			if got := h.at(i, &buf); string(got) != k {
				t.Fatalf("handle %d is %x, want %x", i, got, k)
			}
		}
		for _, probe := range append(keys, rapid.StringN(0, 20, 20).Draw(t, "probe"), string(common)) {
			want, _ := slices.BinarySearch(keys, probe)
			if got := h.seek([]byte(probe)); got != want {
				t.Fatalf("%x is at %d, want %d", probe, got, want)
			}
		}
		lo := rapid.IntRange(0, len(keys)).Draw(t, "lo")
		col, err := h.column(lo, len(keys))
		if err != nil {
			t.Fatal(err)
		}
		v := colvec.Open(col, sqltypes.Bytea)
		for i := range v.N {
			if string(v.BytesAt(i)) != keys[lo+i] {
				t.Fatalf("row %d of the column is %x, want %x", i, v.BytesAt(i), keys[lo+i])
			}
		}
	})
	if fixed == 0 {
		t.Error("no handles of one length")
	}
}

func textColumn(t *testing.T, values ...string) *colvec.Vec {
	b := colvec.NewBuilder(sqltypes.Text, len(values))
	for _, s := range values {
		b.AppendString(s)
	}
	a, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	v := colvec.Open(a, sqltypes.Text)
	return &v
}

// A dictionary keeps its codes and, until it grows, its array; what would be too
// much ends it for all later blocks.
func TestDictionary(t *testing.T) {
	d := newDictionary(sqltypes.Text)
	codes, ok := d.encode(textColumn(t, "a", "b", "", "a"))
	if !ok || !slices.Equal(codes, []uint16{0, 1, 2, 0}) {
		t.Fatal(codes, ok)
	}
	first := d.array()
	if codes, ok = d.encode(textColumn(t, "", "b")); !ok || !slices.Equal(codes, []uint16{2, 1}) {
		t.Fatal(codes, ok)
	}
	if d.array() != first {
		t.Error("the array changed without a new value")
	}
	var many []string
	for i := range DictValuesSmall - 3 {
		many = append(many, fmt.Sprint("value ", i))
	}
	if _, ok = d.encode(textColumn(t, many...)); !ok {
		t.Fatal("few values are too many")
	}
	all := d.array()
	if got := texts(first, sqltypes.Text); !slices.Equal(got, []string{`"a"`, `"b"`, `""`}) {
		t.Errorf("the old array is %q now", got)
	}
	if got := texts(all, sqltypes.Text); len(got) != DictValuesSmall || got[DictValuesSmall-1] != fmt.Sprintf("%q", many[len(many)-1]) {
		t.Errorf("%d values, the last is %q", len(got), got[len(got)-1])
	}
	if _, ok = d.encode(textColumn(t, "one more, each met once")); ok {
		t.Error("many values, each met once, are few")
	}
	if _, ok = d.encode(textColumn(t, "a")); ok {
		t.Error("a dictionary that has ended goes on")
	}
	long := newDictionary(sqltypes.Text)
	if _, ok = long.encode(textColumn(t, string(make([]byte, DictBytesMax)), "x")); ok {
		t.Error("a dictionary has more bytes than it may")
	}
}
