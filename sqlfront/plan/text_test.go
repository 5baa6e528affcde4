package plan

import (
	"fmt"
	"strings"

	"github.com/copradb/copra/copr/expr"
)

// nodeText is one logical node on a line.
func nodeText(q *query, n node) string {
	switch x := n.(type) {
	case *scanNode:
		s := "scan " + onAlias(x.table.Name, x.alias) + colNames(q, x.columns())
		if len(x.conds) > 0 {
			s += " where " + condList(x.conds)
		}
		return s
	case *virtualNode:
		return "catalog " + onAlias(x.table.Name, x.alias) + colNames(q, x.cols)
	case *valuesNode:
		return fmt.Sprintf("values (%d rows)", len(x.rows))
	case *filterNode:
		return "filter " + condList(x.conds)
	case *projectNode:
		parts := make([]string, len(x.items))
		for i, it := range x.items {
			parts[i] = it.e.String()
		}
		return "project " + strings.Join(parts, ", ")
	case *projectSetNode:
		parts := make([]string, len(x.funcs))
		for i, f := range x.funcs {
			parts[i] = f.call.String()
		}
		return "project set " + strings.Join(parts, ", ")
	case *joinNode:
		s := x.kind.String() + " join"
		if x.lateral {
			s += " lateral"
		}
		if x.nullAware {
			s += " null-aware"
		}
		if len(x.on) > 0 {
			s += " on " + condList(x.on)
		}
		return s
	case *aggNode:
		var keys, aggs []string
		for _, k := range x.keys {
			keys = append(keys, k.e.String())
		}
		for _, a := range x.aggs {
			aggs = append(aggs, a.call.name+"("+exprList(a.call.args)+")")
		}
		return "aggregate " + strings.Join(aggs, ", ") + " by " + strings.Join(keys, ", ")
	case *windowNode:
		return fmt.Sprintf("window %d functions", len(x.funcs))
	case *sortNode:
		var keys []string
		for _, k := range x.keys {
			keys = append(keys, k.e.String())
		}
		return "sort " + strings.Join(keys, ", ")
	case *limitNode:
		return "limit " + limitText(x.count, x.offset)
	case *distinctNode:
		return "distinct" + colNames(q, x.on)
	case *setNode:
		return x.kind.String() + map[bool]string{true: " all"}[x.all]
	case *cteNode:
		return "cte " + x.cte.name
	}
	return fmt.Sprintf("%T", n)
}

func colNames(q *query, cols []ColID) string {
	parts := make([]string, len(cols))
	for i, c := range cols {
		parts[i] = q.cols[c].name
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// nodeSubs calls f with the subqueries in a node's expressions.
func nodeSubs(n node, f func(*subExpr)) {
	nodeExprs(n, func(e expr.Expr) {
		walkExpr(e, func(x expr.Expr) bool {
			if s, ok := x.(*subExpr); ok {
				f(s)
			}
			return true
		})
	})
}
