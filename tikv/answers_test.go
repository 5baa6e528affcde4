package tikv

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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
