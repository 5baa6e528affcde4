package columnar

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// zone is where a column of a block has its smallest and its largest value.
type zone struct{ lo, hi int32 } // rows; -1: every value is NULL

// zoned reports whether columns of the type have zones: those whose values are
// whole numbers, and ordered as these are.
func zoned(t sqltypes.Type) bool {
	k := colvec.KindOf(t)
	return k.IsInt() && !t.IsOidLike() || k == colvec.Decimal
}

func zoneOf(a arrow.Array, t sqltypes.Type) zone {
	v := colvec.Open(a, t)
	z := zone{-1, -1}
	for i := range v.N {
		switch {
		case v.IsNull(i):
		case z.lo < 0:
			z = zone{int32(i), int32(i)}
		case less(&v, i, int(z.lo)):
			z.lo = int32(i)
		case less(&v, int(z.hi), i):
			z.hi = int32(i)
		}
	}
	return z
}

func less(v *colvec.Vec, i, j int) bool {
	if v.Kind == colvec.Decimal {
		return v.Dec[i].Less(v.Dec[j])
	}
	return v.IntAt(i) < v.IntAt(j)
}

// bound is a condition that is false for all values if it is for the smallest
// (or the largest), such as column < constant.
type bound struct {
	column int // of the scan
	ev     expr.Evaluator
	lowest bool // the smallest value decides
}

// bounds are the comparisons of columns with constants that a filter begins
// with. What comes behind another condition does not count: that one might be
// an error for a row.
func bounds(conds []expr.Expr, cols []plan.Column) (out []bound) {
	for _, c := range conds {
		call, ok := c.(*expr.Call)
		if !ok || len(call.Args) != 2 {
			return out
		}
		col, isCol := call.Args[0].(*expr.Column)
		con, isCon := call.Args[1].(*expr.Const)
		if !isCol || !isCon || col.Index >= len(cols) || cols[col.Index].Type != col.Typ || !zoned(col.Typ) || !alike(col.Typ, con.Typ) {
			return out
		}
		b := bound{column: col.Index}
		switch call.Fn.Name {
		case "<", "<=":
			b.lowest = true
		case ">", ">=":
		case "=", "<>":
			continue
		default:
			return out
		}
		ev, err := expr.Compile(c)
		if err != nil {
			return out // the filter says why
		}
		b.ev = ev
		out = append(out, b)
	}
	return out
}

// alike are types between which the order is that of the numbers.
func alike(a, b sqltypes.Type) bool {
	isInt := func(t sqltypes.Type) bool {
		return t.OID == sqltypes.OIDInt2 || t.OID == sqltypes.OIDInt4 || t.OID == sqltypes.OIDInt8
	}
	return a.OID == b.OID || isInt(a) && isInt(b)
}

// skips reports whether the scan's filter takes none of the block's rows.
func (s *Scan) skips(b *block) (bool, error) {
	for _, c := range s.bounds {
		z, ok := b.zones[s.wanted[c.column]]
		if !ok {
			continue
		}
		row := z.hi
		if c.lowest {
			row = z.lo
		}
		if row < 0 {
			return true, nil // NULL is not true
		}
		a, err := colvec.Take(b.cols[s.wanted[c.column]], s.node.Columns[c.column].Type, []int32{row})
		if err != nil {
			return false, err
		}
		in := &expr.Batch{N: 1, Cols: make([]arrow.Array, len(s.wanted))}
		in.Cols[c.column] = a
		res, err := c.ev.Eval(s.o.Eval, in, nil)
		if err != nil {
			return false, err
		}
		if v := colvec.Open(res, sqltypes.Bool); v.IsNull(0) || !v.BoolAt(0) {
			return true, nil
		}
	}
	return false, nil
}
