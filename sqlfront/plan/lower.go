package plan

import (
	"math"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
)

// lowerer turns a logical tree into a physical one.
type lowerer struct {
	o     *optimizer
	slots map[ColID]int // parameter slots of outer columns
	next  int           // next free slot
	subs  int           // subqueries so far
	// order is what a limit above the scan being lowered sorts by.
	order []sortKey
}

func (lw *lowerer) basis(n node, cols []ColID) physBase {
	types := make([]sqltypes.Type, len(cols))
	for i, c := range cols {
		types[i] = lw.o.q.cols[c].typ
	}
	return physBase{cols: cols, types: types, rows: lw.o.rows(n)}
}

// slot is the parameter slot of an outer column.
func (lw *lowerer) slot(c ColID) int {
	s, ok := lw.slots[c]
	if !ok {
		s = lw.next
		lw.next++
		lw.slots[c] = s
	}
	return s
}

// layout finds positions of column ids.
type layout []ColID

func (l layout) find(c ColID) int {
	for i, x := range l {
		if x == c {
			return i
		}
	}
	return -1
}

// bind rewrites an expression from column ids to positions in l. A column that
// is not in l is one of an outer query: a parameter.
func (lw *lowerer) bind(e expr.Expr, l layout) expr.Expr {
	return mapExpr(e, func(x expr.Expr) expr.Expr {
		switch y := x.(type) {
		case *expr.Column:
			if p := l.find(y.Index); p >= 0 {
				return &expr.Column{Index: p, Typ: y.Typ, Name: y.Name}
			}
			return &expr.Param{Index: lw.slot(y.Index), Typ: y.Typ}
		case *subExpr:
			return lw.lowerSub(y, l)
		}
		return nil
	})
}

func (lw *lowerer) bindAll(list []expr.Expr, l layout) []expr.Expr {
	out := make([]expr.Expr, len(list))
	for i, e := range list {
		out[i] = lw.bind(e, l)
	}
	return out
}

func (lw *lowerer) bindKeys(keys []sortKey, l layout) []coprplan.SortKey {
	out := make([]coprplan.SortKey, len(keys))
	for i, k := range keys {
		out[i] = coprplan.SortKey{Expr: lw.bind(k.e, l), Desc: k.desc, NullsFirst: k.nullsFirst}
	}
	return out
}

func (lw *lowerer) lower(n node) physNode {
	switch x := n.(type) {
	case *scanNode:
		return lw.lowerScan(x)
	case *virtualNode:
		return &physVirtual{physBase: lw.basis(n, x.cols), table: x.table, alias: x.alias, ords: x.ords}
	case *valuesNode:
		p := &physValues{physBase: lw.basis(n, x.cols)}
		for _, r := range x.rows {
			p.list = append(p.list, lw.bindAll(r, nil))
		}
		return p
	case *filterNode:
		return lw.filter(n, lw.lower(x.in), x.conds)
	case *projectNode:
		return lw.lowerProject(x)
	case *joinNode:
		return lw.lowerJoin(x)
	case *aggNode:
		return lw.lowerAgg(x)
	case *sortNode:
		return lw.lowerSort(x)
	case *limitNode:
		return lw.lowerLimit(x)
	case *distinctNode:
		return lw.lowerDistinct(x)
	case *setNode:
		l, r := lw.arranged(x.l, x.lcols), lw.arranged(x.r, x.rcols)
		return &physSetOp{physBase: lw.basis(n, x.cols), kind: x.kind, all: x.all, l: l, r: r}
	case *windowNode:
		return lw.lowerWindow(x)
	case *projectSetNode:
		return lw.lowerProjectSet(x)
	case *cteNode:
		p := &physCTEScan{physBase: lw.basis(n, x.cols), id: x.cte.id, name: x.cte.name, work: x.work}
		for i := range x.cols {
			p.pick = append(p.pick, i)
		}
		return p
	}
	panic("plan: a logical node that lowering does not know")
}

// arranged lowers n with exactly these output columns in this order.
func (lw *lowerer) arranged(n node, cols []ColID) physNode {
	return lw.arrange(lw.lower(n), cols)
}

func (lw *lowerer) arrange(p physNode, cols []ColID) physNode {
	b := p.base()
	if len(b.cols) == len(cols) {
		same := true
		for i := range cols {
			same = same && cols[i] == b.cols[i]
		}
		if same {
			return p
		}
	}
	out := &physProject{in: p}
	out.cols, out.rows = cols, b.rows
	for _, c := range cols {
		i := layout(b.cols).find(c)
		if i < 0 {
			panic("plan: column " + lw.o.q.cols[c].name + " is missing from a subtree's output")
		}
		out.exprs = append(out.exprs, &expr.Column{Index: i, Typ: b.types[i], Name: lw.o.q.column(c).Name})
		out.types = append(out.types, b.types[i])
	}
	return out
}

// filter puts conditions over p, into its coprocessor chain where they fit.
func (lw *lowerer) filter(n node, p physNode, conds []expr.Expr) physNode {
	if len(conds) == 0 {
		return p
	}
	b := p.base()
	bound := lw.bindAll(conds, b.cols)
	if s, ok := p.(*physScan); ok && s.canFilter() {
		var keep []expr.Expr
		var push []expr.Expr
		for _, e := range bound {
			if lw.pushable(e) {
				push = append(push, e)
			} else {
				keep = append(keep, e)
			}
		}
		if len(push) > 0 {
			s = s.with(pushed{node: &coprplan.Selection{Conds: push}})
			s.rows = lw.o.rows(n)
			p = s
		}
		if bound = keep; len(bound) == 0 {
			return p
		}
	}
	f := &physFilter{physBase: *p.base(), in: p, conds: bound}
	f.rows = lw.o.rows(n)
	return f
}

// pushable reports whether a coprocessor can compute e once parameters have
// become constants and fixed calls of stable functions are folded.
func (lw *lowerer) pushable(e expr.Expr) bool {
	if !lw.o.settings.Pushdown {
		return false
	}
	return walkExpr(e, func(x expr.Expr) bool {
		switch y := x.(type) {
		case *expr.Call:
			if y.Fn.Volatility == expr.Volatile || y.Fn.Session && !columnFree(y) {
				return false
			}
		case *expr.Column, *expr.Const, *expr.Param, *expr.Logic, *expr.Case, *expr.Coalesce, *expr.In:
		default:
			return false
		}
		return true
	})
}

// columnFree reports whether e has no column and no subquery, so that Build
// can compute it.
func columnFree(e expr.Expr) bool {
	return walkExpr(e, func(x expr.Expr) bool {
		switch x.(type) {
		case *expr.Column, *physSub, *arrayExpr, *anyArray, *subscript:
			return false
		}
		return true
	})
}

func (lw *lowerer) allPushable(list []expr.Expr) bool {
	for _, e := range list {
		if !lw.pushable(e) {
			return false
		}
	}
	return true
}

func (lw *lowerer) lowerProject(x *projectNode) physNode {
	in := lw.lower(x.in)
	ib := in.base()
	if sameLayout(x.items, ib.cols) {
		return in
	}
	base := lw.basis(x, itemCols(x.items))
	exprs := make([]expr.Expr, len(x.items))
	for i, it := range x.items {
		exprs[i] = lw.bind(it.e, ib.cols)
	}
	if s, ok := in.(*physScan); ok && s.open() && s.handle == 0 && lw.allPushable(exprs) && len(exprs) > 0 {
		s = s.with(pushed{node: &coprplan.Projection{Exprs: exprs}})
		s.keep(base)
		return s
	}
	return &physProject{physBase: base, in: in, exprs: exprs}
}

// sameLayout reports whether a projection hands its input on as it is.
func sameLayout(items []item, cols []ColID) bool {
	if len(items) != len(cols) {
		return false
	}
	for i, it := range items {
		if it.col != cols[i] || !it.passThrough() {
			return false
		}
	}
	return true
}

func (lw *lowerer) lowerSort(x *sortNode) physNode {
	in := lw.lower(x.in)
	if ordered := orderedBy(in, x.keys); ordered != nil {
		return ordered
	}
	return &physSort{physBase: *in.base(), in: in, keys: lw.bindKeys(x.keys, in.base().cols)}
}

func (lw *lowerer) lowerLimit(x *limitNode) physNode {
	if s, ok := x.in.(*sortNode); ok && x.count != nil {
		return lw.lowerTopN(x, s)
	}
	in := lw.lower(x.in)
	p := &physLimit{physBase: *in.base(), in: in}
	p.rows = lw.o.rows(x)
	p.count, p.offset = lw.bind(x.count, nil), lw.bind(x.offset, nil)
	if s, ok := in.(*physScan); ok && p.count != nil && s.open() && lw.pushableLimit(p.count, p.offset) {
		p.in = s.with(pushed{node: &coprplan.Limit{}, count: p.count, offset: p.offset})
	}
	return p
}

func (lw *lowerer) pushableLimit(count, offset expr.Expr) bool {
	return lw.o.settings.Pushdown && columnFree(count) && (offset == nil || columnFree(offset))
}

func (lw *lowerer) lowerTopN(x *limitNode, s *sortNode) physNode {
	lw.order = s.keys
	in := lw.lower(s.in)
	lw.order = nil
	count, offset := lw.bind(x.count, nil), lw.bind(x.offset, nil)
	base := *in.base()
	base.rows = lw.o.rows(x)
	if ordered := orderedBy(in, s.keys); ordered != nil {
		p := &physLimit{physBase: base, in: ordered, count: count, offset: offset}
		if sc, ok := ordered.(*physScan); ok && sc.open() && lw.pushableLimit(count, offset) {
			p.in = sc.with(pushed{node: &coprplan.Limit{}, count: count, offset: offset})
		}
		return p
	}
	keys := lw.bindKeys(s.keys, base.cols)
	if sc, ok := in.(*physScan); ok && sc.open() && lw.pushableLimit(count, offset) && lw.pushableKeys(keys) {
		sc = sc.with(pushed{node: &coprplan.TopN{Keys: keys}, count: count, offset: offset})
		sc.rows = base.rows
		in = sc
	}
	return &physTopN{physBase: base, in: in, keys: keys, count: count, offset: offset}
}

func (lw *lowerer) pushableKeys(keys []coprplan.SortKey) bool {
	for _, k := range keys {
		if !lw.pushable(k.Expr) {
			return false
		}
	}
	return true
}

func (lw *lowerer) lowerDistinct(x *distinctNode) physNode {
	in := lw.lower(x.in)
	b := in.base()
	p := &physDistinct{physBase: *b, in: in}
	p.rows = lw.o.rows(x)
	if !x.ordered && sameSet(x.on, b.cols) {
		// Without ON every column counts; regions can drop duplicates first.
		if s, ok := in.(*physScan); ok && s.open() && s.handle == 0 && lw.o.settings.Pushdown && len(b.cols) > 0 {
			s = s.with(pushed{node: &coprplan.Aggregation{GroupBy: positions(b)}})
			p.in = s
		}
		return p
	}
	for _, c := range x.on {
		p.on = append(p.on, layout(b.cols).find(c))
	}
	return p
}

func sameSet(a, b []ColID) bool {
	s := colsOf(a)
	return len(s) == len(colsOf(b)) && colsOf(b).within(s)
}

// positions are references to all columns of a layout.
func positions(b *physBase) []expr.Expr {
	out := make([]expr.Expr, len(b.cols))
	for i := range out {
		out[i] = &expr.Column{Index: i, Typ: b.types[i]}
	}
	return out
}

func (lw *lowerer) lowerAgg(x *aggNode) physNode {
	lw.order = nil
	input := x.in
	if keys := aggOrder(x); keys != nil {
		input = &sortNode{in: input, keys: keys}
	}
	in := lw.lower(input)
	ib := in.base()
	keys, by := lw.o.groupKeys(x)
	base := lw.basis(x, (&aggNode{keys: keys, aggs: x.aggs}).columns())
	p := &physAgg{physBase: base, in: in, mode: exec.CompleteAgg, by: by}
	for _, k := range keys {
		p.keys = append(p.keys, lw.bind(k.e, ib.cols))
	}
	split := true
	for _, a := range x.aggs {
		c := coprplan.AggCall{Name: a.call.name, Args: lw.bindAll(a.call.args, ib.cols),
			Distinct: a.call.distinct, Filter: lw.bind(a.call.filter, ib.cols), Type: a.call.typ}
		p.aggs = append(p.aggs, c)
		split = split && !c.Distinct && len(a.call.orderBy) == 0 && lw.allPushable(c.Args) &&
			(c.Filter == nil || lw.pushable(c.Filter))
	}
	s, ok := in.(*physScan)
	if !ok || !split || !s.open() || s.handle != 0 || !lw.o.settings.Pushdown || !lw.allPushable(p.keys) {
		return p
	}
	s = s.with(pushed{node: &coprplan.Aggregation{GroupBy: p.keys, Aggs: p.aggs}})
	s.cols, s.types, s.rows = nil, partialTypes(p), base.rows
	p.in, p.mode = s, exec.FinalAgg
	return p
}

// partialTypes are the columns of a partial aggregation: the groups, then the
// states of each aggregate.
func partialTypes(p *physAgg) []sqltypes.Type {
	var out []sqltypes.Type
	for _, k := range p.keys {
		out = append(out, k.Type())
	}
	for _, a := range p.aggs {
		args := make([]sqltypes.Type, len(a.Args))
		for i, e := range a.Args {
			args[i] = e.Type()
		}
		_, state, err := agg.Resolve(a.Name, args)
		if err != nil {
			panic("plan: a bound aggregate does not resolve: " + err.Error())
		}
		out = append(out, state...)
	}
	return out
}

// aggOrder is the order the input must have for aggregates with ORDER BY.
// Bind refuses two different ones.
func aggOrder(x *aggNode) []sortKey {
	for _, a := range x.aggs {
		if len(a.call.orderBy) > 0 {
			return a.call.orderBy
		}
	}
	return nil
}

func (lw *lowerer) lowerWindow(x *windowNode) physNode {
	var keys []sortKey
	for _, p := range x.partition {
		keys = append(keys, sortKey{e: p})
	}
	keys = append(keys, x.order...)
	in := lw.lower(x.in)
	if len(keys) > 0 {
		in = &physSort{physBase: *in.base(), in: in, keys: lw.bindKeys(keys, in.base().cols)}
	}
	ib := in.base()
	p := &physWindow{physBase: lw.basis(x, append(append([]ColID(nil), ib.cols...), windowCols(x)...)), in: in}
	p.partition = lw.bindAll(x.partition, ib.cols)
	for _, k := range x.order {
		p.order = append(p.order, lw.bind(k.e, ib.cols))
	}
	for _, f := range x.funcs {
		c := f.call
		c.args = lw.bindAll(c.args, ib.cols)
		p.funcs = append(p.funcs, c)
	}
	return p
}

func windowCols(x *windowNode) []ColID {
	out := make([]ColID, len(x.funcs))
	for i, f := range x.funcs {
		out[i] = f.col
	}
	return out
}

func (lw *lowerer) lowerProjectSet(x *projectSetNode) physNode {
	in := lw.lower(x.in)
	ib := in.base()
	cols := append([]ColID(nil), ib.cols...)
	p := &physProjectSet{in: in, ordinality: x.ordinality != 0}
	for _, f := range x.funcs {
		c := *f.call
		c.args = lw.bindAll(c.args, ib.cols)
		p.calls = append(p.calls, &c)
		cols = append(cols, f.cols...)
	}
	if x.ordinality != 0 {
		cols = append(cols, x.ordinality)
	}
	p.physBase = lw.basis(x, cols)
	return p
}

// minRows keeps estimates printable.
func minRows(r float64) int64 { return int64(math.Max(1, math.Round(r))) }
