package sqlfront

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/mutate"
	"github.com/copradb/copra/sqlfront/plan"
)

// dmlPlan is a planned INSERT, UPDATE or DELETE; one field is set.
type dmlPlan struct {
	insert *plan.InsertPlan
	update *plan.UpdatePlan
	delete *plan.DeletePlan
}

// bindDML binds a statement that writes rows.
func bindDML(bc *plan.BindContext, st ast.Stmt) (p *dmlPlan, params []sqltypes.Type, returning *plan.RowExprs, err error) {
	p = &dmlPlan{}
	switch x := st.(type) {
	case *ast.Insert:
		if p.insert, err = plan.PlanInsert(bc, x); err == nil {
			params, returning = p.insert.Params, p.insert.Returning
		}
	case *ast.Update:
		if p.update, err = plan.PlanUpdate(bc, x); err == nil {
			params, returning = p.update.Params, p.update.Returning
		}
	case *ast.Delete:
		if p.delete, err = plan.PlanDelete(bc, x); err == nil {
			params, returning = p.delete.Params, p.delete.Returning
		}
	}
	return p, params, returning, err
}

// execution is one run of a statement that writes rows.
type execution struct {
	*writing
	eval   *expr.Ctx
	env    *plan.ExecEnv
	st     *storage
	writer *mutate.Writer
	desc   *catalog.Table
	types  []sqltypes.Type // of the table's columns

	affected int64
	returned []*expr.Batch
	ret      []expr.Evaluator
}

// newExecution prepares to write desc's rows.
func (w *writing) newExecution(desc *catalog.Table, params []sqltypes.Datum, returning *plan.RowExprs) (*execution, error) {
	e := &execution{writing: w, desc: desc, eval: w.s.evalContext(w.ctx, w.snap, params)}
	e.st = w.s.newStorage(w.txn, w.ts, w.s.memory())
	e.st.serial = true // what it reads, it may have written
	e.env = &plan.ExecEnv{Eval: e.eval, Storage: e.st}
	for _, c := range desc.Columns {
		e.types = append(e.types, c.Type)
	}
	if returning == nil {
		return e, nil
	}
	var err error
	e.ret, err = returning.Compile(e.env)
	return e, err
}

// begin opens the table for writing. It comes after the statement's reads, which
// then don't see its writes.
func (e *execution) begin() {
	e.writer = mutate.NewWriter(e.ctx, e.table(e.desc), e.kv.GetMemBuffer())
}

// source runs the plan that reads what is to be written, to its end.
func (e *execution) source(p *plan.Physical) ([]*expr.Batch, error) {
	run, err := e.s.open(e.ctx, p, e.st, e.eval)
	if err != nil {
		return nil, err
	}
	return run.drain()
}

// end takes the locks on what was written.
func (e *execution) end() error {
	defer e.st.mem.Shrink(e.st.mem.Used())
	return e.lock(e.ctx, e.ts, e.writer.Locks, lockWaits)
}

// returnRows computes RETURNING over a batch.
func (e *execution) returnRows(b *expr.Batch) error {
	if e.ret == nil || b.N == 0 {
		return nil
	}
	out := &expr.Batch{N: b.N}
	for _, ev := range e.ret {
		col, err := ev.Eval(e.eval, b, nil)
		if err != nil {
			return err
		}
		out.Cols = append(out.Cols, col)
	}
	e.returned = append(e.returned, out)
	return nil
}

// rows makes datums of n columns of a batch from column i on.
func (e *execution) rows(b *expr.Batch, i int) [][]sqltypes.Datum {
	n := len(e.types)
	vecs := colvec.OpenAll(b.Cols[i:i+n], e.types)
	cells := make([]sqltypes.Datum, b.N*n)
	out := make([][]sqltypes.Datum, b.N)
	for r := range out {
		out[r] = cells[r*n : (r+1)*n : (r+1)*n]
		for c := range vecs {
			out[r][c] = vecs[c].At(r, e.types[c])
		}
	}
	return out
}

// batchOf makes columns of rows.
func (e *execution) batchOf(rows [][]sqltypes.Datum) *expr.Batch {
	b := &expr.Batch{N: len(rows)}
	vals := make([]sqltypes.Datum, len(rows))
	for c, t := range e.types {
		for r := range rows {
			vals[r] = rows[r][c]
		}
		b.Cols = append(b.Cols, sqltypes.ArrayOf(t, vals))
	}
	return b
}

// checkNotNull finds NULLs in the columns, which start at cols[0], of new rows.
func (e *execution) checkNotNull(cols []arrow.Array, row func(int) []sqltypes.Datum) error {
	for c := range e.desc.Columns {
		if !e.desc.Columns[c].NotNull || cols[c].NullN() == 0 {
			continue
		}
		for r := range cols[c].Len() {
			if cols[c].IsNull(r) {
				return mutate.NotNullError(e.desc, c, row(r))
			}
		}
	}
	return nil
}

// checkConstraints evaluates CHECKs over b, whose rows are laid out as the plan
// says. Only FALSE violates.
func (e *execution) checkConstraints(checks *plan.RowExprs, b *expr.Batch, row func(int) []sqltypes.Datum) error {
	if checks.Len() == 0 || b.N == 0 {
		return nil
	}
	evs, err := checks.Compile(e.env)
	if err != nil {
		return err
	}
	for i, ev := range evs {
		col, err := ev.Eval(e.eval, b, nil)
		if err != nil {
			return err
		}
		v := colvec.Open(col, sqltypes.Bool)
		for r := range b.N {
			if !v.IsNull(r) && !v.BoolAt(r) {
				return mutate.CheckError(e.desc, checks.Columns[i].Name, row(r))
			}
		}
	}
	return nil
}

// runDML runs INSERT, UPDATE or DELETE.
func (s *session) runDML(ctx context.Context, p *prepared, params []sqltypes.Datum) (Result, error) {
	var last *execution
	verb := ""
	err := s.write(ctx, func(w *writing) error {
		p, err := s.current(p, w.snap)
		if err != nil {
			return err
		}
		switch {
		case p.dml.insert != nil:
			verb = "INSERT 0"
			last, err = w.insert(p.dml.insert, params)
		case p.dml.update != nil:
			verb = "UPDATE"
			last, err = w.update(p.dml.update, params)
		default:
			verb = "DELETE"
			last, err = w.delete(p.dml.delete, params)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	tag := fmt.Sprintf("%s %d", verb, last.affected)
	if p.columns == nil {
		return command(tag), nil
	}
	return newBuffered(p.columns, last.returned, tag), nil
}

// needTable refuses writing a table that is being dropped, and waits for one that
// is being loaded.
func (w *writing) needTable(t *catalog.Table) error {
	if t.State != catalog.StatePublic {
		return pgerror.New(pgerror.ObjectNotInPrerequisiteState, "table \"%s\" is being changed", t.Name)
	}
	return w.s.awaitFence(w.ctx, t)
}
