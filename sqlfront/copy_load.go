package sqlfront

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	tikverr "github.com/tikv/client-go/v2/error"
	tikvkv "github.com/tikv/client-go/v2/kv"
	"golang.org/x/sync/errgroup"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/copyfmt"
	"github.com/copradb/copra/sqlfront/mutate"
	"github.com/copradb/copra/sqlfront/plan"
)

// presumeAbsent marks a key that must not exist yet.
const presumeAbsent = tikvkv.SetPresumeKeyNotExists

// copyWorkersMax is how many chunks of a COPY are parsed at a time.
const copyWorkersMax = 8

// run reads, parses and writes all of r:
//
//	r ─► chunks of lines ─► parse, convert, encode (in parallel) ─► buffer, in order
//
// Chunks wait in a bounded queue, so that the client is held back by the
// slowest stage.
func (k *copySink) run(r io.Reader) error {
	workers := min(runtime.GOMAXPROCS(0), copyWorkersMax)
	conv, err := k.c.newConverter()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(k.c.ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers + 1)
	queue := make(chan chan loaded, workers)
	g.Go(func() error {
		defer close(queue)
		return k.feed(ctx, r, g, conv, queue)
	})
	werr := k.drain(ctx, queue)
	if werr != nil {
		cancel()
		for range queue { // let the feeder end
		}
	}
	if err := g.Wait(); err != nil && (werr == nil || errors.Is(werr, context.Canceled)) {
		return err
	}
	return werr
}

// loaded is what became of a chunk.
type loaded struct {
	entries []entry
	rows    int64
	err     error
}

// feed cuts chunks and starts their conversion; queue has the answers in order.
func (k *copySink) feed(ctx context.Context, r io.Reader, g *errgroup.Group, conv *copyConverter, queue chan<- chan loaded) error {
	split := copyfmt.NewSplitter(r, k.c.options, k.c.table.Name)
	for {
		chunk, err := split.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer := make(chan loaded, 1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case queue <- answer:
		}
		g.Go(func() error {
			answer <- conv.convert(ctx, chunk)
			return nil
		})
	}
}

// drain writes the answers in order.
func (k *copySink) drain(ctx context.Context, queue <-chan chan loaded) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case answer, ok := <-queue:
			if !ok {
				return nil
			}
			var l loaded
			select {
			case <-ctx.Done():
				return ctx.Err()
			case l = <-answer:
			}
			if l.err != nil {
				return l.err
			}
			if err := k.write(l.entries); err != nil {
				return err
			}
			k.rows += l.rows
		}
	}
}

// copyConverter turns chunks into keys. Its methods may run in parallel.
type copyConverter struct {
	c        *copyIn
	eval     *expr.Ctx
	types    []sqltypes.Type
	parse    *sqltypes.ParseOptions
	checks   []expr.Evaluator
	names    []string // of checks
	where    expr.Evaluator
	defaults *plan.Scalars
	defOrds  []int
	env      *plan.ExecEnv
	mu       sync.Mutex // guards the session, for defaults
	direct   bool       // see copy_direct.go
	// entriesHint is about how many keys a chunk gives.
	entriesHint atomic.Int64
}

func (c *copyIn) newConverter() (*copyConverter, error) {
	v := &copyConverter{c: c, eval: c.s.evalContext(c.ctx, c.snap, nil)}
	v.env = &plan.ExecEnv{Eval: v.eval, Storage: c.s.newStorage(nil, 0, c.s.memory())}
	v.parse = &sqltypes.ParseOptions{TimeZone: v.eval.TimeZone, Now: v.eval.TxnNow}
	for _, col := range c.table.Columns {
		v.types = append(v.types, col.Type)
	}
	bc := c.s.bindContext(c.snap, nil)
	if err := v.bindChecks(bc); err != nil {
		return nil, err
	}
	if err := v.bindDefaults(bc); err != nil {
		return nil, err
	}
	v.direct = v.canDirect()
	return v, nil
}

func (v *copyConverter) bindChecks(bc *plan.BindContext) error {
	var list []ast.Expr
	for _, ch := range v.c.table.Checks {
		e, err := parseStored(ch.Expr)
		if err != nil {
			return err
		}
		list = append(list, e)
		v.names = append(v.names, ch.Name)
	}
	if v.c.st.Where != nil {
		list = append(list, v.c.st.Where)
	}
	if len(list) == 0 {
		return nil
	}
	bound, err := plan.BindTableExprs(bc, v.c.table, list, true)
	if err != nil {
		return err
	}
	evs, err := bound.Compile(v.env)
	if err != nil {
		return err
	}
	v.checks = evs[:len(v.names)]
	if len(evs) > len(v.names) {
		v.where = evs[len(v.names)]
	}
	return nil
}

// bindDefaults prepares the columns that the data doesn't have.
func (v *copyConverter) bindDefaults(bc *plan.BindContext) error {
	given := map[int]bool{}
	for _, o := range v.c.ords {
		given[o] = true
	}
	var list []ast.Expr
	var want []sqltypes.Type
	for i := range v.c.table.Columns {
		col := &v.c.table.Columns[i]
		if given[i] || col.DefaultExpr == "" && col.SequenceID == 0 {
			continue
		}
		var e ast.Expr = &ast.Func{Name: "nextval", Args: []ast.Expr{
			&ast.Cast{X: &ast.IntLit{Value: col.SequenceID}, To: ast.TypeName{Names: []string{"pg_catalog", "regclass"}}}}}
		if col.DefaultExpr != "" {
			var err error
			if e, err = parseStored(col.DefaultExpr); err != nil {
				return err
			}
		}
		list, want, v.defOrds = append(list, e), append(want, col.Type), append(v.defOrds, i)
	}
	if len(list) == 0 {
		return nil
	}
	var err error
	v.defaults, err = plan.BindScalars(bc, list, want)
	return err
}

// lineRow is a row with its line.
type lineRow struct {
	line int64
	row  []sqltypes.Datum
	text []byte // nil in the binary format
}

// refused gives an error about a row the line that it comes from.
func (v *copyConverter) refused(r lineRow, err error) error {
	return copyfmt.NewParser(v.c.options, v.c.table.Name, v.c.names).LineError(err, r.line, r.text)
}

// value reads a field.
func (v *copyConverter) value(t sqltypes.Type, data []byte) (sqltypes.Datum, error) {
	if v.c.options.Binary {
		return sqltypes.ParseBinary(t, data)
	}
	return sqltypes.ParseTextOpt(t, string(data), v.parse)
}

// convert makes the keys of a chunk's rows.
func (v *copyConverter) convert(ctx context.Context, chunk copyfmt.Chunk) loaded {
	if v.direct {
		if out, ok := v.convertDirect(ctx, chunk); ok {
			return out
		}
	}
	rows, err := v.parseRows(chunk)
	if err == nil {
		rows, err = v.complete(rows)
	}
	if err != nil {
		return loaded{err: err}
	}
	w := &recorder{ctx: ctx}
	writer := mutate.NewWriter(ctx, mutate.New(v.c.table), w)
	var ids rowIDs
	for _, r := range rows {
		w.line = r.line
		handle, err := ids.handle(ctx, v.c, writer, nil, r.row, len(rows))
		if err == nil {
			err = writer.Insert(r.row, handle)
		}
		if err != nil {
			return loaded{err: (&entry{line: r.line}).at(v.c, err)}
		}
	}
	return loaded{entries: w.entries, rows: int64(len(rows))}
}

// parseRows converts the fields of a chunk's lines.
func (v *copyConverter) parseRows(chunk copyfmt.Chunk) ([]lineRow, error) {
	p := copyfmt.NewParser(v.c.options, v.c.table.Name, v.c.names)
	var rows []lineRow
	err := p.Chunk(chunk, func(line int64, fields []copyfmt.Field, text []byte) error {
		row := make([]sqltypes.Datum, len(v.types))
		for i, f := range fields {
			if f.Null {
				continue
			}
			d, err := v.value(v.types[v.c.ords[i]], f.Data)
			if err != nil {
				return p.FieldError(err, line, i, f)
			}
			row[v.c.ords[i]] = d
		}
		rows = append(rows, lineRow{line, row, text})
		return nil
	})
	return rows, err
}

// complete fills in defaults, filters by WHERE and checks the constraints.
func (v *copyConverter) complete(rows []lineRow) ([]lineRow, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	if err := v.fillDefaults(rows); err != nil {
		return nil, err
	}
	rows, err := v.filter(rows)
	if err != nil {
		return nil, err
	}
	for c := range v.c.table.Columns {
		if !v.c.table.Columns[c].NotNull {
			continue
		}
		for _, r := range rows {
			if r.row[c].IsNull() {
				return nil, v.refused(r, mutate.NotNullError(v.c.table, c, r.row))
			}
		}
	}
	if len(v.checks) == 0 || len(rows) == 0 {
		return rows, nil
	}
	b := v.batch(rows)
	for i, ev := range v.checks {
		col, err := ev.Eval(v.eval, b, nil)
		if err != nil {
			return nil, err
		}
		for r := range rows {
			if d := sqltypes.DatumAt(sqltypes.Bool, col, r); !d.IsNull() && !d.Bool() {
				return nil, v.refused(rows[r], mutate.CheckError(v.c.table, v.names[i], rows[r].row))
			}
		}
	}
	return rows, nil
}

func (v *copyConverter) fillDefaults(rows []lineRow) error {
	if v.defaults == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	evs, err := v.defaults.Compile(v.env)
	if err != nil {
		return err
	}
	for i, ev := range evs {
		col, err := ev.Eval(v.eval, &expr.Batch{N: len(rows)}, nil)
		if err != nil {
			return err
		}
		ord := v.defOrds[i]
		for r := range rows {
			rows[r].row[ord] = sqltypes.DatumAt(v.types[ord], col, r)
		}
	}
	return nil
}

func (v *copyConverter) filter(rows []lineRow) ([]lineRow, error) {
	if v.where == nil {
		return rows, nil
	}
	sel, err := expr.Filter(v.eval, v.where, v.batch(rows), nil, nil)
	if err != nil {
		return nil, err
	}
	kept := make([]lineRow, len(sel))
	for i, r := range sel {
		kept[i] = rows[r]
	}
	return kept, nil
}

func (v *copyConverter) batch(rows []lineRow) *expr.Batch {
	b := &expr.Batch{N: len(rows)}
	vals := make([]sqltypes.Datum, len(rows))
	for c, t := range v.types {
		for r := range rows {
			vals[r] = rows[r].row[c]
		}
		b.Cols = append(b.Cols, sqltypes.ArrayOf(t, vals))
	}
	return b
}

// rowIDs hands out handles of a table without a primary key.
type rowIDs struct {
	next int64
	left int
}

// handle appends the handle of a new row to dst.
func (ids *rowIDs) handle(ctx context.Context, c *copyIn, w *mutate.Writer, dst []byte, row []sqltypes.Datum, rows int) ([]byte, error) {
	if !w.HasRowID() {
		return w.Handle(dst, row)
	}
	if ids.left == 0 {
		var err error
		if ids.next, ids.left, err = c.s.db.catalog.RowIDs(ctx, c.table.ID, rows); err != nil {
			return nil, kvError(ctx, err, nil)
		}
	}
	id := ids.next
	ids.next++
	ids.left--
	return tablecodec.AppendRowID(dst, id), nil
}

// recorder is a buffer that collects what a chunk's rows write.
type recorder struct {
	ctx     context.Context
	entries []entry
	line    int64
}

// GetLocal implements mutate.Buffer: duplicates are found when the entries are
// written.
func (*recorder) GetLocal(context.Context, []byte) ([]byte, error) { return nil, tikverr.ErrNotExist }

// Set implements mutate.Buffer.
func (r *recorder) Set(key, value []byte) error {
	r.entries = append(r.entries, entry{key: key, value: value, line: r.line})
	return nil
}

// SetWithFlags implements mutate.Buffer: unique keys come here.
func (r *recorder) SetWithFlags(key, value []byte, _ ...tikvkv.FlagsOp) error {
	r.entries = append(r.entries, entry{key: key, value: value, unique: true, line: r.line})
	return nil
}

// Delete implements mutate.Buffer; new rows delete nothing.
func (*recorder) Delete([]byte) error {
	return pgerror.New(pgerror.InternalError, "COPY wants to delete a key")
}
