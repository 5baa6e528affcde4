package plan

import (
	"slices"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

var execJoins = map[joinKind]exec.JoinKind{
	joinInner: exec.InnerJoin, joinLeft: exec.LeftJoin, joinFull: exec.FullJoin,
	joinSemi: exec.SemiJoin, joinAnti: exec.AntiJoin,
}

func (lw *lowerer) lowerJoin(x *joinNode) physNode {
	lw.order = nil // a join need not keep the order of a side
	if x.lateral {
		return lw.lowerApply(x)
	}
	lo, ro, kind := lw.sides(x)
	if p := lw.lowerLookup(x, lo, ro); p != nil {
		return p
	}
	l, r := lw.lower(lo), lw.lower(ro)
	base := lw.joinBase(x, l, r)
	if kind == exec.RightSemiJoin || kind == exec.RightAntiJoin {
		base = lw.basis(x, r.base().cols)
	}
	lcols, rcols := colsOf(l.base().cols), colsOf(r.base().cols)
	both := layout(append(append([]ColID(nil), l.base().cols...), r.base().cols...))
	h := &physHashJoin{physBase: base, kind: kind, l: l, r: r, nullAware: x.nullAware}
	for _, e := range x.on {
		lk, rk, ok := hashKeys(e, lcols, rcols)
		if ok {
			h.lkeys = append(h.lkeys, lw.bind(lk, l.base().cols))
			h.rkeys = append(h.rkeys, lw.bind(rk, r.base().cols))
		} else {
			h.residual = append(h.residual, lw.bind(e, both))
		}
	}
	if len(h.lkeys) > 0 {
		h.narrow(x.need)
		return h
	}
	return &physNLJoin{physBase: base, kind: kind, l: l, r: r, conds: h.residual}
}

// sides are the side to probe with and the one to build, which is the smaller one
// if there is a choice.
func (lw *lowerer) sides(x *joinNode) (probe, build node, kind exec.JoinKind) {
	probe, build, kind = x.l, x.r, execJoins[x.kind]
	if lw.o.rows(probe) >= lw.o.rows(build) {
		return probe, build, kind
	}
	switch x.kind {
	case joinInner:
		return build, probe, kind
	case joinLeft:
		return build, probe, exec.RightJoin
	case joinSemi, joinAnti:
		if !x.nullAware && lw.hasHashKey(x) {
			return build, probe, map[joinKind]exec.JoinKind{joinSemi: exec.RightSemiJoin, joinAnti: exec.RightAntiJoin}[x.kind]
		}
	}
	return probe, build, kind
}

// hasHashKey reports whether some condition of a join is an equality that can be
// hashed.
func (lw *lowerer) hasHashKey(x *joinNode) bool {
	l, r := colsOf(x.l.columns()), colsOf(x.r.columns())
	return slices.ContainsFunc(x.on, func(e expr.Expr) bool { _, _, ok := hashKeys(e, l, r); return ok })
}

func (lw *lowerer) joinBase(x *joinNode, l, r physNode) physBase {
	cols := append([]ColID(nil), l.base().cols...)
	if x.kind != joinSemi && x.kind != joinAnti {
		cols = append(cols, r.base().cols...)
	}
	return lw.basis(x, cols)
}

// narrow drops the columns that nobody above needs; nil = all are needed.
func (n *physHashJoin) narrow(need colSet) {
	if need == nil {
		return
	}
	first := 0 // of the columns that the join has
	if n.kind == exec.RightSemiJoin || n.kind == exec.RightAntiJoin {
		first = len(n.l.base().cols)
	}
	var cols []ColID
	var types []sqltypes.Type
	out := []int{}
	for i, c := range n.cols {
		if need.has(c) {
			cols, types, out = append(cols, c), append(types, n.types[i]), append(out, first+i)
		}
	}
	if len(cols) < len(n.cols) {
		n.cols, n.types, n.out = cols, types, out
	}
}

// hashKeys recognises an equality between an expression over each side, in
// types that hash alike.
func hashKeys(e expr.Expr, l, r colSet) (lk, rk expr.Expr, ok bool) {
	c, ok := e.(*expr.Call)
	if !ok || opName(c) != "=" || isVolatile(e) || hasSubquery(e) {
		return nil, nil, false
	}
	a, b := c.Args[0], c.Args[1]
	ac, bc := colsIn(a), colsIn(b)
	switch {
	case !ac.intersects(l) && !ac.intersects(r), !bc.intersects(l) && !bc.intersects(r):
		return nil, nil, false
	case !ac.intersects(r) && !bc.intersects(l):
	case !ac.intersects(l) && !bc.intersects(r):
		a, b = b, a
	default:
		return nil, nil, false
	}
	return widen(a, b)
}

// widen gives both keys of a hash join one type; ok is false where no cast
// keeps equality.
func widen(a, b expr.Expr) (expr.Expr, expr.Expr, bool) {
	if a.Type().OID == b.Type().OID && a.Type().Scale == b.Type().Scale {
		return a, b, true
	}
	t, err := expr.CommonType([]sqltypes.Type{a.Type().Base(), b.Type().Base()})
	if err != nil {
		return nil, nil, false
	}
	x, err := expr.NewCast(a, t, expr.Implicit)
	if err != nil {
		return nil, nil, false
	}
	y, err := expr.NewCast(b, t, expr.Implicit)
	if err != nil {
		return nil, nil, false
	}
	return x, y, true
}

// lowerApply runs the right side for each left row.
func (lw *lowerer) lowerApply(x *joinNode) physNode {
	l := lw.lower(x.l)
	p := &physApply{kind: execJoins[x.kind], l: l}
	p.outer = lw.outerRefs(freeCols(x.r), l.base().cols)
	p.r = lw.lower(x.r)
	p.ctes = lw.correlatedCTEs(x.r)
	p.physBase = lw.joinBase(x, l, p.r)
	both := layout(append(append([]ColID(nil), l.base().cols...), p.r.base().cols...))
	p.conds = lw.bindAll(x.on, both)
	return p
}
