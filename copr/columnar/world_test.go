package columnar_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// fed is an engine that feeds a cache as raftstore does: behind the write, when
// snapshots may show it already.
type fed struct {
	*txntest.Engine
	mu    sync.Mutex
	cache *columnar.Cache
	index map[uint64]uint64
}

func (f *fed) Write(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.Engine.Write(ctx, rc, b); err != nil {
		return err
	}
	return f.step(rc.GetRegionId(), b.Bytes())
}

func (f *fed) step(region uint64, data []byte) error {
	from := f.index[region]
	f.index[region] = from + 1
	return f.cache.Advanced(region, from, from+1, one(from+1, data))
}

func one(index uint64, data []byte) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) { yield(index, data) }
}

// world is a store with a cache and a coprocessor.
type world struct {
	tb    failer
	e     *fed
	store *txn.Store
	cache *columnar.Cache
	s     *server.Service
}

func newWorld(tb failer, o columnar.Options) *world {
	e, err := txntest.New()
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{tb: tb, cache: columnar.New(o)}
	w.e = &fed{Engine: e, cache: w.cache, index: map[uint64]uint64{}}
	w.store = txn.NewStore(w.e, txn.Options{})
	w.s = server.New(server.Options{Source: server.TxnSource(w.store), Columns: w.cache})
	return w
}

func (w *world) close() {
	w.s.Close()
	w.store.Close()
	if err := w.e.Close(); err != nil {
		w.tb.Fatal(err)
	}
}

// failer is a testing.TB or a rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// mutation writes a row; a nil value deletes it.
type mutation struct{ key, value []byte }

func (w *world) prewrite(start uint64, ms []mutation) error {
	req := &kvrpcpb.PrewriteRequest{Context: w.e.Context(ms[0].key), PrimaryLock: ms[0].key, StartVersion: start, LockTtl: 3000}
	for _, m := range ms {
		op := kvrpcpb.Op_Put
		if m.value == nil {
			op = kvrpcpb.Op_Del
		}
		req.Mutations = append(req.Mutations, &kvrpcpb.Mutation{Op: op, Key: m.key, Value: m.value})
	}
	resp, err := w.store.KvPrewrite(context.Background(), req)
	switch {
	case err != nil:
		return err
	case resp.RegionError != nil:
		return errors.New(resp.RegionError.String())
	case len(resp.Errors) > 0:
		return errConflict
	}
	return nil
}

var errConflict = errors.New("locked or written by another transaction")

func keysOf(ms []mutation) [][]byte {
	out := make([][]byte, len(ms))
	for i, m := range ms {
		out[i] = m.key
	}
	return out
}

func (w *world) commit(start, commit uint64, keys ...[]byte) error {
	r, err := w.store.KvCommit(context.Background(), &kvrpcpb.CommitRequest{Context: w.e.Context(keys[0]), Keys: keys, StartVersion: start, CommitVersion: commit})
	if err == nil && (r.RegionError != nil || r.Error != nil) {
		err = fmt.Errorf("commit: %v", r)
	}
	return err
}

func (w *world) rollback(start uint64, keys ...[]byte) error {
	r, err := w.store.KvBatchRollback(context.Background(), &kvrpcpb.BatchRollbackRequest{Context: w.e.Context(keys[0]), Keys: keys, StartVersion: start})
	if err == nil && (r.RegionError != nil || r.Error != nil) {
		err = fmt.Errorf("rollback: %v", r)
	}
	return err
}

// put commits rows at commit.
func (w *world) put(start, commit uint64, ms ...mutation) {
	w.tb.Helper()
	if err := w.prewrite(start, ms); err != nil {
		w.tb.Fatal(err)
	}
	if err := w.commit(start, commit, keysOf(ms)...); err != nil {
		w.tb.Fatal(err)
	}
}

// answer is what a region says.
type answer struct {
	rows  []string
	locks []string // keys
	end   *plan.Event
	last  []string // resume keys
}

// request reads ranges of the region at rc.
func request(p *plan.Plan, rc *kvrpcpb.Context, ts uint64, columnar bool, ranges []kv.KeyRange) *plan.Request {
	return &plan.Request{
		Plan: p, ReadTS: ts, Columnar: columnar,
		Regions: []plan.RegionTask{{ID: rc.RegionId, Epoch: rc.RegionEpoch, Peer: rc.Peer, Ranges: ranges}},
	}
}

func (w *world) read(r *plan.Request) *answer {
	w.tb.Helper()
	a, err := run(w.s, r)
	if err != nil {
		w.tb.Fatal(err)
	}
	return a
}

// run reads with a service, and checks that batches come in the order of keys.
func run(s *server.Service, r *plan.Request) (*answer, error) { return runEach(s, r, func() {}) }

// runEach calls batch behind every batch. It looks at the rows when all are there,
// as whoever keeps them does.
func runEach(s *server.Service, r *plan.Request, batch func()) (*answer, error) {
	types, err := r.Plan.OutputTypes()
	if err != nil {
		return nil, err
	}
	a := &answer{}
	var kept []*expr.Batch
	err = s.Run(context.Background(), r, func(e *plan.Event) error {
		if e.Batch != nil {
			kept = append(kept, e.Batch)
			if n := len(a.last); n > 0 && a.last[n-1] >= string(e.ResumeKey) {
				return fmt.Errorf("resume keys do not ascend: %x, %x", a.last[n-1], e.ResumeKey)
			}
			a.last = append(a.last, string(e.ResumeKey))
			batch()
		}
		if e.Done {
			a.end = e
			for _, l := range e.Locks {
				a.locks = append(a.locks, string(l.Key))
			}
		}
		return nil
	})
	for _, b := range kept {
		cols := colvec.OpenAll(b.Cols, types)
		for i := range b.N {
			row := ""
			for c := range cols {
				row += fmt.Sprintf("%v|", show(cols[c].At(i, types[c])))
			}
			a.rows = append(a.rows, row)
		}
	}
	return a, err
}

func show(d sqltypes.Datum) string {
	if d.IsNull() {
		return "NULL"
	}
	if n := d.Decimal(); n != nil {
		return n.String()
	}
	return fmt.Sprintf("%v %q %v", d.Int(), d.Str(), d.Interval())
}

// compare reads by rows and by columns and compares. It returns how many rows
// came from columns.
func (w *world) compare(tb failer, r *plan.Request) uint64 {
	tb.Helper()
	r.Columnar = true
	cols, err := run(w.s, r)
	if err != nil {
		tb.Fatal(err)
	}
	r.Columnar = false
	rows, err := run(w.s, r)
	if err != nil {
		tb.Fatal(err)
	}
	sameAnswer(tb, rows, cols)
	return cols.end.Stats.ColumnRows
}

func sameAnswer(tb failer, rows, cols *answer) {
	tb.Helper()
	switch {
	case (rows.end.Err == nil) != (cols.end.Err == nil), (rows.end.RegionError == nil) != (cols.end.RegionError == nil):
		tb.Fatalf("rows end with %+v, columns with %+v", rows.end, cols.end)
	case len(rows.locks) > 0 && (len(cols.locks) == 0 || rows.locks[0] != cols.locks[0]):
		tb.Fatalf("rows meet locks %x, columns %x", rows.locks, cols.locks)
	case len(rows.locks) == 0 && len(cols.locks) > 0:
		tb.Fatalf("columns meet locks %x, rows none", cols.locks)
	case rows.end.Err == nil && rows.end.RegionError == nil && len(rows.locks) == 0 && !slices.Equal(rows.rows, cols.rows):
		tb.Fatalf("rows and columns differ\n%s", diff(rows.rows, cols.rows))
	}
}

func diff(a, b []string) string {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("%d rows, %d columns; from row %d on:\nrows %q\ncols %q", len(a), len(b), i, a[i:min(i+3, len(a))], b[min(i, len(b)):min(i+3, len(b))])
		}
	}
	return "equal"
}

func tableRange(id int64) []kv.KeyRange { return []kv.KeyRange{tablecodec.RecordRange(id)} }
