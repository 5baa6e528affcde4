package expr

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// testColumns are the columns of random batches: name, type, and texts to pick
// from.
var testColumns = []struct {
	name   string
	typ    sqltypes.Type
	values string
}{
	{"i2", sqltypes.Int2, "0 1 -1 7 100 -32768 32767"},
	{"i4", sqltypes.Int4, "0 1 -1 7 100 42 -2147483648 2147483647"},
	{"i8", sqltypes.Int8, "0 1 -1 7 100 5000000000 -9223372036854775808 9223372036854775807"},
	{"f4", sqltypes.Float4, "0 1 -1.5 3.25 NaN Infinity -Infinity 1e30"},
	{"f8", sqltypes.Float8, "0 -0 1 -1.5 3.25 NaN Infinity -Infinity 1e300 1e-300"},
	{"n2", sqltypes.NumericOf(15, 2), "0 1.00 -1.50 7.25 9999999999999.99 0.01 100"},
	{"n4", sqltypes.NumericOf(10, 4), "0 1.0000 -1.5000 7.2512 0.0001 100 999999.9999"},
	{"nb", sqltypes.NumericOf(38, 2), "0 1 123456789012345678901234567890123456.78 -99999999999999999999.99"},
	{"nn", sqltypes.Numeric, "0 1.50 1.5 -3.14159 NaN Infinity 12345678901234567890123456789012345678901234567890.5"},
	{"t", sqltypes.Text, "abc ABC héllo a%b foo foobar barfoo x special__requests"},
	{"v", sqltypes.Type{OID: sqltypes.OIDVarchar, Precision: 20}, "abc abcd foo zz MAIL SHIP"},
	{"c", sqltypes.Type{OID: sqltypes.OIDBpchar, Precision: 10}, "abc abcd foo zz MAIL SHIP"},
	{"by", sqltypes.Bytea, `\x \x00 \x6162 \xff`},
	{"d", sqltypes.Date, "1995-01-01 1994-12-31 1998-09-02 2020-02-29 infinity 0001-01-01"},
	{"ts", sqltypes.Timestamp, "1995-01-01T00:00:00 1995-01-01T10:20:30.5 2020-02-29T23:59:59.999999 infinity"},
	{"tz", sqltypes.Timestamptz, "1995-01-01T00:00:00Z 2020-03-08T07:30:00Z 2020-11-01T05:30:00Z -infinity"},
	{"tm", sqltypes.Time, "00:00 10:20:30.123456 24:00:00"},
	{"iv", sqltypes.Interval, "1mon 30days 1day 24:00:00 -5hours 1year2mons"},
	{"b", sqltypes.Bool, "t f"},
}

func testScope() *scope {
	s := &scope{}
	for _, c := range testColumns {
		s.names, s.types = append(s.names, c.name), append(s.types, c.typ)
	}
	return s
}

func randomBatch(r *rand.Rand, n int, nulls float64) *Batch {
	b := &Batch{N: n}
	for _, c := range testColumns {
		texts := append(strings.Fields(c.values), "")
		if !c.typ.IsString() {
			texts = texts[:len(texts)-1]
		}
		bl := sqltypes.NewBuilder(c.typ)
		for range n {
			if r.Float64() < nulls {
				bl.AppendNull()
			} else if err := bl.AppendText(texts[r.Intn(len(texts))]); err != nil {
				panic(err)
			}
		}
		b.Cols = append(b.Cols, bl.Finish())
	}
	return b
}

// vectorExprs go over columns. Each is evaluated over whole batches, over
// selections and row by row, and must not care.
var vectorExprs = strings.Split(strings.TrimSpace(`
i4 + 1
i4 + i2
i8 - i4
i4 * i4
i2 * i2
i8 * i8
i4 / i2
i8 % i4
-i4
abs(i8)
i4 & 255
i8 >> 3
f8 + f4
f8 * f8
f8 / f8
f8 - 1
-f8
n2 + n4
n2 - 1
1 - n2
n2 * n4
n2 * (1 - n4) * (1 + n4)
n2 / n4
n2 % n4
nb * nb
nb + nb
nn + n2
nn * nn
nn / n2
-n2
abs(n4)
n2 * i4
round(n2, 1)
round(n4)
floor(n2)
n2::int4
n2::float8
n2::numeric(10,1)
n4::numeric
i4::numeric
i4::numeric(5,2)
f8::int4
f8::numeric
i4::int2
i8::int4
i4::float8
i4::text
n2::text
f8::text
d::text
tz::text
c::text
c || t
t || i4
upper(t)
length(c)
substring(t, 2, 3)
left(v, -1)
replace(t, 'o', '00')
lpad(t, 6, 'x')
position('o' in t)
split_part(t, 'o', 2)
regexp_replace(t, 'o+', '[\&]')
md5(t)
extract(year from d)
extract(epoch from ts)
extract(hour from tz)
date_part('month', ts)
date_part('dow', d)
extract(month from d)
extract(day from ts)
extract(quarter from d)
extract(year from ts)
extract(dow from ts)
date_trunc('month', ts)
date_trunc('day', tz)
d + 1
d + interval '1 month'
ts + iv
tz + iv
ts - iv
iv + iv
iv * 2.5
d - d
ts - ts
age(ts)
d::timestamp
ts::date
tz::date
to_char(ts, 'YYYY-MM-DD')
to_char(n2, '999,999.99')
case when i4 > 0 then n2 when i4 < 0 then n4 else 0 end
case when b then i4 / i2 else 0 end
case when t like 'f%' then t else v end
case d when date '1995-01-01' then 1 end
coalesce(i4, i2, 0)
coalesce(t, v, 'none')
coalesce(n2, n4)
coalesce(null, d)
nullif(i4, 7)
nullif(t, 'foo')
greatest(i4, i2, 50)
least(n2, n4)
greatest(t, v)
concat(t, i4, n2, d)
concat_ws('-', t, v)
i4 > 5
i4 <= i2
i8 = i4
i2 <> 7
5 < i4
i4 = 5000000000
f8 < 3.25
f8 >= f4
f8 = 'NaN'
f8 > f8
n2 > 1
n2 < 0.055
n2 = n4
n2 >= nb
n4 <> 1.5
nn = 1.5
nn > n2
n2 between 0.05 and 7.25
t = 'foo'
t < v
t <> c
c = 'foo'
c < 'foo   '
v >= 'foo'
by = '\x6162'
by < '\xff'
d < date '1995-01-01'
d <= date '1998-12-01' - interval '90 days'
d >= date '1994-01-01' + interval '1 year'
d = ts
d < tz
ts > d
ts < tz
tz = timestamptz '1995-01-01 00:00:00+00'
tm < time '12:00'
iv = interval '30 days'
iv < interval '1 day'
b = true
b < true
i4 in (1, 7, 42)
i4 not in (1, 7, null)
i4 in (1,2,3,4,5,6,7,8,9,10,11,42)
i4 not in (1,2,3,4,5,6,7,8,9,10,11,42)
n2 in (1, 7.25)
n2 in (1.001, 7.25)
f8 in (1, 'NaN')
t in ('foo', 'bar', 'abc')
v in ('MAIL', 'SHIP')
c not in ('MAIL', 'SHIP')
d in (date '1995-01-01')
nn in (1.5, 'NaN')
iv in (interval '30 days')
b in (true)
t like 'foo%'
t like '%foo'
t like '%oo%'
t like 'f_o%'
t not like '%special%requests%'
t like v
v like 'a%'
c like 'a%'
t ilike 'F%'
t ~ '^f.*r$'
t !~* 'FOO'
t similar to '(foo|bar)%'
i4 is null
i4 is not null
b is true
b is not false
b is unknown
not b
not (i4 > 5)
i4 is distinct from i2
t is not distinct from v
i4 > 0 and i2 > 0
i4 > 0 and n2 > 1 and t like 'f%' and d < date '2000-01-01'
i4 > 0 or i2 > 0
i4 > 0 or b or t = 'foo'
(i4 > 0 and b) or (i2 < 0 and not b)
not (b or i4 > 3)
b and null
b or null
i2 <> 0 and i4 / i2 > 1
i2 = 0 or i4 / i2 > 1
null = i4
i4 = null
5 = any('{1,5,7}'::int[])
i4 = any('{1,5,7}'::int[])
true
false
i4 > 2147483647
array_length(string_to_array(t, 'o'), 1)
n2 * (1 - n4) - n4
n2 + 1 > n4
1 < n2 - n4
n2 + n4 = n4
n2 * 2 <> n2
n2 between 0 and 1 and n4 between 0.00005 and 2 and n2 <> n4
n2 > 0 and i4 > 0 and n2 < 8 and i4 <= 42
d >= date '1994-12-31' and d < timestamp '1995-01-01 00:00:01'
i4 between -5 and 5000000000
i2 > -40000 and i2 < 40000
n2 > 1 or n4 < 1 or t = 'foo' or t like 'b%'
t = 'foo' or t = 'abc' or t is null
t in ('foo', 'abc') and t <> 'abc'
upper(t) like 'F%' and length(t) > 3
coalesce(t, 'none') = 'none'
substring(t, 1, 2)
case when t like 'f%' then 'food' when t is null then 'null' else 'other' end
case when t like 'f%' then n2 * (1 - n4) else 0 end
case when t = 'foo' then 1 else 0 end
n2 is null or n2 * n4 is not null
not (n2 > 1 and t like 'f%')
not (t like 'f%' or t = 'abc')
not (n2 between 0 and 2)
n2 in (1, 7.25, -1.5) and n4 not in (1, 0.0001)
n2 in (1, 7.25, 0.001, null)
n2 not in (1, 1e30, 7.251)
t || v
t = v
t < v and v is not null
c = 'foo' and c like 'f%'
by in ('\x00', '\x6162')
length(by) = 2
starts_with(t, 'foo')
isfinite(ts)
sign(n2)
sqrt(abs(n2))
power(f4, 2)
pg_typeof(i4)
`), "\n")

func rowText(t sqltypes.Type, arr arrow.Array, i int) string {
	if arr.IsNull(i) {
		return "NULL"
	}
	return string(sqltypes.AppendArrowText(nil, t, arr, i, nil))
}

// oneRow is row i of b as a batch of its own.
func oneRow(b *Batch, i int) *Batch { return TakeBatch(b, []int32{int32(i)}) }

func TestVectorsEqualRows(t *testing.T) {
	ctx := testCtx()
	for _, sql := range vectorExprs {
		t.Run(sql, func(t *testing.T) {
			e, err := bindSQL(sql, testScope())
			if err != nil {
				t.Fatal(errorText(err))
			}
			ev, err := Compile(e)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range int64(6) {
				r := rand.New(rand.NewSource(seed))
				b := randomBatch(r, []int{1, 7, 64, 129}[seed%4], []float64{0, 0.3}[seed%2])
				checkVector(t, ctx, ev, b, r)
			}
		})
	}
}

func checkVector(t *testing.T, ctx *Ctx, ev Evaluator, b *Batch, r *rand.Rand) {
	t.Helper()
	typ := ev.Expr().Type()
	want := make([]string, b.N)
	var fine []int32 // rows without an error
	for i := range b.N {
		arr, err := ev.Eval(ctx, oneRow(b, i), nil)
		if err != nil {
			want[i] = errorText(err)
			continue
		}
		if !arrow.TypeEqual(arr.DataType(), typ.Arrow()) {
			t.Fatalf("a column of %s, want %s", arr.DataType(), typ.Arrow())
		}
		want[i] = rowText(typ, arr, 0)
		fine = append(fine, int32(i))
	}
	arr, err := ev.Eval(ctx, b, nil)
	if (err != nil) != (len(fine) < b.N) {
		t.Fatalf("whole batch: %v, but %d of %d rows are fine", err, len(fine), b.N)
	}
	if err != nil && !slices.Contains(want, errorText(err)) {
		t.Fatalf("whole batch: %v, which no row has", err)
	}
	if err == nil {
		compareRows(t, typ, arr, nil, want)
	}
	for range 3 {
		sel := make([]int32, 0, len(fine))
		for _, i := range fine {
			if r.Intn(3) > 0 {
				sel = append(sel, i)
			}
		}
		arr, err := ev.Eval(ctx, b, sel)
		if err != nil {
			t.Fatalf("selection of rows that are fine: %v", err)
		}
		if arr.Len() != b.N {
			t.Fatalf("%d rows, want %d", arr.Len(), b.N)
		}
		compareRows(t, typ, arr, sel, want)
		if typ.OID == sqltypes.OIDBool {
			checkFilter(t, ctx, ev, b, sel, want)
		}
	}
	if typ.OID == sqltypes.OIDBool && len(fine) == b.N {
		checkFilter(t, ctx, ev, b, nil, want)
	}
	// A slice starts at an offset that is not a whole byte.
	if b.N > 3 && len(fine) == b.N {
		arr, err := ev.Eval(ctx, SliceBatch(b, 3, b.N), nil)
		if err != nil {
			t.Fatal(err)
		}
		compareRows(t, typ, arr, nil, want[3:])
	}
	checkEncoded(t, ctx, ev, b, fine, want, r)
}

func compareRows(t *testing.T, typ sqltypes.Type, arr arrow.Array, sel []int32, want []string) {
	t.Helper()
	rowsOf(len(want), sel, func(i int) {
		if got := rowText(typ, arr, i); got != want[i] {
			t.Fatalf("row %d = %s, alone it is %s", i, got, want[i])
		}
	})
}

func checkFilter(t *testing.T, ctx *Ctx, ev Evaluator, b *Batch, sel []int32, want []string) {
	t.Helper()
	var rows []int32
	rowsOf(b.N, sel, func(i int) {
		if want[i] == "t" {
			rows = append(rows, int32(i))
		}
	})
	got, err := Filter(ctx, ev, b, sel, []int32{-7})
	if err != nil || !slices.Equal(got[1:], rows) || got[0] != -7 {
		t.Fatalf("Filter = %v, %v, want %v", got, err, rows)
	}
	if sel != nil {
		in := slices.Clone(sel)
		got, err := Filter(ctx, ev, b, in, in[:0])
		if err != nil || !slices.Equal(got, rows) {
			t.Fatalf("Filter in place = %v, %v, want %v", got, err, rows)
		}
	}
}

// TestFold holds FoldConst to what it is given: the folded expression has the
// same value.
func TestFold(t *testing.T) {
	ctx := testCtx()
	r := rand.New(rand.NewSource(1))
	b := randomBatch(r, 20, 0.2)
	for _, sql := range vectorExprs {
		e, err := bindSQL(sql, testScope())
		if err != nil {
			t.Fatal(err)
		}
		f := FoldConst(ctx, e)
		if f.Type() != e.Type() {
			t.Fatalf("%s: folded to type %s from %s", sql, f.Type(), e.Type())
		}
		if !Equal(e, e) || f.String() == "" {
			t.Fatalf("%s is not equal to itself", sql)
		}
		ev1, _ := Compile(e)
		ev2, err := Compile(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.N {
			a1, err1 := ev1.Eval(ctx, oneRow(b, i), nil)
			a2, err2 := ev2.Eval(ctx, oneRow(b, i), nil)
			if (err1 == nil) != (err2 == nil) {
				t.Fatalf("%s: %v, folded %v", sql, err1, err2)
			}
			if err1 == nil && rowText(e.Type(), a1, 0) != rowText(e.Type(), a2, 0) {
				t.Fatalf("%s row %d: %s, folded %s", sql, i, rowText(e.Type(), a1, 0), rowText(e.Type(), a2, 0))
			}
		}
	}
}

// TestSignatures finds every function of the expressions again by its
// signature, as a plan from another node names it.
func TestSignatures(t *testing.T) {
	for _, sql := range vectorExprs {
		e, err := bindSQL(sql, testScope())
		if err != nil {
			t.Fatal(err)
		}
		Walk(e, func(x Expr) bool {
			if c, ok := x.(*Call); ok {
				if f, ok := FuncBySig(c.Fn.Sig); !ok || f != c.Fn {
					t.Errorf("%s: FuncBySig(%q) = %v, %v", sql, c.Fn.Sig, f, ok)
				}
			}
			return true
		})
	}
	for _, bad := range []string{"", "cast(", "cast(int4,nothing)", "cast(bool,date)", "nothing()"} {
		if f, ok := FuncBySig(bad); ok {
			t.Errorf("FuncBySig(%q) = %v", bad, f.Sig)
		}
	}
}

// TestOrderAndHash holds comparator, hash and equality to one another and to
// the comparison operators.
func TestOrderAndHash(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	b := randomBatch(r, 60, 0.2)
	for c, col := range testColumns {
		types, cols := []sqltypes.Type{col.typ}, []arrow.Array{b.Cols[c]}
		hashes := make([]uint64, b.N)
		HashColumns(types, cols, nil, hashes)
		up := NewComparator([]Key{{Type: col.typ}}, cols, cols)
		down := NewComparator([]Key{{Type: col.typ, Desc: true, NullsFirst: true}}, cols, cols)
		for i := range b.N {
			for j := range b.N {
				c := up.Compare(i, j)
				if c != -up.Compare(j, i) || c != -down.Compare(i, j) {
					t.Fatalf("%s: order of rows %d and %d isn't antisymmetric", col.name, i, j)
				}
				x, y := sqltypes.DatumAt(col.typ, cols[0], i), sqltypes.DatumAt(col.typ, cols[0], j)
				if sgn(CompareDatums(col.typ, x, y)) != sgn(c) {
					t.Fatalf("%s: rows %d and %d: %d as columns, %d as values", col.name, i, j, c, CompareDatums(col.typ, x, y))
				}
				eq := EqualRows(types, cols, cols, i, j)
				if eq != (c == 0) || eq && hashes[i] != hashes[j] {
					t.Fatalf("%s: rows %d and %d: equal %v, order %d, hashes %x %x", col.name, i, j, eq, c, hashes[i], hashes[j])
				}
			}
		}
	}
}

func sgn(c int) int {
	switch {
	case c < 0:
		return -1
	case c > 0:
		return 1
	}
	return 0
}

// TestHashOfScales: a number hashes alike whatever its scale and layout.
func TestHashOfScales(t *testing.T) {
	for _, s := range []string{"0", "1", "-1", "10", "1.50", "100000000000000000000", "12345678901234567890.50", "-0.01"} {
		var hashes []uint64
		for _, typ := range []sqltypes.Type{sqltypes.NumericOf(38, 2), sqltypes.NumericOf(38, 6), sqltypes.Numeric} {
			d, err := sqltypes.ParseText(typ, s)
			if err != nil {
				t.Fatal(err)
			}
			out := make([]uint64, 1)
			HashColumns([]sqltypes.Type{typ}, []arrow.Array{sqltypes.ArrayOf(typ, []sqltypes.Datum{d})}, nil, out)
			hashes = append(hashes, out[0])
		}
		if hashes[0] != hashes[1] || hashes[0] != hashes[2] {
			t.Errorf("%s hashes to %x", s, hashes)
		}
	}
}

func TestTakeConcatSlice(t *testing.T) {
	r := rand.New(rand.NewSource(5))
	b := randomBatch(r, 50, 0.3)
	sel := []int32{3, 3, -1, 49, 0, 17}
	taken := TakeBatch(b, sel)
	joined, err := ConcatBatches([]*Batch{SliceBatch(b, 0, 20), SliceBatch(b, 20, 21), SliceBatch(b, 21, 50)})
	if err != nil || joined.N != 50 {
		t.Fatal(joined, err)
	}
	for c, col := range testColumns {
		for k, i := range sel {
			want := "NULL"
			if i >= 0 {
				want = rowText(col.typ, b.Cols[c], int(i))
			}
			if got := rowText(col.typ, taken.Cols[c], k); got != want {
				t.Errorf("%s: Take row %d = %s, want %s", col.name, i, got, want)
			}
		}
		for i := range b.N {
			if got, want := rowText(col.typ, joined.Cols[c], i), rowText(col.typ, b.Cols[c], i); got != want {
				t.Errorf("%s: Concat row %d = %s, want %s", col.name, i, got, want)
			}
		}
	}
}

func ExampleExpr() {
	e, _ := bindSQL("n2 > 1 and t like 'a%' and i4 in (1, 2) and d < date '1995-01-01' and not b and v = 'x'", testScope())
	fmt.Println(e)
	// Output: ((((((n2 > '1'::numeric) AND (t ~~ 'a%'::text)) AND (i4 = ANY ('{1,2}'::integer[]))) AND (d < '1995-01-01'::date)) AND (NOT b)) AND ((v)::text = 'x'::text))
}
