package exec

import (
	"strings"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
)

// NestedLoopSpec describes a join with any condition.
type NestedLoopSpec struct {
	Kind        JoinKind
	Left, Right Operator
	// Conds, over the left columns followed by the right ones, must all be true
	// for rows to join. None is a cross join.
	Conds []expr.Expr
	// NullAware makes of an AntiJoin SQL's NOT IN: a left row is dropped unless
	// the condition is false, not NULL, for every right row. Parts of the
	// condition that are no part of the comparison must not be NULL.
	NullAware bool
}

// NewNestedLoopJoin compares every left row with every right row. The right
// side is kept in memory.
func NewNestedLoopJoin(s NestedLoopSpec) (Operator, error) {
	if s.Kind.rightOnly() {
		return nil, pgerror.New(pgerror.InternalError, "a nested loop cannot be a%s join", strings.ToLower(s.Kind.String()))
	}
	j, err := newJoiner(s.Kind, s.Left, s.Right, &crossMatcher{firstOnly: s.Kind.leftOnly() && len(s.Conds) == 0}, s.Conds)
	if err != nil {
		return nil, err
	}
	j.nullAware = s.NullAware && s.Kind == AntiJoin
	return newOperator("Nested Loop"+s.Kind.String(), j, j.outTypes(), s.Left, s.Right), nil
}

// crossMatcher pairs everything with everything, left row by left row.
type crossMatcher struct {
	firstOnly bool // one pair a left row is enough
	right     int
	left      int
	l, r      int
}

func (m *crossMatcher) build(_ *Ctx, right *expr.Batch) error {
	m.right = right.N
	if m.firstOnly {
		m.right = min(m.right, 1)
	}
	return nil
}

func (m *crossMatcher) start(_ *Ctx, left *expr.Batch) error {
	m.left, m.l, m.r = left.N, 0, 0
	return nil
}

func (m *crossMatcher) bytes() int64 { return 0 }

func (m *crossMatcher) pairs(l, r []int32, max int) ([]int32, []int32, bool) {
	if m.right == 0 {
		return l, r, true
	}
	for m.l < m.left {
		for ; m.r < m.right; m.r++ {
			if len(l) == max {
				return l, r, false
			}
			l, r = append(l, int32(m.l)), append(r, int32(m.r))
		}
		m.l, m.r = m.l+1, 0
	}
	return l, r, true
}
