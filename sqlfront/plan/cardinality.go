package plan

import (
	"math"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/sqlfront/catalog"
)

// Guesses where nothing is known, as the field has them: PostgreSQL's
// selectivities of an inequality and a pattern, a thousand rows in a table
// without statistics.
const (
	rowsUnknown       = 1000.0
	rowsVirtual       = 300.0
	rowsFunction      = 100.0
	selRange          = 1.0 / 3
	selPattern        = 0.1
	selNotEqual       = 0.9
	selIsNull         = 0.05
	selOther          = 0.33
	selSub            = 0.5
	distinctUnknown   = 0.1 // of the rows
	distinctUnknownOp = 200.0
	selHaving         = 0.3
	recursionGrowth   = 10.0
)

// rows estimates how many rows a node returns, at least one.
func (o *optimizer) rows(n node) float64 {
	if r, ok := o.card[n]; ok {
		return r
	}
	r := math.Max(1, o.estimate(n))
	if o.card == nil {
		o.card = map[node]float64{}
	}
	o.card[n] = r
	return r
}

func (o *optimizer) estimate(n node) float64 {
	switch x := n.(type) {
	case *scanNode:
		return o.tableRows(x.table) * o.selectivity(x, x.conds)
	case *virtualNode:
		return rowsVirtual
	case *valuesNode:
		return float64(len(x.rows))
	case *projectSetNode:
		return o.rows(x.in) * rowsFunction
	case *filterNode:
		sel := o.selectivity(x.in, x.conds)
		if _, ok := x.in.(*aggNode); ok {
			sel = math.Min(sel, selHaving)
		}
		return o.rows(x.in) * sel
	case *joinNode:
		return o.joinRows(x)
	case *aggNode:
		return o.groupRows(x)
	case *distinctNode:
		return math.Min(o.rows(x.in), o.distinctOf(x.in, x.on))
	case *limitNode:
		in := o.rows(x.in)
		if c, ok := constInt(x.count); ok {
			return math.Min(in, float64(c))
		}
		return in
	case *setNode:
		switch x.kind {
		case setUnion:
			return o.rows(x.l) + o.rows(x.r)
		case setIntersect:
			return math.Min(o.rows(x.l), o.rows(x.r))
		}
		return o.rows(x.l)
	case *cteNode:
		if x.cte.recursive {
			return o.rows(x.cte.plan) * recursionGrowth
		}
		return o.rows(x.cte.plan)
	}
	if in := n.inputs(); len(in) == 1 {
		return o.rows(in[0])
	}
	return rowsUnknown
}

func (o *optimizer) tableRows(t *catalog.Table) float64 {
	if s := o.cat.TableStats(t.ID); s.Rows > 0 {
		return float64(s.Rows)
	}
	return rowsUnknown
}

func (o *optimizer) groupRows(x *aggNode) float64 {
	if len(x.keys) == 0 {
		return 1
	}
	in, groups := o.rows(x.in), 1.0
	for _, k := range x.keys {
		groups *= o.distinctExpr(x.in, k.e)
		if groups > in {
			return in
		}
	}
	return groups
}

func (o *optimizer) distinctOf(n node, cols []ColID) float64 {
	d := 1.0
	for _, c := range cols {
		d *= o.distinct(n, c)
	}
	return d
}

func (o *optimizer) distinctExpr(n node, e expr.Expr) float64 {
	if c, ok := e.(*expr.Column); ok {
		return o.distinct(n, c.Index)
	}
	return math.Min(o.rows(n), distinctUnknownOp)
}

// distinct estimates the different values of a column in n's output.
func (o *optimizer) distinct(n node, c ColID) float64 {
	return math.Max(1, math.Min(o.rows(n), o.baseDistinct(n, c)))
}

// baseDistinct is the distinct count before n's own reduction.
func (o *optimizer) baseDistinct(n node, c ColID) float64 {
	switch x := n.(type) {
	case *projectNode:
		for _, it := range x.items {
			if it.col == c {
				return o.distinctExpr(x.in, it.e)
			}
		}
	case *aggNode:
		for _, k := range x.keys {
			if k.col == c {
				if len(x.keys) == 1 {
					return o.rows(n)
				}
				return o.distinctExpr(x.in, k.e)
			}
		}
	case *joinNode:
		if colsOf(x.l.columns()).has(c) {
			return o.distinct(x.l, c)
		}
		return o.distinct(x.r, c)
	case *filterNode:
		return o.distinct(x.in, c)
	}
	return o.columnDistinct(c)
}

// columnDistinct is what statistics or keys say of a stored column.
func (o *optimizer) columnDistinct(c ColID) float64 {
	m := &o.q.cols[c]
	if m.table == nil {
		return distinctUnknownOp
	}
	rows := o.tableRows(m.table)
	if d := o.cat.TableStats(m.table.ID).Distinct[m.table.Columns[m.ord].ID]; d > 0 {
		return float64(d)
	}
	for _, ix := range uniqueKeys(m.table) {
		if len(ix.Columns) == 1 && ix.Columns[0].Column == m.ord {
			return rows
		}
	}
	return math.Max(1, rows*distinctUnknown)
}

// uniqueKeys are the primary key and the public unique indexes.
func uniqueKeys(t *catalog.Table) []*catalog.Index {
	var out []*catalog.Index
	if t.PrimaryKey != nil {
		out = append(out, t.PrimaryKey)
	}
	for _, ix := range t.Indexes {
		if ix.Unique && ix.State == catalog.StatePublic {
			out = append(out, ix)
		}
	}
	return out
}

// selectivity is the fraction of n's rows that pass all conditions.
func (o *optimizer) selectivity(n node, conds []expr.Expr) float64 {
	if s, ok := o.uniqueSel(n, conds); ok {
		return s // the least that is told from none
	}
	s, rest := o.bySample(conds)
	for _, e := range rest {
		s *= o.condSel(n, e)
	}
	return s
}

// uniqueSel is one row out of all where equalities cover a unique key.
func (o *optimizer) uniqueSel(n node, conds []expr.Expr) (float64, bool) {
	sc, ok := n.(*scanNode)
	if !ok {
		return 0, false
	}
	eq := map[int]bool{}
	for _, e := range conds {
		if c, ok := e.(*expr.Call); ok && opName(c) == "=" {
			if id, ok := restrictsOne(e); ok {
				eq[o.q.cols[id].ord] = true
			}
		}
	}
	for _, ix := range uniqueKeys(sc.table) {
		all := true
		for _, ic := range ix.Columns {
			all = all && eq[ic.Column]
		}
		if all {
			return 1 / o.tableRows(sc.table), true
		}
	}
	return 0, false
}

func (o *optimizer) condSel(n node, e expr.Expr) float64 {
	if s, ok := o.sampled([]expr.Expr{e}); ok {
		return s
	}
	switch x := e.(type) {
	case *expr.Const:
		if isTrue(x) {
			return 1
		}
		return 0
	case *expr.Logic:
		s := 1.0
		for _, a := range x.Args {
			if x.Or {
				s *= 1 - o.condSel(n, a)
			} else {
				s *= o.condSel(n, a)
			}
		}
		if x.Or {
			return 1 - s
		}
		return s
	case *expr.In:
		s := math.Min(1, float64(len(x.Values))/o.distinctBase(x.X))
		if x.Not {
			return 1 - s
		}
		return s
	case *subExpr:
		return selSub
	case *expr.Call:
		return o.callSel(n, x)
	}
	return selOther
}

func (o *optimizer) callSel(n node, x *expr.Call) float64 {
	if inner, ok := negated(x); ok {
		return math.Max(0.01, 1-o.condSel(n, inner))
	}
	switch op := opName(x); op {
	case "=":
		d := o.distinctBase(x.Args[0])
		if fixed(x.Args[0]) {
			d = o.distinctBase(x.Args[1])
		}
		return 1 / d
	case "<>":
		return selNotEqual
	case "<", "<=", ">", ">=":
		return selRange
	case "~~", "~", "~*", "~~*":
		return selPattern
	case "!~~", "!~", "!~*", "!~~*":
		return 1 - selPattern
	}
	if isNullTest(x) {
		return selIsNull
	}
	if isNotNullTest(x) {
		return 1 - selIsNull
	}
	return selOther
}

func (o *optimizer) distinctBase(e expr.Expr) float64 {
	if c, ok := stripRelabel(e).(*expr.Column); ok {
		return o.columnDistinct(c.Index)
	}
	return distinctUnknownOp
}

func (o *optimizer) joinRows(x *joinNode) float64 {
	l, r := o.rows(x.l), o.rows(x.r)
	switch x.kind {
	case joinSemi:
		return math.Max(1, math.Min(l, l*o.matched(x)))
	case joinAnti:
		return math.Max(1, l*math.Max(0.05, 1-o.matched(x)))
	}
	if x.est > 0 {
		return x.est
	}
	sel := o.onSelectivity(x)
	rows := l * r * sel
	switch x.kind {
	case joinLeft:
		return math.Max(l, rows)
	case joinFull:
		return math.Max(l, math.Max(r, rows))
	}
	return rows
}

// matched guesses the fraction of left rows with a partner.
func (o *optimizer) matched(x *joinNode) float64 {
	s := 1.0
	for _, e := range x.on {
		call, ok := e.(*expr.Call)
		if !ok || opName(call) != "=" {
			continue
		}
		lc, rc := call.Args[0], call.Args[1]
		if !colsIn(lc).within(colsOf(x.l.columns())) {
			lc, rc = rc, lc
		}
		s = math.Min(s, o.distinctExpr(x.r, rc)/math.Max(1, o.distinctExpr(x.l, lc)))
	}
	return math.Min(1, s) * 0.9
}

func (o *optimizer) onSelectivity(x *joinNode) float64 {
	sel := 1.0
	for _, e := range x.on {
		call, ok := e.(*expr.Call)
		if !ok || opName(call) != "=" {
			sel *= o.condSel(x, e)
			continue
		}
		lc, rc := call.Args[0], call.Args[1]
		if !colsIn(lc).within(colsOf(x.l.columns())) {
			lc, rc = rc, lc
		}
		sel /= math.Max(o.distinctExpr(x.l, lc), o.distinctExpr(x.r, rc))
	}
	return sel
}
