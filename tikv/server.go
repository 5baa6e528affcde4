package tikv

import (
	"math"
	"time"

	"github.com/copradb/copra/internal/grpcbuf"
	"github.com/copradb/copra/raftstore/transport"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Settings of the gRPC server.
const (
	// Clients ping every 10 s, some each second; grpc-go's default would send
	// them away with too_many_pings.
	clientPingMin = time.Second
	// serverPingTime finds clients that vanished.
	serverPingTime    = 10 * time.Second
	serverPingTimeout = 3 * time.Second
	// windowBytes lets a stream carry a large batch without waiting.
	windowBytes = 2 << 20
	// sendBytesMax: a scan's answer may be large; clients accept 2 GiB.
	sendBytesMax = math.MaxInt32
)

// newGRPCServer returns the store's server, without services.
func newGRPCServer(answers *answerBudget, extra ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(serverCodec{answers}),
		grpcbuf.ServerOption(),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: clientPingMin, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPingTime, Timeout: serverPingTimeout}),
		grpc.MaxRecvMsgSize(transport.MaxRecvBytes),
		grpc.MaxSendMsgSize(sendBytesMax),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(4 * windowBytes),
	}, extra...)...)
}
