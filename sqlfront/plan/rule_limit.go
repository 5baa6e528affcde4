package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// pushLimits moves limits down where that saves work: through projections, and
// as an upper bound of count + offset into the sides of UNION ALL and the
// preserved side of a left join. Lowering makes a top-N of a limit over a sort.
func (o *optimizer) pushLimits(n node) node {
	n = mapNodeExprs(n, o.inSubqueries(o.pushLimits))
	l, ok := n.(*limitNode)
	if !ok {
		return mapInputs(n, o.pushLimits)
	}
	switch x := l.in.(type) {
	case *projectNode:
		if !hasVolatileItem(x) {
			c := *l
			c.in = x.in
			return o.pushLimits(x.withInputs([]node{&c}))
		}
	case *setNode:
		if x.kind == setUnion && x.all {
			if bound := limitBound(l); bound != nil {
				return l.withInputs([]node{x.withInputs([]node{
					o.pushLimits(o.bounded(x.l, bound)), o.pushLimits(o.bounded(x.r, bound))})})
			}
		}
	case *joinNode:
		if bound := limitBound(l); bound != nil && x.kind == joinLeft && !x.lateral {
			return l.withInputs([]node{x.withInputs([]node{
				o.pushLimits(o.bounded(x.l, bound)), o.pushLimits(x.r)})})
		}
	}
	return mapInputs(l, o.pushLimits)
}

func (o *optimizer) bounded(n node, count expr.Expr) node {
	return &limitNode{in: n, count: count}
}

func hasVolatileItem(p *projectNode) bool {
	for _, it := range p.items {
		if isVolatile(it.e) {
			return true
		}
	}
	return false
}

// limitBound is count + offset if both are constants, else nil.
func limitBound(l *limitNode) expr.Expr {
	n, ok := constInt(l.count)
	if !ok {
		return nil
	}
	off := int64(0)
	if l.offset != nil {
		if off, ok = constInt(l.offset); !ok {
			return nil
		}
	}
	if n < 0 || off < 0 || n+off < 0 {
		return nil
	}
	return &expr.Const{Value: sqltypes.NewInt(n + off), Typ: sqltypes.Int8}
}

func constInt(e expr.Expr) (int64, bool) {
	c, ok := e.(*expr.Const)
	if !ok || c.Value.IsNull() {
		return 0, false
	}
	return c.Value.Int(), true
}
