package pd

import (
	"testing"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestForwarding asks a follower to pass calls on to the leader, as clients do
// that cannot reach it.
func TestForwarding(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	leader, follower := members[0], members[1]
	c := pdpb.NewPDClient(rpc(t, follower))
	ctx := metadata.AppendToOutgoingContext(testContext(t), forwardKey, leader.ClientURL())
	first, err := c.AllocID(ctx, &pdpb.AllocIDRequest{Header: header(leader)})
	if err != nil || first.GetId() == 0 {
		t.Fatal(first, err)
	}
	stream, err := c.Tso(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last := grant(t, leader)
	for range 3 {
		if err := stream.Send(&pdpb.TsoRequest{Header: header(leader), Count: 5}); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil || resp.GetCount() != 5 {
			t.Fatal(resp, err)
		}
		ts := uint64(resp.Timestamp.Physical)<<18 | uint64(resp.Timestamp.Logical)
		if ts <= last {
			t.Fatalf("timestamp %d after %d", ts, last)
		}
		last = ts
	}
	// To a member that does not lead: its answer comes back.
	ctx = metadata.AppendToOutgoingContext(testContext(t), forwardKey, members[2].ClientURL())
	if _, err := c.AllocID(ctx, &pdpb.AllocIDRequest{Header: header(leader)}); status.Code(err) != codes.Unavailable {
		t.Fatalf("a follower behind a follower answered: %v", err)
	}
	// Nowhere else.
	ctx = metadata.AppendToOutgoingContext(testContext(t), forwardKey, "http://127.0.0.1:1")
	if _, err := c.AllocID(ctx, &pdpb.AllocIDRequest{Header: header(leader)}); status.Code(err) != codes.InvalidArgument {
		t.Fatalf("a call to a stranger was passed on: %v", err)
	}
	// Who leads is asked of everybody.
	if resp, err := c.GetMembers(ctx, &pdpb.GetMembersRequest{}); err != nil || resp.GetLeader().GetName() != leader.cfg.Name {
		t.Fatal(resp, err)
	}
}
