package expr

import (
	"math"
	"math/rand"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// encodeColumn gives a column the other encoding of its type, if it has one.
// Nulls get values of their own, as rows that do not count may have any.
func encodeColumn(a arrow.Array, t sqltypes.Type, r *rand.Rand) arrow.Array {
	n := a.Len()
	var valid []byte
	nulls := a.NullN()
	if nulls > 0 {
		valid = copyBits(vec{arr: a}.bitmap(), n)
	}
	switch c := a.(type) {
	case *array.Decimal128:
		out := make([]int64, n)
		for i := range out {
			if c.IsNull(i) {
				out[i] = []int64{0, math.MaxInt64, math.MinInt64}[r.Intn(3)]
				continue
			}
			v, ok := colvec.ToDec64(c.Value(i))
			if !ok {
				return a
			}
			out[i] = v
		}
		return colvec.NewDec64(out, valid, nulls)
	case *array.String, *array.Binary:
		if k := colvec.KindOf(t); k != colvec.String && k != colvec.Binary {
			return a
		}
		s := stringsOf(c)
		seen := map[string]int32{}
		var rows []int32
		codes := make([]int32, n)
		for i := range codes {
			if c.IsNull(i) {
				codes[i] = int32(r.Intn(1000) - 500)
				continue
			}
			k, ok := seen[s.get(i)]
			if !ok {
				k = int32(len(rows))
				seen[s.get(i)] = k
				rows = append(rows, int32(i))
			}
			codes[i] = k
		}
		return colvec.NewDict(Take(a, rows), codes, valid, nulls)
	}
	return a
}

// encodeBatch is b with columns in their other encodings.
func encodeBatch(b *Batch, types []sqltypes.Type, r *rand.Rand) *Batch {
	out := &Batch{N: b.N, Cols: make([]arrow.Array, len(b.Cols))}
	for i, c := range b.Cols {
		out.Cols[i] = encodeColumn(c, types[i], r)
	}
	return out
}

func testTypes() []sqltypes.Type { return testScope().types }

// checkEncoded holds ev over encoded columns to what rows alone give (want),
// for the rows that do not fail.
func checkEncoded(t *testing.T, ctx *Ctx, ev Evaluator, b *Batch, fine []int32, want []string, r *rand.Rand) {
	t.Helper()
	typ := ev.Expr().Type()
	enc := encodeBatch(b, testTypes(), r)
	for round := range 4 {
		sel := make([]int32, 0, len(fine))
		for _, i := range fine {
			if round == 0 || r.Intn(round+1) > 0 {
				sel = append(sel, i)
			}
		}
		if round == 0 && len(fine) == b.N {
			sel = nil
		}
		arr, err := ev.Eval(ctx, enc, sel)
		if err != nil {
			t.Fatalf("encoded: %v", err)
		}
		if !arrow.TypeEqual(arr.DataType(), typ.Arrow()) || arr.Len() != b.N {
			t.Fatalf("encoded: %d rows of %s", arr.Len(), arr.DataType())
		}
		compareRows(t, typ, arr, sel, want)
		for range 2 { // and with memory that has been used
			if arr, err = ev.EvalEncoded(ctx, enc, sel); err != nil || arr.Len() != b.N {
				t.Fatalf("EvalEncoded: %d rows, %v", arr.Len(), err)
			}
			compareRows(t, typ, selectedOnly(arr, typ, sel), sel, want)
		}
		if typ.OID == sqltypes.OIDBool {
			checkFilter(t, ctx, ev, enc, sel, want)
		}
		if b.N > 3 && sel == nil {
			if arr, err = ev.Eval(ctx, SliceBatch(enc, 3, b.N), nil); err != nil {
				t.Fatal(err)
			}
			compareRows(t, typ, arr, nil, want[3:])
		}
	}
	if len(fine) < b.N {
		if _, err := ev.Eval(ctx, enc, nil); err == nil {
			t.Fatal("encoded: no error, but rows have one")
		}
	}
}

// selectedOnly makes a column plain, as far as it counts.
func selectedOnly(a arrow.Array, t sqltypes.Type, sel []int32) arrow.Array {
	if sel == nil || colvec.IsPlain(a, t) {
		return colvec.Plain(a, t)
	}
	v := openEnc(a, t)
	return v.plain(t, a.Len(), sel).arr
}

func TestDictionaryIsComputedOnce(t *testing.T) {
	e, err := bindSQL("case when t like 'f%' then upper(t) when t is null then 'none' end", testScope())
	if err != nil {
		t.Fatal(err)
	}
	ev, err := Compile(e)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewSource(2))
	b := encodeBatch(randomBatch(r, 200, 0.3), testTypes(), r)
	var ids []arrow.ArrayData
	for _, part := range []*Batch{SliceBatch(b, 0, 100), SliceBatch(b, 100, 200), b} {
		a, err := ev.EvalEncoded(testCtx(), part, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := colvec.OpenEncoded(a, sqltypes.Text)
		if !v.Encoded {
			t.Fatal("a function of a dictionary column is no dictionary column")
		}
		ids = append(ids, v.DictID)
	}
	if ids[0] != ids[1] || ids[0] != ids[2] {
		t.Error("batches with the same dictionary gave different ones")
	}
	// More dictionaries than are remembered.
	for range 3 * dictCacheMax {
		other := encodeBatch(randomBatch(r, 50, 0), testTypes(), r)
		if _, err := ev.EvalEncoded(testCtx(), other, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(*ev.(*evaluator).n.(dictNode).cache.list.Load()); n != dictCacheMax {
		t.Errorf("%d dictionaries are remembered, want %d", n, dictCacheMax)
	}
}

// An entry of a dictionary that no selected row has may fail: the rows do not.
func TestDictionaryEntryThatFails(t *testing.T) {
	e, err := bindSQL("t::int4 > 5", testScope())
	if err != nil {
		t.Fatal(err)
	}
	ev, err := Compile(e)
	if err != nil {
		t.Fatal(err)
	}
	dict := sqltypes.ArrayOf(sqltypes.Text, []sqltypes.Datum{sqltypes.NewString("7"), sqltypes.NewString("x"), sqltypes.NewString("3")})
	b := &Batch{N: 4, Cols: make([]arrow.Array, len(testColumns))}
	for i, c := range testColumns {
		if c.name == "t" {
			b.Cols[i] = colvec.NewDict(dict, []int32{0, 1, 2, 0}, nil, 0)
		}
	}
	rows, err := Filter(testCtx(), ev, b, []int32{0, 2, 3}, nil)
	if err != nil || len(rows) != 2 {
		t.Errorf("rows %v, %v", rows, err)
	}
	if _, err := Filter(testCtx(), ev, b, nil, nil); err == nil {
		t.Error("no error for x")
	}
}

func TestAndOfRangesIsOneTest(t *testing.T) {
	e, err := bindSQL("n2 >= 1 and i4 / i2 > 0 and n2 < 7.255 and t like '%o%' and n2 <> 3 and n2 > 0 and d >= date '1995-01-01'", testScope())
	if err != nil {
		t.Fatal(err)
	}
	ev, err := Compile(e)
	if err != nil {
		t.Fatal(err)
	}
	args := ev.(*evaluator).n.(logicNode).args
	if r, ok := args[0].(rangeNode); !ok || r.lo != 100 || r.hi != math.MaxInt64 {
		t.Errorf("the first test is %+v", args[0])
	}
	if r, ok := args[2].(rangeNode); !ok || r.lo != 1 || r.hi != 725 || len(r.parts) != 2 {
		t.Errorf("the third test is %+v", args[2])
	}
	if len(args) != 6 {
		t.Errorf("%d tests", len(args))
	}
}

// TestDec64Limits: what does not fit an int64 is computed in 128 bits.
func TestDec64Limits(t *testing.T) {
	s := &scope{names: []string{"a", "b"}, types: []sqltypes.Type{sqltypes.NumericOf(18, 2), sqltypes.NumericOf(18, 4)}}
	edge := []int64{0, 1, -1, 5, -100, 99, math.MaxInt64, math.MinInt64, math.MaxInt64 / 100, math.MinInt64 / 100, 1 << 31, -1 << 31, 1 << 61, -1 << 61, 1 << 62}
	n := len(edge) * len(edge)
	a, b := make([]int64, n), make([]int64, n)
	for i := range n {
		a[i], b[i] = edge[i/len(edge)], edge[i%len(edge)]
	}
	enc := &Batch{N: n, Cols: []arrow.Array{colvec.NewDec64(a, nil, 0), colvec.NewDec64(b, nil, 0)}}
	plain := &Batch{N: n, Cols: colvec.PlainAll(enc.Cols, s.types)}
	for _, sql := range []string{
		"a + b", "a - b", "b - a", "a * b", "a * a", "a + 1", "1 - a", "a - 0.01", "1.0001 - a", "a * 100", "-3 * b", "a * (1 - b)", "a * (1 - a) + b",
		"a < b", "a >= b", "a = b", "b <> a", "a + b > 5.001", "a - b <= -1", "a + b = 0.00001", "a + b <> 0.00001", "a - b >= 1.000001", "a < 92233720368547758.08", "a > 92233720368547758.07",
		"a between -0.999 and 1.005", "a is null", "a * 2 is not null",
	} {
		e, err := bindSQL(sql, s)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := Compile(FoldConst(nil, e))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			row := []int32{int32(i)}
			want, errWant := ev.Eval(nil, TakeBatch(plain, row), nil)
			one := &Batch{N: 1, Cols: []arrow.Array{array.NewSlice(enc.Cols[0], int64(i), int64(i+1)), array.NewSlice(enc.Cols[1], int64(i), int64(i+1))}}
			for _, got := range []func() (arrow.Array, error){
				func() (arrow.Array, error) { return ev.Eval(nil, one, nil) },
				func() (arrow.Array, error) {
					c, err := ev.Eval(nil, enc, row)
					if err != nil {
						return nil, err
					}
					return Take(c, row), nil
				},
				func() (arrow.Array, error) {
					if e.Type().OID != sqltypes.OIDBool {
						return ev.Eval(nil, one, nil)
					}
					rows, err := Filter(nil, ev, enc, row, nil)
					out := []byte{byte(len(rows))}
					return boolArray(1, nil, out), err
				},
			} {
				g, err := got()
				if (err == nil) != (errWant == nil) || err != nil && err.Error() != errWant.Error() {
					t.Fatalf("%s with %d, %d: %v, want %v", sql, a[i], b[i], err, errWant)
				}
				if err == nil && rowText(e.Type(), g, 0) != rowText(e.Type(), want, 0) {
					t.Fatalf("%s with %d, %d: %s, want %s", sql, a[i], b[i], rowText(e.Type(), g, 0), rowText(e.Type(), want, 0))
				}
			}
		}
	}
}

func TestBitsOfBitmaps(t *testing.T) {
	r := rand.New(rand.NewSource(9))
	for range 50 {
		n := r.Intn(70) + 1
		mk := func() bitmap {
			if r.Intn(3) == 0 {
				return bitmap{}
			}
			b := bitmap{newBits(n + 8), r.Intn(8)}
			r.Read(b.bits)
			return b
		}
		a, b := mk(), mk()
		both := andBits(n, a, b)
		for i := range n {
			if both.set(i) != (a.set(i) && b.set(i)) {
				t.Fatalf("bit %d of %v and %v", i, a, b)
			}
		}
		if a.bits != nil && a.bit(0) != b2i(bitutil.BitIsSet(a.bits, a.off)) {
			t.Fatal("bit")
		}
	}
}

// TestEvalScaled holds the values for a sum to the texts of the same CASE.
func TestEvalScaled(t *testing.T) {
	ctx := testCtx()
	for _, sql := range []string{
		"case when t like 'f%' then n4 * (1 - 0.07) else 0 end",
		"case when t like 'f%' then n2 * 0.5 when i4 > 0 then n4 when b then null else 1.50 end",
		"case when i4 > 0 then n2 when i4 < 0 then n4 end",
		"case when i4 <> 0 then n2 else -0.001 end",
	} {
		e, err := bindSQL(sql, testScope())
		if err != nil {
			t.Fatal(err)
		}
		ev, err := Compile(FoldConst(nil, e))
		if err != nil {
			t.Fatal(err)
		}
		var s Scratch
		for seed := range int64(8) {
			r := rand.New(rand.NewSource(seed))
			b := randomBatch(r, 100, []float64{0, 0.3}[seed%2])
			sel := []int32(nil)
			if seed%3 == 0 {
				sel = []int32{2, 3, 50, 99}
			}
			want, err := ev.Eval(ctx, b, sel)
			if err != nil {
				t.Fatal(err)
			}
			s.Reset()
			v, ok, err := ev.EvalScaled(ctx, &s, encodeBatch(b, testTypes(), r), sel)
			if err != nil || !ok {
				t.Fatalf("%s: ok %v, %v", sql, ok, err)
			}
			rowsOf(b.N, sel, func(i int) {
				got := "NULL"
				if !v.IsNull(i) {
					d, scale := decimal128.FromI64(v.D64[i]), v.Scale
					if v.DScale != nil {
						d, scale = scaleDown(d, v.Scale-int32(v.DScale[i])), int32(v.DScale[i])
					}
					got = string(sqltypes.AppendDec128(nil, d, scale))
				}
				if w := rowText(sqltypes.Numeric, want, i); got != w {
					t.Fatalf("%s row %d: %s, want %s", sql, i, got, w)
				}
			})
		}
	}
}

// TestEvalScratch: columns in memory that is used again.
func TestEvalScratch(t *testing.T) {
	ctx := testCtx()
	var s Scratch
	for _, sql := range []string{"n2 * (1 - n4)", "n2 + n4", "n2", "t", "upper(t)", "i4", "1.25::numeric(5,2)", "null::numeric(5,2)", "i2 is null", "case when b then n2 else n2 * 2 end", "case when b then n2 end"} {
		e, err := bindSQL(sql, testScope())
		if err != nil {
			t.Fatal(err)
		}
		ev, err := Compile(FoldConst(nil, e))
		if err != nil {
			t.Fatal(err)
		}
		for seed := range int64(8) {
			r := rand.New(rand.NewSource(seed))
			b := randomBatch(r, 100, []float64{0, 0.3}[seed%2])
			sel := []int32(nil)
			if seed%3 == 0 {
				sel = []int32{2, 3, 50, 99}
			}
			want, err := ev.Eval(ctx, b, sel)
			if err != nil {
				t.Fatal(err)
			}
			s.Reset()
			a, err := ev.EvalScratch(ctx, &s, encodeBatch(b, testTypes(), r), sel)
			if err != nil || a.Len() != b.N {
				t.Fatalf("%s: %d rows, %v", sql, a.Len(), err)
			}
			typ := e.Type()
			v := colvec.OpenEncoded(a, typ)
			rowsOf(b.N, sel, func(i int) {
				d := sqltypes.Null
				switch {
				case v.IsNull(i):
				case v.D64 != nil:
					d = sqltypes.NewDecimal(sqltypes.Dec128ToNumeric(decimal128.FromI64(v.D64[i]), typ.Scale))
				case v.Dict != nil:
					d = v.Dict.At(int(v.Codes[i]), typ)
				default:
					d = v.At(i, typ)
				}
				got := "NULL"
				if !d.IsNull() {
					got = string(sqltypes.AppendText(nil, typ, d))
				}
				if w := rowText(typ, want, i); got != w {
					t.Fatalf("%s row %d: %s, want %s", sql, i, got, w)
				}
			})
		}
	}
}

// TestDictionarySharedByGoroutines: several workers use one evaluator, each with
// more dictionaries than it remembers.
func TestDictionarySharedByGoroutines(t *testing.T) {
	e, err := bindSQL("t like '%o%' and length(t) > 3", testScope())
	if err != nil {
		t.Fatal(err)
	}
	ev, err := Compile(e)
	if err != nil {
		t.Fatal(err)
	}
	ctx := testCtx()
	r := rand.New(rand.NewSource(6))
	var plain, encoded []*Batch
	for range dictCacheMax + 3 {
		b := randomBatch(r, 60, 0.2)
		plain, encoded = append(plain, b), append(encoded, encodeBatch(b, testTypes(), r))
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for k := range 3 * len(plain) {
				k = (k + 3*w) % len(plain)
				want, err1 := Filter(ctx, ev, plain[k], nil, nil)
				got, err2 := Filter(ctx, ev, encoded[k], nil, nil)
				if err1 != nil || err2 != nil || !slices.Equal(got, want) {
					t.Errorf("batch %d: %v, %v, want %v, %v", k, got, err2, want, err1)
				}
			}
		})
	}
	wg.Wait()
}
