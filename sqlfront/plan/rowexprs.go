package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// RowExprs are expressions that the caller evaluates over rows it has itself:
// RETURNING, CHECK, ON CONFLICT's SET. They are immutable and may have
// subqueries.
type RowExprs struct {
	Columns []Column // names and types of the results
	exprs   []expr.Expr
	layout  []ColID
	p       *Physical
}

// Len is the number of expressions.
func (r *RowExprs) Len() int {
	if r == nil {
		return 0
	}
	return len(r.exprs)
}

// Build makes the expressions ready to be compiled, for one execution. Their
// columns are positions in the row that the owner of the RowExprs documents.
func (r *RowExprs) Build(env *ExecEnv) ([]expr.Expr, error) {
	b := &builder{p: r.p, env: env, eval: env.Eval, ctes: newCTEStore(nil, nil)}
	return b.readyAll(r.exprs)
}

// Compile is Build and expr.CompileAll.
func (r *RowExprs) Compile(env *ExecEnv) ([]expr.Evaluator, error) {
	list, err := r.Build(env)
	if err != nil {
		return nil, err
	}
	return expr.CompileAll(list)
}

// add appends an expression with its name.
func (r *RowExprs) add(name string, e expr.Expr) {
	r.exprs = append(r.exprs, e)
	r.Columns = append(r.Columns, Column{Name: name, Type: e.Type()})
}

// Scalars are expressions without a row (EXECUTE's arguments, SET's values,
// defaults).
type Scalars struct {
	*RowExprs
	Params []sqltypes.Type
}

// BindScalars binds expressions that mention no column, with the types wanted
// (OID 0 = whatever comes), as assignment would cast them.
func BindScalars(ctx *BindContext, list []ast.Expr, want []sqltypes.Type) (*Scalars, error) {
	b := newBinder(ctx)
	r := &RowExprs{}
	sc := newScope(nil)
	sc.level = &level{clause: "this context", noAgg: true, noSRF: true}
	for i, e := range list {
		x, err := b.bindExpr(e, sc)
		if err != nil {
			return nil, err
		}
		if i < len(want) && want[i].OID != 0 {
			x, err = b.cast(x, want[i], expr.Assignment, e.Position())
		} else {
			x, err = b.unknownToText(x)
		}
		if err != nil {
			return nil, err
		}
		r.add(figureName(e), x)
	}
	bd, err := b.finish(oneRow())
	if err != nil {
		return nil, err
	}
	if _, err := optimize(bd, ctx.Catalog, []*RowExprs{r}); err != nil {
		return nil, err
	}
	return &Scalars{r, bd.Params}, nil
}

// BindTableExprs binds expressions over the columns of a table (CHECK, index
// expressions): column i of the row is table column i. With boolean they must
// be conditions.
func BindTableExprs(ctx *BindContext, t *catalog.Table, list []ast.Expr, boolean bool) (*RowExprs, error) {
	b := newBinder(ctx)
	sc, ids := b.tableScope(t, t.Name)
	sc.level = &level{clause: "check constraints", noAgg: true, noSRF: true}
	r := &RowExprs{layout: ids}
	for _, e := range list {
		x, err := b.bindExpr(e, sc)
		if err == nil && boolean {
			x, err = b.toBool(x, "CHECK", e.Position())
		}
		if err == nil {
			x, err = b.unknownToText(x)
		}
		if err != nil {
			return nil, err
		}
		if hasSubquery(x) {
			return nil, pgerror.New(pgerror.FeatureNotSupported, "cannot use subquery in check constraint").At(e.Position())
		}
		r.add(figureName(e), x)
	}
	bd, err := b.finish(oneRow())
	if err != nil {
		return nil, err
	}
	_, err = optimize(bd, ctx.Catalog, []*RowExprs{r})
	return r, err
}

// tableScope is a scope with new columns for a table's row.
func (b *binder) tableScope(t *catalog.Table, alias string) (*scope, []ColID) {
	r := &scopeRel{name: alias}
	n := b.scanTable(t, alias, r)
	sc := newScope(nil)
	sc.rels, sc.visible = []*scopeRel{r}, append([]scopeCol(nil), r.cols...)
	return sc, n.cols
}

// bindReturning binds a RETURNING list over sc.
func (b *binder) bindReturning(list []ast.Target, sc *scope) (*RowExprs, error) {
	if len(list) == 0 {
		return nil, nil
	}
	sc.level = &level{clause: "RETURNING", noAgg: true, noSRF: true}
	r := &RowExprs{}
	for _, t := range list {
		if c, ok := t.Expr.(*ast.ColumnRef); ok && c.Star {
			cols, err := sc.star(c)
			if err != nil {
				return nil, err
			}
			for _, sc := range cols {
				b.addReturning(r, sc.name, b.q.column(sc.id))
			}
			continue
		}
		x, err := b.bindExpr(t.Expr, sc)
		if err == nil {
			x, err = b.unknownToText(x)
		}
		if err != nil {
			return nil, err
		}
		name := t.Alias
		if name == "" {
			name = figureName(t.Expr)
		}
		b.addReturning(r, name, x)
	}
	return r, nil
}

func (b *binder) addReturning(r *RowExprs, name string, e expr.Expr) {
	r.add(name, e)
	if c, ok := e.(*expr.Column); ok {
		m := &b.q.cols[c.Index]
		last := &r.Columns[len(r.Columns)-1]
		last.TableOID, last.Attr = m.oid, m.attr
	}
}

// checks binds a table's CHECK constraints over sc.
func (b *binder) checks(t *catalog.Table, sc *scope, layout []ColID) (*RowExprs, error) {
	if len(t.Checks) == 0 {
		return nil, nil
	}
	r := &RowExprs{layout: layout}
	for _, c := range t.Checks {
		x, err := b.storedExpr(c.Expr, sc)
		if err == nil {
			x, err = b.toBool(x, "CHECK", 0)
		}
		if err != nil {
			return nil, pgerror.Wrap(err, pgerror.Code(err), "check constraint %q of table %q cannot be bound: %s", c.Name, t.Name, pgerror.From(err).Message)
		}
		r.add(c.Name, x)
	}
	return r, nil
}

// storedExpr binds SQL text from the catalog. Its positions are not the
// statement's.
func (b *binder) storedExpr(text string, sc *scope) (expr.Expr, error) {
	e, err := b.ctx.ParseExpr(text)
	if err != nil {
		return nil, err
	}
	x, err := b.bindExpr(e, sc)
	if err != nil {
		plain := *pgerror.From(err)
		plain.Position = 0
		return nil, &plain
	}
	return x, nil
}
