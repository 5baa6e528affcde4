package plan

import "github.com/copradb/copra/copr/expr"

// Exprs are the expressions of a node.
func Exprs(n Node) []expr.Expr {
	switch n := n.(type) {
	case *Selection:
		return n.Conds
	case *Projection:
		return n.Exprs
	case *Aggregation:
		out := append([]expr.Expr(nil), n.GroupBy...)
		for i := range n.Aggs {
			out = append(out, n.Aggs[i].Args...)
			if f := n.Aggs[i].Filter; f != nil {
				out = append(out, f)
			}
		}
		return out
	case *TopN:
		var out []expr.Expr
		for _, k := range n.Keys {
			out = append(out, k.Expr)
		}
		return out
	}
	return nil
}
