package tracker

import (
	"log/slog"
	"time"

	"github.com/copradb/copra/internal/slowlog"
)

// Attrs are the stages and counts for a line of a slow log: process_ms always,
// the others where there is something to say.
func (t *Tracker) Attrs() []slog.Attr {
	out := []slog.Attr{slowlog.Millis("process_ms", t.Spent(Process))}
	for _, p := range [...]struct {
		name string
		d    time.Duration
	}{
		{"queue_ms", t.Spent(Queue)}, {"latch_ms", t.Spent(Latch)},
		{"snapshot_ms", t.Spent(Snapshot)}, {"read_index_ms", t.ReadIndex},
		{"lock_wait_ms", t.Spent(LockWait)}, {"throttle_ms", t.Spent(Throttle)},
		{"send_ms", t.Spent(Send)},
		{"write_ms", t.Spent(Write)}, {"propose_ms", t.Write.Propose}, {"persist_ms", t.Write.Persist},
		{"commit_ms", t.Write.Commit}, {"apply_wait_ms", t.Write.ApplyWait}, {"apply_ms", t.Write.Apply},
		{"block_read_ms", t.Scan.BlockTime},
	} {
		if p.d > 0 {
			out = append(out, slowlog.Millis(p.name, p.d))
		}
	}
	for _, c := range [...]struct {
		name string
		n    uint64
	}{
		{"rows", uint64(t.Rows)}, {"row_bytes", uint64(t.RowBytes)}, {"write_bytes", uint64(t.WriteBytes)},
		{"gets", t.Scan.Gets}, {"seeks", t.Scan.Seeks}, {"versions", t.Scan.Keys}, {"skipped", t.Scan.Skipped},
		{"tombstones", t.Scan.Tombstones}, {"block_bytes", t.Scan.BlockBytes}, {"block_cached_bytes", t.Scan.CachedBytes},
	} {
		if c.n > 0 {
			out = append(out, slog.Uint64(c.name, c.n))
		}
	}
	return out
}
