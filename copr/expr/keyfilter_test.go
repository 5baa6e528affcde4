package expr_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// A filter lets every key pass, NULL never, few of the others, and skips ranges
// without keys only.
func TestKeyFilter(t *testing.T) {
	types := []sqltypes.Type{sqltypes.Int2, sqltypes.Int4, sqltypes.Int8, sqltypes.Date, sqltypes.NumericOf(12, 2)}
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(types).Draw(t, "type")
		x := &expr.Column{Typ: typ}
		top := rapid.SampledFrom([]int64{40, 2000, 30_000}).Draw(t, "top")
		keys := rapid.SliceOfN(rapid.Int64Range(-top, top), 1, 200).Draw(t, "keys")
		few := keys
		if rapid.Bool().Draw(t, "many") { // too many for a list
			for i := range int64(5000) {
				keys = append(keys, -(i*top/5000 + top/2))
			}
		}
		f := expr.NewKeyFilter(x, keys)
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		vals := append(rapid.SliceOfN(rapid.Int64Range(-top-5, top+5), 0, 50).Draw(t, "values"), few...)
		b := colvec.NewBuilder(typ, len(vals))
		small := make([]int64, 0, len(vals))
		for _, v := range vals {
			if typ.OID == sqltypes.OIDNumeric {
				d, err := colvec.DecimalOf(sqltypes.NumericFromInt(v), 0)
				if err != nil {
					t.Fatal(err)
				}
				b.AppendDecimal(d)
			} else {
				b.AppendInt(v)
			}
			small = append(small, v)
		}
		b.AppendNull()
		a, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if typ.OID == sqltypes.OIDNumeric && rapid.Bool().Draw(t, "encoded") {
			valid := make([]byte, len(vals)/8+1)
			for i := range vals {
				valid[i>>3] |= 1 << (i & 7)
			}
			a = colvec.NewDec64(append(small, keys[0]), valid, 1)
		}
		var sel []int32
		if rapid.Bool().Draw(t, "selected") {
			sel = []int32{}
			for i := range len(vals) + 1 {
				if i%3 != 0 {
					sel = append(sel, int32(i))
				}
			}
		}
		checkKeyFilter(t, f, a, sel, len(vals), func(i int) bool { return slices.Contains(keys, vals[i]) }, f.Bits != nil)
		lo := rapid.Int64Range(-top-9, top+9).Draw(t, "lo")
		hi := lo + rapid.Int64Range(0, 30).Draw(t, "width")
		any := slices.ContainsFunc(keys, func(k int64) bool { return k >= lo && k <= hi })
		if got := f.MayPass(lo, hi); any && !got || got && !any && (f.Bits != nil || f.Keys != nil) {
			t.Fatalf("keys %v: MayPass(%d, %d) is %v", keys, lo, hi, got)
		}
	})
}

func checkKeyFilter(t *rapid.T, f *expr.KeyFilter, a arrow.Array, sel []int32, n int, isKey func(i int) bool, exact bool) {
	ev, err := expr.Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	got, err := expr.Filter(nil, ev, &expr.Batch{N: a.Len(), Cols: []arrow.Array{a}}, sel, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(got) {
		t.Fatal("rows are not ascending:", got)
	}
	for i := range n {
		in := sel == nil || slices.Contains(sel, int32(i))
		passed := slices.Contains(got, int32(i))
		if passed && !in || in && isKey(i) && !passed || exact && passed && !isKey(i) {
			t.Fatalf("row %d passed: %v", i, passed)
		}
	}
	if slices.Contains(got, int32(n)) {
		t.Fatal("NULL passed")
	}
}

func TestKeyFilterOfStrings(t *testing.T) {
	x := &expr.Column{Typ: sqltypes.Text}
	const keys, all = 5000, 50_000
	name := func(i int) string { return fmt.Sprintf("Customer#%09d", i) }
	f := expr.NewStringKeyFilter(x, keys, func(i int) []byte { return []byte(name(i * 10)) })
	b := colvec.NewBuilder(x.Typ, all)
	codes := make([]int32, all)
	for i := range all {
		b.AppendString(name(i))
		codes[i] = int32(i)
	}
	dict, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []arrow.Array{dict, colvec.NewDict(dict, codes, nil, 0)} {
		ev, err := expr.Compile(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := expr.Filter(nil, ev, &expr.Batch{N: all, Cols: []arrow.Array{a}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < all; i += 10 {
			if _, ok := slices.BinarySearch(got, int32(i)); !ok {
				t.Fatal("a key did not pass:", i)
			}
		}
		if len(got) > keys+all/20 {
			t.Errorf("%d of %d rows passed, %d are keys", len(got), all, keys)
		}
	}
}

// A filter that nearly everything passes is switched off.
func TestKeyFilterSwitchesOff(t *testing.T) {
	x := &expr.Column{Typ: sqltypes.Int8}
	keys := make([]int64, 1000)
	b := colvec.NewBuilder(x.Typ, 0)
	for i := range keys {
		keys[i] = int64(i)
		b.AppendInt(int64(i))
	}
	good, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	b.AppendInt(-1)
	bad, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	ev, err := expr.Compile(expr.NewKeyFilter(x, keys))
	if err != nil {
		t.Fatal(err)
	}
	pass := func(a arrow.Array) int {
		got, err := expr.Filter(nil, ev, &expr.Batch{N: a.Len(), Cols: []arrow.Array{a}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	if pass(bad) != 0 {
		t.Fatal("a row passed")
	}
	for range 40 {
		pass(good)
	}
	if pass(bad) != 1 {
		t.Error("the filter is still asked")
	}
}
