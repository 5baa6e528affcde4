package exec_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

// BenchmarkSortRows orders a million rows: by a key, by two, by a long text, and
// with runs on disk.
func BenchmarkSortRows(b *testing.B) {
	types := []sqltypes.Type{sqltypes.Int8, sqltypes.Date, sqltypes.Text, sqltypes.NumericOf(15, 2), sqltypes.Float8}
	var batches []*expr.Batch
	r := rand.New(rand.NewPCG(1, 2))
	for range 122 {
		bs := colvec.NewBuilders(types, exec.BatchRowsMax)
		for range exec.BatchRowsMax {
			bs[0].AppendInt64(r.Int64N(6_000_000))
			bs[1].AppendInt32(r.Int32N(2500))
			bs[2].AppendString(fmt.Sprintf("Customer#%09d", r.IntN(150_000)))
			bs[3].AppendFrom(decimals(r.Int64N(1e7)), 0)
			bs[4].AppendFloat(r.Float64())
		}
		cols, err := colvec.FinishAll(bs)
		if err != nil {
			b.Fatal(err)
		}
		batches = append(batches, &expr.Batch{N: exec.BatchRowsMax, Cols: cols})
	}
	col := func(i int) expr.Expr { return &expr.Column{Index: i, Typ: types[i]} }
	m, err := spill.Open(spill.Options{FS: vfs.Default, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		keys []plan.SortKey
		mem  int64
	}{
		{"int8", []plan.SortKey{{Expr: col(0)}}, 1 << 30},
		{"date,int8", []plan.SortKey{{Expr: col(1)}, {Expr: col(0), Desc: true}}, 1 << 30},
		{"numeric desc,date", []plan.SortKey{{Expr: col(3), Desc: true}, {Expr: col(1)}}, 1 << 30},
		{"float8", []plan.SortKey{{Expr: col(4)}}, 1 << 30},
		{"text", []plan.SortKey{{Expr: col(2)}}, 1 << 30},
		{"int8 on disk", []plan.SortKey{{Expr: col(0)}}, 16 << 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				op, err := exec.NewSort(exec.NewBatches(types, batches...), c.keys)
				if err != nil {
					b.Fatal(err)
				}
				x := ctx()
				x.Spill = m.NewSpace(0)
				x.Mem.SetSpillBytes(c.mem)
				if err := op.Open(x); err != nil {
					b.Fatal(err)
				}
				for {
					if batch, err := op.Next(); err != nil {
						b.Fatal(err)
					} else if batch == nil {
						break
					}
				}
				if err := op.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*122*exec.BatchRowsMax/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
}

func decimals(v int64) *colvec.Vec {
	out := colvec.Open(colvec.NewDec64([]int64{v}, nil, 0), sqltypes.NumericOf(15, 2))
	return &out
}
