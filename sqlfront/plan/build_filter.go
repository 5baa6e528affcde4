package plan

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
)

// Join filters. When a join has read its right side, it knows which keys can
// find a match; a scan below its left side, which is opened later, need not
// return rows with others. The key is followed down through whatever hands its
// column on, and across equalities of the joins on the way:
//
//	Hash Join  l_partkey = p_partkey             part, filtered: 1,300 keys
//	  Hash Join  l_orderkey = o_orderkey             │
//	    Copr Scan on lineitem  ◄── l_partkey in … ───┘
//	    Copr Scan on orders

// joinFilters are the filters of one execution.
type joinFilters struct {
	p     *Physical
	joins map[*physHashJoin][]*exec.JoinFilter
	scans map[*physScan][]*ScanFilter
}

// ScanFilter is a join's filter on a scan.
type ScanFilter struct {
	filter  *exec.JoinFilter
	column  *expr.Column // of the scan's own columns
	name    string       // of the join's key
	dropped atomic.Int64
	used    atomic.Bool
}

// String is EXPLAIN ANALYZE's line.
func (f *ScanFilter) String() string {
	if !f.used.Load() {
		return fmt.Sprintf("Key Filter: %s = %s, not made", f.column, f.name)
	}
	if n := f.dropped.Load(); n > 0 { // other processes do not say
		return fmt.Sprintf("Key Filter: %s = %s, rows removed=%d", f.column, f.name, n)
	}
	return fmt.Sprintf("Key Filter: %s = %s", f.column, f.name)
}

// of are the filters that a join is to make, on those on a scan.
func (f *joinFilters) of(n *physHashJoin) []*exec.JoinFilter {
	if f == nil {
		return nil
	}
	return f.joins[n]
}

func (f *joinFilters) on(n *physScan) []*ScanFilter {
	if f == nil {
		return nil
	}
	return f.scans[n]
}

// scanFiltersMax is how many filters a scan gets.
const scanFiltersMax = 8

func newJoinFilters(p *Physical, env *ExecEnv) *joinFilters {
	if !env.JoinFilters {
		return nil
	}
	f := &joinFilters{p: p, joins: map[*physHashJoin][]*exec.JoinFilter{}, scans: map[*physScan][]*ScanFilter{}}
	f.walk(p.root)
	for _, c := range p.ctes {
		if c.plan != nil && c.step == nil { // what is recursive is built again for every round
			f.walk(c.plan)
		}
	}
	return f
}

func (f *joinFilters) walk(n physNode) {
	if j, ok := n.(*physHashJoin); ok {
		f.join(j)
	}
	for _, k := range n.kids() {
		f.walk(k)
	}
}

// join finds the scans that j's right side may filter.
func (f *joinFilters) join(j *physHashJoin) {
	if !j.kind.FiltersLeft() || !f.selective(j.r) {
		return
	}
	for i, k := range j.lkeys {
		col, ok := keyColumn(k)
		if !ok {
			continue
		}
		jf := exec.NewJoinFilter(i)
		if f.push(j.l, col.Index, jf, j.rkeys[i].String()) {
			f.joins[j] = append(f.joins[j], jf)
		}
	}
}

// keyColumn is the column that a key is, but for a cast between integers.
func keyColumn(e expr.Expr) (*expr.Column, bool) {
	if c, ok := e.(*expr.Call); ok && c.Fn.Kind == expr.KindCast && c.Typ.IsInteger() && c.Args[0].Type().IsInteger() {
		e = c.Args[0]
	}
	c, ok := e.(*expr.Column)
	return c, ok
}

// selective reports whether n's rows are likely not to have all keys: something
// below it filters.
func (f *joinFilters) selective(n physNode) bool {
	switch x := n.(type) {
	case *physScan:
		if x.acc.ranged() {
			return true
		}
		for _, p := range x.chain {
			switch p.node.(type) {
			case *coprplan.Selection, *coprplan.TopN, *coprplan.Limit:
				return true
			}
		}
		return false
	case *physFilter, *physValues, *physPoint, *physLimit, *physTopN, *physRows:
		return true
	case *physCTEScan:
		c := f.p.ctes[x.id]
		return c.step == nil && f.selective(c.plan)
	}
	return slices.ContainsFunc(n.kids(), f.selective)
}

// push gives a filter on output column col of n to the scans that the column
// comes from; false if there is none.
func (f *joinFilters) push(n physNode, col int, jf *exec.JoinFilter, name string) bool {
	switch x := n.(type) {
	case *physScan:
		return f.pushScan(x, col, jf, name)
	case *physFilter:
		return f.push(x.in, col, jf, name)
	case *physSort:
		return f.push(x.in, col, jf, name)
	case *physProject:
		c, ok := keyColumn(x.exprs[col])
		return ok && f.push(x.in, c.Index, jf, name)
	case *physDistinct:
		return x.on == nil && f.push(x.in, col, jf, name)
	case *physSetOp:
		if x.kind != setUnion {
			return false
		}
		l := f.push(x.l, col, jf, name)
		return f.push(x.r, col, jf, name) || l
	case *physAgg: // groups go as a whole
		if col >= len(x.keys) {
			return false
		}
		if x.mode != exec.FinalAgg {
			c, ok := keyColumn(x.keys[col])
			if !ok {
				return false
			}
			col = c.Index
		}
		return f.push(x.in, col, jf, name)
	case *physLookup:
		return col < len(x.outer.base().cols) && f.push(x.outer, col, jf, name)
	case *physHashJoin:
		return f.pushJoin(x, col, jf, name)
	}
	return false
}

// pushJoin goes on below a join. The filtered column must be one of a side whose
// rows come out as they are or not at all; then what the other side joins only
// with rows that are left out may be left out there, too.
func (f *joinFilters) pushJoin(x *physHashJoin, col int, jf *exec.JoinFilter, name string) bool {
	left := len(x.l.base().cols)
	switch {
	case x.out != nil:
		col = x.out[col]
	case x.kind == exec.RightSemiJoin || x.kind == exec.RightAntiJoin:
		col += left
	}
	here, there, at := x.lkeys, x.rkeys, col
	from, to := x.l, x.r
	switch x.kind {
	case exec.InnerJoin:
	case exec.LeftJoin, exec.SemiJoin, exec.AntiJoin:
		if col >= left {
			return false
		}
	case exec.RightJoin, exec.RightSemiJoin, exec.RightAntiJoin:
		if col < left {
			return false
		}
	default:
		return false
	}
	if x.nullAware {
		to = nil // whether its other side has a NULL, or is empty, counts
	}
	if col >= left {
		here, there, at = x.rkeys, x.lkeys, col-left
		from, to = x.r, x.l
	}
	pushed := f.push(from, at, jf, name)
	for i := range here {
		c, ok := keyColumn(here[i])
		if !ok || c.Index != at || to == nil {
			continue
		}
		if c, ok := keyColumn(there[i]); ok && f.push(to, c.Index, jf, name) {
			pushed = true
		}
	}
	return pushed
}

// pushScan follows a column through what the coprocessors do to where it is
// read.
func (f *joinFilters) pushScan(x *physScan, col int, jf *exec.JoinFilter, name string) bool {
	for i := len(x.chain) - 1; i >= 0; i-- {
		var list []expr.Expr
		switch node := x.chain[i].node.(type) {
		case *coprplan.Selection:
			continue
		case *coprplan.Projection:
			list = node.Exprs
		case *coprplan.Aggregation:
			list = node.GroupBy
		default: // a limit counts rows
			return false
		}
		if col >= len(list) {
			return false
		}
		c, ok := keyColumn(list[col])
		if !ok {
			return false
		}
		col = c.Index
	}
	var cols []coprplan.Column
	switch h := x.head.(type) {
	case *coprplan.TableScan:
		cols = h.Columns
	case *coprplan.IndexScan:
		cols = h.Columns
	}
	if col >= len(cols) || len(f.scans[x]) >= scanFiltersMax {
		return false
	}
	if ok, _ := expr.KeyFiltered(cols[col].Type); !ok {
		return false
	}
	c := &expr.Column{Index: col, Typ: cols[col].Type, Name: x.columnName(cols[col].ID)}
	f.scans[x] = append(f.scans[x], &ScanFilter{filter: jf, column: c, name: name})
	return true
}

// columnName is how EXPLAIN calls a column of the scanned table.
func (n *physScan) columnName(id uint32) string {
	for _, c := range n.table.Columns {
		if uint32(c.ID) == id {
			return n.alias + "." + c.Name
		}
	}
	return ""
}

// Filtered is the request's plan with the conditions of joins, as far as they
// are known, behind cheaper ones of the statement. It may wait for a join to
// read its other side.
func (r *ScanRequest) Filtered(ctx *exec.Ctx) (*coprplan.Plan, error) {
	var conds []expr.Expr
	for _, f := range r.Filters {
		list, err := f.filter.Conds(ctx, f.column, &f.dropped)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			f.used.Store(true)
		}
		conds = append(conds, list...)
	}
	if len(conds) == 0 {
		return r.Plan, nil
	}
	out := *r.Plan
	rest := out.Nodes[1:]
	if len(rest) > 0 {
		if s, ok := rest[0].(*coprplan.Selection); ok {
			at := slices.IndexFunc(s.Conds, func(e expr.Expr) bool { return !cheap(e) })
			if at < 0 {
				at = len(s.Conds)
			}
			conds, rest = slices.Concat(s.Conds[:at], conds, s.Conds[at:]), rest[1:]
		}
	}
	out.Nodes = slices.Concat(out.Nodes[:1], []coprplan.Node{&coprplan.Selection{Conds: conds}}, rest)
	return &out, nil
}

// cheap reports whether a condition costs less than looking up a key: it has no
// strings in it.
func cheap(e expr.Expr) bool {
	return walkExpr(e, func(x expr.Expr) bool {
		c, ok := x.(*expr.Column)
		return !ok || !colvec.KindOf(c.Typ).IsBytes()
	})
}
