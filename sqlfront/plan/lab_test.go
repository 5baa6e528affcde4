package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/parse"
)

// lab is a catalog and a store in memory, so that scripts can run statements
// from text to rows. Scans are cut into two "regions" whose results are put one
// after the other, as partial aggregates and top-N must bear.
type lab struct {
	tables  map[string]*catalog.Table
	virtual map[string]*catalog.VirtualTable
	stats   map[int64]catalog.Stats
	data    map[string][]byte
	sorted  []string // keys of data, nil after a change
	nextID  int64
	rowID   int64
	rows    map[int64][]labRow // by table, for indexes created later
	scans   atomic.Int64
}

type labRow struct {
	row    []sqltypes.Datum
	handle []byte
}

func newLab() *lab {
	return &lab{tables: map[string]*catalog.Table{}, virtual: map[string]*catalog.VirtualTable{}, stats: map[int64]catalog.Stats{},
		data: map[string][]byte{}, rows: map[int64][]labRow{}, nextID: catalog.FirstUserObjectID}
}

func (l *lab) Resolve(schema, name string) (catalog.Relation, error) {
	if schema != "" && schema != "public" && schema != "pg_catalog" {
		return catalog.Relation{}, pgerror.New(pgerror.InvalidSchemaName, "schema %q does not exist", schema)
	}
	if t := l.tables[name]; t != nil {
		return catalog.Relation{Table: t}, nil
	}
	if v := l.virtual[name]; v != nil {
		return catalog.Relation{Virtual: v}, nil
	}
	if schema != "" {
		name = schema + "." + name
	}
	return catalog.Relation{}, pgerror.New(pgerror.UndefinedTable, "relation %q does not exist", name)
}

func (l *lab) TableByID(id int64) *catalog.Table {
	for _, t := range l.tables {
		if t.ID == id {
			return t
		}
	}
	return nil
}

func (l *lab) Version() int64                    { return 1 }
func (l *lab) TableStats(id int64) catalog.Stats { return l.stats[id] }

func parseExpr(text string) (ast.Expr, error) {
	st, err := parse.Parse("select " + text)
	if err != nil {
		return nil, err
	}
	return st[0].Stmt.(*ast.Select).Targets[0].Expr, nil
}

func (l *lab) context(pushdown bool, params ...sqltypes.Type) *BindContext {
	return &BindContext{Catalog: l, ParamTypes: params, Expr: l.eval(nil), ParseExpr: parseExpr,
		Settings: Settings{Pushdown: pushdown, TimeZone: time.UTC}}
}

func (l *lab) eval(params []sqltypes.Datum) *expr.Ctx {
	day := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	return &expr.Ctx{Params: params, Now: day, TxnNow: day, TimeZone: time.UTC, Context: context.Background()}
}

// ddl runs CREATE TABLE and CREATE INDEX.
func (l *lab) ddl(sql string) error {
	list, err := parse.Parse(sql)
	if err != nil {
		return err
	}
	for _, st := range list {
		switch x := st.Stmt.(type) {
		case *ast.CreateTable:
			err = l.createTable(x)
		case *ast.CreateIndex:
			t := l.tables[x.Table.Name]
			ix := &catalog.Index{ID: int64(len(t.Indexes) + 1), Name: x.Name, Unique: x.Unique}
			for _, c := range x.Columns {
				ix.Columns = append(ix.Columns, catalog.IndexColumn{Column: t.ColumnIndex(c.Name), Desc: c.Desc})
			}
			t.Indexes = append(t.Indexes, ix)
			for _, r := range l.rows[t.ID] {
				if err == nil {
					err = l.putEntry(t, ix, r)
				}
			}
		default:
			err = fmt.Errorf("not DDL: %T", x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) createTable(x *ast.CreateTable) error {
	t := &catalog.Table{ID: l.nextID, Schema: "public", Name: x.Name.Name}
	l.nextID++
	key := []string{}
	for _, c := range x.Columns {
		typ, err := sqltypes.ByName(c.Type.Names, c.Type.Mods, c.Type.ArrayDims)
		if err != nil {
			return err
		}
		col := catalog.Column{ID: uint32(len(t.Columns) + 1), Name: c.Name, Type: typ, NotNull: c.NotNull || c.PrimaryKey}
		if lit, ok := c.Default.(*ast.IntLit); ok {
			col.DefaultExpr = fmt.Sprint(lit.Value)
		}
		t.Columns = append(t.Columns, col)
		if c.PrimaryKey {
			key = []string{c.Name}
		}
		if c.Unique {
			t.Indexes = append(t.Indexes, &catalog.Index{ID: int64(len(t.Indexes) + 1), Name: t.Name + "_" + c.Name + "_key", Unique: true,
				Columns: []catalog.IndexColumn{{Column: len(t.Columns) - 1}}})
		}
		for _, ch := range c.Check {
			t.Checks = append(t.Checks, catalog.Check{Name: t.Name + "_" + c.Name + "_check", Expr: ch.Text})
		}
	}
	for _, ch := range x.Checks {
		t.Checks = append(t.Checks, catalog.Check{Name: t.Name + "_check", Expr: ch.Text})
	}
	for _, c := range x.Constraints {
		if c.Primary {
			key = c.Columns
		}
	}
	if len(key) > 0 {
		t.PrimaryKey = &catalog.Index{Name: t.Name + "_pkey", Unique: true, Primary: true}
		for _, k := range key {
			i := t.ColumnIndex(k)
			t.Columns[i].NotNull = true
			t.PrimaryKey.Columns = append(t.PrimaryKey.Columns, catalog.IndexColumn{Column: i})
		}
	}
	l.tables[t.Name] = t
	return nil
}

// put stores a row.
func (l *lab) put(t *catalog.Table, row []sqltypes.Datum) error {
	l.sorted = nil
	var handle []byte
	var err error
	inKey := map[int]bool{}
	if t.PrimaryKey == nil {
		l.rowID++
		handle = tablecodec.AppendRowID(nil, l.rowID)
	} else {
		var types []sqltypes.Type
		var vals []sqltypes.Datum
		for _, ic := range t.PrimaryKey.Columns {
			types, vals = append(types, t.Columns[ic.Column].Type), append(vals, row[ic.Column])
			inKey[ic.Column] = !tablecodec.Lossy(t.Columns[ic.Column].Type)
		}
		if handle, err = tablecodec.AppendHandle(nil, types, vals); err != nil {
			return err
		}
	}
	var cols []rowcodec.Column
	var vals []sqltypes.Datum
	for i, c := range t.Columns {
		if !inKey[i] {
			cols, vals = append(cols, rowcodec.Column{ID: c.ID, Type: c.Type}), append(vals, row[i])
		}
	}
	value, err := rowcodec.NewEncoder(cols).Encode(nil, vals)
	if err != nil {
		return err
	}
	l.data[string(tablecodec.AppendRowKey(nil, t.ID, handle))] = value
	r := labRow{row, handle}
	l.rows[t.ID] = append(l.rows[t.ID], r)
	for _, ix := range t.Indexes {
		if err := l.putEntry(t, ix, r); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) putEntry(t *catalog.Table, ix *catalog.Index, r labRow) error {
	l.sorted = nil
	a := indexAccess(t, ix)
	vals := make([]sqltypes.Datum, len(a.columns))
	for i, ord := range a.columns {
		vals[i] = r.row[ord]
	}
	key, _, err := tablecodec.AppendIndexKey(nil, t.ID, ix.ID, ix.Unique, a.codec, vals, r.handle)
	l.data[string(key)] = r.handle
	return err
}

// pairs is a RowSource over keys of the store.
type pairs struct {
	l    *lab
	keys []string
}

func (p *pairs) Next() (key, value []byte, ok bool, err error) {
	if len(p.keys) == 0 {
		return nil, nil, false, nil
	}
	k := p.keys[0]
	p.keys = p.keys[1:]
	return []byte(k), p.l.data[k], true, nil
}

func (l *lab) keysIn(ranges []kv.KeyRange, desc bool) []string {
	if l.sorted == nil {
		l.sorted = slices.Sorted(maps.Keys(l.data))
	}
	var keys []string
	for _, r := range ranges {
		i, _ := slices.BinarySearch(l.sorted, string(r.Start))
		for ; i < len(l.sorted) && (len(r.End) == 0 || l.sorted[i] < string(r.End)); i++ {
			keys = append(keys, l.sorted[i])
		}
	}
	if desc {
		slices.Reverse(keys)
	}
	return keys
}

func (l *lab) Scan(req *ScanRequest) (exec.Operator, error) {
	l.scans.Add(1)
	for _, n := range req.Plan.Nodes[1:] {
		if err := travels(n); err != nil {
			return nil, err
		}
	}
	return exec.NewSource("Scan", req.Types, func(ctx *exec.Ctx) (exec.Source, error) {
		plan, err := req.Filtered(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range plan.Nodes[1:] {
			if err := travels(n); err != nil {
				return nil, err
			}
		}
		keys := l.keysIn(req.Ranges, req.Desc)
		half := len(keys) / 2
		var out []*expr.Batch
		for _, part := range [][]string{keys[:half], keys[half:]} {
			op, err := exec.Build(plan, &pairs{l, part})
			if err != nil {
				return nil, err
			}
			if !slices.Equal(op.Types(), req.Types) {
				return nil, fmt.Errorf("the plan has types %v, the request says %v", op.Types(), req.Types)
			}
			eval, err := exec.EvalCtx(plan)
			if err != nil {
				return nil, err
			}
			got, err := exec.Collect(&exec.Ctx{Context: ctx.Context, Eval: eval}, op)
			if err != nil {
				return nil, err
			}
			out = append(out, got...)
		}
		return &batchSource{out}, nil
	}), nil
}

func (l *lab) Rows(_ *exec.Ctx, req *RowsRequest) (*expr.Batch, error) {
	var keys []string
	for _, h := range req.Handles {
		k := string(tablecodec.AppendRowKey(nil, req.Table.ID, h))
		if _, ok := l.data[k]; ok {
			keys = append(keys, k)
		}
	}
	op, err := exec.Build(req.Plan(), &pairs{l, keys})
	if err != nil {
		return nil, err
	}
	out, err := exec.Collect(&exec.Ctx{Context: context.Background(), Eval: l.eval(nil)}, op)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	return expr.ConcatBatches(out)
}

func (l *lab) UniqueGet(_ *exec.Ctx, _ *catalog.Table, _ *catalog.Index, keys [][]byte) ([][]byte, error) {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = l.data[string(k)]
	}
	return out, nil
}

// run executes a plan and renders its rows.
func (l *lab) run(p *Physical, params []sqltypes.Datum) (rows []string, r *Running, err error) {
	return l.runBy(p, params, 1)
}

// runBy executes a plan by so many workers wherever it can be; with more than
// one, joins filter scans.
func (l *lab) runBy(p *Physical, params []sqltypes.Datum, workers int) (rows []string, r *Running, err error) {
	return l.runIn(p, params, workers, nil, nil)
}

// runIn executes a plan in so much memory, and on disk.
func (l *lab) runIn(p *Physical, params []sqltypes.Datum, workers int, mem *exec.MemAccount, disk *spill.Space) (rows []string, r *Running, err error) {
	env := &ExecEnv{Eval: l.eval(params), Storage: l, Workers: workers, workerRowsMin: 1, JoinFilters: workers > 1, Mem: mem, Spill: disk}
	r, err = Build(p, env)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Equal(r.Types(), p.Types) {
		return nil, nil, fmt.Errorf("operators have types %v, the plan says %v", r.Types(), p.Types)
	}
	out, err := exec.Collect(&exec.Ctx{Context: context.Background(), Eval: env.Eval, Mem: mem, Spill: disk}, r)
	if err != nil {
		return nil, nil, err
	}
	return render(out, p.Types, len(p.Columns)), r, nil
}

func render(out []*expr.Batch, types []sqltypes.Type, width int) (rows []string) {
	for _, b := range out {
		for i := range b.N {
			parts := make([]string, width)
			for c := range width {
				d := sqltypes.DatumAt(types[c], b.Cols[c], i)
				parts[c] = "NULL"
				if !d.IsNull() {
					parts[c] = string(sqltypes.AppendText(nil, types[c], d))
				}
			}
			rows = append(rows, strings.Join(parts, "|"))
		}
	}
	return rows
}

func (l *lab) selectPlan(sql string, pushdown bool) (*Physical, error) {
	st, err := parse.Parse(sql)
	if err != nil {
		return nil, err
	}
	sel, ok := st[0].Stmt.(*ast.Select)
	if !ok {
		return nil, fmt.Errorf("not a SELECT: %T", st[0].Stmt)
	}
	b, err := Bind(l.context(pushdown), sel)
	if err != nil {
		return nil, err
	}
	return Optimize(b, l)
}

// insert runs INSERT statements.
func (l *lab) insert(sql string) error {
	list, err := parse.Parse(sql)
	if err != nil {
		return err
	}
	for _, st := range list {
		p, err := PlanInsert(l.context(true), st.Stmt.(*ast.Insert))
		if err != nil {
			return err
		}
		env := &ExecEnv{Eval: l.eval(nil), Storage: l}
		r, err := Build(p.Source, env)
		if err != nil {
			return err
		}
		out, err := exec.Collect(&exec.Ctx{Context: context.Background(), Eval: env.Eval}, r)
		if err != nil {
			return err
		}
		for _, b := range out {
			vecs := colvec.OpenAll(b.Cols, p.Source.Types)
			for i := range b.N {
				row := make([]sqltypes.Datum, len(vecs))
				for c := range vecs {
					row[c] = vecs[c].At(i, p.Source.Types[c])
				}
				if err := l.put(p.Table, row); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// travels checks that a pushed node has nothing that only this layer knows.
func travels(n coprplan.Node) error {
	var exprs []expr.Expr
	switch x := n.(type) {
	case *coprplan.Selection:
		exprs = x.Conds
	case *coprplan.Projection:
		exprs = x.Exprs
	case *coprplan.Aggregation:
		exprs = append(exprs, x.GroupBy...)
		for _, a := range x.Aggs {
			exprs = append(exprs, a.Args...)
		}
	case *coprplan.TopN:
		exprs = keyExprs(x.Keys)
	}
	for _, e := range exprs {
		if !expr.Pushable(e) {
			return fmt.Errorf("%s was pushed down", e)
		}
	}
	return nil
}

// batchSource returns batches that exist.
type batchSource struct{ rest []*expr.Batch }

func (s *batchSource) Next() (*expr.Batch, error) {
	if len(s.rest) == 0 {
		return nil, nil
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b, nil
}

func (s *batchSource) Close() error { return nil }
