package pd

import (
	"testing"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// TestCutOffMemberKnowsNoLeader: a member without a quorum does not name the
// leader that it last knew; clients would try that for ever.
func TestCutOffMemberKnowsNoLeader(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	left := members[1]
	last := members[0].self()
	members[2].Stop()
	members[0].Stop()
	until(t, "etcd has no leader", func() bool { return left.etcd.Server.Leader() == 0 })
	left.leader.Store(last) // its election would only find out by etcd
	resp, err := pdpb.NewPDClient(rpc(t, left)).GetMembers(testContext(t), &pdpb.GetMembersRequest{})
	if err != nil || resp.GetLeader() != nil {
		t.Fatal(resp, err)
	}
}

// TestSettingsThatAreNoNumbers: they could be neither compared with nor shown.
func TestSettingsThatAreNoNumbers(t *testing.T) {
	s := startPD(t, nil)
	tm, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tolerant-size-ratio", "low-space-ratio", "max-snapshot-count"} {
		for _, v := range []any{"NaN", "+Inf", "-1", "", nil} {
			if err := tm.cluster.setOptions(testContext(t), map[string]any{name: v}); err == nil {
				t.Errorf("%s took %q", name, v)
			}
		}
	}
}
