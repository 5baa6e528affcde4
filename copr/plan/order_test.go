package plan

import (
	"testing"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

func TestUnordered(t *testing.T) {
	col := func(t sqltypes.Type) []expr.Expr { return []expr.Expr{&expr.Column{Typ: t}} }
	call := func(name string, t sqltypes.Type) AggCall { return AggCall{Name: name, Args: col(t)} }
	for _, c := range []struct {
		name string
		node Node
		want bool
	}{
		{"rows", &Selection{}, false},
		{"first rows", &TopN{N: 1}, false},
		{"count", &Aggregation{Aggs: []AggCall{{Name: "count"}}}, true},
		{"sum", &Aggregation{Aggs: []AggCall{call("sum", sqltypes.NumericOf(15, 2)), call("avg", sqltypes.Int8)}}, true},
		{"sum of floats", &Aggregation{Aggs: []AggCall{call("sum", sqltypes.NumericOf(15, 2)), call("sum", sqltypes.Float8)}}, false},
		{"array", &Aggregation{Aggs: []AggCall{call("array_agg", sqltypes.Int8)}}, false},
		{"largest text", &Aggregation{Aggs: []AggCall{call("max", sqltypes.Text)}}, true},
		{"largest numeric of any scale", &Aggregation{Aggs: []AggCall{call("max", sqltypes.Numeric)}}, false},
		{"group by text", &Aggregation{GroupBy: col(sqltypes.Text)}, true},
		{"group by interval", &Aggregation{GroupBy: col(sqltypes.Interval)}, false},
	} {
		if got := (&Plan{Nodes: []Node{&TableScan{}, c.node}}).Unordered(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	count := &Aggregation{Aggs: []AggCall{{Name: "count"}}}
	for _, nodes := range [][]Node{{&TableScan{}, &Limit{N: 1}, count}, {&TableScan{}, &TopN{N: 1}, count}, {&TableScan{}, count, &Limit{N: 1}}} {
		if (&Plan{Nodes: nodes}).Unordered() {
			t.Errorf("%T behind %T and before %T does not mind the order", nodes[1], nodes[0], nodes[2])
		}
	}
}
