package sqlfront

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tikv/client-go/v2/util"

	"github.com/copradb/copra/copr/client"
	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/sqlfront/plan"
)

const (
	// slowTextBytesMax is how much of a statement's text its line shows.
	slowTextBytesMax = 2048
	// slowStreamCountMax bounds the scans whose work is looked up.
	slowStreamCountMax = 256
	slowSetting        = "log_min_duration_statement"
)

// costs is the context of a statement, in which client-go leaves what it spent:
// one piece of memory for all that the slow-query log wants to know.
type costs struct {
	context.Context
	began       time.Time
	exec        util.ExecDetails
	commit      *util.CommitDetails
	commitInfo  string // of client-go, JSON
	commitTime  time.Duration
	retries     int
	parse, plan time.Duration

	mu      sync.Mutex // scans may start in the background
	streams []*client.Stream
	runs    []*plan.Running
}

// Value implements context.Context.
func (c *costs) Value(key any) any {
	switch key {
	case util.ExecDetailsKey:
		return &c.exec
	case util.CommitDetailCtxKey:
		return &c.commit
	}
	return c.Context.Value(key)
}

// scanned takes note of a scan; on nil nobody wants to know.
func (c *costs) scanned(s *client.Stream) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) < slowStreamCountMax {
		c.streams = append(c.streams, s)
	}
}

// spills takes note of who may write temporary files.
func (c *costs) spills(r *plan.Running) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.runs) < slowStreamCountMax {
		c.runs = append(c.runs, r)
	}
}

// spillAttrs are the temporary files of the statement.
func (c *costs) spillAttrs() []slog.Attr {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum spill.Stats
	for _, r := range c.runs {
		st := r.Spilled()
		sum.Files, sum.Bytes = sum.Files+st.Files, sum.Bytes+st.Bytes
	}
	if sum.Files == 0 {
		return nil
	}
	return []slog.Attr{slog.Int64("temp_files", sum.Files), slog.Int64("temp_bytes", sum.Bytes)}
}

func (c *costs) retried() {
	if c != nil {
		c.retries++
	}
}

func (c *costs) committed(took time.Duration) {
	if c != nil {
		c.commitTime += took
	}
}

// trackCosts makes the context of a statement that is to be logged if it is
// slow, and what ends it. tag and err are asked for then.
func (s *session) trackCosts(ctx context.Context, p *prepared) (_ context.Context, end func(tag string, err error)) {
	if s.settings.Millis(slowSetting) < 0 { // -1
		s.costs = nil
		return ctx, func(string, error) {}
	}
	c := &costs{Context: ctx, began: time.Now(), parse: s.parseTime, plan: p.planTime}
	s.parseTime, p.planTime = 0, 0 // of the first execution only
	s.costs = c
	return c, func(tag string, err error) {
		if s.costs == c {
			s.costs = nil
		}
		took := time.Since(c.began) + c.parse + c.plan
		if limit := s.settings.Millis(slowSetting); limit >= 0 && took >= limit {
			s.logSlow(c, took, p, tag, err)
		}
	}
}

func (s *session) logSlow(c *costs, took time.Duration, p *prepared, tag string, err error) {
	attrs := []slog.Attr{
		slowlog.Millis("total_ms", took), slowlog.Millis("parse_ms", c.parse), slowlog.Millis("plan_ms", c.plan),
		slowlog.Millis("exec_ms", took-c.parse-c.plan), slog.String("kind", kindOf(p.stmt.Stmt)), slog.String("tag", tag),
		slog.Uint64("session", s.id), slog.String("user", s.user), slog.String("application", s.settings.Text("application_name")),
	}
	attrs = append(attrs, c.kvAttrs()...)
	attrs = append(attrs, c.scanAttrs()...)
	attrs = append(attrs, c.spillAttrs()...)
	attrs = append(attrs, c.commitAttrs()...)
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	s.db.slow.Write("slow query", append(attrs, slog.String("statement", shortText(p.stmt.Text)))...)
}

// kvAttrs are the waits for stores and placement drivers by client-go.
func (c *costs) kvAttrs() (out []slog.Attr) {
	for _, d := range [...]struct {
		name string
		v    *int64
	}{
		{"kv_wait_ms", &c.exec.WaitKVRespDuration}, {"pd_wait_ms", &c.exec.WaitPDRespDuration}, {"backoff_ms", &c.exec.BackoffDuration},
	} {
		if v := atomic.LoadInt64(d.v); v > 0 {
			out = append(out, slowlog.Millis(d.name, time.Duration(v)))
		}
	}
	if n := atomic.LoadInt64(&c.exec.BackoffCount); n > 0 {
		out = append(out, slog.Int64("backoffs", n))
	}
	if c.retries > 0 {
		out = append(out, slog.Int("retries", c.retries))
	}
	return out
}

// scanAttrs are the work of coprocessors, summed up over stores and scans.
func (c *costs) scanAttrs() []slog.Attr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) == 0 {
		return nil
	}
	var sum client.StoreStats
	var slowest client.StoreStats
	for _, s := range c.streams {
		for _, st := range s.Stats() {
			sum.Tickets, sum.Regions, sum.Retries = sum.Tickets+st.Tickets, sum.Regions+st.Regions, sum.Retries+st.Retries
			sum.RowsScanned, sum.BytesScanned, sum.RowsReturned = sum.RowsScanned+st.RowsScanned, sum.BytesScanned+st.BytesScanned, sum.RowsReturned+st.RowsReturned
			sum.Time, sum.Wait = sum.Time+st.Time, sum.Wait+st.Wait
			if slowest.Addr == "" || st.Time+st.Wait > slowest.Time+slowest.Wait {
				slowest = st
			}
		}
	}
	return []slog.Attr{
		slog.Int("scans", len(c.streams)), slog.Any("regions", sum.Regions), slog.Any("region_retries", sum.Retries),
		slog.Uint64("rows_scanned", sum.RowsScanned), slog.Uint64("bytes_scanned", sum.BytesScanned), slog.Uint64("rows_fetched", sum.RowsReturned),
		slowlog.Millis("copr_ms", sum.Time), slowlog.Millis("copr_queue_ms", sum.Wait), slog.String("slowest_store", slowest.Addr),
	}
}

// commitAttrs say how the transaction was committed, if this statement did it.
func (c *costs) commitAttrs() []slog.Attr {
	if c.commitTime == 0 {
		return nil
	}
	out := []slog.Attr{slowlog.Millis("commit_ms", c.commitTime)}
	var info struct {
		Mode      string `json:"txn_commit_mode"`
		Pipelined bool   `json:"pipelined"`
	}
	if json.Unmarshal([]byte(c.commitInfo), &info) == nil && info.Mode != "" {
		out = append(out, slog.String("commit_kind", info.Mode), slog.Bool("pipelined", info.Pipelined))
	}
	if d := c.commit; d != nil {
		out = append(out, slowlog.Millis("prewrite_ms", d.PrewriteTime), slog.Int("write_keys", d.WriteKeys), slog.Int("write_bytes", d.WriteSize),
			slog.Int("write_regions", int(atomic.LoadInt32(&d.PrewriteRegionNum))))
	}
	return out
}

// slowValue is a threshold as the setting's value, in milliseconds.
func slowValue(d time.Duration) string {
	if d < 0 {
		return "-1"
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// shortText is a statement in one line, cut off where it is long.
func shortText(text string) string {
	if len(text) > slowTextBytesMax {
		cut := slowTextBytesMax
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "..."
	}
	return strings.Join(strings.Fields(text), " ")
}
