package plan

import (
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// rowLock is a scan whose rows FOR UPDATE or FOR SHARE locks.
type rowLock struct {
	scan *scanNode
	by   ast.Locking
}

// bindLocking makes the scans of the locked tables return their rows' handles
// and carries these up to the output.
func (st *selectState) bindLocking(rel *relation) error {
	for _, l := range st.s.Locking {
		if err := st.checkLocking(l); err != nil {
			return err
		}
		names := map[string]bool{}
		for _, n := range l.Of {
			names[n] = false
		}
		plan, err := st.lockScans(rel, rel.plan, l, names, false)
		if err != nil {
			return err
		}
		rel.plan = plan
		for n, hit := range names {
			if !hit {
				return pgerror.New(pgerror.UndefinedTable, "relation %q in FOR %s clause not found in FROM clause", n, l.Strength)
			}
		}
	}
	return nil
}

func (st *selectState) checkLocking(l ast.Locking) error {
	bad := ""
	switch {
	case st.s.Distinct || st.s.DistinctOn != nil:
		bad = "DISTINCT clause"
	case len(st.s.GroupBy) > 0:
		bad = "GROUP BY clause"
	case st.s.Having != nil:
		bad = "HAVING clause"
	case len(st.lv.aggs) > 0:
		bad = "aggregate functions"
	case len(st.lv.windows) > 0:
		bad = "window functions"
	case len(st.lv.srfs) > 0:
		bad = "set-returning functions in the target list"
	}
	if bad != "" {
		return pgerror.New(pgerror.FeatureNotSupported, "FOR %s is not allowed with %s", l.Strength, bad)
	}
	return nil
}

// lockScans walks this level's FROM below the projection.
func (st *selectState) lockScans(rel *relation, n node, l ast.Locking, names map[string]bool, nullable bool) (node, error) {
	switch x := n.(type) {
	case *scanNode:
		if _, ok := names[x.alias]; len(l.Of) > 0 && !ok {
			return n, nil
		}
		names[x.alias] = true
		if x.handle != 0 {
			return n, nil
		}
		c := *x
		c.handle = st.b.q.add(colMeta{name: "handle", typ: handleType, rel: x.alias})
		rel.locks = append(rel.locks, rowLock{&c, l})
		return &c, nil
	case *joinNode:
		if nullable = nullable || x.kind == joinFull; nullable {
			return nil, pgerror.New(pgerror.FeatureNotSupported, "FOR %s cannot be applied to the nullable side of an outer join", l.Strength)
		}
		ln, err := st.lockScans(rel, x.l, l, names, false)
		if err != nil {
			return nil, err
		}
		if x.kind == joinLeft && len(l.Of) == 0 && hasScan(x.r) {
			return nil, pgerror.New(pgerror.FeatureNotSupported, "FOR %s cannot be applied to the nullable side of an outer join", l.Strength)
		}
		rn := x.r
		if x.kind == joinInner {
			if rn, err = st.lockScans(rel, x.r, l, names, false); err != nil {
				return nil, err
			}
		}
		return x.withInputs([]node{ln, rn}), nil
	case *filterNode, *sortNode, *limitNode:
		in, err := st.lockScans(rel, n.inputs()[0], l, names, nullable)
		if err != nil {
			return nil, err
		}
		return n.withInputs([]node{in}), nil
	case *projectNode:
		before := len(rel.locks)
		in, err := st.lockScans(rel, x.in, l, names, nullable)
		if err != nil {
			return nil, err
		}
		c := &projectNode{in: in, items: append([]item(nil), x.items...)}
		for _, lk := range rel.locks[before:] {
			c.items = append(c.items, item{lk.scan.handle, st.b.q.column(lk.scan.handle)})
		}
		return c, nil
	}
	return n, nil
}

func hasScan(n node) bool {
	if _, ok := n.(*scanNode); ok {
		return true
	}
	for _, c := range n.inputs() {
		if hasScan(c) {
			return true
		}
	}
	return false
}
