package raw

import (
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

const (
	// deadlineExceeded are words that clients know.
	deadlineExceeded = "deadline is exceeded"
	// execMsMax bounds max_execution_duration_ms: a day is for ever.
	execMsMax = 24 * 3600_000
)

// deadline is until when a client wants its request served; zero: as long as it
// takes. A batched request has no other way to say so.
type deadline time.Time

func (s *Service) deadline(rc *kvrpcpb.Context) deadline {
	ms := rc.GetMaxExecutionDurationMs()
	if ms == 0 {
		return deadline{}
	}
	return deadline(time.Now().Add(time.Duration(min(ms, execMsMax)) * time.Millisecond))
}

// check is an error behind the deadline: the client has given up, and may be
// asking again. Nothing is to be written behind its back, or read for nobody.
func (d deadline) check() error {
	if t := time.Time(d); t.IsZero() || time.Now().Before(t) {
		return nil
	}
	return &kv.RegionError{Err: &errorpb.Error{Message: deadlineExceeded, ServerIsBusy: &errorpb.ServerIsBusy{Reason: deadlineExceeded}}}
}
