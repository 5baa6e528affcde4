package expr

import (
	"math/rand"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/sqltypes"
)

const benchRows = 8192

// benchBatch is lineitem-like: i8, f8, n2, n4, d, t.
func benchBatch() (*Batch, *scope) {
	r := rand.New(rand.NewSource(1))
	ints, floats := make([]int64, benchRows), make([]float64, benchRows)
	n2, n4 := make([]decimal128.Num, benchRows), make([]decimal128.Num, benchRows)
	days := make([]int32, benchRows)
	text := sqltypes.NewBuilder(sqltypes.Text)
	for i := range benchRows {
		ints[i], floats[i] = r.Int63n(1000), r.Float64()
		n2[i], n4[i] = decimal128.FromI64(r.Int63n(10_000_000)), decimal128.FromI64(r.Int63n(1000))
		days[i] = int32(8000 + r.Intn(2500))
		if err := text.AppendText([]string{"PROMO BRUSHED", "STANDARD ANODIZED", "MAIL", "special requests"}[r.Intn(4)]); err != nil {
			panic(err)
		}
	}
	num := sqltypes.NumericOf(15, 2)
	s := &scope{
		names: []string{"i8", "f8", "n2", "n4", "d", "t"},
		types: []sqltypes.Type{sqltypes.Int8, sqltypes.Float8, num, num, sqltypes.Date, sqltypes.Text},
	}
	cols := []arrow.Array{
		fixed(s.types[0].Arrow(), ints, nil), fixed(s.types[1].Arrow(), floats, nil), fixed(num.Arrow(), n2, nil),
		fixed(num.Arrow(), n4, nil), fixed(s.types[4].Arrow(), days, nil), text.Finish(),
	}
	return &Batch{N: benchRows, Cols: cols}, s
}

func BenchmarkFilter(b *testing.B) {
	batch, s := benchBatch()
	for _, sql := range []string{
		"i8 < 500", "f8 < 0.5", "n2 < 24.00", "d < date '1995-01-01' + interval '1 year'", "t like 'PROMO%'", "t like '%requests%'",
		"t in ('MAIL', 'SHIP')", "i8 in (1, 2, 3)", "n2 between 5 and 700 and d >= date '1994-01-01' and i8 < 24", "i8 < 100 or i8 > 900",
	} {
		b.Run(sql, func(b *testing.B) {
			ev := compiled(b, sql, s)
			out := make([]int32, 0, benchRows)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if out, err = Filter(nil, ev, batch, nil, out[:0]); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
	}
}

func compiled(b *testing.B, sql string, s *scope) Evaluator {
	e, err := bindSQL(sql, s)
	if err != nil {
		b.Fatal(err)
	}
	ev, err := Compile(FoldConst(nil, e))
	if err != nil {
		b.Fatal(err)
	}
	return ev
}

func perRow(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

func BenchmarkEval(b *testing.B) {
	batch, s := benchBatch()
	for _, sql := range []string{
		"i8 + 1", "i8 * i8", "f8 * f8", "n2 + n4", "n2 * (1 - n4)", "n2 * (1 - n4) * (1 + n4)", "n2 / n4", "extract(year from d)",
		"substring(t, 1, 2)", "case when t like 'PROMO%' then n2 * (1 - n4) else 0 end", "t || 'x'",
	} {
		b.Run(sql, func(b *testing.B) {
			ev := compiled(b, sql, s)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ev.Eval(nil, batch, nil); err != nil && sql != "n2 / n4" {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
	}
}

func BenchmarkHashColumns(b *testing.B) {
	batch, s := benchBatch()
	out := make([]uint64, benchRows)
	for i, name := range s.names {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				HashColumns(s.types[i:i+1], batch.Cols[i:i+1], nil, out)
			}
			perRow(b)
		})
	}
}

// BenchmarkEncoded is filters and values over columns as the columnar cache has
// them.
func BenchmarkEncoded(b *testing.B) {
	plain, s := benchBatch()
	batch := encodeBatch(plain, s.types, rand.New(rand.NewSource(1)))
	for _, sql := range []string{
		"n2 < 24.00", "n2 between 5 and 700 and d >= date '1994-01-01' and i8 < 24", "n2 > n4", "n2 in (1, 2, 3)", "t like 'PROMO%'", "t like '%requests%'",
		"t in ('MAIL', 'SHIP')", "t like '%requests%' or t = 'MAIL'", "not (t like '%special%requests%')", "n2 * (1 - n4) > 100",
	} {
		b.Run(sql, func(b *testing.B) {
			ev := compiled(b, sql, s)
			out := make([]int32, 0, benchRows)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if out, err = Filter(nil, ev, batch, nil, out[:0]); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
	}
	var mem Scratch
	for _, sql := range []string{
		"n2 * (1 - n4)", "n2 * (1 - n4) * (1 + n4)", "n2 + n4", "substring(t, 1, 2)", "case when t like 'PROMO%' then n2 * (1 - n4) else 0 end",
		"case when t like 'PROMO%' then 1 else 0 end",
	} {
		b.Run(sql, func(b *testing.B) {
			ev := compiled(b, sql, s)
			b.ReportAllocs()
			for b.Loop() {
				mem.Reset()
				if _, ok, err := ev.EvalScaled(nil, &mem, batch, nil); err != nil {
					b.Fatal(err)
				} else if ok {
					continue
				}
				if _, err := ev.EvalScratch(nil, &mem, batch, nil); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
	}
}
