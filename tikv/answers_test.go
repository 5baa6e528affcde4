package tikv

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/internal/slowlog"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// cutClient is a client that takes in a few bytes of each answer, and whose
// connection can be cut.
func (f *fixture) cutClient() (client tikvpb.TikvClient, cut func()) {
	f.Helper()
	var mu sync.Mutex
	var conns []net.Conn
	cc, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(64<<10),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err == nil {
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
			return c, err
		}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { cc.Close() })
	return tikvpb.NewTikvClient(cc), func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

// TestHazard16_AnswersOfCutConnections: gRPC forgets the answers that it has not
// written yet when their connection ends. They stop to count nevertheless.
func TestHazard16_AnswersOfCutConnections(t *testing.T) {
	f := newFixture(t)
	for _, k := range []string{"a", "b", "c", "d"} {
		f.rawPut(k, make([]byte, 1<<20))
	}
	client, cut := f.cutClient()
	stream, err := client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	f.inFlight.answers.max = 4 << 20
	scan := &kvrpcpb.RawScanRequest{Context: v1(), Limit: 4}
	if err := stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{1}, Requests: []*batchRequest{
		{Cmd: &tikvpb.BatchCommandsRequest_Request_RawScan{RawScan: scan}}}}); err != nil {
		t.Fatal(err)
	}
	for f.inFlight.answers.used.Load() < 4<<20 || f.inFlight.count.Load() > 0 {
		runtime.Gosched()
	}
	// What the client took in, and gRPC's answer to the stream, tell that the
	// answer is with gRPC.
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	cut()
	if _, err := stream.Recv(); err == nil {
		t.Fatal("the connection was cut")
	}
	for {
		resp, err := f.client.RawGet(bg, &kvrpcpb.RawGetRequest{Context: v1(), Key: []byte("a")}, large)
		if err != nil {
			t.Fatal(err)
		}
		if resp.RegionError == nil {
			break
		}
		if !busyWith(resp.RegionError, "answers") {
			t.Fatal(resp.RegionError)
		}
	}
}

// TestHazard16_StreamThatIsNotRead: a client that does not read its answers holds
// up nobody else.
func TestHazard16_StreamThatIsNotRead(t *testing.T) {
	f := newFixture(t)
	f.rawPut("a", make([]byte, 70<<10))
	f.batchSlots = make(chan struct{}, 64)
	client, _ := f.cutClient()
	stuck, err := client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint64(1000) {
		if err := stuck.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{id}, Requests: []*batchRequest{
			{Cmd: &tikvpb.BatchCommandsRequest_Request_RawGet{RawGet: &kvrpcpb.RawGetRequest{Context: v1(), Key: []byte("a")}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	for len(f.batchSlots) < cap(f.batchSlots)/batchStreamShare {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(bg, 30*time.Second)
	defer cancel()
	other, err := f.client.BatchCommands(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint64(1000) { // the stuck stream goes on taking what it can
		if err := other.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{id}, Requests: []*batchRequest{
			{Cmd: &tikvpb.BatchCommandsRequest_Request_Empty{Empty: &tikvpb.BatchCommandsEmptyRequest{}}}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Recv(); err != nil {
			t.Fatalf("request %d: %v", id, err)
		}
	}
}

func TestSettingsAreNotNull(t *testing.T) {
	n := &Node{slow: slowlog.New(slog.New(slog.DiscardHandler), time.Second)}
	n.slow.SetRedact(true)
	for _, name := range []string{"slow-log-threshold", "security.redact-info-log"} {
		if set, err := n.setting(name, []byte("null")); err == nil {
			set()
			t.Errorf("%s took null; redacted: %t", name, n.slow.Redact())
		}
	}
}

// TestSlowLinesAreBounded: what clients say of themselves is cut off, and a
// redacted line has no keys in its error.
func TestSlowLinesAreBounded(t *testing.T) {
	f := newFixture(t)
	var lines syncBuffer
	f.slow = slowlog.New(slog.New(slog.NewTextHandler(&lines, nil)), 0)
	f.slow.SetRedact(true)
	rc := v1()
	rc.RequestSource = strings.Repeat("s", 1<<20)
	if _, err := f.client.RawBatchGet(bg, &kvrpcpb.RawBatchGetRequest{Context: rc, Keys: [][]byte{[]byte("r\x00secret")}}); err == nil {
		t.Fatal("V2's key was read")
	}
	got := lines.String()
	if !strings.Contains(got, "slow request") || !strings.Contains(got, "err=InvalidArgument") {
		t.Error(got[:min(len(got), 500)])
	}
	if len(got) > 2000 || strings.Contains(got, "736563726574") {
		t.Errorf("a line of %d bytes", len(got))
	}
}

// syncBuffer is a buffer for two goroutines.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// TestHazard16_ForwardedAnswers: answers of other stores count like one's own.
func TestHazard16_ForwardedAnswers(t *testing.T) {
	b := &answerBudget{max: 1 << 20}
	out, err := serverCodec{b}.Marshal(&frame{make([]byte, 1<<20)})
	if err != nil || b.used.Load() != 1<<20 {
		t.Fatal(b.used.Load(), err)
	}
	f := newForwarder("self:1", nil, nil, nil, b)
	if _, _, err := f.open(bg, "other:1", forwardedService+"RawGet"); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if out.Free(); b.used.Load() != 0 {
		t.Errorf("%d bytes are still counted", b.used.Load())
	}
}
