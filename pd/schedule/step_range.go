package schedule

import (
	"bytes"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// rangeStepTimeout is for splits and merges.
const rangeStepTimeout = 3 * time.Minute

// rangeStep is a step that changes the region's range.
type rangeStep interface {
	// versionChanges is by how much the step may move the version, at most.
	versionChanges() uint64
}

// SplitRegion splits the region at keys, or where the store finds its middle.
type SplitRegion struct {
	Start, End []byte // the region's range before
	Policy     pdpb.CheckPolicy
	Keys       [][]byte
}

func (s SplitRegion) String() string {
	if s.Policy == pdpb.CheckPolicy_USEKEY {
		return fmt.Sprintf("split at %X", s.Keys)
	}
	return fmt.Sprintf("split by policy %v", s.Policy)
}

// Done implements Step.
func (s SplitRegion) Done(r *core.Region) bool {
	return !bytes.Equal(r.Meta.StartKey, s.Start) || !bytes.Equal(r.Meta.EndKey, s.End)
}

// Check implements Step.
func (s SplitRegion) Check(r *core.Region, _ *core.Stores) error {
	for _, key := range s.Keys {
		if bytes.Equal(key, r.Meta.StartKey) || !r.Contains(key) {
			return fmt.Errorf("key %X is not inside of the region", key)
		}
	}
	return nil
}

// ConfChanges implements Step.
func (SplitRegion) ConfChanges(*core.Region) uint64 { return 0 }

// Message implements Step.
func (s SplitRegion) Message(*core.Region) *pdpb.RegionHeartbeatResponse {
	return &pdpb.RegionHeartbeatResponse{SplitRegion: &pdpb.SplitRegion{Policy: s.Policy, Keys: s.Keys}}
}

// Timeout implements Step.
func (SplitRegion) Timeout() time.Duration { return rangeStepTimeout }

// splitVersionsMax is how many regions a store may make of one: by a policy it
// decides itself.
const splitVersionsMax = 4096

func (SplitRegion) versionChanges() uint64 { return splitVersionsMax }

// MergeRegion merges From into its neighbour To. It is the last step of two
// operators: the source's, which does it, and the target's, which is Passive:
// it keeps others off the target until its range has grown.
type MergeRegion struct {
	From, To *metapb.Region
	Passive  bool
	regions  *core.Regions
}

func (s MergeRegion) String() string {
	if s.Passive {
		return fmt.Sprintf("take in region %d", s.From.Id)
	}
	return fmt.Sprintf("merge into region %d", s.To.Id)
}

// Done implements Step. The source is gone when it is done.
func (s MergeRegion) Done(r *core.Region) bool {
	return s.Passive && (!bytes.Equal(r.Meta.StartKey, s.To.StartKey) || !bytes.Equal(r.Meta.EndKey, s.To.EndKey))
}

// Check implements Step.
func (s MergeRegion) Check(r *core.Region, _ *core.Stores) error {
	if s.Passive {
		return nil
	}
	to := s.regions.ByID(s.To.Id)
	switch {
	case to == nil:
		return fmt.Errorf("the merge's target, region %d, is gone", s.To.Id)
	case to.Epoch().Version != s.To.RegionEpoch.Version || to.Epoch().ConfVer != s.To.RegionEpoch.ConfVer:
		return fmt.Errorf("the merge's target, region %d, changed: epoch {%v}, was {%v}", s.To.Id, to.Epoch(), s.To.RegionEpoch)
	case r.Epoch().Version != s.From.RegionEpoch.Version:
		return nil // it has prepared; the stores finish or roll back by themselves
	}
	for _, p := range to.Meta.Peers {
		if q := r.StorePeer(p.StoreId); q == nil || q.Role != p.Role {
			return fmt.Errorf("region %d has no %v on store %d, as the merge's target region %d has", r.ID(), p.Role, p.StoreId, s.To.Id)
		}
	}
	if len(r.Meta.Peers) != len(to.Meta.Peers) || !isHealthy(r) {
		return fmt.Errorf("region %d is not whole", r.ID())
	}
	return nil
}

// ConfChanges implements Step: preparing a merge may move it by one.
func (s MergeRegion) ConfChanges(*core.Region) uint64 { return count(!s.Passive) }

// Message implements Step.
func (s MergeRegion) Message(*core.Region) *pdpb.RegionHeartbeatResponse {
	if s.Passive {
		return nil
	}
	return &pdpb.RegionHeartbeatResponse{Merge: &pdpb.Merge{Target: s.To}}
}

// Timeout implements Step.
func (MergeRegion) Timeout() time.Duration { return rangeStepTimeout }

// versionChanges: the target's version becomes larger than both were.
func (s MergeRegion) versionChanges() uint64 {
	if s.Passive {
		return s.From.RegionEpoch.Version + 2
	}
	return 1
}

// splitAtKeys is the policy of a split at given keys.
const splitAtKeys = pdpb.CheckPolicy_USEKEY
