package sqlfront

import (
	"context"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/parse"
	"github.com/copradb/copra/sqlfront/plan"
)

// namedStatementsMax is how many statements a session may keep with PREPARE.
const namedStatementsMax = 10_000

func (s *session) namedStatement(name string) (*prepared, error) {
	if p := s.prepared[name]; p != nil {
		return p, nil
	}
	return nil, pgerror.New(pgerror.InvalidSQLStatementName, "prepared statement \"%s\" does not exist", name)
}

// prepareNamed runs PREPARE.
func (s *session) prepareNamed(ctx context.Context, st *ast.Prepare) error {
	if s.prepared[st.Name] != nil {
		return pgerror.New(pgerror.DuplicatePreparedStatement, "prepared statement \"%s\" already exists", st.Name)
	}
	if len(s.prepared) >= namedStatementsMax {
		return pgerror.New(pgerror.ConfigurationLimitExceeded, "a session cannot keep more than %d prepared statements", namedStatementsMax)
	}
	stmts, err := parse.Parse(st.Text)
	if err != nil {
		return err
	}
	if len(stmts) != 1 || !planned(stmts[0].Stmt) {
		return pgerror.New(pgerror.SyntaxError, "PREPARE takes one SELECT, VALUES, INSERT, UPDATE or DELETE")
	}
	types := make([]sqltypes.Type, max(len(st.Types), stmts[0].Params))
	for i, t := range st.Types {
		if types[i], err = sqltypes.ByName(t.Names, t.Mods, t.ArrayDims); err != nil {
			return positioned(err, t.Position())
		}
	}
	p, err := s.prepare(ctx, stmts[0], types)
	if err != nil {
		return err
	}
	s.prepared[st.Name] = p
	return nil
}

// executeNamed runs EXECUTE: its arguments are computed, then the statement runs
// as if it had been sent.
func (s *session) executeNamed(ctx context.Context, st *ast.Execute, finish func()) (Result, error) {
	p, err := s.namedStatement(st.Name)
	if err != nil {
		return nil, err
	}
	params, err := s.namedParams(ctx, p, st)
	if err != nil {
		return nil, err
	}
	return s.run(ctx, p, params, finish)
}

// namedParams computes EXECUTE's arguments, cast to the parameters' types.
func (s *session) namedParams(ctx context.Context, p *prepared, st *ast.Execute) ([]sqltypes.Datum, error) {
	if len(st.Args) != len(p.params) {
		return nil, pgerror.New(pgerror.SyntaxError, "wrong number of parameters for prepared statement \"%s\"", st.Name).
			WithDetail("Expected %d parameters but got %d.", len(p.params), len(st.Args))
	}
	if len(st.Args) == 0 {
		return nil, nil
	}
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	return s.scalars(ctx, snap, st.Args, p.params)
}

// scalars computes expressions that mention no column, cast to the types wanted.
func (s *session) scalars(ctx context.Context, snap *catalog.Snapshot, list []ast.Expr, want []sqltypes.Type) ([]sqltypes.Datum, error) {
	bound, err := plan.BindScalars(s.bindContext(snap, nil), list, want)
	if err != nil {
		return nil, err
	}
	if len(bound.Params) > 0 {
		return nil, pgerror.New(pgerror.UndefinedParameter, "there is no parameter $1")
	}
	r, err := s.beginRead(ctx, false)
	if err != nil {
		return nil, err
	}
	eval := s.evalContext(ctx, snap, nil)
	evs, err := bound.Compile(&plan.ExecEnv{Eval: eval, Storage: s.newStorage(s.txn, r.ts, s.memory())})
	if err != nil {
		return nil, err
	}
	out := make([]sqltypes.Datum, len(evs))
	for i, ev := range evs {
		col, err := ev.Eval(eval, &expr.Batch{N: 1}, nil)
		if err != nil {
			return nil, err
		}
		out[i] = sqltypes.DatumAt(bound.Columns[i].Type, col, 0)
	}
	return out, nil
}

func (s *session) deallocate(st *ast.Deallocate) (string, error) {
	if st.Name == "" {
		s.prepared = map[string]*prepared{}
		return "DEALLOCATE ALL", nil
	}
	if _, err := s.namedStatement(st.Name); err != nil {
		return "", err
	}
	delete(s.prepared, st.Name)
	return "DEALLOCATE", nil
}

// discard runs DISCARD. There are no temporary tables to drop.
func (s *session) discard(st *ast.Discard) (string, error) {
	switch st.What {
	case "PLANS":
		for _, p := range s.prepared {
			p.plan, p.dml = nil, nil
		}
	case "SEQUENCES":
		clear(s.lastVal)
	case "ALL":
		if s.txn != nil && s.txn.explicit {
			return "", pgerror.New(pgerror.ActiveSQLTransaction, "DISCARD ALL cannot run inside a transaction block")
		}
		s.closeCursors()
		s.settings.ResetAll()
		s.prepared = map[string]*prepared{}
		clear(s.lastVal)
	}
	return "DISCARD " + st.What, nil
}
