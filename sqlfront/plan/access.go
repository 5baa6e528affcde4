package plan

import (
	"math"
	"strings"

	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// Costs of reading, in rows of a full scan.
const (
	costOrdered = 0.1 // a limit over the wanted order stops early
	// orArmsMax is the most arms of (a, b) IN ((…), …) that become ranges.
	orArmsMax = 4096
)

// Fetching a row by its handle costs as much as scanning some tens of rows of a
// small table, but hundreds of a large one, which is scanned in columns.
// An index entry is smaller than a row, but there are no columns of indexes.
const (
	costLookupSmall = 20.0
	costLookupLarge = 400.0
	costIndexSmall  = 0.9
	costIndexLarge  = 30.0
	rowsSmall       = 10_000.0
	rowsLarge       = 1_000_000.0
)

// costLookup is the cost of fetching a row by its handle, of a table of so many
// rows.
func costLookup(rows float64) float64 { return bySize(rows, costLookupSmall, costLookupLarge) }

// costIndexRow is that of reading an index entry.
func costIndexRow(rows float64) float64 { return bySize(rows, costIndexSmall, costIndexLarge) }

// bySize goes from small to large with the logarithm of the number of rows.
func bySize(rows, small, large float64) float64 {
	f := math.Log(math.Max(rows, rowsSmall)/rowsSmall) / math.Log(rowsLarge/rowsSmall)
	return small + (large-small)*math.Min(1, f)
}

// keyBound is one end of a range on a key column.
type keyBound struct {
	e         expr.Expr
	exclusive bool
	prefixEnd bool // the end of all strings that start with e (LIKE 'e%')
}

// access is how a table is read: which key, and which part of it. The
// expressions are fixed: constants, parameters, calls of them.
type access struct {
	index   *catalog.Index // nil = rows in primary key (or row id) order
	columns []int          // table positions of the key's columns
	codec   []tablecodec.Column
	types   []sqltypes.Type
	desc    []bool
	// eq are the alternatives for each leading column; tuples, if not nil, are
	// alternatives for the first columns together (and eq is empty).
	eq        [][]expr.Expr
	tuples    [][]expr.Expr
	low, high *keyBound
	used      []expr.Expr // conditions the ranges imply
	sel       float64
	cover     bool
	cost      float64
}

// single reports whether the ranges are one row key.
func (a *access) single() bool {
	if a.index != nil || a.low != nil || a.high != nil || len(a.tuples) > 1 {
		return false
	}
	for _, alternatives := range a.eq {
		if len(alternatives) != 1 {
			return false
		}
	}
	return a.prefixLen() == len(a.columns)
}

func (a *access) prefixLen() int {
	if a.tuples != nil {
		return len(a.tuples[0])
	}
	return len(a.eq)
}

// point reports whether the access reads at most one row per tuple of values.
func (a *access) point() bool {
	return a.prefixLen() == len(a.columns) && len(a.columns) > 0 && (a.index == nil || a.index.Unique)
}

// ranged reports whether anything restricts the key.
func (a *access) ranged() bool { return a.prefixLen() > 0 || a.low != nil || a.high != nil }

// accesses lists the ways to read the scan's table.
func (o *optimizer) accesses(n *scanNode) []*access {
	out := []*access{o.fit(n, primaryAccess(n.table))}
	for _, ix := range n.table.Indexes {
		if ix.State == catalog.StatePublic {
			out = append(out, o.fit(n, indexAccess(n.table, ix)))
		}
	}
	return out
}

func primaryAccess(t *catalog.Table) *access {
	a := &access{cover: true}
	if t.PrimaryKey == nil {
		return a
	}
	for _, ic := range t.PrimaryKey.Columns {
		a.columns = append(a.columns, ic.Column)
		a.types = append(a.types, t.Columns[ic.Column].Type)
		a.desc = append(a.desc, false)
	}
	a.codec = tablecodec.HandleColumns(a.types)
	return a
}

func indexAccess(t *catalog.Table, ix *catalog.Index) *access {
	a := &access{index: ix}
	for _, ic := range ix.Columns {
		typ := t.Columns[ic.Column].Type
		a.columns = append(a.columns, ic.Column)
		a.types = append(a.types, typ)
		a.desc = append(a.desc, ic.Desc)
		a.codec = append(a.codec, tablecodec.IndexColumn(typ, ic.Desc))
	}
	return a
}

// fit finds what the scan's conditions say about the key, and the cost.
func (o *optimizer) fit(n *scanNode, a *access) *access {
	colOf := map[ColID]int{}
	for i, id := range n.cols {
		colOf[id] = n.ords[i]
	}
	a.fitTuples(n, colOf)
	if a.tuples == nil {
		a.fitColumns(n, colOf)
	}
	rows := o.tableRows(n.table)
	switch {
	case !a.ranged():
		a.sel = 1
	case a.point() && a.combinations() == 1:
		a.sel = 1 / rows
	default:
		a.sel = o.selectivity(n, a.used)
		if a.point() {
			a.sel = math.Min(a.sel, a.combinations()/rows)
		}
	}
	read := math.Max(1, rows*a.sel)
	switch {
	case a.index == nil:
		a.cost = read
	case a.covers(n):
		a.cover, a.cost = true, read*costIndexRow(rows)
	default:
		fetch := math.Max(1, read*o.selectivity(n, a.indexConds(n, n.conds)))
		a.cost = read*costIndexRow(rows) + fetch*costLookup(rows)
	}
	if !a.ranged() {
		a.cost += rows * 0.01 // a tie goes to a range
	}
	return a
}

func (a *access) combinations() float64 {
	if a.tuples != nil {
		return float64(len(a.tuples))
	}
	c := 1.0
	for _, l := range a.eq {
		c *= float64(len(l))
	}
	return c
}

// fitTuples recognises (a, b) IN ((…), …): an OR whose every arm equates the
// same leading key columns with fixed values.
func (a *access) fitTuples(n *scanNode, colOf map[ColID]int) {
	for _, cond := range n.conds {
		arms := disjuncts(cond, nil)
		if len(arms) < 2 || len(arms) > orArmsMax {
			continue
		}
		tuples, ok := a.armTuples(arms, colOf)
		if ok && len(tuples[0]) > 1 {
			a.tuples, a.used = tuples, []expr.Expr{cond}
			return
		}
	}
}

func (a *access) armTuples(arms []expr.Expr, colOf map[ColID]int) ([][]expr.Expr, bool) {
	var out [][]expr.Expr
	for _, arm := range arms {
		byOrd := map[int]expr.Expr{}
		for _, c := range conjuncts(arm, nil) {
			k, ok := sargable(c, colOf)
			if !ok || k.op != "=" {
				return nil, false
			}
			byOrd[k.ord] = k.value
		}
		var tuple []expr.Expr
		for _, ord := range a.columns {
			v, ok := byOrd[ord]
			if !ok {
				break
			}
			tuple = append(tuple, v)
		}
		if len(tuple) != len(byOrd) || len(tuple) == 0 || len(out) > 0 && len(out[0]) != len(tuple) {
			return nil, false
		}
		out = append(out, tuple)
	}
	return out, true
}

// keyCond is a condition on one stored column.
type keyCond struct {
	ord    int
	op     string // =, <, <=, >, >=, in, prefix
	value  expr.Expr
	values []expr.Expr
}

// sargable recognises conditions that a key range can express.
func sargable(e expr.Expr, colOf map[ColID]int) (keyCond, bool) {
	column := func(x expr.Expr) (int, sqltypes.Type, bool) {
		c, ok := stripRelabel(x).(*expr.Column)
		if !ok {
			return 0, sqltypes.Type{}, false
		}
		ord, ok := colOf[c.Index]
		return ord, c.Typ, ok
	}
	switch x := e.(type) {
	case *expr.In:
		ord, typ, ok := column(x.X)
		if !ok || x.Not || len(x.Values) > orArmsMax {
			return keyCond{}, false
		}
		k := keyCond{ord: ord, op: "in"}
		for _, v := range x.Values {
			k.values = append(k.values, &expr.Const{Value: v, Typ: typ.Base()})
		}
		return k, true
	case *expr.Call:
		if len(x.Args) != 2 {
			return keyCond{}, false
		}
		op := opName(x)
		if op == "~~" {
			return likePrefix(x, column)
		}
		if !comparison(op) {
			return keyCond{}, false
		}
		l, r := x.Args[0], x.Args[1]
		ord, typ, ok := column(l)
		if !ok {
			l, r, op = r, l, commuted(op)
			ord, typ, ok = column(l)
		}
		if !ok || !fixedOver(r, colOf) || !sameKey(typ, r.Type()) {
			return keyCond{}, false
		}
		return keyCond{ord: ord, op: op, value: r}, true
	}
	return keyCond{}, false
}

// fixedOver is fixed, but takes columns of an outer query for constants.
func fixedOver(e expr.Expr, colOf map[ColID]int) bool {
	return !isVolatile(e) && walkExpr(e, func(x expr.Expr) bool {
		switch y := x.(type) {
		case *expr.Column:
			_, mine := colOf[y.Index]
			return !mine
		case *subExpr:
			return false
		}
		return true
	})
}

// sameKey reports whether values of two types encode alike in a key.
func sameKey(col, val sqltypes.Type) bool {
	switch {
	case col.OID == val.OID:
		return true
	case col.IsInteger() && val.IsInteger():
		return true
	case col.OID == sqltypes.OIDBpchar || val.OID == sqltypes.OIDBpchar:
		return false
	case col.IsString() && val.IsString():
		return true
	}
	return false
}

func likePrefix(x *expr.Call, column func(expr.Expr) (int, sqltypes.Type, bool)) (keyCond, bool) {
	ord, typ, ok := column(x.Args[0])
	c, isConst := x.Args[1].(*expr.Const)
	if !ok || !isConst || c.Value.IsNull() || typ.OID == sqltypes.OIDBpchar {
		return keyCond{}, false
	}
	prefix := c.Value.Str()
	if i := strings.IndexAny(prefix, `%_\`); i >= 0 {
		prefix = prefix[:i]
	}
	if prefix == "" {
		return keyCond{}, false
	}
	return keyCond{ord: ord, op: "prefix", value: &expr.Const{Value: sqltypes.NewString(prefix), Typ: sqltypes.Text}}, true
}

// fitColumns takes equalities on leading columns, then bounds on the next.
func (a *access) fitColumns(n *scanNode, colOf map[ColID]int) {
	total := 1
	for _, ord := range a.columns {
		var list []expr.Expr
		var by expr.Expr
		for _, e := range n.conds {
			k, ok := sargable(e, colOf)
			if !ok || k.ord != ord {
				continue
			}
			if k.op == "=" {
				list, by = []expr.Expr{k.value}, e
				break
			}
			if k.op == "in" && list == nil && total*len(k.values) <= orArmsMax {
				list, by = k.values, e
			}
		}
		if list == nil {
			a.fitBounds(n, colOf, ord)
			return
		}
		total *= len(list)
		a.eq, a.used = append(a.eq, list), append(a.used, by)
	}
}

func (a *access) fitBounds(n *scanNode, colOf map[ColID]int, ord int) {
	for _, e := range n.conds {
		k, ok := sargable(e, colOf)
		if !ok || k.ord != ord {
			continue
		}
		switch k.op {
		case ">", ">=":
			if a.low == nil {
				a.low = &keyBound{e: k.value, exclusive: k.op == ">"}
				a.used = append(a.used, e)
			}
		case "<", "<=":
			if a.high == nil {
				a.high = &keyBound{e: k.value, exclusive: k.op == "<"}
				a.used = append(a.used, e)
			}
		case "prefix":
			if a.low == nil && a.high == nil {
				a.low = &keyBound{e: k.value}
				a.high = &keyBound{e: k.value, exclusive: true, prefixEnd: true}
				a.used = append(a.used, e)
			}
		}
	}
}

// covers reports whether the index has every column the scan reads.
func (a *access) covers(n *scanNode) bool {
	for _, ord := range n.ords {
		if !a.has(n.table, ord) {
			return false
		}
	}
	return true
}

// has reports whether a column's value can be read from the index's keys: it
// is among the index's or the primary key's columns, in a type whose encoding
// gives the value back.
func (a *access) has(t *catalog.Table, ord int) bool {
	if a.index == nil {
		return true
	}
	if tablecodec.Lossy(t.Columns[ord].Type) {
		return false
	}
	for _, c := range a.columns {
		if c == ord {
			return true
		}
	}
	if t.PrimaryKey != nil {
		for _, ic := range t.PrimaryKey.Columns {
			if ic.Column == ord {
				return true
			}
		}
	}
	return false
}

// indexConds are the conditions that the index's columns alone decide.
func (a *access) indexConds(n *scanNode, conds []expr.Expr) []expr.Expr {
	have := colSet{}
	mine := colsOf(n.cols)
	for i, id := range n.cols {
		if a.has(n.table, n.ords[i]) {
			have.add(id)
		}
	}
	var out []expr.Expr
	for _, e := range conds {
		ok := true
		for c := range colsIn(e) {
			ok = ok && (have.has(c) || !mine.has(c))
		}
		if ok {
			out = append(out, e)
		}
	}
	return out
}

// exactly reports whether the ranges decide the condition, so that it need not
// be tested again: not where values are rounded into the key's type.
func (a *access) exactly(t *catalog.Table, e expr.Expr) bool {
	if c, ok := e.(*expr.Call); ok && opName(c) == "~~" {
		return false
	}
	for i := range a.columns {
		if tablecodec.Lossy(a.types[i]) || a.types[i].OID == sqltypes.OIDNumeric ||
			a.types[i].OID == sqltypes.OIDFloat4 || a.types[i].OID == sqltypes.OIDFloat8 {
			return false
		}
	}
	return containsExpr(a.used, e)
}

// residual are the conditions that the ranges do not decide.
func (a *access) residual(t *catalog.Table, conds []expr.Expr) []expr.Expr {
	var out []expr.Expr
	for _, e := range conds {
		if !a.exactly(t, e) {
			out = append(out, e)
		}
	}
	return out
}

// coprColumn describes a stored column to a coprocessor.
func coprColumn(t *catalog.Table, ord int) coprplan.Column {
	c := &t.Columns[ord]
	return coprplan.Column{ID: c.ID, Type: c.Type, Default: c.Missing}
}

// keyColumns are TableScan.KeyColumns of a table.
func keyColumns(t *catalog.Table) []coprplan.Column {
	if t.PrimaryKey == nil {
		return []coprplan.Column{{ID: coprplan.RowIDColumn, Type: sqltypes.Int8}}
	}
	out := make([]coprplan.Column, len(t.PrimaryKey.Columns))
	for i, ic := range t.PrimaryKey.Columns {
		out[i] = coprColumn(t, ic.Column)
	}
	return out
}
