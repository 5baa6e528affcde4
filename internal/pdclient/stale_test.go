package pdclient_test

import (
	"context"
	"net"
	"testing"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/internal/pdclient"
)

// fakePD is a member that believes that another one leads.
type fakePD struct {
	pdpb.UnimplementedPDServer
	addr   string
	leader *fakePD
	reads  chan struct{} // closed when heartbeats are read
}

func startFakePD(t *testing.T) *fakePD {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, s := &fakePD{addr: l.Addr().String()}, grpc.NewServer()
	pdpb.RegisterPDServer(s, p)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return p
}

func (p *fakePD) GetMembers(context.Context, *pdpb.GetMembersRequest) (*pdpb.GetMembersResponse, error) {
	return &pdpb.GetMembersResponse{Header: &pdpb.ResponseHeader{ClusterId: 7},
		Leader: &pdpb.Member{ClientUrls: []string{"http://" + p.leader.addr}}}, nil
}

func (p *fakePD) AllocID(context.Context, *pdpb.AllocIDRequest) (*pdpb.AllocIDResponse, error) {
	if p.leader != p {
		return nil, status.Error(codes.Unavailable, "not leader")
	}
	return &pdpb.AllocIDResponse{Header: &pdpb.ResponseHeader{ClusterId: 7}, Id: 42}, nil
}

// TestMemberThatIsBehind: the first of the endpoints is cut off from the other
// members and takes one for the leader that no longer is. The others know better.
func TestMemberThatIsBehind(t *testing.T) {
	cutOff, old, leads := startFakePD(t), startFakePD(t), startFakePD(t)
	cutOff.leader, old.leader, leads.leader = old, leads, leads
	c, err := pdclient.New(testContext(t), []string{cutOff.addr, old.addr, leads.addr}, pdclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if id, err := c.AllocID(testContext(t)); err != nil || id != 42 {
		t.Fatal(id, err)
	}
}
