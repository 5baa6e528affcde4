package sqlfront

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/plan"
)

// explain runs EXPLAIN.
func (s *session) explain(ctx context.Context, p *prepared, st *ast.Explain, params []sqltypes.Datum) (Result, error) {
	if st.Format != "text" {
		return nil, pgerror.Unsupported("EXPLAIN (FORMAT " + strings.ToUpper(st.Format) + ")")
	}
	opts := plan.ExplainOptions{Verbose: st.Verbose, Costs: st.Options["costs"] != "off" && st.Options["costs"] != "false"}
	for name := range st.Options {
		switch name {
		case "analyze", "verbose", "costs", "format", "timing", "summary", "buffers", "settings", "wal":
		default:
			return nil, pgerror.New(pgerror.SyntaxError, "unrecognized EXPLAIN option \"%s\"", name)
		}
	}
	if !planned(st.Stmt) {
		return nil, pgerror.Unsupported("EXPLAIN of this statement")
	}
	var lines []string
	var err error
	switch {
	case !st.Analyze:
		lines, err = s.explainPlan(ctx, p, st, opts)
	case isQuery(st.Stmt):
		lines, err = s.explainQuery(ctx, p, st, opts, params)
	default:
		lines, err = s.explainWrite(ctx, p, st, opts, params)
	}
	if err != nil {
		return nil, err
	}
	rows := make([][]sqltypes.Datum, len(lines))
	for i, l := range lines {
		rows[i] = []sqltypes.Datum{sqltypes.NewString(l)}
	}
	return datumRows(p.columns, rows, "EXPLAIN"), nil
}

func isQuery(st ast.Stmt) bool {
	_, ok := st.(*ast.Select)
	return ok
}

// explainPlan shows the plan only.
func (s *session) explainPlan(ctx context.Context, p *prepared, st *ast.Explain, opts plan.ExplainOptions) ([]string, error) {
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	inner, err := s.bind(p.stmt, st.Stmt, snap, p.params)
	if err != nil {
		return nil, err
	}
	if inner.plan != nil {
		return plan.Explain(inner.plan, opts, nil), nil
	}
	head, source := inner.dml.describe()
	return under(head, plan.Explain(source, opts, nil)), nil
}

// describe names a statement that writes and gives the plan of what it reads.
func (p *dmlPlan) describe() (string, *plan.Physical) {
	switch {
	case p.insert != nil:
		head := "Insert on " + p.insert.Table.Name
		if c := p.insert.Conflict; c != nil {
			head += "  (on conflict do nothing)"
			if c.DoUpdate {
				head = "Insert on " + p.insert.Table.Name + "  (on conflict do update)"
			}
		}
		return head, p.insert.Source
	case p.update != nil:
		return "Update on " + p.update.Table.Name, p.update.Source
	}
	return "Delete on " + p.delete.Table.Name, p.delete.Source
}

// under indents a plan below a line.
func under(head string, lines []string) []string {
	out := []string{head}
	for i, l := range lines {
		if i == 0 {
			out = append(out, "  ->  "+l)
		} else {
			out = append(out, "      "+l)
		}
	}
	return out
}

// explainQuery runs a query, throws its rows away and shows what happened.
func (s *session) explainQuery(ctx context.Context, p *prepared, st *ast.Explain, opts plan.ExplainOptions, params []sqltypes.Datum) ([]string, error) {
	r, err := s.beginRead(ctx, false)
	if err != nil {
		return nil, err
	}
	planning := time.Now()
	inner, err := s.bind(p.stmt, st.Stmt, r.snap, p.params)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	run, err := s.open(ctx, inner.plan, s.newStorage(s.txn, r.ts, s.memory()), s.evalContext(ctx, r.snap, params))
	if err != nil {
		return nil, err
	}
	for {
		b, err := run.op.Next()
		if err != nil {
			return nil, closeAfter(run, kvError(ctx, err, nil))
		}
		if b == nil {
			break
		}
	}
	if err := run.op.Close(); err != nil {
		return nil, err
	}
	lines := plan.Explain(inner.plan, opts, run.op)
	return append(lines, times(started.Sub(planning), time.Since(started))...), nil
}

func closeAfter(run *running, err error) error {
	if cerr := run.op.Close(); cerr != nil {
		return fmt.Errorf("%w (and closing: %v)", err, cerr)
	}
	return err
}

func times(planning, execution time.Duration) []string {
	return []string{
		fmt.Sprintf("Planning Time: %.3f ms", float64(planning.Microseconds())/1000),
		fmt.Sprintf("Execution Time: %.3f ms", float64(execution.Microseconds())/1000),
	}
}

// explainWrite runs a statement that writes, with its effects, and shows its
// plan and times.
func (s *session) explainWrite(ctx context.Context, p *prepared, st *ast.Explain, opts plan.ExplainOptions, params []sqltypes.Datum) ([]string, error) {
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	planning := time.Now()
	inner, err := s.bind(p.stmt, st.Stmt, snap, p.params)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	r, err := s.runDML(ctx, inner, params)
	if err != nil {
		return nil, err
	}
	took := time.Since(started)
	head, source := inner.dml.describe()
	words := strings.Fields(r.Tag())
	head += fmt.Sprintf(" (actual rows=%s time=%.3f ms)", words[len(words)-1], float64(took.Microseconds())/1000)
	return append(under(head, plan.Explain(source, opts, nil)), times(started.Sub(planning), took)...), nil
}
