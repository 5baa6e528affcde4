package pd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

const (
	// A new store is preparing until it holds preparedShare of what the others
	// hold on average, for preparingMax at most; in a cluster of fewer than
	// initialRegions regions it serves at once.
	preparedShare  = 0.9
	preparingMax   = 48 * time.Hour
	initialRegions = 100
	// storeLabelsMax and storeLabelBytesMax bound a store's labels.
	storeLabelsMax     = 64
	storeLabelBytesMax = 256
	// weightMax is the largest weight of a store.
	weightMax = 1e6
)

// errStoresNotEnough is wrapped where a store can't be missed.
var errStoresNotEnough = errors.New("not enough stores would be left")

// setStoreState moves a store between Up and Offline, and from Offline to
// Tombstone once it is empty. An Offline store is drained; it is refused where
// too few would be left.
func (c *cluster) setStoreState(ctx context.Context, id uint64, state metapb.StoreState) error {
	return c.changeStore(ctx, id, func(old *core.Store, m *metapb.Store) error {
		if old.Meta.State == state {
			return nil
		}
		switch {
		case old.IsTombstone():
			return fmt.Errorf("store %d: %w", id, errStoreTombstone)
		case state == metapb.StoreState_Up && old.Meta.PhysicallyDestroyed:
			return fmt.Errorf("store %d is physically destroyed: it does not come back", id)
		case state == metapb.StoreState_Tombstone && !old.IsOffline():
			return fmt.Errorf("store %d is %v: take it offline first", id, old.Meta.State)
		case state == metapb.StoreState_Tombstone && c.regions.StoreCounts(id).Peers > 0:
			return fmt.Errorf("store %d still has %d peers", id, c.regions.StoreCounts(id).Peers)
		case state == metapb.StoreState_Tombstone && c.holdsRegions(old):
			return fmt.Errorf("store %d says that it still has %d peers", id, old.Stats.GetRegionCount())
		case state == metapb.StoreState_Offline:
			if err := c.canMiss(id); err != nil {
				return err
			}
		}
		m.State, m.NodeState = state, nodeStates[state]
		return nil
	})
}

// holdsRegions reports whether a store has peers by what it says itself. What PD
// knows of regions may be older: a new leader has it from etcd, until their
// leaders report. A store that is silent is taken at PD's word.
func (c *cluster) holdsRegions(s *core.Store) bool {
	return s.Stats.GetRegionCount() > 0 && !s.Meta.PhysicallyDestroyed && s.IsConnected(time.Now())
}

// removeStore drains a store. A physically destroyed one has lost its data for
// good: its address is free at once, it never comes back, and nobody asks
// whether enough stores are left.
func (c *cluster) removeStore(ctx context.Context, id uint64, physicallyDestroyed bool) error {
	if !physicallyDestroyed {
		return c.setStoreState(ctx, id, metapb.StoreState_Offline)
	}
	return c.changeStore(ctx, id, func(old *core.Store, m *metapb.Store) error {
		if old.IsTombstone() {
			return fmt.Errorf("store %d: %w", id, errStoreTombstone)
		}
		m.State, m.NodeState, m.PhysicallyDestroyed = metapb.StoreState_Offline, metapb.NodeState_Removing, true
		return nil
	})
}

// upStore takes a store back that is being removed.
func (c *cluster) upStore(ctx context.Context, id uint64) error {
	return c.setStoreState(ctx, id, metapb.StoreState_Up)
}

// canMiss refuses to drain a store where its peers could go nowhere: every rule
// needs as many stores as it asks for peers.
func (c *cluster) canMiss(id uint64) error {
	st := c.stores.Get(id)
	if c.regions.StoreCounts(id).Peers == 0 {
		return nil
	}
	left := 0
	now, maxDown := time.Now(), c.Options().MaxStoreDownTime
	up := func(s *core.Store) bool { return s.ID() != id && s.IsUp() && s.SilentFor(now) < maxDown }
	for _, s := range c.stores.All() {
		if up(s) {
			left++
		}
	}
	rules := c.rules.Rules()
	if c.Options().DisablePlacementRules {
		rules = nil
		if need := c.Options().Replicas; left < need {
			return notEnough(id, left, need)
		}
	}
	for _, rule := range rules {
		if !placement.MatchStore(st, rule.LabelConstraints) {
			continue
		}
		matching := 0
		for _, s := range c.stores.All() {
			if up(s) && placement.MatchStore(s, rule.LabelConstraints) {
				matching++
			}
		}
		if matching < rule.Count {
			return fmt.Errorf("rule %s: %w", rule.Name(), notEnough(id, matching, rule.Count))
		}
	}
	return nil
}

func notEnough(id uint64, left, need int) error {
	return fmt.Errorf("can not remove store %d since the number of up stores would be %d while need %d: %w; "+
		"add a store first, or say that it is physically destroyed", id, left, need, errStoresNotEnough)
}

// changeStore changes a copy of the store's meta and saves it.
func (c *cluster) changeStore(ctx context.Context, id uint64, change func(old *core.Store, m *metapb.Store) error) error {
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	old, err := c.store(id)
	if err != nil {
		return err
	}
	next := *old
	next.Meta = cloneStore(old.Meta)
	if err := change(old, next.Meta); err != nil {
		return err
	}
	if err := c.saveStore(ctx, next.Meta); err != nil {
		return err
	}
	c.stores.Put(&next)
	if old.Meta.State != next.Meta.State || old.Meta.NodeState != next.Meta.NodeState {
		c.log.Info("pd: store changed state", "store", id, "state", next.Meta.State.String(), "node_state", next.Meta.NodeState.String())
	}
	return nil
}

// setStoreLabels lays labels over the store's, or replaces them all. An empty
// value removes a label.
func (c *cluster) setStoreLabels(ctx context.Context, id uint64, labels []*metapb.StoreLabel, replace bool) error {
	return c.changeStore(ctx, id, func(_ *core.Store, m *metapb.Store) error {
		if err := checkStoreLabels(labels); err != nil {
			return fmt.Errorf("store %d: %w", id, err)
		}
		if replace {
			m.Labels = nil
		}
		m.Labels = mergeLabels(m.Labels, labels)
		return checkStoreLabels(m.Labels)
	})
}

// mergeLabels lays labels over others. An empty value removes a label.
func mergeLabels(lists ...[]*metapb.StoreLabel) []*metapb.StoreLabel {
	var merged []*metapb.StoreLabel
	for _, list := range lists {
		for _, l := range list {
			merged = slices.DeleteFunc(merged, func(have *metapb.StoreLabel) bool { return strings.EqualFold(have.GetKey(), l.GetKey()) })
			if l.GetValue() != "" {
				merged = append(merged, &metapb.StoreLabel{Key: l.Key, Value: l.Value})
			}
		}
	}
	return merged
}

func checkStoreLabels(labels []*metapb.StoreLabel) error {
	if len(labels) > storeLabelsMax {
		return fmt.Errorf("%d labels are more than %d", len(labels), storeLabelsMax)
	}
	for _, l := range labels {
		if l == nil || l.Key == "" || len(l.Key)+len(l.Value) > storeLabelBytesMax {
			return fmt.Errorf("label %v: it needs a key, and at most %d bytes", l, storeLabelBytesMax)
		}
	}
	return nil
}

// storeWeight is how a store's weights are saved.
type storeWeight struct {
	Leader float64 `json:"leader"`
	Region float64 `json:"region"`
}

func (c *cluster) weightPrefix() string { return c.s.root + "/schedule/store_weight/" }

// setStoreWeight sets how much of the leaders and peers the store shall have
// beside others.
func (c *cluster) setStoreWeight(ctx context.Context, id uint64, leader, region float64) error {
	if !(leader >= 0 && leader <= weightMax && region >= 0 && region <= weightMax) {
		return fmt.Errorf("pd: weights %v and %v of store %d are outside of 0 to %v", leader, region, id, weightMax)
	}
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	old, err := c.store(id)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(storeWeight{leader, region})
	if err != nil {
		return err
	}
	if err := c.t.put(ctx, c.weightPrefix()+strconv.FormatUint(id, 10), raw); err != nil {
		return err
	}
	next := *old
	next.LeaderWeight, next.RegionWeight = max(leader, weightMin), max(region, weightMin)
	c.stores.Put(&next)
	return nil
}

// weightMin stands for zero, which means "not set" in core.Store.
const weightMin = 1e-6

func (c *cluster) loadStoreWeights(ctx context.Context) error {
	return c.t.fence.Scan(ctx, c.weightPrefix(), func(key string, value []byte) error {
		id, err := strconv.ParseUint(strings.TrimPrefix(key, c.weightPrefix()), 10, 64)
		var w storeWeight
		if err == nil {
			err = json.Unmarshal(value, &w)
		}
		if err != nil {
			return fmt.Errorf("pd: %s in etcd is damaged: %w", key, err)
		}
		if old := c.stores.Get(id); old != nil {
			next := *old
			next.LeaderWeight, next.RegionWeight = max(w.Leader, weightMin), max(w.Region, weightMin)
			c.stores.Put(&next)
		}
		return nil
	})
}

// firstNodeState is that of a store that has just joined.
func (c *cluster) firstNodeState() metapb.NodeState {
	if c.regions.Len() < initialRegions {
		return metapb.NodeState_Serving
	}
	return metapb.NodeState_Preparing
}

// prepared reports whether a preparing store has enough to count as serving.
func (c *cluster) prepared(s *core.Store, now time.Time) bool {
	if c.regions.Len() < initialRegions || s.Meta.StartTimestamp > 0 && now.Sub(time.Unix(s.Meta.StartTimestamp, 0)) > preparingMax {
		return true
	}
	var bytes, weight float64
	weightOf := func(s *core.Store) float64 {
		if s.RegionWeight == 0 {
			return 1
		}
		return s.RegionWeight
	}
	for _, o := range c.stores.All() {
		if o.IsUp() {
			bytes += float64(c.regions.StoreCounts(o.ID()).PeerBytes)
			weight += weightOf(o)
		}
	}
	return float64(c.regions.StoreCounts(s.ID()).PeerBytes) >= preparedShare*bytes*weightOf(s)/weight
}

// watchStores moves stores on to their next state and keeps the gauges.
func (c *cluster) watchStores(ctx context.Context) {
	tick := time.NewTicker(storeWatchInterval)
	defer tick.Stop()
	expired := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.s.metrics.regions.Set(float64(c.regions.Len()))
		counts := map[string]float64{"Up": 0, "Disconnected": 0, "Down": 0, "Offline": 0, "Tombstone": 0}
		now, maxDown := time.Now(), c.Options().MaxStoreDownTime
		for _, s := range c.stores.All() {
			counts[s.StateName(now, maxDown)]++
			if err := c.advanceStore(ctx, s, now); err != nil && ctx.Err() == nil {
				c.log.Warn("pd: move a store on to its next state", "store", s.ID(), "err", err)
			}
		}
		for state, n := range counts {
			c.s.metrics.stores.WithLabelValues(state).Set(n)
		}
		c.sched.ReportStores()
		if now.Sub(expired) >= labelExpiryInterval {
			expired = now
			if err := c.labels.Expire(ctx); err != nil && ctx.Err() == nil {
				c.log.Warn("pd: remove region labels that have run out", "err", err)
			}
		}
	}
}

// labelExpiryInterval is how often region labels that ran out are removed.
const labelExpiryInterval = time.Minute

// advanceStore buries a store that has been emptied, and lets one serve that has
// been filled.
func (c *cluster) advanceStore(ctx context.Context, s *core.Store, now time.Time) error {
	switch {
	case s.IsOffline() && c.regions.StoreCounts(s.ID()).Peers == 0 && c.sched.Prepared() && !c.holdsRegions(s) &&
		(s.Reported || !s.IsConnected(now)):
		return c.setStoreState(ctx, s.ID(), metapb.StoreState_Tombstone)
	case s.IsUp() && s.Meta.NodeState == metapb.NodeState_Preparing && c.prepared(s, now):
		return c.changeStore(ctx, s.ID(), func(_ *core.Store, m *metapb.Store) error {
			m.NodeState = metapb.NodeState_Serving
			return nil
		})
	}
	return nil
}
