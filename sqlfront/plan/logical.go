package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// ColID names a column for the whole statement; 0 is none.
type ColID = int

// colMeta is what is known of a column id.
type colMeta struct {
	name  string
	typ   sqltypes.Type
	table *catalog.Table // set when it is a stored column
	ord   int            // position in table.Columns
	oid   uint32         // relation it comes from, 0 if computed
	attr  int16
	// notNull is true when the column can hold no null where it is produced
	// (an outer join above may still null it).
	notNull bool
	rel     string // alias of the relation, for messages and EXPLAIN
}

// query holds the columns of one statement and its shared parts.
type query struct {
	cols   []colMeta // by ColID; cols[0] is unused
	ctes   []*cte
	params int // statement parameters; outer values get slots behind them
}

func newQuery() *query { return &query{cols: make([]colMeta, 1)} }

func (q *query) add(m colMeta) ColID {
	q.cols = append(q.cols, m)
	return len(q.cols) - 1
}

// column is a reference to a column id.
func (q *query) column(id ColID) *expr.Column {
	m := &q.cols[id]
	name := m.name
	if m.rel != "" {
		name = m.rel + "." + m.name
	}
	return &expr.Column{Index: id, Typ: m.typ, Name: name}
}

// node is a node of the logical tree. Nodes are immutable once built, except
// by the rule that owns the copy it just made.
type node interface {
	// columns are the output columns in order.
	columns() []ColID
	inputs() []node
	// withInputs is a copy over other inputs.
	withInputs(in []node) node
}

// item is one computed column.
type item struct {
	col ColID
	e   expr.Expr
}

// passThrough reports whether the item hands on an input column unchanged.
func (it item) passThrough() bool {
	c, ok := it.e.(*expr.Column)
	return ok && c.Index == it.col
}

// sortKey is one ORDER BY key.
type sortKey struct {
	e                expr.Expr
	desc, nullsFirst bool
}

type joinKind int

const (
	joinInner joinKind = iota
	joinLeft
	joinFull
	joinSemi
	joinAnti
)

func (k joinKind) String() string {
	return [...]string{"inner", "left", "full", "semi", "anti"}[k]
}

type setKind int

const (
	setUnion setKind = iota
	setIntersect
	setExcept
)

func (k setKind) String() string { return [...]string{"union", "intersect", "except"}[k] }

type (
	// scanNode reads a stored table. cols and ords are parallel; conds are the
	// conditions that were pushed into it. handle is the id of the encoded
	// primary key for DML and locking, 0 if not wanted. After pruning, out are
	// the columns among cols that the nodes above need (conds may need more).
	scanNode struct {
		table  *catalog.Table
		alias  string
		cols   []ColID
		ords   []int
		handle ColID
		conds  []expr.Expr
		out    []ColID
		pruned bool
	}
	// virtualNode reads a system table.
	virtualNode struct {
		table *catalog.VirtualTable
		alias string
		cols  []ColID
		ords  []int
	}
	// valuesNode is VALUES, and with one row of no columns the input of a
	// SELECT without FROM.
	valuesNode struct {
		cols []ColID
		rows [][]expr.Expr
	}
	// projectSetNode appends to each input row the rows of set-returning
	// functions, run in lockstep; FROM functions run over one empty row.
	projectSetNode struct {
		in    node
		funcs []setFunc
		// ordinality is the id of WITH ORDINALITY's column, 0 = none.
		ordinality ColID
	}
	setFunc struct {
		call *setCall
		cols []ColID
	}
	filterNode struct {
		in    node
		conds []expr.Expr
	}
	projectNode struct {
		in    node
		items []item
	}
	// joinNode: semi and anti return the columns of l only. lateral marks a
	// right side that mentions columns of the left.
	joinNode struct {
		kind    joinKind
		l, r    node
		on      []expr.Expr
		lateral bool
		// nullAware makes an anti join NOT IN: its one equality may be unknown.
		nullAware bool
		// need are the columns that the nodes above use; nil = not known.
		need colSet
		// est is the rows that join ordering estimated, 0 = not ordered.
		est float64
	}
	// aggNode groups. Keys whose expression is a plain column keep its id.
	aggNode struct {
		in   node
		keys []item
		aggs []aggItem
	}
	aggItem struct {
		col  ColID
		call aggCall
	}
	// aggCall is an aggregate with its arguments over the aggNode's input.
	aggCall struct {
		name     string
		args     []expr.Expr
		distinct bool
		filter   expr.Expr
		orderBy  []sortKey
		typ      sqltypes.Type
	}
	// windowNode appends the results of window functions that share one
	// PARTITION BY and ORDER BY.
	windowNode struct {
		in        node
		partition []expr.Expr
		order     []sortKey
		funcs     []windowItem
	}
	windowItem struct {
		col  ColID
		call windowCall
	}
	// sortNode sorts; limitNode above it makes it a top-N.
	sortNode struct {
		in   node
		keys []sortKey
	}
	// limitNode: nil expressions are absent. The expressions mention no column
	// of the input.
	limitNode struct {
		in            node
		count, offset expr.Expr
	}
	// distinctNode keeps the first row of each group of equal on columns.
	distinctNode struct {
		in node
		on []ColID
		// ordered is true for DISTINCT ON, where which row is first matters.
		ordered bool
	}
	// setNode is a set operation; lcols and rcols are parallel to cols.
	setNode struct {
		kind         setKind
		all          bool
		l, r         node
		lcols, rcols []ColID
		cols         []ColID
	}
	// cteNode reads a materialised WITH item (or, inside the recursive term,
	// the rows of the last round).
	cteNode struct {
		cte  *cte
		cols []ColID // parallel to cte.cols
		work bool    // inside the recursive term: the rows of the last round
	}
)

// cte is a materialised WITH item. A recursive one has base and step.
type cte struct {
	name      string
	plan      node // the whole plan, or the base of a recursive one
	cols      []ColID
	recursive bool
	step      node
	stepCols  []ColID
	distinct  bool // UNION rather than UNION ALL
	refs      int
	inlined   bool
	id        int // slot in the executor
	// visiting guards walks over a recursive item against going in circles.
	visiting bool
}

func (n *scanNode) columns() []ColID {
	cols := n.cols
	if n.pruned {
		cols = n.out
	}
	if n.handle == 0 {
		return cols
	}
	return append(cols[:len(cols):len(cols)], n.handle)
}
func (n *virtualNode) columns() []ColID { return n.cols }
func (n *valuesNode) columns() []ColID  { return n.cols }
func (n *cteNode) columns() []ColID     { return n.cols }
func (n *filterNode) columns() []ColID  { return n.in.columns() }
func (n *sortNode) columns() []ColID    { return n.in.columns() }
func (n *limitNode) columns() []ColID   { return n.in.columns() }
func (n *setNode) columns() []ColID     { return n.cols }
func (n *distinctNode) columns() []ColID {
	return n.in.columns()
}
func (n *projectSetNode) columns() []ColID {
	out := append([]ColID(nil), n.in.columns()...)
	for _, f := range n.funcs {
		out = append(out, f.cols...)
	}
	if n.ordinality != 0 {
		out = append(out, n.ordinality)
	}
	return out
}
func (n *projectNode) columns() []ColID { return itemCols(n.items) }
func (n *joinNode) columns() []ColID {
	if n.kind == joinSemi || n.kind == joinAnti {
		return n.l.columns()
	}
	return append(append([]ColID(nil), n.l.columns()...), n.r.columns()...)
}
func (n *aggNode) columns() []ColID {
	out := itemCols(n.keys)
	for _, a := range n.aggs {
		out = append(out, a.col)
	}
	return out
}
func (n *windowNode) columns() []ColID {
	out := append([]ColID(nil), n.in.columns()...)
	for _, f := range n.funcs {
		out = append(out, f.col)
	}
	return out
}

func itemCols(items []item) []ColID {
	out := make([]ColID, len(items))
	for i, it := range items {
		out[i] = it.col
	}
	return out
}

func (n *scanNode) inputs() []node       { return nil }
func (n *virtualNode) inputs() []node    { return nil }
func (n *valuesNode) inputs() []node     { return nil }
func (n *cteNode) inputs() []node        { return nil }
func (n *filterNode) inputs() []node     { return []node{n.in} }
func (n *projectNode) inputs() []node    { return []node{n.in} }
func (n *projectSetNode) inputs() []node { return []node{n.in} }
func (n *joinNode) inputs() []node       { return []node{n.l, n.r} }
func (n *aggNode) inputs() []node        { return []node{n.in} }
func (n *windowNode) inputs() []node     { return []node{n.in} }
func (n *sortNode) inputs() []node       { return []node{n.in} }
func (n *limitNode) inputs() []node      { return []node{n.in} }
func (n *distinctNode) inputs() []node   { return []node{n.in} }
func (n *setNode) inputs() []node        { return []node{n.l, n.r} }

func (n *scanNode) withInputs([]node) node    { return n }
func (n *virtualNode) withInputs([]node) node { return n }
func (n *valuesNode) withInputs([]node) node  { return n }
func (n *cteNode) withInputs([]node) node     { return n }
func (n *filterNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *projectNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *projectSetNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *joinNode) withInputs(in []node) node {
	c := *n
	c.l, c.r = in[0], in[1]
	return &c
}
func (n *aggNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *windowNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *sortNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *limitNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *distinctNode) withInputs(in []node) node {
	c := *n
	c.in = in[0]
	return &c
}
func (n *setNode) withInputs(in []node) node {
	c := *n
	c.l, c.r = in[0], in[1]
	return &c
}

// mapInputs applies f to every input and copies n only if one changed.
func mapInputs(n node, f func(node) node) node {
	in := n.inputs()
	changed := false
	out := make([]node, len(in))
	for i, c := range in {
		out[i] = f(c)
		changed = changed || out[i] != c
	}
	if !changed {
		return n
	}
	return n.withInputs(out)
}
