package plan

import (
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// physLookup joins by reading, for each block of outer rows, the inner rows
// with their primary keys, or whose primary keys start with their values.
type physLookup struct {
	physBase
	kind  exec.JoinKind
	outer physNode
	table *catalog.Table
	alias string
	codec []tablecodec.Column
	// keys, over the outer row, are the primary key's columns; fewer make it a
	// scan of one range for each outer row.
	keys   []expr.Expr
	read   []coprplan.Column
	inner  physBase    // layout of what is read
	filter []expr.Expr // over the inner row
	// pushFilter lets the coprocessors filter the scanned ranges.
	pushFilter bool
	lkeys      []expr.Expr
	rkeys      []expr.Expr
	residual   []expr.Expr
}

func (n *physLookup) kids() []physNode { return []physNode{n.outer} }

// lowerLookup makes a lookup join where the outer side is small and the ON
// gives the inner side's whole primary key; nil otherwise.
func (lw *lowerer) lowerLookup(x *joinNode, lo, ro node) physNode {
	outer, inner := x.l, x.r
	if x.kind == joinInner {
		outer, inner = ro, lo // the smaller side is ro
	}
	if x.kind == joinFull || x.nullAware {
		return nil
	}
	sc, ok := inner.(*scanNode)
	if !ok || sc.handle != 0 || sc.table.PrimaryKey == nil {
		return nil
	}
	keys, each := lw.lookupKeys(x, sc, colsOf(outer.columns()))
	if keys == nil || lw.o.rows(outer)*(costLookup(lw.o.tableRows(sc.table))+each) > lw.o.tableRows(sc.table) {
		return nil
	}
	l := lw.lower(outer)
	p := &physLookup{kind: execJoins[x.kind], outer: l, table: sc.table, alias: sc.alias, codec: primaryAccess(sc.table).codec}
	p.keys = lw.bindAll(keys, l.base().cols)
	p.inner = lw.readBase(sc, sc.cols, sc.ords, 0)
	for _, ord := range sc.ords {
		p.read = append(p.read, coprColumn(sc.table, ord))
	}
	p.filter = lw.bindAll(sc.conds, p.inner.cols)
	p.pushFilter = lw.allPushable(p.filter)
	cols := append([]ColID(nil), l.base().cols...)
	if x.kind != joinSemi && x.kind != joinAnti {
		cols = append(cols, p.inner.cols...)
	}
	p.physBase = lw.basis(x, cols)
	lcols, rcols := colsOf(l.base().cols), colsOf(p.inner.cols)
	both := layout(append(append([]ColID(nil), l.base().cols...), p.inner.cols...))
	for _, e := range x.on {
		if lk, rk, ok := hashKeys(e, lcols, rcols); ok {
			p.lkeys = append(p.lkeys, lw.bind(lk, l.base().cols))
			p.rkeys = append(p.rkeys, lw.bind(rk, p.inner.cols))
		} else {
			p.residual = append(p.residual, lw.bind(e, both))
		}
	}
	if len(p.lkeys) == 0 {
		return nil
	}
	return p
}

// lookupKeys finds the values of the primary key's leading columns: outer
// expressions that ON equates with them, or constants; and how many rows there
// are for each, 0 where the key is whole.
func (lw *lowerer) lookupKeys(x *joinNode, sc *scanNode, outer colSet) (keys []expr.Expr, each float64) {
	colOf := map[ColID]int{}
	for i, id := range sc.cols {
		colOf[id] = sc.ords[i]
	}
	values, joined := map[int]expr.Expr{}, map[int]bool{}
	for i, list := range [][]expr.Expr{sc.conds, x.on} {
		for _, e := range list {
			k, ok := sargable(e, colOf)
			if !ok || k.op != "=" || i == 1 && !colsIn(k.value).within(outer) || fractional(sc.table, k.ord) {
				continue
			}
			values[k.ord] = k.value
			joined[k.ord] = i == 1
		}
	}
	each = lw.o.tableRows(sc.table)
	some := false
	for n, ic := range sc.table.PrimaryKey.Columns {
		v, ok := values[ic.Column]
		if !ok {
			break
		}
		some = some || joined[ic.Column]
		keys = append(keys, v)
		for i, ord := range sc.ords {
			if ord == ic.Column {
				each /= lw.o.columnDistinct(sc.cols[i])
			}
		}
		if n == len(sc.table.PrimaryKey.Columns)-1 {
			each = 0
		}
	}
	if !some {
		return nil, 0
	}
	return keys, each
}

// fractional marks key columns whose values are rounded into the key.
func fractional(t *catalog.Table, ord int) bool {
	typ := t.Columns[ord].Type
	return typ.OID == numericOID || typ.IsFloat()
}
