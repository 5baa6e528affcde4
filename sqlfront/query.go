package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/parse"
	"github.com/copradb/copra/sqlfront/plan"
)

// bindContext is what the planner sees of the session.
func (s *session) bindContext(snap *catalog.Snapshot, params []sqltypes.Type) *plan.BindContext {
	return &plan.BindContext{
		Catalog:    snap.View(s.env()),
		ParamTypes: params,
		Expr:       s.evalContext(context.Background(), snap, nil),
		ParseExpr:  parse.Expr,
		Settings:   plan.Settings{Pushdown: s.settings.Bool("copra.pushdown"), TimeZone: s.timeZone()},
	}
}

// evalContext is what expressions see of the session and the statement.
func (s *session) evalContext(ctx context.Context, snap *catalog.Snapshot, params []sqltypes.Datum) *expr.Ctx {
	now := time.Now()
	out := &expr.Ctx{Params: params, Now: now, TxnNow: now, TimeZone: s.timeZone(), Context: ctx}
	if s.txn != nil {
		out.TxnNow = s.txn.now
	}
	out.Session = &exprSession{s: s, view: snap.View(s.env())}
	return out
}

// running is a query that has been opened.
type running struct {
	op  *plan.Running
	ctx *exec.Ctx
	mem *exec.MemAccount
}

// memory makes a statement's account.
func (s *session) memory() *exec.MemAccount {
	limit := s.db.o.StatementBytesMax
	if n, err := strconv.ParseInt(s.settings.Text("copra.statement_memory"), 10, 64); err == nil && n > 0 {
		limit = n
	}
	m := exec.NewMemAccount(limit, s.db.mem)
	if n, err := strconv.ParseInt(s.settings.Text("copra.spill_memory"), 10, 64); err == nil && n > 0 {
		m.SetSpillBytes(n)
	}
	return m
}

// tempSpace is for a statement's temporary files; nil where the node has none.
func (s *session) tempSpace() *spill.Space {
	if s.db.o.Temp == nil {
		return nil
	}
	limit := int64(0)
	if kb, err := strconv.ParseInt(s.settings.Text("temp_file_limit"), 10, 64); err == nil && kb >= 0 {
		limit = max(1, kb<<10)
	}
	return s.db.o.Temp.NewSpace(limit)
}

// open builds a plan and opens it. The caller closes op.
func (s *session) open(ctx context.Context, p *plan.Physical, st *storage, eval *expr.Ctx) (*running, error) {
	temp := s.tempSpace()
	env, ectx := &plan.ExecEnv{Eval: eval, Storage: st, Mem: st.mem, Spill: temp, Workers: st.workers(), JoinFilters: s.settings.Bool("copra.join_filters")},
		&exec.Ctx{Context: ctx, Eval: eval, Mem: st.mem, Spill: temp}
	if env.Workers > 1 && !p.SinglePoint() {
		c := &cores{ts: st.ts}
		ectx.Cores, env.Closed = c.worker, c.close
	}
	op, err := plan.Build(p, env)
	if err != nil {
		return nil, err
	}
	r := &running{op: op, mem: st.mem, ctx: ectx}
	st.costs.spills(op)
	if err := op.Open(r.ctx); err != nil {
		return nil, errors.Join(kvError(ctx, err, nil), op.Close())
	}
	return r, nil
}

// drain reads everything that is left and closes. What it keeps is charged.
func (r *running) drain() (out []*expr.Batch, err error) {
	defer func() {
		if cerr := r.op.Close(); err == nil {
			err = cerr
		}
	}()
	for {
		b, err := r.op.Next()
		if err != nil {
			return nil, kvError(r.ctx.Context, err, nil)
		}
		if b == nil {
			return out, nil
		}
		if err := r.mem.Grow(batchBytes(b)); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
}

// release gives back what drain charged for batches.
func (r *running) release(batches []*expr.Batch) {
	for _, b := range batches {
		r.mem.Shrink(batchBytes(b))
	}
}

func batchBytes(b *expr.Batch) int64 {
	var n int64
	for _, c := range b.Cols {
		for _, buf := range c.Data().Buffers() {
			if buf != nil {
				n += int64(buf.Len())
			}
		}
	}
	return n
}

// reading is what a statement that only reads reads with.
type reading struct {
	ts   uint64
	snap *catalog.Snapshot
}

// staleness is how far behind copra.replica_read = stale reads.
const staleness = 5 // seconds

// beginRead fixes the timestamp and the catalog of a statement that reads.
//
// A statement by itself that reads one row (single) needs no timestamp of PD's:
// the store reads the newest committed version, and there is no second read
// that would have to agree with it.
func (s *session) beginRead(ctx context.Context, single bool) (r reading, err error) {
	if s.txn == nil && s.settings.Text("copra.replica_read") == "stale" {
		if r.ts, err = s.db.kv.GetOracle().GetStaleTimestamp(ctx, "global", staleness); err != nil {
			return r, kvError(ctx, err, nil)
		}
		holdStatement(ctx, r.ts)
		r.snap, err = s.db.catalog.At(ctx, r.ts)
		return r, kvError(ctx, err, nil)
	}
	t := s.txn
	if t == nil {
		// The catalog first: what it has is there at any later timestamp.
		if r.snap, err = s.db.catalog.Latest(ctx); err != nil {
			return r, kvError(ctx, err, nil)
		}
		if single && s.settings.Text("copra.replica_read") == "leader" {
			r.ts = math.MaxUint64
			return r, nil
		}
		r.ts, err = s.db.timestamp(ctx)
		holdStatement(ctx, r.ts)
		return r, err
	}
	if r.ts, r.snap, err = s.moment(ctx, t); err == nil && t.kv != nil && !t.repeatable {
		t.kv.GetSnapshot().SetSnapshotTS(r.ts)
	}
	return r, err
}

// selectRows runs a SELECT that locks nothing; its rows come as they are read.
func (s *session) selectRows(ctx context.Context, p *prepared, params []sqltypes.Datum, finish func()) (Result, error) {
	r, err := s.beginRead(ctx, p.plan != nil && p.plan.SinglePoint())
	if err != nil {
		return nil, err
	}
	if p, err = s.current(p, r.snap); err != nil {
		return nil, err
	}
	if r.ts == math.MaxUint64 && !p.plan.SinglePoint() { // planned anew
		if r.ts, err = s.db.timestamp(ctx); err != nil {
			return nil, err
		}
		holdStatement(ctx, r.ts)
	}
	run, err := s.open(ctx, p.plan, s.newStorage(s.txn, r.ts, s.memory()), s.evalContext(ctx, r.snap, params))
	if err != nil {
		return nil, err
	}
	return &streaming{s: s, columns: p.columns, schema: p.arrowSchema(), op: run.op, ctx: ctx, verb: "SELECT", finish: finish}, nil
}

// selectLocked runs SELECT … FOR UPDATE inside a transaction: it reads all rows
// and locks them before the client sees one.
func (s *session) selectLocked(ctx context.Context, p *prepared, params []sqltypes.Datum) (Result, error) {
	var out []*expr.Batch
	var rows int
	err := s.write(ctx, func(w *writing) error {
		p, err := s.current(p, w.snap)
		if err != nil {
			return err
		}
		run, err := s.open(ctx, p.plan, s.newStorage(w.txn, w.ts, s.memory()), s.evalContext(ctx, w.snap, params))
		if err != nil {
			return err
		}
		if out, err = run.drain(); err != nil {
			return err
		}
		defer run.release(out)
		rows = 0
		for _, b := range out {
			rows += b.N
		}
		return w.lockRows(p.plan.Locks, out)
	})
	if err != nil {
		return nil, err
	}
	return newBuffered(p.columns, out, fmt.Sprintf("SELECT %d", rows)), nil
}

// needsLocks reports whether a statement locks the rows that it reads. Alone it
// need not: nobody could meet its locks after it.
func (s *session) needsLocks(p *prepared) bool { return s.txn != nil && len(p.plan.Locks) > 0 }

// current returns p bound with this catalog and the present settings: p itself,
// or a new one if something has changed since it was prepared.
func (s *session) current(p *prepared, snap *catalog.Snapshot) (*prepared, error) {
	if (p.plan != nil || p.dml != nil) && p.schema == snap.Version() && p.settings == s.settings.Version() && !s.changingSchema() {
		return p, nil
	}
	again, err := s.bind(p.stmt, p.body, snap, p.params)
	if err != nil {
		return nil, err
	}
	if !sameColumns(p.columns, again.columns) {
		return nil, pgerror.New(pgerror.FeatureNotSupported, "cached plan must not change result type")
	}
	*p = *again // the next execution finds it
	return p, nil
}

// changingSchema reports whether the transaction has a schema of its own, whose
// states have no numbers.
func (s *session) changingSchema() bool { return s.txn != nil && s.txn.change != nil }

func sameColumns(a, b []Column) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Type != b[i].Type || a[i].Name != b[i].Name {
			return false
		}
	}
	return true
}

// columnsOf are result columns of a plan's.
func columnsOf(cols []plan.Column) []Column {
	out := make([]Column, len(cols))
	for i, c := range cols {
		out[i] = Column{Name: c.Name, Type: c.Type, TableOID: c.TableOID, Attr: c.Attr}
	}
	return out
}
