package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/internal/tracker"
)

// costs sums up the tasks of a request.
type costs struct {
	mu      sync.Mutex
	all     tracker.Tracker
	scanned plan.RegionStats
	slowest plan.RegionStats
	region  uint64 // the slowest
}

// add takes the costs of a task that has ended, and its tracker.
func (c *costs) add(t *task) {
	t.tracker.End()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.Merge(t.tracker)
	t.tracker.Free()
	c.scanned.RowsScanned += t.stats.RowsScanned
	c.scanned.BytesScanned += t.stats.BytesScanned
	c.scanned.RowsReturned += t.stats.RowsReturned
	if d := t.stats.Time + t.stats.Wait; c.region == 0 || d > c.slowest.Time+c.slowest.Wait {
		c.slowest, c.region = t.stats, t.r.Regions[t.i].ID
	}
}

// addHelper takes the tracker of somebody who helped with a task.
func (c *costs) addHelper(t *tracker.Tracker) {
	t.End()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.Merge(t)
	t.Free()
}

// logSlow writes a line if the request took too long. Regions run beside each
// other, so the stages, which are sums, may be more than the whole.
func (s *Service) logSlow(ctx context.Context, r *plan.Request, took time.Duration, c *costs, err error) {
	if !s.o.Slow.Slow(took) {
		return
	}
	client := "local"
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		client = p.Addr.String()
	}
	attrs := []slog.Attr{
		slog.String("method", "coprocessor"), slowlog.Millis("total_ms", took), slog.String("plan", nodeNames(r.Plan)),
		slog.Uint64("start_ts", r.ReadTS), slog.Int("regions", len(r.Regions)),
		slog.Uint64("slowest_region", c.region), slowlog.Millis("slowest_region_ms", c.slowest.Time+c.slowest.Wait),
		slog.Uint64("rows_scanned", c.scanned.RowsScanned), slog.Uint64("bytes_scanned", c.scanned.BytesScanned),
		slog.Uint64("rows_returned", c.scanned.RowsReturned),
	}
	if len(r.Regions) > 0 && len(r.Regions[0].Ranges) > 0 {
		attrs = append(attrs, slog.String("first_key", s.o.Slow.Key(r.Regions[0].Ranges[0].Start)))
	}
	attrs = append(append(attrs, c.all.Attrs()...), slog.String("client", client))
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	s.o.Slow.Write("slow request", attrs...)
}

// nodeNames are the plan's nodes from the scan upwards, without what users wrote.
func nodeNames(p *plan.Plan) string {
	names := make([]string, len(p.Nodes))
	for i, n := range p.Nodes {
		names[i] = strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", n), "*plan."))
	}
	return strings.Join(names, ">")
}
