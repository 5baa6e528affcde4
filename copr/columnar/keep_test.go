package columnar_test

import (
	"slices"
	"testing"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
)

// Rows that a filter leaves over stay what they are while the scan uses its
// memory again, whether it leaves some of a block, all or none.
func TestFilteredRowsAreKept(t *testing.T) {
	columnar.Spoil(t)
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	var all []mutation
	for i := range int64(300) {
		all = append(all, number(i, i/48%3*1000+i%16))
	}
	w.put(10, 11, all...)
	id, v := &expr.Column{Index: 0, Typ: sqltypes.Int8}, &expr.Column{Index: 1, Typ: sqltypes.Int8}
	compare := func(op string, x int64) expr.Expr {
		e, err := expr.NewOperator(op, v, &expr.Const{Value: sqltypes.NewInt(x), Typ: sqltypes.Int8})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, cond := range []expr.Expr{compare(">=", 0), compare(">=", 1000), compare("<", 1004), compare("=", 7), compare("<", 0)} {
		for _, project := range [][]expr.Expr{nil, {v, id}, {v}} {
			p := &plan.Plan{Nodes: []plan.Node{numbers.Nodes[0], &plan.Selection{Conds: []expr.Expr{cond}}}}
			if project != nil {
				p.Nodes = append(p.Nodes, &plan.Projection{Exprs: project})
			}
			r := request(p, w.e.Context(all[0].key), 20, false, tableRange(tableID))
			want := w.read(r)
			for range 3 { // the first may make the blocks
				r.Columnar = true
				got := w.read(r)
				slices.Sort(got.rows)
				slices.Sort(want.rows)
				if !slices.Equal(got.rows, want.rows) {
					t.Fatalf("where %s:\n%s", cond, diff(want.rows, got.rows))
				}
			}
		}
	}
}
