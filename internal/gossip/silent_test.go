package gossip

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/proto/gossippb"
)

// silentStream is a call whose caller sends nothing.
type silentStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s silentStream) Context() context.Context { return s.ctx }
func (silentStream) Send(*gossippb.Chunk) error { return nil }
func (s silentStream) Recv() (*gossippb.Chunk, error) {
	<-s.ctx.Done()
	return nil, s.ctx.Err()
}

// TestSilentStreamsEnd: callers that send nothing keep no place, and don't hold
// up the end of the node.
func TestSilentStreamsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{ClusterID: 7, Service: NewService(), Kind: KindStore, ID: 1, Address: "host:1"}
		if err := o.check(); err != nil {
			t.Fatal(err)
		}
		tr := newTransport(&o, "store-1", m)
		o.Service.transport.Store(tr)
		ctx, cancel := context.WithCancel(metadata.NewIncomingContext(t.Context(),
			metadata.Pairs(clusterKey, "7", fromKey, "store-2", addressKey, "host:2")))
		defer cancel()
		call := func(want codes.Code, within time.Duration) {
			t.Helper()
			done := make(chan error, 1)
			go func() { done <- o.Service.Stream(silentStream{ctx: ctx}) }()
			select {
			case err := <-done:
				if status.Code(err) != want {
					t.Errorf("got %v, want %v", err, want)
				}
			case <-time.After(within):
				t.Errorf("the stream goes on after %v", within)
			}
		}
		call(codes.DeadlineExceeded, time.Minute)
		time.AfterFunc(streamTimeout/2, func() { _ = tr.Shutdown() })
		call(codes.Unavailable, streamTimeout*3/4)
		if n := len(tr.streamSlots); n != 0 {
			t.Errorf("%d places are taken", n)
		}
	})
}
