package schedule

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

// recentSplitsMax is how many splits are remembered. What is forgotten is merged
// a little early.
const recentSplitsMax = 1 << 20

// NoteSplit keeps regions from being merged for a while: they were just split.
func (c *Controller) NoteSplit(regions ...uint64) {
	c.patrol.mu.Lock()
	defer c.patrol.mu.Unlock()
	now, keep := c.now(), c.cluster.Options().SplitMergeInterval
	if len(c.patrol.splits)+len(regions) > recentSplitsMax {
		for id, at := range c.patrol.splits {
			if now.Sub(at) >= keep {
				delete(c.patrol.splits, id)
			}
		}
		if len(c.patrol.splits)+len(regions) > recentSplitsMax {
			return
		}
	}
	for _, id := range regions {
		c.patrol.splits[id] = now
	}
}

func (c *Controller) splitLately(id uint64) bool {
	c.patrol.mu.Lock()
	defer c.patrol.mu.Unlock()
	at, ok := c.patrol.splits[id]
	if ok && c.now().Sub(at) >= c.cluster.Options().SplitMergeInterval {
		delete(c.patrol.splits, id)
		ok = false
	}
	return ok
}

// checkMerge merges a small region into the smaller of its neighbours.
func (c *Controller) checkMerge(ctx context.Context, r *core.Region, fit *placement.Fit) []*Operator {
	o := c.cluster.Options()
	small, limit := c.mergeSizes()
	if c.now().Sub(c.started) < o.SplitMergeInterval || c.room(KindMerge) <= 0 ||
		r.SizeBytes == 0 || r.SizeBytes > small || r.Keys > o.mergeKeys() || // 0: not measured yet
		!isHealthy(r) || !fit.Satisfied() || c.isHot(r) || c.splitLately(r.ID()) {
		return nil
	}
	target := c.mergeTarget(r, c.nextRegion(r))
	if !o.OneWayMerge {
		if prev := c.mergeTarget(r, c.cluster.Regions().Prev(r.Meta.StartKey)); prev != nil &&
			(target == nil || prev.SizeBytes < target.SizeBytes) {
			target = prev
		}
	}
	if target == nil || r.SizeBytes+target.SizeBytes >= limit ||
		r.Keys+target.Keys >= uint64(o.RegionMaxMiB)*mergeKeysPerMiB {
		return nil
	}
	ops, err := c.mergeOperators(ctx, "merge-region", KindMerge, r, target)
	if err != nil {
		c.log.Debug("pd: merge of a region", "region", r.ID(), "err", err)
		return nil
	}
	return ops
}

func (c *Controller) isHot(r *core.Region) bool {
	return c.hot.IsHot(r.ID(), c.cluster.Options().HotCacheHits)
}

func (c *Controller) nextRegion(r *core.Region) *core.Region {
	if len(r.Meta.EndKey) == 0 {
		return nil
	}
	n := c.cluster.Regions().ByKey(r.Meta.EndKey)
	if n == nil || !bytes.Equal(n.Meta.StartKey, r.Meta.EndKey) {
		return nil
	}
	return n
}

// mergeTarget returns the neighbour, or nil where the region can't be merged
// into it.
func (c *Controller) mergeTarget(r, n *core.Region) *core.Region {
	if n == nil || n.SizeBytes == 0 || c.busy(n.ID()) || !isHealthy(n) || c.isHot(n) || c.splitLately(n.ID()) || c.mergeRefused(r, n) != nil {
		return nil
	}
	if !c.Fit(n).Satisfied() || c.cluster.Labels().ScheduleDenied(n) {
		return nil
	}
	return n
}

// mergeRefused is why two neighbours are to stay apart.
func (c *Controller) mergeRefused(a, b *core.Region) error {
	left, right := a, b
	if len(a.Meta.EndKey) == 0 || !bytes.Equal(a.Meta.EndKey, b.Meta.StartKey) {
		left, right = b, a
	}
	if len(left.Meta.EndKey) == 0 || !bytes.Equal(left.Meta.EndKey, right.Meta.StartKey) {
		return fmt.Errorf("regions %d and %d are no neighbours", a.ID(), b.ID())
	}
	start, end, o := left.Meta.StartKey, right.Meta.EndKey, c.cluster.Options()
	switch {
	case !codec.RegionDecodable(start, end):
		return fmt.Errorf("regions %d and %d together would begin or end at a raw key that transactional clients can't decode", a.ID(), b.ID())
	case !o.DisablePlacementRules && len(c.cluster.Rules().SplitKeys(start, end)) > 0:
		return fmt.Errorf("regions %d and %d are under different placement rules", a.ID(), b.ID())
	case len(c.cluster.Labels().SplitKeys(start, end)) > 0:
		return fmt.Errorf("regions %d and %d have different labels", a.ID(), b.ID())
	case c.cluster.Labels().MergeDenied(a) || c.cluster.Labels().MergeDenied(b):
		return fmt.Errorf("a label forbids to merge regions %d and %d", a.ID(), b.ID())
	case keyspaceOf(left.Meta.StartKey) != keyspaceOf(right.Meta.StartKey):
		return fmt.Errorf("regions %d and %d are in different keyspaces", a.ID(), b.ID())
	case o.DisableCrossTableMerge && tableOf(left.Meta.StartKey) != tableOf(right.Meta.StartKey):
		return fmt.Errorf("regions %d and %d are of different tables", a.ID(), b.ID())
	}
	// A target on a leaving store would bring new peers there.
	for _, p := range b.Meta.Peers {
		if s := c.cluster.Stores().Get(p.StoreId); (s == nil || !s.IsUp()) && a.StorePeer(p.StoreId) == nil {
			return fmt.Errorf("region %d has a peer on store %d, which is being removed", b.ID(), p.StoreId)
		}
	}
	return nil
}

const (
	// keyspacePrefixBytes is a mode ('x' for transactions, 'r' for raw keys) and
	// three bytes of the keyspace's id.
	keyspacePrefixBytes = 4
	tablePrefixBytes    = 9 // 't' and eight bytes of the id
)

// keyspaceOf is the keyspace's prefix of a boundary, "" where it has none.
func keyspaceOf(boundary []byte) string {
	key, _, err := codec.DecodeBytes(nil, boundary)
	if err != nil || len(key) < keyspacePrefixBytes || key[0] != 'x' && key[0] != 'r' {
		return ""
	}
	return string(key[:keyspacePrefixBytes])
}

// tableOf is the keyspace's and table's prefix of a boundary, "" where it is of
// no table.
func tableOf(boundary []byte) string {
	key, _, err := codec.DecodeBytes(nil, boundary)
	if err != nil {
		return ""
	}
	n := len(keyspaceOf(boundary))
	if len(key) < n+tablePrefixBytes || key[n] != 't' {
		return ""
	}
	return string(key[:n+tablePrefixBytes])
}

// mergeOperators returns the source's and the target's. The source gets its
// peers where the target has them; which of them leads is no matter: the
// source's leader asks the target's, wherever that is.
func (c *Controller) mergeOperators(ctx context.Context, desc string, kind Kind, from, to *core.Region) ([]*Operator, error) {
	b := c.Build(desc, kind, from)
	peers := make(map[uint64]metapb.PeerRole, len(to.Meta.Peers))
	for _, p := range to.Meta.Peers {
		peers[p.StoreId] = p.Role
	}
	steps, err := b.SetPeers(peers).MayLead(c.leaderPlaces(from)).steps(ctx)
	if err != nil {
		return nil, err
	}
	source := NewOperator(desc, kind, from, append(steps, MergeRegion{From: from.Meta, To: to.Meta, regions: c.cluster.Regions()})...)
	passive := NewOperator(desc, kind, to, MergeRegion{From: from.Meta, To: to.Meta, Passive: true, regions: c.cluster.Regions()})
	source.related, passive.related = to.ID(), from.ID()
	passive.patience = mergePatience(len(steps))
	return []*Operator{source, passive}, nil
}

// mergePatience is how long the target waits for the source's peers to be
// aligned and merged.
func mergePatience(alignSteps int) time.Duration {
	if alignSteps == 0 {
		return 0
	}
	return peerStepTimeout
}

// splitAt returns an operator that splits a region at keys.
func splitAt(desc string, kind Kind, r *core.Region, keys [][]byte) *Operator {
	return NewOperator(desc, kind, r, SplitRegion{Start: r.Meta.StartKey, End: r.Meta.EndKey, Policy: splitAtKeys, Keys: keys})
}
