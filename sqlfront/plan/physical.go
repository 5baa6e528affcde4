package plan

import (
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// Physical is an optimized statement, ready to be built any number of times,
// by several goroutines at once. Its first len(Columns) output columns are the
// visible ones; LockTargets' handles and what DML reads follow.
type Physical struct {
	Columns []Column
	Params  []sqltypes.Type
	Locks   []LockTarget
	// Types are all output columns, hidden ones included.
	Types []sqltypes.Type
	// SchemaVersion is the catalog's when the plan was made; a plan of another
	// version is stale.
	SchemaVersion int64

	root  physNode
	ctes  []*physCTE
	slots int // parameters including outer values
	// subqueries is how many stand in expressions.
	subqueries int
	tz         string
}

// SinglePoint reports whether all that an execution reads is at most one row,
// by its primary key.
func (p *Physical) SinglePoint() bool {
	if len(p.ctes) > 0 || p.subqueries > 0 {
		return false
	}
	n := p.root
	for {
		switch x := n.(type) {
		case *physPoint:
			return x.acc.single()
		case *physFilter, *physProject, *physLimit:
			n = n.kids()[0]
		default:
			return false
		}
	}
}

// physCTE is a WITH item that is computed once an execution.
type physCTE struct {
	name     string
	plan     physNode
	step     physNode // recursive term, nil = none
	distinct bool
	types    []sqltypes.Type
}

// physNode is a node of the physical tree. Expressions of a node speak of
// positions in the concatenated output of its inputs.
type physNode interface {
	base() *physBase
	kids() []physNode
	build(b *builder) (exec.Operator, error)
	// label is EXPLAIN's line, details the lines below it.
	label() string
	details() []string
}

// physBase is common to all nodes: the output layout and the estimate.
type physBase struct {
	cols  []ColID
	types []sqltypes.Type
	rows  float64
}

func (p *physBase) base() *physBase { return p }

func (p *physBase) position(c ColID) int {
	for i, x := range p.cols {
		if x == c {
			return i
		}
	}
	return -1
}

type (
	physVirtual struct {
		physBase
		table *catalog.VirtualTable
		alias string
		ords  []int
	}
	physValues struct {
		physBase
		list [][]expr.Expr
	}
	physFilter struct {
		physBase
		in    physNode
		conds []expr.Expr
	}
	physProject struct {
		physBase
		in    physNode
		exprs []expr.Expr
	}
	// physHashJoin builds its right side.
	physHashJoin struct {
		physBase
		kind         exec.JoinKind
		l, r         physNode
		lkeys, rkeys []expr.Expr
		residual     []expr.Expr
		nullAware    bool
		// out are the positions that are returned, of the left columns followed by
		// the right ones; nil = all.
		out []int
	}
	physNLJoin struct {
		physBase
		kind  exec.JoinKind
		l, r  physNode
		conds []expr.Expr
	}
	// physApply runs its right side anew for every left row.
	physApply struct {
		physBase
		kind  exec.JoinKind // inner or left
		l, r  physNode
		outer []outerRef
		conds []expr.Expr
		ctes  []int
	}
	physAgg struct {
		physBase
		in   physNode
		mode exec.AggMode
		keys []expr.Expr
		by   int // keys in front from which the others follow
		aggs []coprplan.AggCall
	}
	physSort struct {
		physBase
		in   physNode
		keys []coprplan.SortKey
	}
	physTopN struct {
		physBase
		in            physNode
		keys          []coprplan.SortKey
		count, offset expr.Expr
	}
	physLimit struct {
		physBase
		in            physNode
		count, offset expr.Expr
	}
	physDistinct struct {
		physBase
		in physNode
		on []int // nil = all columns
	}
	physSetOp struct {
		physBase
		kind setKind
		all  bool
		l, r physNode
	}
	physWindow struct {
		physBase
		in        physNode // sorted by partition, order
		partition []expr.Expr
		order     []expr.Expr
		funcs     []windowCall
	}
	physProjectSet struct {
		physBase
		in         physNode
		calls      []*setCall
		ordinality bool
	}
	physCTEScan struct {
		physBase
		id   int
		name string
		pick []int
		work bool
	}
)

func (n *physVirtual) kids() []physNode    { return nil }
func (n *physValues) kids() []physNode     { return nil }
func (n *physCTEScan) kids() []physNode    { return nil }
func (n *physFilter) kids() []physNode     { return []physNode{n.in} }
func (n *physProject) kids() []physNode    { return []physNode{n.in} }
func (n *physHashJoin) kids() []physNode   { return []physNode{n.l, n.r} }
func (n *physNLJoin) kids() []physNode     { return []physNode{n.l, n.r} }
func (n *physApply) kids() []physNode      { return []physNode{n.l, n.r} }
func (n *physAgg) kids() []physNode        { return []physNode{n.in} }
func (n *physSort) kids() []physNode       { return []physNode{n.in} }
func (n *physTopN) kids() []physNode       { return []physNode{n.in} }
func (n *physLimit) kids() []physNode      { return []physNode{n.in} }
func (n *physDistinct) kids() []physNode   { return []physNode{n.in} }
func (n *physSetOp) kids() []physNode      { return []physNode{n.l, n.r} }
func (n *physWindow) kids() []physNode     { return []physNode{n.in} }
func (n *physProjectSet) kids() []physNode { return []physNode{n.in} }
