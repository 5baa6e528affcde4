package tikv

import (
	"context"
	"log/slog"
	"time"

	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/internal/tracker"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// tracked ends a request's tracker: its stages go into the metrics, into the
// answer, and into the log if it was slow.
func (s *Service) tracked(t *tracker.Tracker, method string, req request, resp any, err error) {
	took := t.End()
	s.metrics.observe(method, took, err)
	s.metrics.stages.observe(t, method)
	if err == nil && isRemote(t) { // with an error there may be no answer to put them in
		if slot := detailsOf(resp); slot != nil {
			*slot = execDetails(t, took)
		}
	}
	if s.slow.Slow(took) {
		s.logSlow(t, took, method, req, err)
	}
}

// stageMetrics are named as TiKV's.
type stageMetrics struct {
	queue           prometheus.Histogram
	snapshot, write prometheus.Observer
	latch           *prometheus.HistogramVec
	all             []prometheus.Collector
}

func (m *stageMetrics) init() {
	buckets := prometheus.ExponentialBuckets(0.00001, 2, 22)
	async := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tikv_storage_engine_async_request_duration_seconds",
		Help: "Time until a region gave a snapshot to read, or had a write applied.", Buckets: buckets}, []string{"type"})
	m.latch = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tikv_scheduler_latch_wait_duration_seconds",
		Help: "Time that requests waited for others with the same keys.", Buckets: buckets}, []string{"type"})
	m.queue = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tikv_grpc_batch_commands_wait_duration_seconds",
		Help: "Time between a request's arrival on a BatchCommands stream and its start.", Buckets: buckets})
	m.snapshot, m.write = async.WithLabelValues("snapshot"), async.WithLabelValues("write")
	m.all = []prometheus.Collector{async, m.latch, m.queue}
}

func (m *stageMetrics) observe(t *tracker.Tracker, method string) {
	if d := t.Spent(tracker.Snapshot); d > 0 {
		m.snapshot.Observe(d.Seconds())
	}
	if d := t.Spent(tracker.Write); d > 0 {
		m.write.Observe(d.Seconds())
	}
	if d := t.Spent(tracker.Latch); d > 0 {
		m.latch.WithLabelValues(method).Observe(d.Seconds())
	}
	if d := t.Spent(tracker.Queue); d > 0 {
		m.queue.Observe(d.Seconds())
	}
}

// logSlow writes the line of a slow request. docs/operations.md explains it.
func (s *Service) logSlow(t *tracker.Tracker, took time.Duration, method string, req request, err error) {
	rc, sum := req.GetContext(), summarize(req)
	attrs := []slog.Attr{
		slog.String("method", method), slowlog.Millis("total_ms", took),
		slog.Uint64("region", rc.GetRegionId()), slog.Uint64("peer", rc.GetPeer().GetId()),
		slog.Uint64("start_ts", sum.startTS), slog.Int("keys", sum.keys), slog.String("first_key", s.slow.Key(sum.first)),
		slog.Int("bytes", req.Size()),
	}
	attrs = append(attrs, t.Attrs()...)
	attrs = append(attrs, slog.String("client", clientOf(t.Context())))
	if src := rc.GetRequestSource(); src != "" {
		attrs = append(attrs, slog.String("source", slowlog.Text(src)))
	}
	if tag := rc.GetResourceGroupTag(); len(tag) > 0 {
		attrs = append(attrs, slog.String("tag", s.slow.Key(tag)))
	}
	if g := rc.GetResourceControlContext().GetResourceGroupName(); g != "" {
		attrs = append(attrs, slog.String("resource_group", slowlog.Text(g)))
	}
	if err != nil {
		err = toStatus(method, err)
		text := slowlog.Text(err.Error())
		if s.slow.Redact() { // it may name keys
			text = status.Code(err).String()
		}
		attrs = append(attrs, slog.String("err", text))
	}
	s.slow.Write("slow request", attrs...)
}

// isRemote reports whether the answer goes over a network: in one process a
// point read would spend a tenth of its time on details that nobody reads.
func isRemote(t *tracker.Tracker) bool {
	if t.Spent(tracker.Queue) > 0 {
		return true
	}
	_, ok := peer.FromContext(t.Context())
	return ok
}

// clientOf is the address of the client, or "local" in this process.
func clientOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return "local"
}

// summary is what the slow log says of a request's content.
type summary struct {
	startTS uint64
	keys    int
	first   []byte
}

// summarize goes by the names that kvproto's requests share.
func summarize(req any) (s summary) {
	switch q := req.(type) {
	case interface{ GetStartVersion() uint64 }:
		s.startTS = q.GetStartVersion()
	case interface{ GetStartTs() uint64 }:
		s.startTS = q.GetStartTs()
	case interface{ GetLockTs() uint64 }:
		s.startTS = q.GetLockTs()
	case interface{ GetVersion() uint64 }:
		s.startTS = q.GetVersion()
	}
	one := func(key []byte) { s.keys, s.first = 1, key }
	switch q := req.(type) {
	case interface{ GetMutations() []*kvrpcpb.Mutation }:
		if s.keys = len(q.GetMutations()); s.keys > 0 {
			s.first = q.GetMutations()[0].GetKey()
		}
	case interface{ GetPairs() []*kvrpcpb.KvPair }:
		if s.keys = len(q.GetPairs()); s.keys > 0 {
			s.first = q.GetPairs()[0].GetKey()
		}
	case interface{ GetKeys() [][]byte }:
		if s.keys = len(q.GetKeys()); s.keys > 0 {
			s.first = q.GetKeys()[0]
		}
	case interface{ GetKey() []byte }:
		one(q.GetKey())
	case interface{ GetPrimaryKey() []byte }:
		one(q.GetPrimaryKey())
	case interface{ GetPrimaryLock() []byte }:
		one(q.GetPrimaryLock())
	case interface{ GetStartKey() []byte }:
		one(q.GetStartKey())
	}
	return s
}
