package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/sqlfront/catalog"
)

// ExplainOptions say what EXPLAIN shows.
type ExplainOptions struct {
	Verbose bool
	// Costs shows estimated rows.
	Costs bool
}

// Explain prints a plan as a tree. With run, what happened when it ran is
// shown too (EXPLAIN ANALYZE): its operators must have been read to the end.
func Explain(p *Physical, opts ExplainOptions, run *Running) []string {
	x := &explainer{p: p, opts: opts, run: run, subs: map[*physSub]bool{}}
	x.node(p.root, 0)
	for _, c := range p.ctes {
		if c.plan == nil {
			continue
		}
		x.line(0, "CTE "+c.name)
		x.node(c.plan, 1)
		if c.step != nil {
			x.line(1, "Recursive term")
			x.node(c.step, 2)
		}
	}
	return x.out
}

type explainer struct {
	p    *Physical
	opts ExplainOptions
	run  *Running
	out  []string
	subs map[*physSub]bool
}

func (x *explainer) line(depth int, s string) {
	if depth == 0 {
		x.out = append(x.out, s)
		return
	}
	x.out = append(x.out, strings.Repeat("      ", depth-1)+"  "+s)
}

func (x *explainer) node(n physNode, depth int) {
	text := n.label()
	if x.opts.Costs {
		text += fmt.Sprintf("  (rows=%d)", minRows(n.base().rows))
	}
	ran := x.ran(n)
	if ran != nil {
		s := ran.stats()
		text += fmt.Sprintf(" (actual rows=%d time=%s", s.Rows, millis(s.Time))
		if w := ran.workers(); w > 1 {
			text += fmt.Sprintf(" workers=%d", w)
		}
		text += ")"
	}
	if depth == 0 {
		x.out = append(x.out, text)
	} else {
		x.out = append(x.out, strings.Repeat("      ", depth-1)+"  ->  "+text)
	}
	for _, d := range n.details() {
		x.detail(depth, d)
	}
	if ran != nil && len(ran.ops) > 0 {
		x.scanStats(ran.ops[0], depth)
	}
	if s, ok := n.(*physScan); ok && ran != nil {
		for _, f := range x.run.filters.on(s) {
			x.detail(depth, f.String())
		}
	}
	if ran != nil {
		for _, line := range ran.details() {
			x.detail(depth, line)
		}
	}
	for _, k := range n.kids() {
		x.node(k, depth+1)
	}
	x.subplans(n, depth)
}

func (x *explainer) scanStats(op exec.Operator, depth int) {
	if st, ok := op.(ScanStatser); ok {
		s := st.ScanStats()
		x.detail(depth, fmt.Sprintf("Coprocessor: regions=%d requests=%d rows scanned=%d bytes scanned=%d bytes sent=%d",
			s.Regions, s.Requests, s.RowsScanned, s.BytesScanned, s.BytesSent))
		if s.ColumnRegions > 0 {
			x.detail(depth, fmt.Sprintf("Columnar: regions=%d rows=%d", s.ColumnRegions, s.ColumnRows))
		}
		if s.CachedRegions > 0 {
			x.detail(depth, fmt.Sprintf("Result Cache: regions=%d", s.CachedRegions))
		}
	}
}

func (x *explainer) ran(n physNode) *traced {
	if x.run == nil {
		return nil
	}
	return x.run.trace.of(n)
}

func (x *explainer) detail(depth int, s string) {
	x.out = append(x.out, strings.Repeat("      ", depth)+"  "+s)
}

// subplans prints the subqueries of a node's expressions below it.
func (x *explainer) subplans(n physNode, depth int) {
	for _, e := range physExprs(n) {
		walkExpr(e, func(y expr.Expr) bool {
			s, ok := y.(*physSub)
			if ok && !x.subs[s] {
				x.subs[s] = true
				word := "SubPlan "
				if len(s.outer)+len(s.testOuter) == 0 {
					word = "InitPlan "
				}
				x.detail(depth, word+strconv.Itoa(s.id))
				x.node(s.plan, depth+1)
			}
			return true
		})
	}
}

// physExprs are a node's own expressions.
func physExprs(n physNode) []expr.Expr {
	switch x := n.(type) {
	case *physFilter:
		return x.conds
	case *physProject:
		return x.exprs
	case *physHashJoin:
		return x.residual
	case *physNLJoin:
		return x.conds
	case *physApply:
		return x.conds
	case *physAgg:
		out := append([]expr.Expr(nil), x.keys...)
		for _, a := range x.aggs {
			out = append(out, a.Args...)
		}
		return out
	case *physSort:
		return keyExprs(x.keys)
	case *physTopN:
		return keyExprs(x.keys)
	case *physValues:
		var out []expr.Expr
		for _, r := range x.list {
			out = append(out, r...)
		}
		return out
	}
	return nil
}

func keyExprs(keys []coprplan.SortKey) []expr.Expr {
	out := make([]expr.Expr, len(keys))
	for i, k := range keys {
		out[i] = k.Expr
	}
	return out
}

func millis(d time.Duration) string { return fmt.Sprintf("%.3f ms", float64(d.Nanoseconds())/1e6) }

// onAlias is "t" or "t a".
func onAlias(name, alias string) string {
	if alias == "" || alias == name {
		return name
	}
	return name + " " + alias
}

func exprList(list []expr.Expr) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = e.String()
	}
	return strings.Join(parts, ", ")
}

func condList(list []expr.Expr) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = e.String()
	}
	return strings.Join(parts, " AND ")
}

func keyList(keys []coprplan.SortKey) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		s := k.Expr.String()
		if k.Desc {
			s += " DESC"
		}
		if k.NullsFirst != k.Desc {
			s += map[bool]string{true: " NULLS FIRST", false: " NULLS LAST"}[k.NullsFirst]
		}
		parts[i] = s
	}
	return strings.Join(parts, ", ")
}

func aggList(aggs []coprplan.AggCall) string {
	parts := make([]string, len(aggs))
	for i, a := range aggs {
		args := exprList(a.Args)
		if len(a.Args) == 0 {
			args = "*"
		}
		if a.Distinct {
			args = "DISTINCT " + args
		}
		s := a.Name + "(" + args + ")"
		if a.Filter != nil {
			s += " FILTER (WHERE " + a.Filter.String() + ")"
		}
		parts[i] = s
	}
	return strings.Join(parts, ", ")
}

func (n *physScan) label() string {
	name := "Copr Scan"
	if n.acc.index != nil {
		name = "Copr Index Scan using " + n.acc.index.Name
	}
	if n.desc {
		name += " backward"
	}
	return name + " on " + onAlias(n.table.Name, n.alias)
}

func (n *physScan) details() []string {
	var out []string
	if len(n.chain) > 0 {
		parts := make([]string, len(n.chain))
		for i, p := range n.chain {
			parts[i] = pushedText(p)
		}
		out = append(out, "Pushed: "+strings.Join(parts, "; "))
	}
	if r := n.acc.rangeText(n.table.Columns); r != "" {
		out = append(out, "Key ranges: "+r)
	}
	var cols []string
	switch h := n.head.(type) {
	case *coprplan.TableScan:
		cols = n.columnNames(h.Columns)
	case *coprplan.IndexScan:
		cols = n.columnNames(h.Columns)
	}
	out = append(out, "Columns: "+strings.Join(cols, ", "))
	if n.keepOrder {
		out = append(out, "Order: key order")
	}
	return out
}

func (n *physScan) columnNames(cols []coprplan.Column) []string {
	var out []string
	for _, c := range cols {
		for i := range n.table.Columns {
			if n.table.Columns[i].ID == c.ID {
				out = append(out, n.table.Columns[i].Name)
			}
		}
	}
	if n.handle != 0 {
		out = append(out, "(handle)")
	}
	return out
}

func pushedText(p pushed) string {
	switch x := p.node.(type) {
	case *coprplan.Selection:
		return "filter " + condList(x.Conds)
	case *coprplan.Projection:
		return "project " + exprList(x.Exprs)
	case *coprplan.Aggregation:
		s := "partial aggregate"
		if len(x.Aggs) > 0 {
			s += " " + aggList(x.Aggs)
		}
		if len(x.GroupBy) > 0 {
			s += " group by " + exprList(x.GroupBy)
		}
		return s
	case *coprplan.TopN:
		return "top-N " + limitText(p.count, p.offset) + " by " + keyList(x.Keys)
	}
	return "limit " + limitText(p.count, p.offset)
}

func limitText(count, offset expr.Expr) string {
	s := "all"
	if count != nil {
		s = count.String()
	}
	if offset != nil {
		s += " + " + offset.String()
	}
	return s
}

// rangeText describes the key ranges of an access path.
func (a *access) rangeText(cols []catalog.Column) string {
	name := func(i int) string { return cols[a.columns[i]].Name }
	if a.tuples != nil {
		names := make([]string, len(a.tuples[0]))
		for i := range names {
			names[i] = name(i)
		}
		return fmt.Sprintf("(%s) in %d tuples", strings.Join(names, ", "), len(a.tuples))
	}
	var parts []string
	for i, l := range a.eq {
		if len(l) == 1 {
			parts = append(parts, name(i)+" = "+l[0].String())
		} else {
			parts = append(parts, name(i)+" in ("+exprList(l)+")")
		}
	}
	next := len(a.eq)
	if a.low != nil {
		op := " >= "
		if a.low.exclusive {
			op = " > "
		}
		parts = append(parts, name(next)+op+a.low.e.String())
	}
	if a.high != nil {
		op := " <= "
		if a.high.exclusive {
			op = " < "
		}
		e := a.high.e.String()
		if a.high.prefixEnd {
			e = "end of prefix " + e
		}
		parts = append(parts, name(next)+op+e)
	}
	return strings.Join(parts, ", ")
}

func (n *physPoint) label() string {
	s := "Point Get on "
	if n.acc.index != nil {
		s = "Point Get using " + n.acc.index.Name + " on "
	}
	return s + onAlias(n.table.Name, n.alias)
}
func (n *physPoint) details() []string { return []string{"Key: " + n.acc.rangeText(n.table.Columns)} }
func (n *physRows) label() string      { return "Index Lookup on " + onAlias(n.table.Name, n.alias) }
func (n *physRows) details() []string  { return nil }
func (n *physLookup) label() string {
	return n.title() + " on " + onAlias(n.table.Name, n.alias)
}
func (n *physLookup) details() []string {
	out := []string{"Key: " + exprList(n.keys)}
	if len(n.filter) > 0 {
		out = append(out, "Inner filter: "+condList(n.filter))
	}
	if len(n.residual) > 0 {
		out = append(out, "Join filter: "+condList(n.residual))
	}
	return out
}
func (n *physVirtual) label() string {
	return "Catalog Scan on " + onAlias(n.table.Name, n.alias)
}
func (n *physVirtual) details() []string { return nil }
func (n *physValues) label() string {
	if len(n.cols) == 0 && len(n.list) == 1 {
		return "Result"
	}
	return fmt.Sprintf("Values (%d rows)", len(n.list))
}
func (n *physValues) details() []string  { return nil }
func (n *physFilter) label() string      { return "Filter" }
func (n *physFilter) details() []string  { return []string{"Filter: " + condList(n.conds)} }
func (n *physProject) label() string     { return "Project" }
func (n *physProject) details() []string { return []string{"Output: " + exprList(n.exprs)} }
func (n *physHashJoin) label() string    { return "Hash" + n.kind.String() + " Join" }
func (n *physHashJoin) details() []string {
	parts := make([]string, len(n.lkeys))
	for i := range n.lkeys {
		parts[i] = n.lkeys[i].String() + " = " + n.rkeys[i].String()
	}
	out := []string{"Hash Cond: " + strings.Join(parts, " AND ")}
	if len(n.residual) > 0 {
		out = append(out, "Join Filter: "+condList(n.residual))
	}
	if n.nullAware {
		out = append(out, "Null aware: NOT IN")
	}
	return out
}
func (n *physNLJoin) label() string { return "Nested Loop" + n.kind.String() + " Join" }
func (n *physNLJoin) details() []string {
	if len(n.conds) == 0 {
		return nil
	}
	return []string{"Join Filter: " + condList(n.conds)}
}
func (n *physApply) label() string     { return "Nested Loop" + n.kind.String() + " Apply" }
func (n *physApply) details() []string { return nil }
func (n *physAgg) label() string {
	name := "HashAggregate"
	if len(n.keys) == 0 {
		name = "Aggregate"
	}
	if n.mode == exec.FinalAgg {
		name = "Finalize " + name
	}
	return name
}
func (n *physAgg) details() []string {
	var out []string
	if len(n.keys) > 0 {
		out = append(out, "Group Key: "+exprList(n.keys))
	}
	if len(n.aggs) > 0 {
		out = append(out, "Aggregates: "+aggList(n.aggs))
	}
	return out
}
func (n *physSort) label() string     { return "Sort" }
func (n *physSort) details() []string { return []string{"Sort Key: " + keyList(n.keys)} }
func (n *physTopN) label() string     { return "Top-N " + limitText(n.count, n.offset) }
func (n *physTopN) details() []string { return []string{"Sort Key: " + keyList(n.keys)} }
func (n *physLimit) label() string    { return "Limit " + limitText(n.count, n.offset) }
func (n *physLimit) details() []string {
	return nil
}
func (n *physDistinct) label() string {
	if n.on == nil {
		return "Distinct"
	}
	return "Distinct On"
}
func (n *physDistinct) details() []string { return nil }
func (n *physSetOp) label() string {
	name := map[setKind]string{setUnion: "Union", setIntersect: "Intersect", setExcept: "Except"}[n.kind]
	if n.all {
		name += " All"
	}
	return name
}
func (n *physSetOp) details() []string { return nil }
func (n *physWindow) label() string    { return "WindowAgg" }
func (n *physWindow) details() []string {
	names := make([]string, len(n.funcs))
	for i, f := range n.funcs {
		names[i] = f.name + "(" + exprList(f.args) + ")"
	}
	return []string{"Functions: " + strings.Join(names, ", ")}
}
func (n *physProjectSet) label() string { return "ProjectSet" }
func (n *physProjectSet) details() []string {
	names := make([]string, len(n.calls))
	for i, c := range n.calls {
		names[i] = c.String()
	}
	return []string{"Functions: " + strings.Join(names, ", ")}
}
func (n *physCTEScan) label() string {
	if n.work {
		return "WorkTable Scan on " + n.name
	}
	return "CTE Scan on " + n.name
}
func (n *physCTEScan) details() []string { return nil }
