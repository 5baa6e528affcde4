package plan

import (
	"fmt"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// subKind is what a subquery in an expression gives.
type subKind int

const (
	subScalar subKind = iota
	subExists
	subAny // true if test is true for a row; NULL if it is NULL for one
	subArray
)

// subExpr is a subquery inside an expression of the logical tree. Its plan may
// mention columns of the query around it. cols are the plan's result columns;
// test, for subAny, mentions outer columns and cols.
type subExpr struct {
	kind subKind
	plan node
	cols []ColID
	test expr.Expr
	typ  sqltypes.Type
}

// Type implements expr.Expr.
func (s *subExpr) Type() sqltypes.Type { return s.typ }

func (s *subExpr) String() string {
	switch s.kind {
	case subExists:
		return "EXISTS(subquery)"
	case subArray:
		return "ARRAY(subquery)"
	case subAny:
		return fmt.Sprintf("ANY(subquery: %s)", s.test)
	}
	return "(subquery)"
}

// children returns the direct operands of e that are evaluated over the same
// input; a subquery's plan is not among them.
func children(e expr.Expr) []expr.Expr {
	switch x := e.(type) {
	case *expr.Call:
		return x.Args
	case *expr.Logic:
		return x.Args
	case *expr.Coalesce:
		return x.Args
	case *expr.In:
		return []expr.Expr{x.X}
	case *arrayExpr:
		return x.items
	case *anyArray:
		return []expr.Expr{x.x, x.array}
	case *subscript:
		return []expr.Expr{x.array, x.index}
	case *expr.Case:
		out := make([]expr.Expr, 0, len(x.Conds)*2+1)
		for i := range x.Conds {
			out = append(out, x.Conds[i], x.Results[i])
		}
		if x.Else != nil {
			out = append(out, x.Else)
		}
		return out
	}
	return nil
}

// walkExpr calls f on e and everything below it until f returns false. The
// plans of subqueries are not entered.
func walkExpr(e expr.Expr, f func(expr.Expr) bool) bool {
	if !f(e) {
		return false
	}
	for _, c := range children(e) {
		if !walkExpr(c, f) {
			return false
		}
	}
	return true
}

// mapExpr rewrites e from the top: where f returns non-nil, that replaces the
// subtree; otherwise its operands are rewritten. For a subquery, f sees every
// expression of its plan as well, where outer columns may stand.
func mapExpr(e expr.Expr, f func(expr.Expr) expr.Expr) expr.Expr {
	if e == nil {
		return nil
	}
	if r := f(e); r != nil {
		return r
	}
	switch x := e.(type) {
	case *expr.Call:
		if a, ok := mapExprs(x.Args, f); ok {
			c := *x
			c.Args = a
			return &c
		}
	case *expr.Logic:
		if a, ok := mapExprs(x.Args, f); ok {
			return &expr.Logic{Or: x.Or, Args: a}
		}
	case *expr.Coalesce:
		if a, ok := mapExprs(x.Args, f); ok {
			return &expr.Coalesce{Args: a, Typ: x.Typ}
		}
	case *expr.In:
		if y := mapExpr(x.X, f); y != x.X {
			return &expr.In{X: y, Values: x.Values, Not: x.Not}
		}
	case *expr.Case:
		conds, ok1 := mapExprs(x.Conds, f)
		results, ok2 := mapExprs(x.Results, f)
		els := mapExpr(x.Else, f)
		if ok1 || ok2 || els != x.Else {
			return &expr.Case{Conds: conds, Results: results, Else: els, Typ: x.Typ}
		}
	case *arrayExpr:
		if l, ok := mapExprs(x.items, f); ok {
			return &arrayExpr{items: l, typ: x.typ}
		}
	case *anyArray:
		if l, ok := mapExprs([]expr.Expr{x.x, x.array}, f); ok {
			return &anyArray{x: l[0], array: l[1], test: x.test, all: x.all}
		}
	case *subscript:
		if l, ok := mapExprs([]expr.Expr{x.array, x.index}, f); ok {
			return &subscript{l[0], l[1], x.typ}
		}
	case *subExpr:
		p := mapPlanExprs(x.plan, f)
		test := mapExpr(x.test, f)
		if p != x.plan || test != x.test {
			c := *x
			c.plan, c.test = p, test
			return &c
		}
	}
	return e
}

// mapExprs maps each element; ok tells whether one changed.
func mapExprs(in []expr.Expr, f func(expr.Expr) expr.Expr) (out []expr.Expr, ok bool) {
	out = in
	for i, e := range in {
		r := mapExpr(e, f)
		if r == e {
			continue
		}
		if !ok {
			out = append([]expr.Expr(nil), in...)
			ok = true
		}
		out[i] = r
	}
	return out, ok
}

// mapPlanExprs rewrites every expression of a plan with mapExpr.
func mapPlanExprs(n node, f func(expr.Expr) expr.Expr) node {
	n = mapInputs(n, func(c node) node { return mapPlanExprs(c, f) })
	return mapNodeExprs(n, func(e expr.Expr) expr.Expr { return mapExpr(e, f) })
}

// mapNodeExprs applies f to each expression of this node alone and copies the
// node if one changed.
func mapNodeExprs(n node, f func(expr.Expr) expr.Expr) node {
	switch x := n.(type) {
	case *scanNode:
		if l, ok := mapList(x.conds, f); ok {
			c := *x
			c.conds = l
			return &c
		}
	case *filterNode:
		if l, ok := mapList(x.conds, f); ok {
			return &filterNode{in: x.in, conds: l}
		}
	case *projectNode:
		if l, ok := mapItems(x.items, f); ok {
			return &projectNode{in: x.in, items: l}
		}
	case *joinNode:
		if l, ok := mapList(x.on, f); ok {
			c := *x
			c.on = l
			return &c
		}
	case *valuesNode:
		return mapValues(x, f)
	case *projectSetNode:
		return mapProjectSet(x, f)
	case *aggNode:
		return mapAgg(x, f)
	case *windowNode:
		return mapWindow(x, f)
	case *sortNode:
		if k, ok := mapKeys(x.keys, f); ok {
			return &sortNode{in: x.in, keys: k}
		}
	case *limitNode:
		c := *x
		if c.count != nil {
			c.count = f(c.count)
		}
		if c.offset != nil {
			c.offset = f(c.offset)
		}
		if c.count != x.count || c.offset != x.offset {
			return &c
		}
	}
	return n
}

func mapValues(x *valuesNode, f func(expr.Expr) expr.Expr) node {
	rows, changed := make([][]expr.Expr, len(x.rows)), false
	for i, r := range x.rows {
		l, ok := mapList(r, f)
		rows[i] = l
		changed = changed || ok
	}
	if !changed {
		return x
	}
	return &valuesNode{cols: x.cols, rows: rows}
}

func mapProjectSet(x *projectSetNode, f func(expr.Expr) expr.Expr) node {
	c, changed := *x, false
	c.funcs = append([]setFunc(nil), x.funcs...)
	for i := range c.funcs {
		if l, ok := mapList(c.funcs[i].call.args, f); ok {
			call := *c.funcs[i].call
			call.args = l
			c.funcs[i].call = &call
			changed = true
		}
	}
	if !changed {
		return x
	}
	return &c
}

func mapAgg(x *aggNode, f func(expr.Expr) expr.Expr) node {
	keys, changed := mapItems(x.keys, f)
	aggs := append([]aggItem(nil), x.aggs...)
	for i := range aggs {
		c := &aggs[i].call
		l, ok := mapList(c.args, f)
		c.args = l
		k, ok2 := mapKeys(c.orderBy, f)
		c.orderBy = k
		changed = changed || ok || ok2
		if c.filter != nil {
			if r := f(c.filter); r != c.filter {
				c.filter = r
				changed = true
			}
		}
	}
	if !changed {
		return x
	}
	return &aggNode{in: x.in, keys: keys, aggs: aggs}
}

func mapWindow(x *windowNode, f func(expr.Expr) expr.Expr) node {
	c := *x
	part, ok1 := mapList(x.partition, f)
	order, ok2 := mapKeys(x.order, f)
	changed := ok1 || ok2
	c.partition, c.order = part, order
	c.funcs = append([]windowItem(nil), x.funcs...)
	for i := range c.funcs {
		l, ok := mapList(c.funcs[i].call.args, f)
		c.funcs[i].call.args = l
		changed = changed || ok
	}
	if !changed {
		return x
	}
	return &c
}

func mapList(in []expr.Expr, f func(expr.Expr) expr.Expr) (out []expr.Expr, ok bool) {
	out = in
	for i, e := range in {
		r := f(e)
		if r == e {
			continue
		}
		if !ok {
			out = append([]expr.Expr(nil), in...)
			ok = true
		}
		out[i] = r
	}
	return out, ok
}

func mapItems(in []item, f func(expr.Expr) expr.Expr) (out []item, ok bool) {
	out = in
	for i, it := range in {
		r := f(it.e)
		if r == it.e {
			continue
		}
		if !ok {
			out = append([]item(nil), in...)
			ok = true
		}
		out[i].e = r
	}
	return out, ok
}

func mapKeys(in []sortKey, f func(expr.Expr) expr.Expr) (out []sortKey, ok bool) {
	out = in
	for i, k := range in {
		r := f(k.e)
		if r == k.e {
			continue
		}
		if !ok {
			out = append([]sortKey(nil), in...)
			ok = true
		}
		out[i].e = r
	}
	return out, ok
}

// nodeExprs calls f with each expression of this node alone.
func nodeExprs(n node, f func(expr.Expr)) {
	mapNodeExprs(n, func(e expr.Expr) expr.Expr { f(e); return e })
}

// colSet is a set of column ids.
type colSet map[ColID]struct{}

func colsOf(ids ...[]ColID) colSet {
	s := colSet{}
	for _, l := range ids {
		for _, c := range l {
			s[c] = struct{}{}
		}
	}
	return s
}

func (s colSet) has(c ColID) bool { _, ok := s[c]; return ok }
func (s colSet) add(c ColID)      { s[c] = struct{}{} }

func (s colSet) addAll(o colSet) {
	for c := range o {
		s[c] = struct{}{}
	}
}

// within reports whether every column of s is in one of o.
func (s colSet) within(o ...colSet) bool {
	for c := range s {
		in := false
		for _, t := range o {
			if t.has(c) {
				in = true
				break
			}
		}
		if !in {
			return false
		}
	}
	return true
}

func (s colSet) intersects(o colSet) bool {
	for c := range s {
		if o.has(c) {
			return true
		}
	}
	return false
}

// exprCols adds to s the columns that e needs from its input: those it
// mentions, and the outer columns of its subqueries.
func exprCols(e expr.Expr, s colSet) {
	if e == nil {
		return
	}
	walkExpr(e, func(x expr.Expr) bool {
		switch y := x.(type) {
		case *expr.Column:
			s.add(y.Index)
		case *subExpr:
			s.addAll(freeCols(y.plan))
			if y.test != nil {
				t := colSet{}
				exprCols(y.test, t)
				for _, c := range y.cols {
					delete(t, c)
				}
				s.addAll(t)
			}
		}
		return true
	})
}

func colsIn(e expr.Expr) colSet {
	s := colSet{}
	exprCols(e, s)
	return s
}

// freeCols are the columns a plan mentions but does not produce: the outer
// columns of a correlated subquery.
func freeCols(n node) colSet {
	used, made := colSet{}, colSet{}
	collectCols(n, used, made)
	for c := range made {
		delete(used, c)
	}
	return used
}

func collectCols(n node, used, made colSet) {
	for _, c := range n.inputs() {
		collectCols(c, used, made)
	}
	for _, c := range n.columns() {
		made.add(c)
	}
	switch x := n.(type) {
	case *cteNode:
		collectCTE(x.cte, used, made)
	case *scanNode:
		for _, c := range x.cols { // its conditions may read what it does not return
			made.add(c)
		}
	}
	nodeExprs(n, func(e expr.Expr) { exprCols(e, used) })
}

// collectCTE adds what a WITH item needs from around it. The recursive term
// reads its own WITH item, which visiting keeps from looping.
func collectCTE(c *cte, used, made colSet) {
	if c.visiting || c.plan == nil {
		return
	}
	c.visiting = true
	collectCols(c.plan, used, made)
	if c.step != nil {
		collectCols(c.step, used, made)
	}
	c.visiting = false
}

// conjuncts splits nested ANDs.
func conjuncts(e expr.Expr, out []expr.Expr) []expr.Expr {
	if l, ok := e.(*expr.Logic); ok && !l.Or {
		for _, a := range l.Args {
			out = conjuncts(a, out)
		}
		return out
	}
	return append(out, e)
}

func disjuncts(e expr.Expr, out []expr.Expr) []expr.Expr {
	if l, ok := e.(*expr.Logic); ok && l.Or {
		for _, a := range l.Args {
			out = disjuncts(a, out)
		}
		return out
	}
	return append(out, e)
}

func andOf(list []expr.Expr) expr.Expr {
	switch len(list) {
	case 0:
		return boolConst(true)
	case 1:
		return list[0]
	}
	return &expr.Logic{Args: list}
}

func orOf(list []expr.Expr) expr.Expr {
	if len(list) == 1 {
		return list[0]
	}
	return &expr.Logic{Or: true, Args: list}
}

func boolConst(b bool) *expr.Const {
	return &expr.Const{Value: sqltypes.NewBool(b), Typ: sqltypes.Bool}
}

// filtered puts a filter over n, merging with one that is there.
func filtered(n node, conds []expr.Expr) node {
	if len(conds) == 0 {
		return n
	}
	if f, ok := n.(*filterNode); ok {
		return &filterNode{in: f.in, conds: append(append([]expr.Expr(nil), f.conds...), conds...)}
	}
	return &filterNode{in: n, conds: conds}
}
