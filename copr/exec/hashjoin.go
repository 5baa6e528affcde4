package exec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// HashJoinSpec describes a join on equality.
type HashJoinSpec struct {
	Kind        JoinKind
	Left, Right Operator
	// LeftKeys over the left columns equal RightKeys over the right ones; a row
	// with a NULL among its keys joins nothing.
	LeftKeys, RightKeys []expr.Expr
	// Residual, over the left columns followed by the right ones, must all be
	// true as well.
	Residual []expr.Expr
	// NullAware makes of an AntiJoin SQL's NOT IN of one key without a residual:
	// one NULL on the right and no row is returned; a NULL on the left is
	// returned only if the right side is empty.
	NullAware bool
}

// NewHashJoin keeps the right side in a hash table and probes it with the left
// one. Matches keep the left side's order; rows of an outer join without a
// match come after those of their batch.
func NewHashJoin(s HashJoinSpec) (Operator, error) {
	if s.NullAware && (s.Kind != AntiJoin || len(s.LeftKeys) != 1 || len(s.Residual) > 0) {
		return nil, pgerror.New(pgerror.InternalError,
			"a null-aware hash join must be an anti join on one key without a residual")
	}
	m := &hashMatcher{nullAware: s.NullAware, firstOnly: s.Kind.leftOnly() && len(s.Residual) == 0}
	var err error
	if m.leftKeys, err = compileAll(s.LeftKeys); err != nil {
		return nil, err
	}
	if m.rightKeys, err = compileAll(s.RightKeys); err != nil {
		return nil, err
	}
	if m.types, err = commonTypes(m.leftKeys.types, m.rightKeys.types); err != nil {
		return nil, err
	}
	j, err := newJoiner(s.Kind, s.Left, s.Right, m, s.Residual)
	if err != nil {
		return nil, err
	}
	return newOperator("Hash"+s.Kind.String()+" Join", j, j.outTypes(), s.Left, s.Right), nil
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

type hashMatcher struct {
	leftKeys, rightKeys *exprList
	types               []sqltypes.Type
	nullAware           bool
	firstOnly           bool
	table               *keyTable
	head, chain         []int32 // first right row of a key, next one of a row; -1 = none
	nullRight           bool
	rows                int
	ids                 []int32 // key of each left row
	row                 int     // left row at hand
	at                  int32   // its right row at hand, -2 = not begun
}

func (m *hashMatcher) bytes() int64 {
	return m.table.Bytes() + 4*int64(cap(m.head)+cap(m.chain))
}

func (m *hashMatcher) build(ctx *Ctx, right *expr.Batch) error {
	m.table, m.nullRight, m.rows = newKeyTable(m.types), false, right.N
	m.head, m.chain = nil, make([]int32, right.N)
	vecs, err := m.keys(ctx, m.rightKeys, right)
	if err != nil {
		return err
	}
	ids, err := m.table.Insert(vecs, right.N, make([]int32, 0, right.N))
	if err != nil {
		return err
	}
	m.head = make([]int32, m.table.Len())
	for i := range m.head {
		m.head[i] = -1
	}
	for i := right.N - 1; i >= 0; i-- { // backwards, so that chains run forwards
		if anyNull(vecs, i) {
			m.nullRight = true
			continue
		}
		m.chain[i] = m.head[ids[i]]
		m.head[ids[i]] = int32(i)
	}
	return nil
}

func anyNull(vecs []colvec.Vec, i int) bool {
	for c := range vecs {
		if vecs[c].IsNull(i) {
			return true
		}
	}
	return false
}

// keys evaluates key expressions and brings them to the common types.
func (m *hashMatcher) keys(ctx *Ctx, list *exprList, b *expr.Batch) ([]colvec.Vec, error) {
	if b.N == 0 {
		return nil, nil
	}
	vecs, err := list.eval(ctx, b)
	if err != nil {
		return nil, err
	}
	for c := range vecs {
		if m.types[c] == sqltypes.Numeric && vecs[c].Kind == colvec.Decimal {
			if vecs[c], err = numericTexts(&vecs[c], list.types[c]); err != nil {
				return nil, err
			}
		}
	}
	return vecs, nil
}

// numericTexts is a column of fixed scale as one whose values carry theirs.
func numericTexts(v *colvec.Vec, t sqltypes.Type) (colvec.Vec, error) {
	b := colvec.NewBuilder(sqltypes.Numeric, v.N)
	var text []byte
	for i := range v.N {
		if v.IsNull(i) {
			b.AppendNull()
			continue
		}
		text = sqltypes.AppendDec128(text[:0], v.Dec[i], t.Scale)
		b.AppendBytes(text)
	}
	var a arrow.Array
	a, err := b.Finish()
	if err != nil {
		return colvec.Vec{}, err
	}
	return colvec.Open(a, sqltypes.Numeric), nil
}

func (m *hashMatcher) start(ctx *Ctx, left *expr.Batch) error {
	m.row, m.at = 0, -2
	m.ids = m.ids[:0]
	vecs, err := m.keys(ctx, m.leftKeys, left)
	if err != nil {
		return err
	}
	if m.ids, err = m.table.Find(vecs, left.N, m.ids); err != nil {
		return err
	}
	for i := range m.ids {
		if m.ids[i] >= 0 && anyNull(vecs, i) {
			m.ids[i] = -1
		}
		if m.nullAware && m.rows > 0 && (m.nullRight || vecs[0].IsNull(i)) {
			m.ids[i] = matchesUnknown
		}
	}
	return nil
}

// matchesUnknown is a left row of NOT IN whose comparison is NULL for some
// right row: it counts as matched.
const matchesUnknown = -2

func (m *hashMatcher) pairs(l, r []int32, max int) ([]int32, []int32, bool) {
	for ; m.row < len(m.ids); m.row, m.at = m.row+1, -2 {
		id := m.ids[m.row]
		if id == -1 {
			continue
		}
		if id == matchesUnknown {
			l, r = append(l, int32(m.row)), append(r, 0)
			continue
		}
		if m.at == -2 {
			m.at = m.head[id]
		}
		for m.at >= 0 {
			if len(l) >= max {
				return l, r, false
			}
			l, r = append(l, int32(m.row)), append(r, m.at)
			m.at = m.chain[m.at]
			if m.firstOnly {
				break
			}
		}
	}
	return l, r, true
}
