package exec

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// HashJoinSpec describes a join on equality; see JoinTableSpec.
type HashJoinSpec struct {
	Kind                JoinKind
	Left, Right         Operator
	LeftKeys, RightKeys []expr.Expr
	Residual            []expr.Expr
	NullAware           bool
	Out                 []int
	Filters             []*JoinFilter
}

// NewHashJoin keeps the right side in a JoinTable of its own and probes it with
// the left one.
func NewHashJoin(s HashJoinSpec) (Operator, error) { return newHashJoin(s, 0) }

// newHashJoin makes a join of rows that were divided depth times.
func newHashJoin(s HashJoinSpec, depth int) (Operator, error) {
	t, err := NewJoinTable(JoinTableSpec{
		Kind: s.Kind, Right: s.Right, LeftTypes: s.Left.Types(), LeftKeys: s.LeftKeys, RightKeys: s.RightKeys,
		Residual: s.Residual, NullAware: s.NullAware, Out: s.Out, Filters: s.Filters,
	})
	if err != nil {
		return nil, err
	}
	t.depth = depth
	t.probes++
	p := newProbe(s.Left, t)
	p.own = true
	return newOperator(t.name(), p, t.outTypes, s.Left, s.Right), nil
}

// commonTypes are the types in which keys of both sides are compared: they
// differ only in the scale of numerics, and in what does not matter to
// equality.
func commonTypes(left, right []sqltypes.Type) ([]sqltypes.Type, error) {
	if len(left) != len(right) || len(left) == 0 {
		return nil, pgerror.New(pgerror.InternalError, "a hash join has %d left and %d right keys", len(left), len(right))
	}
	out := make([]sqltypes.Type, len(left))
	for i, l := range left {
		r := right[i]
		lk, rk := colvec.KindOf(l), colvec.KindOf(r)
		switch {
		case lk == colvec.Decimal && rk == colvec.Decimal && l.Scale == r.Scale:
			out[i] = l
		case l.OID == sqltypes.OIDNumeric && r.OID == sqltypes.OIDNumeric:
			out[i] = sqltypes.Numeric
		case lk == rk && (l.OID == sqltypes.OIDBpchar) == (r.OID == sqltypes.OIDBpchar):
			out[i] = l
		case lk.IsInt() && rk.IsInt() && l.IsInteger() && r.IsInteger():
			out[i] = sqltypes.Int8
		default:
			return nil, pgerror.New(pgerror.InternalError, "hash join keys of types %s and %s cannot be compared", l.Name(), r.Name())
		}
	}
	return out, nil
}
