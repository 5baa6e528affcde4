package columnar

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// zoned reports whether columns of the type have zones: those whose values are
// whole numbers, and ordered as these are.
func zoned(t sqltypes.Type) bool {
	k := colvec.KindOf(t)
	return k.IsInt() && !t.IsOidLike() || k == colvec.Decimal
}

// bound is a condition that is false for all values if it is for the smallest
// (or the largest), such as column < constant.
type bound struct {
	column int // of the scan
	ev     expr.Evaluator
	lowest bool            // the smallest value decides
	keys   *expr.KeyFilter // instead of ev: may keys be between both?
}

// bounds are the comparisons of columns with constants that a filter begins
// with. What comes behind another condition does not count: that one might be
// an error for a row.
func bounds(conds []expr.Expr, cols []plan.Column) (out []bound) {
	for _, c := range conds {
		if f, ok := c.(*expr.KeyFilter); ok { // never an error
			if f.X.Index < len(cols) && zoned(f.X.Typ) {
				out = append(out, bound{column: f.X.Index, keys: f})
			}
			continue
		}
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

// skips reports whether the scan's filter takes none of the rows of a block with
// these columns, of which some may be missing.
func (s *Scan) skips(chunks []*chunk) (bool, error) {
	for _, c := range s.bounds {
		ch := chunks[c.column]
		if ch == nil || !ch.zone.known {
			continue
		}
		if ch.zone.lo > ch.zone.hi {
			return true, nil // NULL is not true
		}
		if c.keys != nil {
			if !c.keys.MayPass(ch.zone.lo, ch.zone.hi) {
				return true, nil
			}
			continue
		}
		at := ch.zone.hi
		if c.lowest {
			at = ch.zone.lo
		}
		a, err := oneValue(ch.typ, ch.kind, at)
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

func oneValue(t sqltypes.Type, k colvec.Kind, v int64) (arrow.Array, error) {
	b := colvec.NewBuilder(t, 1)
	if k == colvec.Decimal {
		b.AppendDecimal(decimal128.FromI64(v))
	} else {
		b.AppendInt(v)
	}
	return b.Finish()
}
