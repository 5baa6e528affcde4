package gossip

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/proto/gossippb"
)

// grpcNode is a node on a real socket.
type grpcNode struct {
	*Node
	watcher
	server *grpc.Server
	addr   string
	events chan Event
}

func plainText() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
}

func startGRPC(t *testing.T, clusterID uint64, kind Kind, id uint64, listen string, seeds ...string) *grpcNode {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	n := &grpcNode{server: grpc.NewServer(), addr: l.Addr().String(), events: make(chan Event, 100)}
	svc := NewService()
	svc.Register(n.server)
	go func() { _ = n.server.Serve(l) }()
	n.Node, err = Start(Options{
		ClusterID: clusterID, Kind: kind, ID: id, Address: n.addr, Service: svc,
		Seeds: func() []string { return seeds }, DialOptions: plainText(),
		OnChange: func(e Event) { n.take(e); n.events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	return n
}

func (n *grpcNode) stop() {
	n.Close()
	n.server.Stop()
}

// crash takes the node away without a word.
func (n *grpcNode) crash() {
	n.once.Do(n.shutdown)
	n.server.Stop()
}

// waitFor returns when the node was told of the event.
func (n *grpcNode) waitFor(t *testing.T, name string, typ EventType) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case e := <-n.events:
			if e.Member.Name == name && e.Type == typ {
				return
			}
		case <-timeout:
			t.Fatalf("%s was not told that %s is %v, but: %s", n.Name(), name, typ, n.told())
		}
	}
}

// TestOverGRPC goes through the life of a cluster on real sockets.
func TestOverGRPC(t *testing.T) {
	pd := startGRPC(t, testCluster, KindPD, 0xab, "127.0.0.1:0")
	s1 := startGRPC(t, testCluster, KindStore, 1, "127.0.0.1:0", pd.addr)
	s2 := startGRPC(t, testCluster, KindStore, 2, "127.0.0.1:0", pd.addr)
	for _, n := range []*grpcNode{pd, s1} {
		n.waitFor(t, "store-2", EventAlive)
	}
	s2.waitFor(t, "store-1", EventAlive)
	if err := s2.UpdateStatus(Status{SlowScore: SlowScoreMax}); err != nil {
		t.Fatal(err)
	}
	s1.waitFor(t, "store-2", EventSlow)
	died := time.Now()
	s2.crash()
	s1.waitFor(t, "store-2", EventDead)
	pd.waitFor(t, "store-2", EventDead)
	t.Logf("a death on sockets was known to all after %v", time.Since(died))
	again := startGRPC(t, testCluster, KindStore, 2, s2.addr, s1.addr)
	for _, n := range []*grpcNode{pd, s1} {
		n.waitFor(t, "store-2", EventAlive)
	}
	// Without PD it goes on.
	pd.stop()
	s1.waitFor(t, "pd-ab", EventDead)
	again.stop()
	s1.waitFor(t, "store-2", EventDead)
	if got := s1.Members(); len(got) != 3 || got[0].Name != "pd-ab" || !got[1].Alive || got[2].Alive {
		t.Fatalf("at last store-1 knows %v", got)
	}
}

// TestServiceRefuses calls the service as strangers do.
func TestServiceRefuses(t *testing.T) {
	n := startGRPC(t, testCluster, KindStore, 1, "127.0.0.1:0")
	cc, err := grpc.NewClient(n.addr, plainText()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	client := gossippb.NewGossipClient(cc)
	call := func(packet, chunk []byte, md ...string) (error, error) {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), md...), 20*time.Second)
		defer cancel()
		packets, err := client.Packets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = packets.Send(&gossippb.Packet{Data: packet})
		perr := packets.RecvMsg(&gossippb.PacketsEnd{})
		stream, err := client.Stream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&gossippb.Chunk{Data: chunk})
		_, serr := stream.Recv()
		return perr, serr
	}
	good := []string{clusterKey, "7", fromKey, "store-2", addressKey, "127.0.0.1:1"}
	for _, c := range []struct {
		name          string
		packet, chunk []byte
		md            []string
		code          codes.Code
	}{
		{"no metadata", []byte{msgPing}, []byte{msgPing}, nil, codes.FailedPrecondition},
		{"another cluster", []byte{msgPing}, []byte{msgPing}, []string{clusterKey, "8", fromKey, "store-2", addressKey, "127.0.0.1:1"}, codes.FailedPrecondition},
		{"no name", []byte{msgPing}, []byte{msgPing}, []string{clusterKey, "7", addressKey, "127.0.0.1:1"}, codes.InvalidArgument},
		{"no address", []byte{msgPing}, []byte{msgPing}, []string{clusterKey, "7", fromKey, "store-2"}, codes.InvalidArgument},
		{"bad bytes", []byte{msgCompress, 1, 2}, []byte{msgCompress, 1, 2}, good, codes.InvalidArgument},
		{"nothing", nil, nil, good, codes.InvalidArgument},
	} {
		perr, serr := call(c.packet, c.chunk, c.md...)
		if status.Code(perr) != c.code || status.Code(serr) != c.code {
			t.Errorf("%s: packets: %v; stream: %v; want %v", c.name, perr, serr, c.code)
		}
	}
	if got := n.Members(); len(got) != 1 {
		t.Fatalf("the strangers left %v", got)
	}
}

func TestStartRefusesBadOptions(t *testing.T) {
	good := Options{ClusterID: 1, Kind: KindStore, ID: 1, Address: "h:1", Service: &Service{}}
	for want, change := range map[string]func(*Options){
		"ids":     func(o *Options) { o.ClusterID = 0 },
		"kind":    func(o *Options) { o.Kind = 9 },
		"Service": func(o *Options) { o.Service = nil },
		"address": func(o *Options) { o.Address = "nowhere" },
		"slow":    func(o *Options) { o.Status.SlowScore = 1000 },
	} {
		o := good
		change(&o)
		if _, err := Start(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
