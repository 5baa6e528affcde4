package tikv

import (
	"fmt"
	"sync/atomic"

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
}

func newInFlight() *inFlight { return &inFlight{countMax: requestCountMax, bytesMax: requestBytesMax} }

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
func (c *command[Q, R]) busy(why string) (resp R, err error) {
	if c.regionError == nil {
		return resp, status.Error(codes.ResourceExhausted, fmt.Sprintf("%s: server is busy: %s", c.name, why))
	}
	return c.regionError(&errorpb.Error{Message: "server is busy: " + why, ServerIsBusy: &errorpb.ServerIsBusy{
		Reason: why, BackoffMs: requestBusyBackoff, EstimatedWaitMs: requestBusyBackoff}}), nil
}
