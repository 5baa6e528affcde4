package plan

import (
	"strconv"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

const numericOID = sqltypes.OIDNumeric

// outerRef is a value of the outer row that a subquery reads as a parameter.
type outerRef struct {
	slot, pos int
	typ       sqltypes.Type
}

// physSub is a subquery in a physical expression. Its plan and test read outer
// values as parameters.
type physSub struct {
	kind subKind
	plan physNode
	// outer are the values that the plan depends on, testOuter those that only
	// the test needs.
	outer, testOuter []outerRef
	test             expr.Expr // over the plan's columns
	typ              sqltypes.Type
	ctes             []int
	id               int // for EXPLAIN
}

// Type implements expr.Expr.
func (s *physSub) Type() sqltypes.Type { return s.typ }

func (s *physSub) String() string {
	name := "SubPlan " + strconv.Itoa(s.id)
	switch s.kind {
	case subExists:
		return "EXISTS(" + name + ")"
	case subArray:
		return "ARRAY(" + name + ")"
	case subAny:
		return "ANY(" + name + ": " + s.test.String() + ")"
	}
	return "(" + name + ")"
}

func (lw *lowerer) lowerSub(s *subExpr, l layout) expr.Expr {
	p := &physSub{kind: s.kind, typ: s.typ}
	lw.subs++
	p.id = lw.subs
	free := freeCols(s.plan)
	p.outer = lw.outerRefs(free, l)
	saved := lw.order
	lw.order = nil
	if s.kind == subExists {
		p.plan = lw.lower(s.plan)
	} else {
		p.plan = lw.arranged(s.plan, s.cols)
	}
	lw.order = saved
	p.ctes = lw.correlatedCTEs(s.plan)
	if s.test != nil {
		test := colsIn(s.test)
		for c := range free {
			delete(test, c)
		}
		p.testOuter = lw.outerRefs(test, l)
		p.test = lw.bind(s.test, s.cols)
	}
	return p
}

// outerRefs are the columns among free that l has, with their slots.
func (lw *lowerer) outerRefs(free colSet, l layout) []outerRef {
	var out []outerRef
	for pos, c := range l {
		if free.has(c) {
			out = append(out, outerRef{slot: lw.slot(c), pos: pos, typ: lw.o.q.cols[c].typ})
		}
	}
	return out
}

// correlatedCTEs are the WITH items read below n that depend on outer columns:
// they are computed anew for each set of outer values.
func (lw *lowerer) correlatedCTEs(n node) []int {
	var out []int
	seen := map[int]bool{}
	var walk func(node)
	walk = func(n node) {
		if c, ok := n.(*cteNode); ok && !c.work && !seen[c.cte.id] {
			seen[c.cte.id] = true
			if len(freeCols(n)) > 0 {
				out = append(out, c.cte.id)
			}
			walk(c.cte.plan)
			if c.cte.step != nil {
				walk(c.cte.step)
			}
		}
		nodeExprs(n, func(e expr.Expr) {
			walkExpr(e, func(x expr.Expr) bool {
				if s, ok := x.(*subExpr); ok {
					walk(s.plan)
				}
				return true
			})
		})
		for _, c := range n.inputs() {
			walk(c)
		}
	}
	walk(n)
	return out
}
