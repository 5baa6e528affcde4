package server

import (
	"container/list"
	"encoding/binary"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/kv"
)

// Limits of the result cache, where Options has none.
const (
	// ResultCacheBytesMax is the memory of all answers that a store keeps.
	ResultCacheBytesMax = 32 << 20
	// ResultBytesMax is the size up to which a region's answer is kept.
	ResultBytesMax = 64 << 10
	// resultOverheadBytes is about what an answer costs beside its columns and key.
	resultOverheadBytes = 512
)

// resultCache keeps what regions answered to aggregations, by plan, key ranges
// and principal. An answer serves again while the region is what it was then:
//
//   - the same applied index of the same version of the region, and the columnar
//     cache has seen no change past the log since (its generation): the same
//     versions and locks are in the snapshot;
//   - a timestamp that is not below any version that there is in the ranges: the
//     same versions are visible (apply notes the timestamps of what it changes, so
//     that this is known of blocks with dirty keys, too);
//   - no lock in the ranges that any read could meet.
//
// The snapshot is taken anew each time: who leads, what is locked in memory, and
// the safe point are looked at as for every other read. In doubt it does not
// serve. TiKV's coprocessor cache goes by the same (there, the answers are the
// client's). Safe for concurrent use.
type resultCache struct {
	bytesMax int64
	m        *resultMetrics

	mu    sync.Mutex
	bytes int64
	byKey map[string]*list.Element
	lru   list.List // of *result, the last used first
}

// result is what a region answered.
type result struct {
	key   string
	state dataState
	since uint64 // no version in the ranges is newer
	batch []*expr.Batch
	rows  uint64
	bytes int64
}

// dataState is what a region's data is known by.
type dataState struct{ region, version, index, generation uint64 }

func newResultCache(bytesMax int64, reg prometheus.Registerer) *resultCache {
	c := &resultCache{bytesMax: bytesMax, byKey: map[string]*list.Element{}}
	c.m = newResultMetrics(reg, c)
	return c
}

// used is the memory of all answers.
func (c *resultCache) used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// get returns the answer kept under the key, if the region is what it was and
// a read at ts sees the same. One of another state of the region is forgotten.
func (c *resultCache) get(key string, state dataState, ts uint64) *result {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		c.m.miss.Inc()
		return nil
	}
	r := e.Value.(*result)
	switch {
	case r.state == state && ts >= r.since:
		c.lru.MoveToFront(e)
		c.m.hit.Inc()
		return r
	case r.state.version < state.version || r.state.version == state.version && r.state.index <= state.index && r.state != state:
		c.drop(e)
		c.m.changed.Inc()
	default: // a replica that is behind, or a read of the past
		c.m.miss.Inc()
	}
	return nil
}

// put keeps an answer.
func (c *resultCache) put(r *result) {
	r.bytes = resultOverheadBytes + int64(len(r.key))
	for _, b := range r.batch {
		r.bytes += batchBytes(b)
		r.rows += uint64(b.N)
	}
	if r.bytes > ResultBytesMax || r.bytes > c.bytesMax {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[r.key]; e != nil {
		c.drop(e)
	}
	for c.bytes+r.bytes > c.bytesMax {
		c.drop(c.lru.Back())
		c.m.evicted.Inc()
	}
	c.byKey[r.key] = c.lru.PushFront(r)
	c.bytes += r.bytes
}

// drop forgets an answer. The caller has the lock.
func (c *resultCache) drop(e *list.Element) {
	r := c.lru.Remove(e).(*result)
	delete(c.byKey, r.key)
	c.bytes -= r.bytes
}

// resultPlan is the part of the key that all regions of a request share; nil
// for a request of which nothing may be kept: only aggregations whose answer does
// not depend on the order of rows, and on nothing but them.
func resultPlan(r *plan.Request) []byte {
	p := r.Plan
	if !r.ResultCache || p.Merges() == nil || !p.Now.IsZero() || !p.TxnNow.IsZero() || !immutable(p) {
		return nil
	}
	pb, err := p.Encode()
	if err != nil {
		return nil
	}
	key := appendPiece(nil, []byte(r.Principal))
	key = appendPiece(key, r.KeyPrefix())
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(pb)
	if err != nil {
		return nil
	}
	if key = appendPiece(key, body); len(key) > ResultBytesMax { // there would be no room for the answer
		return nil
	}
	return key
}

// immutable reports whether all functions of the plan give the same for the same
// arguments, whenever they are called.
func immutable(p *plan.Plan) bool {
	ok := true
	for _, n := range p.Nodes {
		for _, e := range plan.Exprs(n) {
			expr.Walk(e, func(e expr.Expr) bool {
				if c, is := e.(*expr.Call); is && (c.Fn.Volatility != expr.Immutable || c.Fn.Session) {
					ok = false
				}
				return ok
			})
		}
	}
	return ok
}

// resultKey is the whole key of a region's answer.
func resultKey(plan []byte, region uint64, ranges []kv.KeyRange) string {
	key := binary.AppendUvarint(append([]byte(nil), plan...), region)
	for _, r := range ranges {
		key = appendPiece(appendPiece(key, r.Start), r.End)
	}
	return string(key)
}

// known answers the task from the result cache. keep, if it can't and if keep is
// not nil, is to be called when the answer has been computed.
func (t *task) known(v *columnar.Visit, reader Reader) (found bool, keep func()) {
	sr, ok := reader.(snapshotReader)
	if t.q.plan == nil || v == nil || !ok {
		return false, nil
	}
	g, snap := &t.r.Regions[t.i], sr.Snapshot()
	key := resultKey(t.q.plan, g.ID, g.Ranges)
	state := dataState{g.ID, snap.Region().GetRegionEpoch().GetVersion(), snap.AppliedIndex(), v.Generation()}
	if r := t.s.results.get(key, state, sr.TS()); r != nil {
		for _, b := range r.batch {
			if t.keep(b) != nil { // too much for this request: it says so itself
				t.unkeep()
				return false, nil
			}
		}
		t.stats.CachedRegions, t.stats.RowsReturned, t.stats.Batches = 1, r.rows, uint64(len(r.batch))
		return true, nil
	}
	return false, func() {
		if since, clean := t.cols.Clean(); clean && !t.sent {
			t.s.results.put(&result{key: key, state: state, since: since, batch: t.kept})
		}
	}
}

func appendPiece(dst, piece []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(piece))), piece...)
}

type resultMetrics struct{ hit, miss, changed, evicted prometheus.Counter }

func newResultMetrics(reg prometheus.Registerer, c *resultCache) *resultMetrics {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "copra_copr_result_cache_total",
		Help: "Regions asked for an aggregation that may be kept: answered from the result cache (hit), not (miss, or changed: the region's data has), and answers that made room for others (evicted).",
	}, []string{"result"})
	if reg != nil {
		reg.MustRegister(v, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_copr_result_cache_bytes", Help: "Memory of the result cache."},
			func() float64 { return float64(c.used()) }))
	}
	return &resultMetrics{v.WithLabelValues("hit"), v.WithLabelValues("miss"), v.WithLabelValues("changed"), v.WithLabelValues("evicted")}
}
