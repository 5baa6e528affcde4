package exec_test

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

const day19980902 = 10471

// q1 is TPC-H's query 1, as a region computes it.
func q1(b testing.TB, batches []*expr.Batch) exec.Operator {
	scan := exec.NewBatches(lineitemTypes, batches...)
	day := &expr.Const{Value: sqltypes.NewInt(day19980902), Typ: sqltypes.Date}
	filter := mustOp(b)(exec.NewFilter(scan, []expr.Expr{call(b, "<=", lineitemCol(4), day)}))
	quantity, price, discount, tax := lineitemCol(0), lineitemCol(1), lineitemCol(2), lineitemCol(3)
	discPrice := func() expr.Expr { return call(b, "*", price, call(b, "-", num("1"), discount)) }
	charge := call(b, "*", discPrice(), call(b, "+", num("1"), tax))
	aggs := []plan.AggCall{
		{Name: "sum", Args: []expr.Expr{quantity}}, {Name: "sum", Args: []expr.Expr{price}},
		{Name: "sum", Args: []expr.Expr{discPrice()}}, {Name: "sum", Args: []expr.Expr{charge}},
		{Name: "avg", Args: []expr.Expr{quantity}}, {Name: "avg", Args: []expr.Expr{price}},
		{Name: "avg", Args: []expr.Expr{discount}}, {Name: "count"},
	}
	return mustOp(b)(exec.NewHashAgg(filter, exec.PartialAgg, []expr.Expr{lineitemCol(5), lineitemCol(6)}, aggs))
}

type q1Group struct{ quantity, price, discPrice, charge, discount, count int64 }

// q1 is the loop that one would write for query 1; its sums may overflow.
func (l *lineitem) q1() (groups [6]q1Group) {
	quantity, price, discount, tax, flag, status := l.quantity, l.price, l.discount, l.tax, l.flag, l.status
	for i, day := range l.ship {
		if day > day19980902 {
			continue
		}
		g := &groups[flag[i]*2+status[i]]
		discPrice := price[i] * (100 - discount[i])
		g.quantity += quantity[i]
		g.price += price[i]
		g.discPrice += discPrice
		g.charge += discPrice * (100 + tax[i])
		g.discount += discount[i]
		g.count++
	}
	return groups
}

func TestQ1Kernel(t *testing.T) {
	l := newLineitem()
	op := q1(t, l.batches())
	got, err := exec.Collect(ctx(), op)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, r := range texts(got, op.Types()) {
		found[r] = true
	}
	for i, g := range l.q1() {
		if g.count == 0 {
			continue
		}
		dec := func(v int64, scale int) string {
			pow := int64(1)
			for range scale {
				pow *= 10
			}
			return fmt.Sprintf("%d.%0*d", v/pow, scale, v%pow)
		}
		n := g.count
		want := fmt.Sprintf("%c | %c | %s | %s | %s | %s | %s | %d | %s | %d | %s | %d | %d", "ARN"[i/2], "FO"[i%2],
			dec(g.quantity, 2), dec(g.price, 2), dec(g.discPrice, 4), dec(g.charge, 6),
			dec(g.quantity, 2), n, dec(g.price, 2), n, dec(g.discount, 2), n, n)
		if !found[want] {
			t.Errorf("no group %s in %v", want, found)
		}
	}
}

func BenchmarkKernelQ1(b *testing.B) {
	l := newLineitem()
	b.Run("loop", func(b *testing.B) {
		perKernelRow(b, func() {
			if l.q1()[0].count == 0 {
				b.Fatal("no rows")
			}
		})
	})
	batches := l.batches()
	b.Run("engine", func(b *testing.B) {
		perKernelRow(b, func() {
			if _, err := exec.Collect(ctx(), q1(b, batches)); err != nil {
				b.Fatal(err)
			}
		})
	})
}

func perRow(b *testing.B, rows int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
}

// BenchmarkGroupBy groups 6M rows, the sum of a number for each key.
func BenchmarkGroupBy(b *testing.B) {
	const rows = 6_000_000
	r := rand.New(rand.NewSource(1))
	types := []sqltypes.Type{sqltypes.Int8, sqltypes.Int8, sqltypes.Int4, sqltypes.Int4, sqltypes.Text, sqltypes.NumericOf(15, 2)}
	var bs []*expr.Batch
	for lo := 0; lo < rows; lo += exec.BatchRowsMax {
		n := min(rows-lo, exec.BatchRowsMax)
		cols := colvec.NewBuilders(types, n)
		vals := make([]int64, n)
		for i := range n {
			key := r.Int63n(1_500_000)
			cols[0].AppendInt64(key)
			cols[1].AppendInt64(int64(lo+i) / 4)
			cols[2].AppendInt32(int32(key % 1500))
			cols[3].AppendInt32(int32(key / 1500))
			cols[4].AppendString(fmt.Sprintf("Customer#%09d", key%150_000))
			vals[i] = key
		}
		arrs, err := colvec.FinishAll(cols[:5])
		if err != nil {
			b.Fatal(err)
		}
		bs = append(bs, &expr.Batch{N: n, Cols: append(arrs, colvec.NewDec64(vals, nil, 0))})
	}
	col := func(i int) expr.Expr { return &expr.Column{Index: i, Typ: types[i]} }
	sum := []plan.AggCall{{Name: "sum", Args: []expr.Expr{col(5)}}}
	distinct := []plan.AggCall{{Name: "count", Args: []expr.Expr{col(0)}, Distinct: true}}
	for _, c := range []struct {
		name string
		mode exec.AggMode
		keys []expr.Expr
		aggs []plan.AggCall
	}{
		{"int8-1.5M", exec.CompleteAgg, []expr.Expr{col(0)}, sum},
		{"int8-1.5M-ordered", exec.CompleteAgg, []expr.Expr{col(1)}, sum},
		{"int8-1.5M-partial", exec.PartialAgg, []expr.Expr{col(0)}, sum},
		{"int8-1.5M-ordered-partial", exec.PartialAgg, []expr.Expr{col(1)}, sum},
		{"two-int4-1.5M", exec.CompleteAgg, []expr.Expr{col(2), col(3)}, sum},
		{"int4-1500", exec.CompleteAgg, []expr.Expr{col(2)}, sum},
		{"text-150k", exec.CompleteAgg, []expr.Expr{col(4)}, sum},
		{"count-distinct-1.5M", exec.CompleteAgg, nil, distinct},
		{"count-distinct-by-1000", exec.CompleteAgg, []expr.Expr{col(3)}, distinct},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				op := mustOp(b)(exec.NewHashAgg(exec.NewBatches(types, bs...), c.mode, c.keys, c.aggs))
				cx := ctx()
				cx.Mem = nil
				if _, err := exec.Collect(cx, op); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b, rows)
		})
	}
}
