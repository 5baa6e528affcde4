package sqlfront

import (
	"context"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/copyfmt"
)

// copy starts COPY; the data follows through the Result.
func (s *session) copy(ctx context.Context, st *ast.Copy, finish func()) (Result, error) {
	switch {
	case st.Program:
		return nil, pgerror.Unsupported("COPY with PROGRAM")
	case st.File != "":
		return nil, pgerror.Unsupported("COPY with a file on the server").WithHint("Use STDIN or STDOUT, or psql's \\copy.")
	case st.From:
		return s.startCopyIn(ctx, st, finish)
	}
	return s.startCopyOut(ctx, st, finish)
}

// copyColumns are the positions of the columns that COPY names, all if none.
func copyColumns(t *catalog.Table, list []string) (ords []int, names []string, err error) {
	if len(list) == 0 {
		for i, c := range t.Columns {
			ords, names = append(ords, i), append(names, c.Name)
		}
		return ords, names, nil
	}
	seen := map[string]bool{}
	for _, name := range list {
		i := t.ColumnIndex(name)
		if i < 0 {
			return nil, nil, pgerror.New(pgerror.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", name, t.Name)
		}
		if seen[name] {
			return nil, nil, pgerror.New(pgerror.DuplicateColumn, "column \"%s\" specified more than once", name)
		}
		seen[name] = true
		ords, names = append(ords, i), append(names, name)
	}
	return ords, names, nil
}

func (s *session) startCopyIn(ctx context.Context, st *ast.Copy, finish func()) (Result, error) {
	if s.txn != nil && s.txn.readOnly || s.txn == nil && s.settings.Bool("default_transaction_read_only") {
		return nil, pgerror.New(pgerror.ReadOnlySQLTransaction, "cannot execute COPY FROM in a read-only transaction")
	}
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	t, err := resolveTable(snap.View(s.env()), st.Table)
	if err != nil {
		return nil, err
	}
	ords, names, err := copyColumns(t, st.Columns)
	if err != nil {
		return nil, err
	}
	o, err := copyfmt.ParseOptions(st.Options, names, true)
	if err != nil {
		return nil, err
	}
	return &copyIn{s: s, ctx: ctx, finish: finish, st: st, snap: snap, table: t, ords: ords, names: names, options: o}, nil
}

func (s *session) startCopyOut(ctx context.Context, st *ast.Copy, finish func()) (Result, error) {
	r, err := s.beginRead(ctx, false)
	if err != nil {
		return nil, err
	}
	query := st.Query
	if query == nil {
		t, err := resolveTable(r.snap.View(s.env()), st.Table)
		if err != nil {
			return nil, err
		}
		_, names, err := copyColumns(t, st.Columns)
		if err != nil {
			return nil, err
		}
		query = &ast.Select{From: []ast.FromItem{&ast.TableRef{Name: ast.TableName{Schema: t.Schema, Name: t.Name}}}}
		for _, n := range names {
			query.Targets = append(query.Targets, ast.Target{Expr: &ast.ColumnRef{Parts: []string{n}}})
		}
	}
	p, err := s.bind(nil, query, r.snap, nil)
	if err != nil {
		return nil, err
	}
	if len(p.params) > 0 {
		return nil, pgerror.New(pgerror.UndefinedParameter, "there is no parameter $1")
	}
	names := make([]string, len(p.columns))
	types := make([]sqltypes.Type, len(p.columns))
	for i, c := range p.columns {
		names[i], types[i] = c.Name, c.Type
	}
	o, err := copyfmt.ParseOptions(st.Options, names, false)
	if err != nil {
		return nil, err
	}
	run, err := s.open(ctx, p.plan, s.newStorage(s.txn, r.ts, s.memory()), s.evalContext(ctx, r.snap, nil))
	if err != nil {
		return nil, err
	}
	return &copyOut{s: s, ctx: ctx, finish: finish, op: run.op, names: names, options: o,
		writer: copyfmt.NewWriter(o, types, s.textOptions())}, nil
}

// textOptions are how the session's settings print values.
func (s *session) textOptions() *sqltypes.TextOptions {
	digits := 1
	if v, ok := s.settings.Get("extra_float_digits"); ok {
		if d, err := sqltypes.ParseText(sqltypes.Int4, v); err == nil {
			digits = int(d.Int())
		}
	}
	return &sqltypes.TextOptions{TimeZone: s.timeZone(), RegName: s.RegName, ExtraFloatDigits: digits, FloatDigitsSet: true,
		ByteaEscape: s.settings.Text("bytea_output") == "escape"}
}
