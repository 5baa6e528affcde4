package sqlfront

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/parse"
	"github.com/copradb/copra/sqlfront/plan"
)

// bindDefault checks that an expression can be a column's default.
func (d *ddl) bindDefault(c *catalog.Column, e ast.Expr) error {
	bound, err := plan.BindScalars(d.s.bindContext(d.change.Snapshot(), nil), []ast.Expr{e}, []sqltypes.Type{c.Type})
	if err != nil {
		if code := pgerror.Code(err); code == pgerror.UndefinedColumn || code == pgerror.UndefinedTable {
			return pgerror.New(pgerror.FeatureNotSupported, "cannot use column reference in DEFAULT expression").At(e.Position())
		}
		if pgerror.Code(err) == pgerror.CannotCoerce {
			return pgerror.New(pgerror.DatatypeMismatch, "column \"%s\" cannot get this default: %s", c.Name, pgerror.From(err).Message).
				WithHint("You will need to rewrite or cast the expression.").At(e.Position())
		}
		return err
	}
	if len(bound.Params) > 0 {
		return pgerror.New(pgerror.UndefinedParameter, "there is no parameter $1").At(e.Position())
	}
	return nil
}

// parseStored parses an expression that the catalog keeps.
func parseStored(text string) (ast.Expr, error) {
	e, err := parse.Expr(text)
	if err != nil {
		return nil, pgerror.Wrap(err, pgerror.DataCorrupted, "the catalog holds an expression that cannot be parsed: %s", text)
	}
	return e, nil
}

// bindCheck checks that an expression can be a CHECK constraint of the table.
func (d *ddl) bindCheck(t *catalog.Table, e ast.Expr) error {
	_, err := plan.BindTableExprs(d.s.bindContext(d.change.Snapshot(), nil), t, []ast.Expr{e}, true)
	return err
}

// constantDefault computes a default once, for the rows that a table has when
// the column is added.
func (d *ddl) constantDefault(c *catalog.Column, e ast.Expr) (sqltypes.Datum, error) {
	bound, err := plan.BindScalars(d.s.bindContext(d.change.Snapshot(), nil), []ast.Expr{e}, []sqltypes.Type{c.Type})
	if err != nil {
		return sqltypes.Null, err
	}
	eval := d.s.evalContext(d.ctx, d.snap, nil)
	env := &plan.ExecEnv{Eval: eval, Storage: d.s.newStorage(d.txn, d.ts, d.s.memory())}
	list, err := bound.Build(env)
	if err != nil {
		return sqltypes.Null, err
	}
	if volatileExpr(list[0]) {
		return sqltypes.Null, pgerror.Unsupported("ADD COLUMN with a volatile default")
	}
	return expr.EvalConst(eval, list[0])
}

// volatileExpr reports whether an expression gives each row another value.
func volatileExpr(e expr.Expr) bool {
	found := false
	expr.Walk(e, func(x expr.Expr) bool {
		if c, ok := x.(*expr.Call); ok && c.Fn.Volatility == expr.Volatile {
			found = true
		}
		return !found
	})
	return found
}
