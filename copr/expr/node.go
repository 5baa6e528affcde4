package expr

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// Expr is a bound expression. Nodes are immutable once built.
type Expr interface {
	// Type is the type of the result.
	Type() sqltypes.Type
	// String is how EXPLAIN shows it.
	String() string
}

type (
	// Column is a column of the input batch, by position from 0.
	Column struct {
		Index int
		Typ   sqltypes.Type
		Name  string // for EXPLAIN only
	}
	// Const is a constant.
	Const struct {
		Value sqltypes.Datum
		Typ   sqltypes.Type
	}
	// Param is Ctx.Params[Index]: a statement parameter or, inside a correlated
	// subquery, a value of the outer row. It never travels: the planner
	// replaces it with a Const before it pushes an expression down.
	Param struct {
		Index int
		Typ   sqltypes.Type
	}
	// Call is a strict or non-strict function, operator or cast.
	Call struct {
		Fn   *Func
		Args []Expr
		Typ  sqltypes.Type
	}
	// Logic is three-valued AND or OR with short circuit per row.
	Logic struct {
		Or   bool
		Args []Expr
	}
	// Case evaluates each arm only for the rows that reach it. Conds are bool;
	// Else nil = NULL.
	Case struct {
		Conds, Results []Expr
		Else           Expr
		Typ            sqltypes.Type
	}
	// Coalesce returns its first argument that is not null, and evaluates an
	// argument only where all before it are null.
	Coalesce struct {
		Args []Expr
		Typ  sqltypes.Type
	}
	// In is x IN (constants), with null semantics; the values have X's type.
	In struct {
		X      Expr
		Values []sqltypes.Datum
		Not    bool
	}
)

// External is a node that a layer above evaluates itself (a subquery). It
// cannot be pushed down.
type External interface {
	Expr
	EvalBatch(ctx *Ctx, in *Batch, sel []int32) (arrow.Array, error)
}

// Batch is a block of rows as columns. It is immutable. Arrow's reference
// counts are not used inside the engine: memory belongs to Go's collector.
type Batch struct {
	N    int // rows
	Cols []arrow.Array
}
