package plan

import (
	"time"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// Limits of a statement.
const (
	// ExprDepthMax bounds the nesting of expressions and subqueries, so that
	// binding never runs out of stack.
	ExprDepthMax = 2000
	// TargetsMax is PostgreSQL's limit of target list entries.
	TargetsMax = 1664
	// ParamsMax is what the wire protocol can carry.
	ParamsMax = 65535
)

// Settings are what of a session's settings the planner reads.
type Settings struct {
	// Pushdown off keeps only scans in the coprocessors (copra.pushdown).
	Pushdown bool
	TimeZone *time.Location
}

// BindContext is what binding needs from around it.
type BindContext struct {
	Catalog catalog.Reader
	// ParamTypes are the declared types of $1…; OID 0 or a missing one is
	// inferred.
	ParamTypes []sqltypes.Type
	// Expr is the context that constant folding evaluates in. Its statement
	// time must be the running statement's only when the plan is not kept:
	// stable functions are not folded.
	Expr *expr.Ctx
	// ParseExpr parses SQL text of defaults and checks kept in the catalog.
	ParseExpr func(text string) (ast.Expr, error)
	Settings  Settings
}

// Column is an output column of a statement. TableOID and Attr locate the
// table column it comes from, 0 if none.
type Column struct {
	Name     string
	Type     sqltypes.Type
	TableOID uint32
	Attr     int16
}

// LockTarget is a table whose rows SELECT … FOR UPDATE locks. Handle is the
// output position (behind the visible columns) of the row's encoded primary
// key, NULL where an outer join had no row.
type LockTarget struct {
	Table      *catalog.Table
	Handle     int
	Strength   string
	NoWait     bool
	SkipLocked bool
}

// Bound is a statement with its names and types resolved. It is used once, by
// Optimize.
type Bound struct {
	Columns []Column
	Params  []sqltypes.Type
	Locks   []LockTarget

	q        *query
	plan     node
	out      []ColID // visible columns, then hidden ones that the caller reads
	settings Settings
	// exprs are computed outside the plan over its output (RETURNING), see dml.go.
	ectx *expr.Ctx
}

// binder holds the state of binding one statement.
type binder struct {
	ctx    *BindContext
	q      *query
	params []sqltypes.Type // OID 0 = not known yet
	// at has the positions of column references and parameters, for errors that
	// are found later.
	at    map[expr.Expr]int
	depth int
}

func newBinder(ctx *BindContext) *binder {
	b := &binder{ctx: ctx, q: newQuery(), at: map[expr.Expr]int{}}
	b.params = append(b.params, ctx.ParamTypes...)
	return b
}

// enter guards recursion; each successful enter is followed by b.depth--.
func (b *binder) enter() error {
	b.depth++
	if b.depth > ExprDepthMax {
		return pgerror.New(pgerror.StatementTooComplex, "stack depth limit exceeded").
			WithHint("The statement nests more than %d levels.", ExprDepthMax)
	}
	return nil
}

// Bind resolves a SELECT (or VALUES, TABLE, set operation).
func Bind(ctx *BindContext, sel *ast.Select) (*Bound, error) {
	b := newBinder(ctx)
	rel, err := b.bindSelect(sel, newScope(nil), selectOpts{})
	if err != nil {
		return nil, err
	}
	bd, err := b.finish(rel.plan)
	if err != nil {
		return nil, err
	}
	for _, c := range rel.cols {
		m := &b.q.cols[c.id]
		bd.Columns = append(bd.Columns, Column{Name: c.name, Type: m.typ, TableOID: m.oid, Attr: m.attr})
		bd.out = append(bd.out, c.id)
	}
	for _, l := range rel.locks {
		bd.Locks = append(bd.Locks, LockTarget{Table: l.scan.table, Handle: len(bd.out),
			Strength: l.by.Strength, NoWait: l.by.NoWait, SkipLocked: l.by.SkipLocked})
		bd.out = append(bd.out, l.scan.handle)
	}
	return bd, nil
}

// finish checks that every parameter got a type and makes the Bound.
func (b *binder) finish(n node) (*Bound, error) {
	for i := range b.params {
		if b.params[i].OID == 0 || b.params[i].OID == sqltypes.OIDUnknown {
			return nil, pgerror.New(pgerror.IndeterminateDatatype, "could not determine data type of parameter $%d", i+1)
		}
	}
	b.q.params = len(b.params)
	return &Bound{Params: b.params, q: b.q, plan: n, settings: b.ctx.Settings, ectx: b.ctx.Expr}, nil
}
