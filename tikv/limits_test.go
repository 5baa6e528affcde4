package tikv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/tikv/raw"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var large = grpc.MaxCallRecvMsgSize(1 << 30)

func (f *fixture) rawPut(key string, value []byte) {
	f.Helper()
	resp, err := f.client.RawPut(bg, &kvrpcpb.RawPutRequest{Context: v1(), Key: []byte(key), Value: value})
	if err != nil || resp.Error != "" || resp.RegionError != nil {
		f.Fatal(resp, err)
	}
}

func busyWith(e *errorpb.Error, reason string) bool {
	b := e.GetServerIsBusy()
	return b != nil && strings.Contains(b.Reason, reason) && b.BackoffMs > 0 && b.EstimatedWaitMs > 0
}

// answersGone waits until no answer counts any more, if need be until the garbage
// collector has found what gRPC has forgotten.
func (f *fixture) answersGone() {
	for f.inFlight.answers.used.Load() != 0 {
		runtime.GC()
	}
}

// TestHazard16_AnswersInFlight: answers that nobody reads use the budget up;
// reads are refused then, writes and ends of transactions are not, and when the
// answers are gone all is as before.
func TestHazard16_AnswersInFlight(t *testing.T) {
	f := newFixture(t)
	const pairs = 16
	for i := range pairs {
		f.rawPut(fmt.Sprintf("k%02d", i), make([]byte, 1<<20))
	}
	f.inFlight.answers.max = 12 << 20
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	stream, err := f.client.BatchCommands(ctx)
	if err != nil {
		t.Fatal(err)
	}
	scan := &kvrpcpb.RawScanRequest{Context: v1(), Limit: 4}
	var resp *kvrpcpb.RawScanResponse
	for id := uint64(0); !busyWith(resp.GetRegionError(), "answers"); id++ { // until those of the stream have used the budget up
		if err := stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{id}, Requests: []*batchRequest{
			{Cmd: &tikvpb.BatchCommandsRequest_Request_RawScan{RawScan: scan}}}}); err != nil {
			t.Fatal(err)
		}
		if resp, err = f.client.RawScan(bg, scan, large); err != nil {
			t.Fatal(resp, err)
		}
	}
	f.rawPut("still", []byte("written"))
	cancel()
	f.answersGone()
	if resp, err = f.client.RawScan(bg, scan, large); err != nil || len(resp.Kvs) != 4 {
		t.Fatal(len(resp.GetKvs()), resp.GetRegionError(), err)
	}
	// One answer that exceeds the limit alone is served; beside others it is not.
	f.inFlight.answers.max = 2 << 20
	scan.Limit = pairs
	if resp, err = f.client.RawScan(bg, scan, large); err != nil || len(resp.Kvs) != pairs {
		t.Fatal(len(resp.GetKvs()), resp.GetRegionError(), err)
	}
	f.answersGone()
	f.inFlight.answers.hold(1 << 20)
	if resp, err = f.client.RawScan(bg, scan, large); err != nil || !busyWith(resp.RegionError, "answers") {
		t.Fatal(len(resp.GetKvs()), resp.GetRegionError(), err)
	}
	// The same for transactional reads.
	for i := range 6 {
		f.put(v1(), fmt.Sprintf("t%d", i), strings.Repeat("v", 512<<10))
	}
	get := &kvrpcpb.ScanRequest{Context: v1(), StartKey: []byte("t"), Limit: 6, Version: f.ts + 5}
	if got, err := f.client.KvScan(bg, get, large); err != nil || got.RegionError.GetServerIsBusy() == nil {
		t.Fatal(len(got.GetPairs()), got.GetRegionError(), err)
	}
	f.inFlight.answers.Release(1 << 20)
	if got, err := f.client.KvScan(bg, get, large); err != nil || len(got.Pairs) != 6 {
		t.Fatal(len(got.GetPairs()), got.GetRegionError(), err)
	}
}

// TestLimitsOfOneRequest: what exceeds a limit is refused with a text that names it.
func TestLimitsOfOneRequest(t *testing.T) {
	f := newFixture(t)
	split := &kvrpcpb.SplitRegionRequest{Context: v1(), SplitKeys: make([][]byte, splitKeysMax+1)}
	if _, err := f.client.SplitRegion(bg, split); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "at most 4096") {
		t.Errorf("split: %v", err)
	}
	long := make([]byte, raw.KeyBytesMax+1)
	if resp, err := f.client.RawGet(bg, &kvrpcpb.RawGetRequest{Context: v1(), Key: long}); err != nil || !strings.Contains(resp.Error, "at most 8192") {
		t.Errorf("raw get of a long key: %v, %v", resp, err)
	}
	write := &kvrpcpb.PrewriteRequest{Context: v1(), PrimaryLock: long, StartVersion: f.ts, Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: long}}}
	if resp, err := f.client.KvPrewrite(bg, write); err != nil || len(resp.Errors) != 1 || !strings.Contains(resp.Errors[0].Abort, "8192") {
		t.Errorf("prewrite of a long key: %v, %v", resp, err)
	}
	var ms []*kvrpcpb.Mutation
	for i := range 3 {
		ms = append(ms, &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 3<<20)})
	}
	write = &kvrpcpb.PrewriteRequest{Context: v1(), PrimaryLock: ms[0].Key, StartVersion: f.ts, Mutations: ms}
	if resp, err := f.client.KvPrewrite(bg, write); err != nil || resp.RegionError.GetRaftEntryTooLarge() == nil {
		t.Errorf("prewrite of 9 MiB: %v, %v", resp.GetRegionError(), err)
	}
	f.batchSlots = make(chan struct{}, 1) // one request of a stream at a time
	stream, err := f.client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	msg := &tikvpb.BatchCommandsRequest{}
	for id := range uint64(50) {
		msg.RequestIds = append(msg.RequestIds, id)
		msg.Requests = append(msg.Requests, &batchRequest{Cmd: &tikvpb.BatchCommandsRequest_Request_RawGet{RawGet: &kvrpcpb.RawGetRequest{Context: v1(), Key: []byte("k")}}})
	}
	if err := stream.Send(msg); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < 50; {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got += len(answer.Responses)
	}
}

// TestAnswerTooLarge: a scan whose answer would exceed the limit fails for good,
// unary and batched, before it has been built.
func TestAnswerTooLarge(t *testing.T) {
	f := newFixture(t)
	for i := range 23 {
		f.rawPut(fmt.Sprintf("k%02d", i), bytes.Repeat([]byte{byte(i)}, raw.ValueBytesMax))
	}
	scan := &kvrpcpb.RawScanRequest{Context: v1(), Limit: 10_240}
	if _, err := f.client.RawScan(bg, scan, large); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "ask for fewer") {
		t.Fatal(err)
	}
	var keys [][]byte
	for i := range 23 {
		keys = append(keys, fmt.Appendf(nil, "k%02d", i))
	}
	stream, err := f.client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	for id, cmd := range []*batchRequest{
		{Cmd: &tikvpb.BatchCommandsRequest_Request_RawScan{RawScan: scan}},
		{Cmd: &tikvpb.BatchCommandsRequest_Request_RawBatchGet{RawBatchGet: &kvrpcpb.RawBatchGetRequest{Context: v1(), Keys: keys}}},
		{Cmd: &tikvpb.BatchCommandsRequest_Request_RawBatchScan{RawBatchScan: &kvrpcpb.RawBatchScanRequest{Context: v1(), EachLimit: 12, Ranges: []*kvrpcpb.KeyRange{{}, {}}}}},
	} {
		if err := stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{uint64(id)}, Requests: []*batchRequest{cmd}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil || len(answer.Responses) != 1 {
			t.Fatal(err)
		}
		a := answer.Responses[0]
		var e *errorpb.Error
		switch {
		case a.GetRawScan() != nil:
			e = a.GetRawScan().RegionError
		case a.GetRawBatchGet() != nil:
			e = a.GetRawBatchGet().RegionError
		case a.GetRawBatchScan() != nil:
			e = a.GetRawBatchScan().RegionError
		}
		// The one region error that client-go gives up at.
		if e.GetRaftEntryTooLarge() == nil || !strings.Contains(e.Message, "ask for fewer") {
			t.Errorf("batched %d: %v", id, e)
		}
	}
	scan.KeyOnly = true
	if resp, err := f.client.RawScan(bg, scan, large); err != nil || len(resp.Kvs) != 23 {
		t.Fatal(err)
	}
	if f.inFlight.answers.used.Load() != 0 {
		t.Errorf("%d bytes of answers are still counted", f.inFlight.answers.used.Load())
	}
}

// TestQuotas: a client that is too fast waits, and is refused with the time to
// wait when that is long.
func TestQuotas(t *testing.T) {
	f := newFixture(t)
	f.rawPut("big", make([]byte, 1<<20))
	f.inFlight.quotas = newQuotas(QuotaConfig{ForegroundReadBandwidth: 100 << 10, ForegroundWriteBandwidth: 100 << 10})
	f.rawPut("a", make([]byte, 200<<10)) // in advance, of two seconds
	resp, err := f.client.RawPut(bg, &kvrpcpb.RawPutRequest{Context: v1(), Key: []byte("b")})
	if err != nil || !busyWith(resp.RegionError, "foreground-write-bandwidth") || resp.RegionError.ServerIsBusy.EstimatedWaitMs < 600 {
		t.Fatal(resp, err)
	}
	get := &kvrpcpb.RawGetRequest{Context: v1(), Key: []byte("big")}
	if got, err := f.client.RawGet(bg, get, large); err != nil || len(got.Value) != 1<<20 {
		t.Fatal(got.GetRegionError(), err)
	}
	if got, err := f.client.RawGet(bg, get, large); err != nil || !busyWith(got.RegionError, "foreground-read-bandwidth") {
		t.Fatal(got.GetRegionError(), err)
	}
	if del, err := f.client.RawDelete(bg, &kvrpcpb.RawDeleteRequest{Context: v1(), Key: []byte("a")}); err != nil || del.RegionError != nil {
		t.Fatal("a delete counts for nothing:", del, err)
	}
	if f.inFlight.count.Load() != 0 {
		t.Fatal("refused requests are still counted")
	}
	synctest.Test(t, func(t *testing.T) {
		q := newQuotas(QuotaConfig{ForegroundWriteBandwidth: 1 << 20})
		start := time.Now()
		for range 40 {
			why, wait, err := q.admit(context.Background(), "raw_put", 128<<10)
			if err != nil || why != "" {
				t.Fatal(why, wait, err)
			}
		}
		if took := time.Since(start); took < 4600*time.Millisecond || took > 5*time.Second {
			t.Errorf("5 MiB at 1 MiB/s took %s", took)
		}
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		if _, _, err := q.admit(gone, "raw_put", 1); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if why, _, err := q.admit(context.Background(), "raw_get", 1<<30); why != "" || err != nil {
			t.Error("reads have no quota here:", why, err)
		}
	})
}
