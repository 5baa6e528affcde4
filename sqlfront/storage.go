package sqlfront

import (
	"bytes"
	"context"
	"errors"
	"sync"

	tikverr "github.com/tikv/client-go/v2/error"
	tikvkv "github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv/txnsnapshot"

	"github.com/copradb/copra/copr/client"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/plan"
)

// storage is where one statement's rows come from. Scans go to the
// coprocessors at the statement's timestamp; tables that the transaction has
// written are read here, through its buffer, by the same plans.
type storage struct {
	s          *session
	txn        *txn // nil outside a transaction
	ts         uint64
	mem        *exec.MemAccount
	replica    replicaRead
	columns    bool // copra.columnar
	results    bool // copra.result_cache
	compressed client.Compression
	costs      *costs // of the statement
	// serial says that one goroutine reads at a time.
	serial bool

	mu   sync.Mutex
	snap *txnsnapshot.KVSnapshot
}

// replicaRead is copra.replica_read.
type replicaRead int

const (
	replicaLeader replicaRead = iota
	replicaFollower
	replicaStale
)

// compressions are the values of copra.flight_compression.
var compressions = map[string]client.Compression{
	"none": client.CompressionNone, "lz4": client.CompressionLZ4, "zstd": client.CompressionZSTD,
}

func (s *session) newStorage(t *txn, ts uint64, mem *exec.MemAccount) *storage {
	st := &storage{s: s, txn: t, ts: ts, mem: mem, columns: s.settings.Bool("copra.columnar"), results: s.settings.Bool("copra.result_cache"), costs: s.costs}
	st.compressed = compressions[s.settings.Text("copra.flight_compression")]
	switch s.settings.Text("copra.replica_read") {
	case "leader":
		st.replica = replicaLeader
	case "follower":
		st.replica = replicaFollower
	case "stale":
		if t == nil { // a transaction reads at a timestamp that is too new for it
			st.replica = replicaStale
		}
	}
	return st
}

// snapshot is client-go's, at the statement's timestamp.
func (st *storage) snapshot() *txnsnapshot.KVSnapshot {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.snap == nil {
		st.snap = st.s.db.kv.GetSnapshot(st.ts)
		switch st.replica {
		case replicaFollower:
			st.snap.SetReplicaRead(tikvkv.ReplicaReadFollower)
		case replicaStale:
			st.snap.SetReplicaRead(tikvkv.ReplicaReadMixed)
			st.snap.SetIsStalenessReadOnly(true)
		}
	}
	return st.snap
}

func (st *storage) dirty(t *catalog.Table) bool { return st.txn != nil && st.txn.dirty(t.ID) }

// Scan implements plan.Storage.
func (st *storage) Scan(req *plan.ScanRequest) (exec.Operator, error) {
	if st.s.db.o.Copr == nil || st.dirty(req.Table) {
		return st.localScan(req), nil
	}
	c := &coprScan{st: st, req: req}
	c.Operator = exec.NewSource("Copr Scan", req.Types, c.start)
	return c, nil
}

// coprScan is a scan that the coprocessors run.
type coprScan struct {
	exec.Operator
	st     *storage
	req    *plan.ScanRequest
	stream *client.Stream
	stats  plan.ScanStats
}

// NextRaw implements exec.RawOperator: encoded columns stay as they are.
func (c *coprScan) NextRaw() (exec.Raw, error) { return exec.NextRaw(c.Operator) }

func (c *coprScan) start(ctx *exec.Ctx) (exec.Source, error) {
	if len(c.req.Ranges) == 0 {
		return emptySource{}, nil
	}
	p, err := c.req.Filtered(ctx)
	if err != nil {
		return nil, err
	}
	req := &client.Request{
		Plan: p, Ranges: c.req.Ranges, ReadTS: c.st.ts, KeepOrder: c.req.KeepOrder,
		RowsHint: c.req.LimitHint, Mem: c.st.mem, Columnar: c.st.columns,
		Compression: c.st.compressed,
		ResultCache: c.st.results && p == c.req.Plan, // a join's filter is another one next time
	}
	switch c.st.replica { // coprpb.ReplicaRead's numbers
	case replicaFollower:
		req.ReplicaRead = 1
	case replicaStale:
		req.ReplicaRead = 2
	}
	stream, err := c.st.s.db.o.Copr.Send(ctx.Context, req)
	if err != nil {
		return nil, kvError(ctx.Context, err, nil)
	}
	c.stream = stream
	c.st.costs.scanned(stream)
	return &streamSource{c: c, ctx: ctx.Context}, nil
}

// ScanStats implements plan.ScanStatser.
func (c *coprScan) ScanStats() plan.ScanStats {
	if c.stream != nil {
		c.addStats()
	}
	return c.stats
}

// addStats adds what a stream did; a scan may be opened several times.
func (c *coprScan) addStats() {
	for _, s := range c.stream.Stats() {
		c.stats.Regions += s.Regions
		c.stats.Requests += s.Tickets
		c.stats.RowsScanned += int64(s.RowsScanned)
		c.stats.BytesScanned += int64(s.BytesScanned)
		c.stats.ColumnRegions += int(s.ColumnRegions)
		c.stats.CachedRegions += int(s.CachedRegions)
		c.stats.ColumnRows += int64(s.ColumnRows)
	}
}

type streamSource struct {
	c   *coprScan
	ctx context.Context
}

func (s *streamSource) Next() (*expr.Batch, error) {
	b, err := s.c.stream.Next(s.ctx)
	if err != nil {
		return nil, kvError(s.ctx, err, nil)
	}
	return b, nil
}

func (s *streamSource) Close() error {
	if s.c.stream == nil {
		return nil
	}
	s.c.addStats()
	stream := s.c.stream
	s.c.stream = nil
	return stream.Close()
}

type emptySource struct{}

func (emptySource) Next() (*expr.Batch, error) { return nil, nil }
func (emptySource) Close() error               { return nil }

// localScan runs a plan here.
func (st *storage) localScan(req *plan.ScanRequest) exec.Operator {
	return exec.NewSource("Local Scan", req.Types, func(ctx *exec.Ctx) (exec.Source, error) {
		rows := &rangeRows{st: st, ctx: ctx.Context, ranges: req.Ranges, desc: req.Desc, own: st.dirty(req.Table)}
		p, err := req.Filtered(ctx)
		if err != nil {
			return nil, err
		}
		eval, err := exec.EvalCtx(p)
		if err != nil {
			return nil, err
		}
		op, err := exec.Build(p, rows)
		if err != nil {
			return nil, err
		}
		if err := op.Open(&exec.Ctx{Context: ctx.Context, Eval: eval, Mem: ctx.Mem}); err != nil {
			return nil, errors.Join(err, op.Close())
		}
		return &localSource{op: op, rows: rows}, nil
	})
}

type localSource struct {
	op   exec.Operator
	rows *rangeRows
}

func (s *localSource) Next() (*expr.Batch, error) { return s.op.Next() }

func (s *localSource) Close() error {
	s.rows.close()
	return s.op.Close()
}

// iterator is what client-go's snapshots and transactions hand out.
type iterator interface {
	Valid() bool
	Key() []byte
	Value() []byte
	Next() error
	Close()
}

// rangeRows reads key ranges one after the other, through the transaction's
// buffer if own.
type rangeRows struct {
	st     *storage
	ctx    context.Context
	ranges []kv.KeyRange
	desc   bool
	own    bool
	it     iterator
	began  bool
}

// Next implements exec.RowSource.
func (r *rangeRows) Next() (key, value []byte, ok bool, err error) {
	for {
		if r.it != nil {
			if r.began {
				if err := r.it.Next(); err != nil {
					return nil, nil, false, kvError(r.ctx, err, nil)
				}
			}
			r.began = true
			if r.it.Valid() {
				return r.it.Key(), r.it.Value(), true, nil
			}
			r.close()
		}
		if e := cancelError(r.ctx); e != nil {
			return nil, nil, false, e
		}
		if len(r.ranges) == 0 {
			return nil, nil, false, nil
		}
		if err := r.openNext(); err != nil {
			return nil, nil, false, kvError(r.ctx, err, nil)
		}
	}
}

func (r *rangeRows) openNext() (err error) {
	next := r.ranges[0]
	if r.desc {
		next = r.ranges[len(r.ranges)-1]
		r.ranges = r.ranges[:len(r.ranges)-1]
	} else {
		r.ranges = r.ranges[1:]
	}
	r.began = false
	switch {
	case r.own && r.desc:
		r.it, err = r.st.txn.kv.IterReverse(next.End, next.Start)
	case r.own:
		r.it, err = r.st.txn.kv.Iter(next.Start, next.End)
	case r.desc:
		r.it, err = r.st.snapshot().IterReverse(next.End, next.Start)
	default:
		r.it, err = r.st.snapshot().Iter(next.Start, next.End)
	}
	return err
}

func (r *rangeRows) close() {
	if r.it != nil {
		r.it.Close()
		r.it = nil
	}
}

// get reads the values of keys, nil for those that don't exist. They are not to
// be changed.
func (st *storage) get(ctx context.Context, own bool, keys [][]byte) ([][]byte, error) {
	out := make([][]byte, len(keys))
	if len(keys) == 1 {
		var err error
		out[0], err = st.getOne(ctx, own, keys[0])
		return out, err
	}
	var (
		found map[string]tikvkv.ValueEntry
		err   error
	)
	if own {
		found, err = st.txn.kv.BatchGet(ctx, keys)
	} else {
		found, err = st.snapshot().BatchGet(ctx, keys)
	}
	for i, k := range keys {
		if v, ok := found[string(k)]; ok {
			out[i] = v.Value
		}
	}
	return out, kvError(ctx, err, nil)
}

func (st *storage) getOne(ctx context.Context, own bool, key []byte) ([]byte, error) {
	if p := st.s.db.o.Points; p != nil && !own && st.replica == replicaLeader {
		if value, _, ok := p.Get(ctx, st.ts, key); ok {
			return value, nil
		}
	}
	var (
		v   tikvkv.ValueEntry
		err error
	)
	if own {
		v, err = st.txn.kv.Get(ctx, key)
	} else {
		v, err = st.snapshot().Get(ctx, key)
	}
	if errors.Is(err, tikverr.ErrNotExist) {
		return nil, nil
	}
	return v.Value, kvError(ctx, err, nil)
}

// Rows implements plan.Storage.
func (st *storage) Rows(ctx *exec.Ctx, req *plan.RowsRequest) (*expr.Batch, error) {
	keys := make([][]byte, len(req.Handles))
	for i, h := range req.Handles {
		keys[i] = tablecodec.AppendRowKey(nil, req.Table.ID, h)
	}
	values, err := st.get(ctx.Context, st.dirty(req.Table), keys)
	if err != nil {
		return nil, err
	}
	node := &coprplan.TableScan{TableID: req.Table.ID, KeyColumns: req.Key, Columns: req.Columns, Handle: req.Handle}
	sc, err := scan.New(node, &gotRows{keys: keys, values: values},
		scan.Options{BatchRowsFirst: len(keys), BatchBytesMax: 1 << 30})
	if err != nil {
		return nil, err
	}
	return collect(sc, sc.Types())
}

// collect makes one batch of a scan of at most BatchRowsMax rows.
func collect(sc *scan.Scan, types []sqltypes.Type) (*expr.Batch, error) {
	b, err := sc.Next()
	if err != nil {
		return nil, err
	}
	if b == nil {
		b = &expr.Batch{}
		for _, t := range types {
			b.Cols = append(b.Cols, sqltypes.NullArray(t, 0))
		}
	}
	more, err := sc.Next()
	if err == nil && more != nil {
		err = pgerror.New(pgerror.InternalError, "rows of more than %d handles were asked for at once", scan.BatchRowsMax)
	}
	return b, err
}

// gotRows are the rows that a get found, in the order of the keys.
type gotRows struct {
	keys   [][]byte
	values [][]byte
}

// Next implements exec.RowSource.
func (g *gotRows) Next() (key, value []byte, ok bool, err error) {
	for len(g.keys) > 0 {
		key, value = g.keys[0], g.values[0]
		g.keys, g.values = g.keys[1:], g.values[1:]
		if value != nil {
			return key, value, true, nil
		}
	}
	return nil, nil, false, nil
}

// UniqueGet implements plan.Storage.
func (st *storage) UniqueGet(ctx *exec.Ctx, table *catalog.Table, _ *catalog.Index, keys [][]byte) ([][]byte, error) {
	values, err := st.get(ctx.Context, st.dirty(table), keys)
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		values[i] = bytes.Clone(v) // nil stays nil
	}
	return values, nil
}
