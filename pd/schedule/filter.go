package schedule

import (
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

const (
	// slowScoreMax is from where on a store is too slow to get more, of 100.
	slowScoreMax = 80
	// A store with few regions and much space is not low on space, whatever the
	// ratio: test clusters share a full disk.
	initialRegions       = 100
	initialSpaceBytesMin = 8 << 30
	specialUseLabel      = "specialUse"
)

// Refusal is why a store is not a target. A temporary one may be gone soon, so
// that it is worth to look at the region again.
type Refusal struct {
	Reason    string
	Temporary bool
}

func temporary(reason string) *Refusal { return &Refusal{reason, true} }
func lasting(reason string) *Refusal   { return &Refusal{reason, false} }

// LeaderRefusal is why the store must not get leaders, nil where it may.
func (c *Controller) LeaderRefusal(s *core.Store) *Refusal {
	now := c.now()
	switch {
	case s == nil || s.IsTombstone():
		return lasting("the store is gone")
	case !s.IsUp():
		return lasting("the store is being removed")
	case s.SilentFor(now) >= c.cluster.Options().MaxStoreDownTime:
		return lasting("the store is down")
	case !s.Reported:
		return temporary("the store has not reported yet")
	case !s.IsConnected(now):
		return temporary("the store is disconnected")
	case c.cluster.Stores().Suspect(s):
		return temporary("the other stores take it for dead")
	case s.Stats.GetIsBusy():
		return temporary("the store is busy")
	case s.Stats.GetIsStopping():
		return temporary("the store is stopping")
	case s.Stats.GetSlowScore() >= slowScoreMax:
		return temporary("the store is slow")
	}
	return nil
}

// PeerRefusal is why the store must not get peers, nil where it may. Rules are
// not looked at.
func (c *Controller) PeerRefusal(s *core.Store) *Refusal {
	if why := c.LeaderRefusal(s); why != nil {
		return why
	}
	o, n := c.cluster.Options(), c.cluster.Regions().StoreCounts(s.ID())
	switch {
	case isLowSpace(s, n, o.LowSpaceRatio):
		return lasting("the store is low on space")
	case s.Label(specialUseLabel) != "":
		return lasting("the store is set aside by its label " + specialUseLabel)
	case snapshots(s) >= o.MaxSnapshots:
		return temporary("the store has too many snapshots under way")
	case n.Pending >= o.MaxPendingPeers:
		return temporary("the store has too many pending peers")
	}
	return nil
}

func isLowSpace(s *core.Store, n core.Counts, ratio float64) bool {
	capacity, free := s.Stats.GetCapacity(), s.Stats.GetAvailable()
	if capacity == 0 || n.Peers < initialRegions && free > initialSpaceBytesMin {
		return false
	}
	return float64(free) < (1-ratio)*float64(capacity)
}

// isHealthy reports whether the region is led and all of its peers are well.
func isHealthy(r *core.Region) bool {
	return r.Leader != nil && !r.ReportedAt.IsZero() && !r.InJoint() && len(r.Pending) == 0 && len(r.Down) == 0
}

func isVoter(p *metapb.Peer) bool { return p != nil && p.Role == metapb.PeerRole_Voter }
