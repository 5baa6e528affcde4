package plan

import (
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// handleType is the type of a row's handle.
var handleType = sqltypes.Bytea

// pushed is a node of a coprocessor chain. A TopN's and a Limit's N is count
// plus offset, known when the plan is built.
type pushed struct {
	node          coprplan.Node
	count, offset expr.Expr
}

type (
	// physScan is a scan and what the coprocessors do with its rows.
	physScan struct {
		physBase
		table  *catalog.Table
		alias  string
		acc    *access
		head   coprplan.Node // *TableScan or *IndexScan
		chain  []pushed
		handle ColID
		// keyCols are the column ids of the key's columns, 0 where not read.
		keyCols         []ColID
		nullable        []bool
		keepOrder, desc bool
		// unknown says that nothing is known of the table's size, and all of it is
		// read.
		unknown bool
	}
	// physRows fetches rows by the handles that in returns.
	physRows struct {
		physBase
		in     *physScan
		table  *catalog.Table
		alias  string
		read   []coprplan.Column
		handle bool
	}
	// physPoint reads rows by full values of the primary key or of a unique
	// index.
	physPoint struct {
		physBase
		table  *catalog.Table
		alias  string
		acc    *access
		read   []coprplan.Column
		handle bool
	}
)

func (n *physScan) kids() []physNode  { return nil }
func (n *physRows) kids() []physNode  { return []physNode{n.in} }
func (n *physPoint) kids() []physNode { return nil }

// open reports whether further nodes may follow in the coprocessor: not behind
// a node whose result over one region is not final.
func (n *physScan) open() bool {
	if len(n.chain) == 0 {
		return true
	}
	switch n.chain[len(n.chain)-1].node.(type) {
	case *coprplan.Selection, *coprplan.Projection:
		return true
	}
	return false
}

func (n *physScan) canFilter() bool { return n.open() }

// with is a copy with one more node.
func (n *physScan) with(p pushed) *physScan {
	c := *n
	c.chain = append(n.chain[:len(n.chain):len(n.chain)], p)
	return &c
}

// keep sets the output layout after a projection.
func (n *physScan) keep(b physBase) { n.cols, n.types, n.rows = b.cols, b.types, b.rows }

// lowerScan chooses the cheapest access path and reads the table by it.
func (lw *lowerer) lowerScan(n *scanNode) physNode {
	var best *access
	for _, a := range lw.o.accesses(n) {
		cost := a.cost
		if len(lw.order) > 0 && a.matches(n, lw.order) != nil {
			cost *= costOrdered
		}
		a.cost = cost
		if best == nil || cost < best.cost {
			best = a
		}
	}
	if best.point() {
		return lw.lowerPoint(n, best)
	}
	if best.index != nil && !best.covers(n) {
		return lw.lowerIndexLookup(n, best)
	}
	s := lw.newScan(n, best, n.cols, n.ords, n.handle)
	p := lw.filterScan(n, s, best.residual(n.table, n.conds))
	return lw.dropUnread(n, p)
}

// newScan is the bare scan of an access path with these columns.
func (lw *lowerer) newScan(n *scanNode, a *access, cols []ColID, ords []int, handle ColID) *physScan {
	s := &physScan{table: n.table, alias: n.alias, acc: lw.boundAccess(a), handle: handle}
	s.cols = append([]ColID(nil), cols...)
	read := make([]coprplan.Column, len(cols))
	for i, ord := range ords {
		read[i] = coprColumn(n.table, ord)
		s.types = append(s.types, read[i].Type)
	}
	if handle != 0 {
		s.cols, s.types = append(s.cols, handle), append(s.types, handleType)
	}
	for _, ord := range a.columns {
		id := ColID(0)
		for i, o := range n.ords {
			if o == ord {
				id = n.cols[i]
			}
		}
		s.keyCols = append(s.keyCols, id)
		s.nullable = append(s.nullable, a.index != nil && !n.table.Columns[ord].NotNull)
	}
	s.rows = lw.o.tableRows(n.table) * a.sel
	s.unknown = lw.o.cat.TableStats(n.table.ID).Rows == 0 && !a.ranged()
	if a.index == nil {
		s.head = &coprplan.TableScan{TableID: n.table.ID, KeyColumns: keyColumns(n.table), Columns: read, Handle: handle != 0}
		return s
	}
	ix := &coprplan.IndexScan{TableID: n.table.ID, IndexID: a.index.ID, Unique: a.index.Unique,
		KeyColumns: keyColumns(n.table), Columns: read, Handle: handle != 0}
	for i, ord := range a.columns {
		ix.IndexColumns = append(ix.IndexColumns, coprplan.IndexColumn{Column: coprColumn(n.table, ord), Desc: a.desc[i]})
	}
	s.head = ix
	return s
}

func (lw *lowerer) filterScan(n *scanNode, p physNode, conds []expr.Expr) physNode {
	if len(conds) == 0 {
		return p
	}
	return lw.filter(n, p, conds)
}

// dropUnread keeps the columns that the nodes above need.
func (lw *lowerer) dropUnread(n *scanNode, p physNode) physNode {
	want := n.columns()
	b := p.base()
	if len(want) == len(b.cols) {
		return lw.arrange(p, want)
	}
	s, ok := p.(*physScan)
	if !ok || !s.open() || n.handle != 0 || !lw.o.settings.Pushdown || len(want) == 0 {
		return lw.arrange(p, want)
	}
	base := physBase{cols: want, rows: b.rows}
	var exprs []expr.Expr
	for _, c := range want {
		i := layout(b.cols).find(c)
		exprs = append(exprs, &expr.Column{Index: i, Typ: b.types[i], Name: lw.o.q.column(c).Name})
		base.types = append(base.types, b.types[i])
	}
	s = s.with(pushed{node: &coprplan.Projection{Exprs: exprs}})
	s.keep(base)
	return s
}

// lowerPoint reads single rows.
func (lw *lowerer) lowerPoint(n *scanNode, a *access) physNode {
	p := &physPoint{table: n.table, alias: n.alias, acc: lw.boundAccess(a), handle: n.handle != 0}
	cols, ords := n.cols, n.ords
	rest := a.residual(n.table, n.conds)
	if len(rest) == 0 { // nothing to test: only what is wanted is read
		cols, ords = nil, nil
		for i, id := range n.cols {
			if colsOf(n.columns()).has(id) {
				cols, ords = append(cols, id), append(ords, n.ords[i])
			}
		}
	}
	p.physBase = lw.readBase(n, cols, ords, n.handle)
	p.rows = a.combinations()
	for _, ord := range ords {
		p.read = append(p.read, coprColumn(n.table, ord))
	}
	return lw.arrange(lw.filterScan(n, p, rest), n.columns())
}

func (lw *lowerer) readBase(n *scanNode, cols []ColID, ords []int, handle ColID) physBase {
	b := physBase{cols: append([]ColID(nil), cols...), rows: lw.o.rows(n)}
	for _, ord := range ords {
		b.types = append(b.types, n.table.Columns[ord].Type)
	}
	if handle != 0 {
		b.cols, b.types = append(b.cols, handle), append(b.types, handleType)
	}
	return b
}

// lowerIndexLookup scans an index for handles, filters on what the index has,
// and fetches the rows.
func (lw *lowerer) lowerIndexLookup(n *scanNode, a *access) physNode {
	conds := a.residual(n.table, n.conds)
	early := a.indexConds(n, conds)
	var cols []ColID
	var ords []int
	need := colsOfAll(early)
	for i, id := range n.cols {
		if need.has(id) {
			cols, ords = append(cols, id), append(ords, n.ords[i])
		}
	}
	handle := n.handle
	if handle == 0 {
		handle = lw.o.q.add(colMeta{name: "handle", typ: handleType, rel: n.alias})
	}
	s := lw.newScan(n, a, cols, ords, handle)
	in, ok := lw.filterScan(n, s, early).(*physScan)
	if !ok { // not pushable: test after the fetch
		in, early = s, nil
	}
	r := &physRows{in: in, table: n.table, alias: n.alias, handle: n.handle != 0}
	r.physBase = lw.readBase(n, n.cols, n.ords, n.handle)
	for _, ord := range n.ords {
		r.read = append(r.read, coprColumn(n.table, ord))
	}
	var late []expr.Expr
	for _, e := range conds {
		if !containsExpr(early, e) {
			late = append(late, e)
		}
	}
	return lw.arrange(lw.filterScan(n, r, late), n.columns())
}

// boundAccess turns outer columns in an access's values into parameters.
func (lw *lowerer) boundAccess(a *access) *access {
	c := *a
	c.eq = nil
	for _, l := range a.eq {
		c.eq = append(c.eq, lw.bindAll(l, nil))
	}
	c.tuples = nil
	for _, l := range a.tuples {
		c.tuples = append(c.tuples, lw.bindAll(l, nil))
	}
	bound := func(k *keyBound) *keyBound {
		if k == nil {
			return nil
		}
		d := *k
		d.e = lw.bind(k.e, nil)
		return &d
	}
	c.low, c.high = bound(a.low), bound(a.high)
	return &c
}

// matches finds how the access's key order gives the order of keys: desc tells
// whether the scan runs backwards. nil if it does not.
func (a *access) matches(n *scanNode, keys []sortKey) *bool {
	ids := make([]ColID, len(a.columns))
	nullable := make([]bool, len(a.columns))
	for k, ord := range a.columns {
		for i, o := range n.ords {
			if o == ord {
				ids[k] = n.cols[i]
			}
		}
		nullable[k] = a.index != nil && !n.table.Columns[ord].NotNull
	}
	return matchOrder(a, ids, nullable, keys)
}

func matchOrder(a *access, ids []ColID, nullable []bool, keys []sortKey) *bool {
	var desc *bool
	pinned := func(i int) bool { return i < len(a.eq) && len(a.eq[i]) == 1 }
	at := 0
	for _, k := range keys {
		c, ok := k.e.(*expr.Column)
		if !ok {
			return nil
		}
		skip := false
		for i := range ids {
			skip = skip || pinned(i) && ids[i] == c.Index
		}
		if skip {
			continue
		}
		for at < len(ids) && pinned(at) {
			at++
		}
		if at == len(ids) {
			// Past the whole key: unique rows leave nothing to order.
			if a.index == nil && len(ids) > 0 {
				break
			}
			return nil
		}
		if ids[at] != c.Index || nullable[at] && k.nullsFirst != k.desc {
			return nil
		}
		d := k.desc != a.desc[at]
		if desc != nil && *desc != d {
			return nil
		}
		desc = &d
		at++
	}
	if desc == nil {
		d := false
		desc = &d
	}
	return desc
}

// ordered is the scan in the order of keys, nil if its key order is another.
func (n *physScan) ordered(keys []sortKey) *physScan {
	for _, p := range n.chain {
		switch p.node.(type) {
		case *coprplan.Selection, *coprplan.Projection:
		default:
			return nil
		}
	}
	desc := matchOrder(n.acc, n.keyCols, n.nullable, keys)
	if desc == nil || n.acc.tuples != nil && *desc {
		return nil
	}
	c := *n
	c.keepOrder, c.desc = true, *desc
	switch h := n.head.(type) {
	case *coprplan.TableScan:
		t := *h
		t.Desc = *desc
		c.head = &t
	case *coprplan.IndexScan:
		t := *h
		t.Desc = *desc
		c.head = &t
	}
	return &c
}

// orderedBy makes p return its rows in the order of keys if the scan below it
// can, else nil.
func orderedBy(p physNode, keys []sortKey) physNode {
	switch x := p.(type) {
	case *physScan:
		if s := x.ordered(keys); s != nil {
			return s
		}
	case *physRows:
		if s := x.in.ordered(keys); s != nil {
			c := *x
			c.in = s
			return &c
		}
	case *physFilter:
		if in := orderedBy(x.in, keys); in != nil {
			c := *x
			c.in = in
			return &c
		}
	case *physProject:
		if in := orderedBy(x.in, keys); in != nil {
			c := *x
			c.in = in
			return &c
		}
	}
	return nil
}
