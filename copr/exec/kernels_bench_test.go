package exec_test

import (
	"math/rand"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// The kernels beside a loop that was written for one query, over the same
// arrays: what TPC-H's lineitem has, as the columnar cache holds it.

// lineitem is columns of TPC-H's lineitem.
type lineitem struct {
	quantity, price, discount, tax []int64 // of scale 2
	ship                           []int32
	flag, status                   []int32 // codes
}

const (
	kernelRows   = 1 << 20
	shipDayFirst = 8036  // 1992-01-02
	shipDayLast  = 10561 // 1998-12-01
	day1994      = 8766
	day1995      = 9131
)

func newLineitem() *lineitem {
	r := rand.New(rand.NewSource(1))
	l := &lineitem{}
	for range kernelRows {
		quantity := 100 * (1 + r.Int63n(50))
		l.quantity = append(l.quantity, quantity)
		l.price = append(l.price, quantity/100*(90000+r.Int63n(110000)))
		l.discount = append(l.discount, r.Int63n(11))
		l.tax = append(l.tax, r.Int63n(9))
		day := shipDayFirst + r.Int31n(shipDayLast-shipDayFirst+1)
		l.ship = append(l.ship, day)
		flag, status := int32(2), int32(1) // N O
		if day < 9298 {
			flag, status = r.Int31n(2), 0 // A or R, F
		}
		l.flag, l.status = append(l.flag, flag), append(l.status, status)
	}
	return l
}

var lineitemTypes = []sqltypes.Type{
	sqltypes.NumericOf(15, 2), sqltypes.NumericOf(15, 2), sqltypes.NumericOf(15, 2), sqltypes.NumericOf(15, 2),
	sqltypes.Date, {OID: sqltypes.OIDBpchar, Precision: 1}, {OID: sqltypes.OIDBpchar, Precision: 1},
}

// batches are the rows in batches of the engine's size, encoded.
func (l *lineitem) batches() []*expr.Batch {
	texts := func(s ...string) arrow.Array {
		d := make([]sqltypes.Datum, len(s))
		for i := range s {
			d[i] = sqltypes.NewString(s[i])
		}
		return sqltypes.ArrayOf(lineitemTypes[5], d)
	}
	flags, status := texts("A", "R", "N"), texts("F", "O")
	days := colvec.NewBuilder(sqltypes.Date, kernelRows)
	for _, d := range l.ship {
		days.AppendInt32(d)
	}
	ship, err := days.Finish()
	if err != nil {
		panic(err)
	}
	var out []*expr.Batch
	for lo := 0; lo < kernelRows; lo += exec.BatchRowsMax {
		hi := lo + exec.BatchRowsMax
		dec := func(v []int64) arrow.Array { return colvec.NewDec64(v[lo:hi], nil, 0) }
		out = append(out, &expr.Batch{N: exec.BatchRowsMax, Cols: []arrow.Array{
			dec(l.quantity), dec(l.price), dec(l.discount), dec(l.tax), array.NewSlice(ship, int64(lo), int64(hi)),
			colvec.NewDict(flags, l.flag[lo:hi], nil, 0), colvec.NewDict(status, l.status[lo:hi], nil, 0),
		}})
	}
	return out
}

func lineitemCol(i int) expr.Expr { return &expr.Column{Index: i, Typ: lineitemTypes[i]} }

func num(s string) expr.Expr {
	d, _, err := apd.NewFromString(s)
	if err != nil {
		panic(err)
	}
	return &expr.Const{Value: sqltypes.NewDecimal(d), Typ: sqltypes.NumericOf(0, sqltypes.NumericScale(d))}
}

// q6 is TPC-H's query 6, as a region computes it.
func q6(b testing.TB, batches []*expr.Batch) exec.Operator {
	date := func(d int64) expr.Expr { return &expr.Const{Value: sqltypes.NewInt(d), Typ: sqltypes.Date} }
	scan := exec.NewBatches(lineitemTypes, batches...)
	filter := mustOp(b)(exec.NewFilter(scan, []expr.Expr{
		call(b, ">=", lineitemCol(4), date(day1994)), call(b, "<", lineitemCol(4), date(day1995)),
		call(b, ">=", lineitemCol(2), num("0.05")), call(b, "<=", lineitemCol(2), num("0.07")),
		call(b, "<", lineitemCol(0), num("24")),
	}))
	revenue := call(b, "*", lineitemCol(1), lineitemCol(2))
	return mustOp(b)(exec.NewHashAgg(filter, exec.CompleteAgg, nil, []plan.AggCall{{Name: "sum", Args: []expr.Expr{revenue}}}))
}

func (l *lineitem) q6() (sum int64) {
	quantity, price, discount := l.quantity, l.price, l.discount
	for i, day := range l.ship {
		if day >= day1994 && day < day1995 && discount[i] >= 5 && discount[i] <= 7 && quantity[i] < 2400 {
			sum += price[i] * discount[i]
		}
	}
	return sum
}

// cpuTime is the processor time of this process so far: on a machine with other
// programs it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perKernelRow runs f over kernelRows rows.
func perKernelRow(b *testing.B, f func()) {
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/kernelRows, "cpu-ns/row")
	perRow(b, kernelRows)
}

func BenchmarkKernelQ6(b *testing.B) {
	l := newLineitem()
	b.Run("loop", func(b *testing.B) {
		perKernelRow(b, func() {
			if l.q6() == 0 {
				b.Fatal("no rows")
			}
		})
	})
	batches := l.batches()
	b.Run("engine", func(b *testing.B) {
		perKernelRow(b, func() {
			if _, err := exec.Collect(ctx(), q6(b, batches)); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// TestKernelsQ6: operators and loop agree.
func TestKernelsQ6(t *testing.T) {
	l := newLineitem()
	out, err := exec.Collect(ctx(), q6(t, l.batches()))
	if err != nil || len(out) != 1 {
		t.Fatal(out, err)
	}
	got := sqltypes.DatumAt(sqltypes.NumericOf(0, 4), out[0].Cols[0], 0).Decimal()
	if want := apd.New(l.q6(), -4); sqltypes.NumericCmp(got, want) != 0 {
		t.Errorf("sum %s, want %s", got, want)
	}
}

// caseOf is CASE WHEN cond THEN then ELSE other END of a numeric without scale.
func caseOf(t testing.TB, cond, then, other expr.Expr) expr.Expr {
	t.Helper()
	c := &expr.Case{Conds: []expr.Expr{cond}, Typ: sqltypes.Numeric}
	for _, e := range []expr.Expr{then, other} {
		x, err := expr.NewCast(e, sqltypes.Numeric, expr.Implicit)
		if err != nil {
			t.Fatal(err)
		}
		c.Results = append(c.Results, x)
	}
	c.Else, c.Results = c.Results[1], c.Results[:1]
	return c
}

// TestSumOfMixedScales: a sum over a CASE of several scales, as in queries 8 and
// 14, shows the same digits whether it is computed in 64 bits or from texts.
func TestSumOfMixedScales(t *testing.T) {
	encoded := newLineitem().batches()[:3]
	plain := make([]*expr.Batch, len(encoded))
	for i, b := range encoded {
		plain[i] = exec.PlainBatch(b, lineitemTypes)
	}
	text := func(s string) expr.Expr { return &expr.Const{Value: sqltypes.NewString(s), Typ: lineitemTypes[5]} }
	volume := call(t, "*", lineitemCol(1), call(t, "-", num("1"), lineitemCol(2)))
	for _, arg := range []expr.Expr{
		caseOf(t, call(t, "=", lineitemCol(5), text("A")), volume, num("0")),
		caseOf(t, call(t, "=", lineitemCol(5), text("X")), volume, num("0")), // 0, not 0.0000
		caseOf(t, call(t, "=", lineitemCol(5), text("R")), lineitemCol(3), num("1.5")),
		caseOf(t, call(t, "<", lineitemCol(0), num("10")), volume, lineitemCol(0)),
	} {
		for _, keys := range [][]expr.Expr{nil, {lineitemCol(5)}, {lineitemCol(0)}} {
			var got [2][]string
			for i, in := range [][]*expr.Batch{plain, encoded} {
				op := mustOp(t)(exec.NewHashAgg(exec.NewBatches(lineitemTypes, in...), exec.CompleteAgg, keys,
					[]plan.AggCall{{Name: "sum", Args: []expr.Expr{arg}}, {Name: "avg", Args: []expr.Expr{arg}}, {Name: "min", Args: []expr.Expr{arg}}}))
				out, err := exec.Collect(ctx(), op)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range out {
					for r := range b.N {
						line := ""
						for c, typ := range op.Types() {
							line += string(sqltypes.AppendText(nil, typ, sqltypes.DatumAt(typ, b.Cols[c], r))) + " "
						}
						got[i] = append(got[i], line)
					}
				}
			}
			if !slices.Equal(got[0], got[1]) {
				t.Errorf("%s by %v: %v as text, %v in 64 bits", arg, keys, got[0], got[1])
			}
		}
	}
}

// TestSumOfMixedScalesAsPostgreSQL: PostgreSQL 15 was asked.
func TestSumOfMixedScalesAsPostgreSQL(t *testing.T) {
	types := []sqltypes.Type{{OID: sqltypes.OIDBpchar, Precision: 1}, sqltypes.NumericOf(15, 2), sqltypes.NumericOf(15, 2)}
	flags := sqltypes.ArrayOf(types[0], []sqltypes.Datum{sqltypes.NewString("A"), sqltypes.NewString("B")})
	in := &expr.Batch{N: 4, Cols: []arrow.Array{
		colvec.NewDict(flags, []int32{0, 0, 1, 1}, nil, 0), colvec.NewDec64([]int64{1000, 333, 710, 0}, []byte{7}, 1), colvec.NewDec64([]int64{5, 0, 10, 10}, nil, 0),
	}}
	col := func(i int) expr.Expr { return &expr.Column{Index: i, Typ: types[i]} }
	is := func(s string) expr.Expr {
		return call(t, "=", col(0), &expr.Const{Value: sqltypes.NewString(s), Typ: types[0]})
	}
	p, d := col(1), col(2)
	volume := call(t, "*", p, call(t, "-", num("1"), d))
	for _, c := range []struct {
		agg    string
		arg    expr.Expr
		groups []expr.Expr
		want   []string
	}{
		{"sum", caseOf(t, is("A"), volume, num("0")), []expr.Expr{col(0)}, []string{"12.8300", "0"}},
		{"avg", caseOf(t, is("A"), volume, num("0")), []expr.Expr{col(0)}, []string{"6.4150000000000000", "0.00000000000000000000"}},
		{"sum", caseOf(t, is("C"), volume, num("0")), nil, []string{"0"}},
		{"sum", caseOf(t, is("A"), d, num("1.500")), nil, []string{"3.050"}},
		{"avg", caseOf(t, is("C"), call(t, "*", p, d), num("7")), nil, []string{"7.0000000000000000"}},
	} {
		op := mustOp(t)(exec.NewHashAgg(exec.NewBatches(types, in), exec.CompleteAgg, c.groups, []plan.AggCall{{Name: c.agg, Args: []expr.Expr{c.arg}}}))
		out, err := exec.Collect(ctx(), op)
		if err != nil || len(out) != 1 {
			t.Fatal(out, err)
		}
		var got []string
		k := len(c.groups)
		for r := range out[0].N {
			got = append(got, string(sqltypes.AppendText(nil, op.Types()[k], sqltypes.DatumAt(op.Types()[k], out[0].Cols[k], r))))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s(%s): %v, PostgreSQL has %v", c.agg, c.arg, got, c.want)
		}
	}
}
