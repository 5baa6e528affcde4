package schedule

import (
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// lowSpacePercent is how much of a store's capacity must be free for it to take
// more peers.
const lowSpacePercent = 5

// takesLeaders reports whether the store may get leaders.
func takesLeaders(s *core.Store, now time.Time) bool {
	return s.IsUp() && s.Reported && s.IsConnected(now) && !s.Stats.GetIsBusy() && !s.Stats.GetIsStopping()
}

// takesPeers reports whether the store may get peers.
func takesPeers(s *core.Store, now time.Time) bool {
	if !takesLeaders(s, now) {
		return false
	}
	capacity, free := s.Stats.GetCapacity(), s.Stats.GetAvailable()
	return capacity == 0 || free >= capacity/100*lowSpacePercent
}

// isWhole reports whether a region is complete and quiet, so that it can be
// moved about for balance.
func isWhole(r *core.Region, replicas int) bool {
	return r.Leader != nil && !r.ReportedAt.IsZero() && !r.InJoint() &&
		len(r.Pending) == 0 && len(r.Down) == 0 &&
		len(r.Meta.Peers) == replicas && len(r.Voters()) == replicas
}

func isVoter(p *metapb.Peer) bool { return p != nil && p.Role == metapb.PeerRole_Voter }
