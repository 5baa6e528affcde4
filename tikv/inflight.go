package tikv

import (
	"context"
	"fmt"
	"github.com/copradb/copra/internal/answers"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Requests of clients that are being served, of all connections: what they hold
// in memory and how many they are (hazard 16). Above the limits they are refused
// as "server is busy", which clients answer by waiting; the last quarter is kept
// for those that end transactions, for which most of the others may be waiting.
const (
	requestCountMax     = 32 << 10
	requestBytesMax     = 512 << 20
	requestEndingShare  = 4 // 1/requestEndingShare of both is for what ends transactions
	requestBusyBackoff  = 100
	requestBusyReason   = "the store serves as many requests as it can"
	requestMemoryReason = "the requests that the store serves exceed their memory"
)

// inFlight counts the requests being served.
type inFlight struct {
	count, bytes       atomic.Int64
	countMax, bytesMax int64
	answers            answerBudget
	quotas             quotas
}

func newInFlight() *inFlight {
	return &inFlight{countMax: requestCountMax, bytesMax: requestBytesMax, answers: answerBudget{max: answerBytesMax}}
}

// admit counts a request in, or says why not.
func (f *inFlight) admit(bytes int64, ending bool) (why string) {
	countMax, bytesMax := f.countMax, f.bytesMax
	if !ending {
		countMax -= countMax / requestEndingShare
		bytesMax -= bytesMax / requestEndingShare
	}
	count := f.count.Add(1)
	switch total := f.bytes.Add(bytes); {
	case count > countMax:
		why = requestBusyReason
	case total > bytesMax && total > bytes: // one alone is served whatever its size
		why = requestMemoryReason
	default:
		return ""
	}
	f.done(bytes)
	return why
}

func (f *inFlight) done(bytes int64) {
	f.count.Add(-1)
	f.bytes.Add(-bytes)
}

// busy refuses a request: by a region error where its response has room for one.
func (c *command[Q, R]) busy(why string, wait time.Duration) (resp R, err error) {
	if c.regionError == nil {
		return resp, status.Error(codes.ResourceExhausted, fmt.Sprintf("%s: server is busy: %s", c.name, why))
	}
	ms := max(uint64(wait.Milliseconds()), requestBusyBackoff)
	return c.regionError(&errorpb.Error{Message: "server is busy: " + why, ServerIsBusy: &errorpb.ServerIsBusy{
		Reason: why, BackoffMs: ms, EstimatedWaitMs: uint32(ms)}}), nil
}

// admitted asks all limits whether a request may be served. The caller owes done
// if there is no reason why not, and no error.
func (f *inFlight) admitted(ctx context.Context, method string, bytes int64, ending bool) (why string, wait time.Duration, err error) {
	if f.answers.full() && readMethods[method] {
		return answers.BusyReason, 0, nil
	}
	if why = f.admit(bytes, ending); why != "" {
		return why, 0, nil
	}
	if f.quotas != (quotas{}) {
		if why, wait, err = f.quotas.admit(ctx, method, bytes); why != "" || err != nil {
			f.done(bytes)
		}
	}
	return why, wait, err
}

// answered charges the answer of a read to its quota.
func (f *inFlight) answered(method string, resp any) {
	if f.quotas.read == nil || !readMethods[method] {
		return
	}
	if m, ok := resp.(interface{ Size() int }); ok {
		f.quotas.read.use(int64(m.Size()), time.Now())
	}
}
