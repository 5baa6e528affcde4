package exec

import (
	"sync/atomic"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// JoinFilter is what the right side of a join tells a scan below the left one:
// which values of a key can find a match. The scan may leave out all other
// rows, if the join does not return left rows without a match
// (JoinKind.FiltersLeft).
//
// It is made before the table that it is of (JoinTableSpec.Filters), and
// asked when the scan is opened.
type JoinFilter struct {
	key   int
	table *JoinTable

	// What building the table finds out.
	made *expr.KeyFilter // without its column; nil = anything may match
	none bool            // nothing matches
}

// NewJoinFilter is a filter by key number key of a join.
func NewJoinFilter(key int) *JoinFilter { return &JoinFilter{key: key} }

// FiltersLeft reports whether left rows without a match do not matter to a join.
func (k JoinKind) FiltersLeft() bool {
	switch k {
	case LeftJoin, FullJoin, AntiJoin:
		return false
	}
	return true
}

// Conds are conditions on a column of the left side that is the filter's key,
// none if it is of no use. It builds the table, or waits for whoever does. A
// KeyFilter counts in dropped, which may be nil.
func (f *JoinFilter) Conds(ctx *Ctx, x *expr.Column, dropped *atomic.Int64) ([]expr.Expr, error) {
	if f.table == nil {
		return nil, nil
	}
	if err := f.table.open(ctx); err != nil {
		return nil, err
	}
	switch key := f.table.keyTypes[f.key]; {
	case f.none:
		return []expr.Expr{expr.NoKeys(x)}, nil
	case f.made == nil || !sameCodes(key, x.Typ):
		return nil, nil
	}
	out := *f.made
	out.X, out.Dropped = x, dropped
	return []expr.Expr{&out}, nil
}

// sameCodes reports whether equal values of both types have the same code.
func sameCodes(a, b sqltypes.Type) bool {
	ka, kb := colvec.KindOf(a), colvec.KindOf(b)
	switch {
	case ka == colvec.Decimal:
		return kb == ka && a.Scale == b.Scale
	case a.IsInteger():
		return b.IsInteger()
	case a.OID == sqltypes.OIDText || a.OID == sqltypes.OIDVarchar:
		return b.OID == sqltypes.OIDText || b.OID == sqltypes.OIDVarchar
	}
	return a.OID == b.OID
}

// filters makes what spec.Filters ask for.
func (b *joinBuilder) filters() (bytes int64) {
	for _, f := range b.t.spec.Filters {
		f.make(&b.t.keys.cols[f.key], b.codes[f.key])
		if f.made != nil {
			bytes += int64(len(f.made.Bits) + len(f.made.Bloom))
		}
	}
	return bytes
}

func (f *JoinFilter) make(c *keyColumn, codes []int64) {
	f.made, f.none = nil, len(codes) == 0
	ok, numbers := expr.KeyFiltered(c.typ)
	switch {
	case !ok || f.none:
	case !numbers:
		f.made = expr.NewStringKeyFilter(nil, c.names.Len(), func(i int) []byte { return c.names.at(int32(i)) })
	case !c.dec || !c.wide():
		f.made = expr.NewKeyFilter(nil, codes)
	}
}

// forget drops what the filters know.
func (t *JoinTable) forget() {
	for _, f := range t.spec.Filters {
		f.made, f.none = nil, false
	}
}
