package plan

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// valuesFew is the number of quantiles below which they say little of a
// condition that none of them meets.
const valuesFew = 16

// sampled estimates the fraction of rows that meet all of some conditions over
// one column, by computing them over the values that ANALYZE has kept of it;
// ok is false where it has kept none, or a condition's result is not known
// before the statement runs.
func (o *optimizer) sampled(conds []expr.Expr) (sel float64, ok bool) {
	id, ok := soleColumn(conds)
	if !ok {
		return 0, false
	}
	m := &o.q.cols[id]
	if m.table == nil {
		return 0, false
	}
	col := m.table.Columns[m.ord]
	st := o.cat.TableStats(m.table.ID).Columns[col.ID]
	if st == nil {
		return 0, false
	}
	pass, ok := o.passing(conds, st, col.Type)
	if !ok {
		return 0, false
	}
	other := math.Max(0, 1-st.NullFrac)
	hit := 0
	for _, i := range pass {
		switch k := int(i) - len(st.Common); {
		case k < 0:
			sel += st.Common[i].Frac
		case k < len(st.Values):
			hit++
		default:
			sel += st.NullFrac
		}
	}
	for _, c := range st.Common {
		other -= c.Frac
	}
	if other <= 0 || len(st.Values) == 0 {
		return math.Min(1, math.Max(sel, minSampled)), true
	}
	if len(conds) == 1 && equality(conds[0]) {
		if sel > 0 || hit == 0 && len(st.Values) < valuesFew {
			return math.Max(sel, minSampled), true
		}
		// One of the values that are not frequent, or none at all.
		return other / math.Max(1, o.columnDistinct(id)-float64(len(st.Common))), true
	}
	share := other / float64(len(st.Values))
	if hit == 0 {
		if len(st.Values) < valuesFew {
			return 0, false
		}
		sel += share / 2
	}
	return math.Min(1, sel+share*float64(hit)), true
}

// minSampled is the least fraction that a sample can tell from none.
const minSampled = 1e-5

// soleColumn is the only column of conditions that depend on nothing else.
func soleColumn(conds []expr.Expr) (ColID, bool) {
	var id ColID
	for _, e := range conds {
		ok := walkExpr(e, func(x expr.Expr) bool {
			switch y := x.(type) {
			case *expr.Column:
				if id == 0 {
					id = y.Index
				}
				return id == y.Index
			case *expr.Call:
				return y.Fn.Volatility == expr.Immutable
			case *expr.Param, *subExpr, expr.External:
				return false
			}
			return true
		})
		if !ok {
			return 0, false
		}
	}
	return id, id != 0
}

// equality reports whether a condition is one value's.
func equality(e expr.Expr) bool {
	c, ok := e.(*expr.Call)
	return ok && opName(c) == "=" && len(c.Args) == 2 && (isColumn(c.Args[0]) || isColumn(c.Args[1]))
}

func isColumn(e expr.Expr) bool { _, ok := stripRelabel(e).(*expr.Column); return ok }

// passing are the positions, among the common values, the quantiles and NULL,
// for which all conditions are true.
func (o *optimizer) passing(conds []expr.Expr, st *catalog.ColumnStats, t sqltypes.Type) (pass []int32, ok bool) {
	for i, e := range conds {
		p := o.passingOne(e, st, t)
		if !p.ok {
			return nil, false
		}
		if i == 0 {
			pass = p.rows
		} else {
			pass = both(pass, p.rows)
		}
	}
	return pass, true
}

// passed is what passing says of one condition; ok is false where it is not
// known.
type passed struct {
	rows []int32
	ok   bool
}

// passingOne computes a condition over a column's values, once for a statement:
// the costs of all access paths and the sizes of all results depend on it.
func (o *optimizer) passingOne(e expr.Expr, st *catalog.ColumnStats, t sqltypes.Type) passed {
	p, ok := o.samples[e]
	if !ok {
		p.rows, p.ok = o.compute(e, st, t)
		if o.samples == nil {
			o.samples = map[expr.Expr]passed{}
		}
		o.samples[e] = p
	}
	return p
}

func (o *optimizer) compute(e expr.Expr, st *catalog.ColumnStats, t sqltypes.Type) ([]int32, bool) {
	col, ok := st.Decoded(t, func() (arrow.Array, bool) { return sampleColumn(st, t) })
	if !ok {
		return nil, false
	}
	bound := mapExpr(e, func(x expr.Expr) expr.Expr {
		if c, ok := x.(*expr.Column); ok {
			return &expr.Column{Index: 0, Typ: c.Typ, Name: c.Name}
		}
		return nil
	})
	ev, err := expr.Compile(bound)
	if err != nil {
		return nil, false
	}
	b := &expr.Batch{N: col.Len(), Cols: []arrow.Array{col}}
	rows, err := expr.Filter(o.ectx, ev, b, nil, make([]int32, 0, b.N))
	return rows, err == nil // where it fails for some value, the rows decide
}

// both are the positions that are in a and in b.
func both(a, b []int32) []int32 {
	var out []int32
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// sampleColumn decodes the values that statistics keep, and a NULL.
func sampleColumn(st *catalog.ColumnStats, t sqltypes.Type) (arrow.Array, bool) {
	bs := colvec.NewBuilders([]sqltypes.Type{t}, len(st.Common)+len(st.Values)+1)
	dec := tablecodec.NewDecoder([]tablecodec.Column{tablecodec.IndexColumn(t, false)})
	one := func(key []byte) bool {
		rest, err := dec.Decode(key, bs)
		return err == nil && len(rest) == 0
	}
	for _, c := range st.Common {
		if !one(c.Key) {
			return nil, false
		}
	}
	for _, v := range st.Values {
		if !one(v) {
			return nil, false
		}
	}
	bs[0].AppendNull()
	col, err := bs[0].Finish()
	return col, err == nil
}

// bySample splits conditions into those whose selectivity together is known
// from samples, column by column, and the rest.
func (o *optimizer) bySample(conds []expr.Expr) (sel float64, rest []expr.Expr) {
	var order []ColID
	groups := map[ColID][]expr.Expr{}
	for _, e := range conds {
		id, ok := soleColumn([]expr.Expr{e})
		if !ok {
			rest = append(rest, e)
			continue
		}
		if groups[id] == nil {
			order = append(order, id)
		}
		groups[id] = append(groups[id], e)
	}
	sel = 1
	for _, id := range order {
		if s, ok := o.sampled(groups[id]); ok {
			sel *= s
		} else {
			rest = append(rest, groups[id]...)
		}
	}
	return sel, rest
}
