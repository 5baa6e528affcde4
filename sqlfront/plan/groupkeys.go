package plan

import (
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Group keys that follow from others. Grouped by
//
//	c_custkey, c_name, c_address, n_name    (c_nationkey = n_nationkey)
//
// rows are told apart by c_custkey, the primary key, alone: the rest of customer
// is that of its row, and the rest of nation that of the row which c_nationkey
// names. The aggregation then looks for c_custkey only, and takes the other keys
// of a group from its first row.

// dependency says that rows which agree in all columns of from agree in to.
// Agreeing is IS NOT DISTINCT FROM, so that it also holds for what an outer join
// fills up with NULLs, provided that from has none otherwise (noNulls).
type dependency struct {
	from, to []ColID
	noNulls  bool
}

// dependencies are what is known of n's rows.
func (o *optimizer) dependencies(n node, out []dependency) []dependency {
	switch x := n.(type) {
	case *scanNode:
		if d, ok := rowOfKey(x); ok {
			out = append(out, d)
		}
		return equalColumns(x.conds, out)
	case *filterNode:
		return equalColumns(x.conds, o.dependencies(x.in, out))
	case *projectNode, *sortNode, *limitNode, *distinctNode, *windowNode:
		return o.dependencies(n.inputs()[0], out)
	case *aggNode:
		if len(x.keys) > 0 {
			out = append(out, dependency{from: itemCols(x.keys), to: x.columns()})
		}
	case *joinNode:
		l := o.dependencies(x.l, nil)
		if x.kind == joinFull {
			l = withNulls(l)
		}
		out = append(out, l...)
		if x.kind == joinSemi || x.kind == joinAnti {
			return out
		}
		if !x.lateral { // another right side for every row
			r := o.dependencies(x.r, nil)
			if x.kind != joinInner {
				r = withNulls(r)
			}
			out = append(out, r...)
		}
		if x.kind == joinInner {
			out = equalColumns(x.on, out)
		}
	}
	return out
}

// withNulls are those that stay when rows of NULLs come.
func withNulls(deps []dependency) []dependency {
	return slices.DeleteFunc(deps, func(d dependency) bool { return !d.noNulls })
}

// rowOfKey is that a primary key names a row.
func rowOfKey(x *scanNode) (dependency, bool) {
	if x.table.PrimaryKey == nil {
		return dependency{}, false
	}
	d := dependency{to: x.cols, noNulls: true}
	for _, c := range x.table.PrimaryKey.Columns {
		at := slices.Index(x.ords, c.Column)
		if at < 0 || !exactType(x.table.Columns[c.Column].Type) {
			return d, false
		}
		d.from = append(d.from, x.cols[at])
	}
	return d, true
}

// exactType reports whether values of a type that are equal are the same.
func exactType(t sqltypes.Type) bool {
	switch colvec.KindOf(t) {
	case colvec.Int16, colvec.Int32, colvec.Int64, colvec.Date, colvec.Timestamp:
		return true
	case colvec.String:
		return t.OID == sqltypes.OIDText || t.OID == sqltypes.OIDVarchar
	}
	return false
}

// equalColumns are the equalities of columns among conditions that all rows
// meet: each follows from the other.
func equalColumns(conds []expr.Expr, out []dependency) []dependency {
	for _, e := range conds {
		c, ok := e.(*expr.Call)
		if !ok || opName(c) != "=" {
			continue
		}
		a, aok := keyColumn(c.Args[0])
		b, bok := keyColumn(c.Args[1])
		if !aok || !bok || !exactType(a.Typ) || !exactType(b.Typ) || a.Typ.IsInteger() != b.Typ.IsInteger() ||
			!a.Typ.IsInteger() && a.Typ.OID != b.Typ.OID {
			continue
		}
		out = append(out, dependency{[]ColID{a.Index}, []ColID{b.Index}, true}, dependency{[]ColID{b.Index}, []ColID{a.Index}, true})
	}
	return out
}

// follows reports whether col follows from the columns known.
func follows(col ColID, known colSet, deps []dependency) bool {
	for again := true; again; {
		if _, ok := known[col]; ok {
			return true
		}
		again = false
		for _, d := range deps {
			if slices.ContainsFunc(d.from, func(c ColID) bool { _, ok := known[c]; return !ok }) {
				continue
			}
			for _, c := range d.to {
				if _, ok := known[c]; !ok {
					known[c] = struct{}{}
					again = true
				}
			}
		}
	}
	_, ok := known[col]
	return ok
}

// groupKeys are x's keys with those in front, n in number, that the others
// follow from.
func (o *optimizer) groupKeys(x *aggNode) (keys []item, n int) {
	if len(x.keys) < 2 {
		return x.keys, len(x.keys)
	}
	deps := o.dependencies(x.in, nil)
	if len(deps) == 0 {
		return x.keys, len(x.keys)
	}
	drop := make([]bool, len(x.keys))
	try := func(bytes bool) {
		for i := len(x.keys) - 1; i >= 0; i-- {
			c, ok := x.keys[i].e.(*expr.Column)
			if !ok || drop[i] || colvec.KindOf(c.Typ).IsBytes() != bytes {
				continue
			}
			known := colSet{}
			for j, k := range x.keys {
				if kc, ok := k.e.(*expr.Column); ok && j != i && !drop[j] {
					known[kc.Index] = struct{}{}
				}
			}
			drop[i] = follows(c.Index, known, deps)
		}
	}
	try(true) // strings cost most
	try(false)
	var rest []item
	for i, k := range x.keys {
		if drop[i] {
			rest = append(rest, k)
		} else {
			keys = append(keys, k)
		}
	}
	return append(keys, rest...), len(keys)
}
