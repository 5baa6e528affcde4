package columnar_test

import (
	"testing"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// TestErrorsOfForks: of several workers on a region that meet an error, and end
// each other for it, the statement hears of the error.
func TestErrorsOfForks(t *testing.T) {
	w := newWorld(t, columnar.Options{BlockRowsMax: 64, BuildRowsMin: -1})
	defer w.close()
	s := server.New(server.Options{Source: server.TxnSource(w.store), Columns: w.cache, CPU: cpusched.New(4)})
	defer s.Close()
	var all []mutation
	for i := range int64(4000) {
		v := int64(1)
		if i%64 == 63 {
			v = 0
		}
		all = append(all, number(i, v))
	}
	w.put(10, 11, all...)
	div, ok := expr.FuncBySig("/(int8,int8)")
	if !ok {
		t.Fatal("there is no division")
	}
	id, v := &expr.Column{Index: 0, Typ: sqltypes.Int8}, &expr.Column{Index: 1, Typ: sqltypes.Int8}
	p := &plan.Plan{Nodes: []plan.Node{numbers.Nodes[0], &plan.Aggregation{Aggs: []plan.AggCall{{
		Name: "sum", Args: []expr.Expr{&expr.Call{Fn: div, Args: []expr.Expr{id, v}, Typ: sqltypes.Int8}}, Type: sqltypes.Numeric,
	}}}}}
	if !p.Unordered() {
		t.Fatal("it is not divided")
	}
	if a := w.read(request(numbers, w.e.Context(all[0].key), 20, true, tableRange(tableID))); len(a.rows) != 4000 {
		t.Fatalf("%d rows", len(a.rows))
	}
	for i := range 200 {
		a, err := run(s, request(p, w.e.Context(all[0].key), 20, true, tableRange(tableID)))
		if err != nil {
			t.Fatal(err)
		}
		if a.end == nil || a.end.Err == nil || pgerror.From(a.end.Err).Code != pgerror.DivisionByZero {
			t.Fatalf("run %d ended with %+v", i, a.end)
		}
	}
}
