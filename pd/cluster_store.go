package pd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

const (
	// storeSaveInterval is how often a store's heartbeat time is written to
	// etcd.
	storeSaveInterval = time.Minute
	// storeWatchInterval is how often stores being removed are looked at.
	storeWatchInterval = 500 * time.Millisecond
)

var (
	errStoreTombstone = errors.New("the store is a tombstone: it was removed from the cluster; start it with an empty data directory")
	errStoreNotFound  = errors.New("not found")
)

// storeNotFound has the words that clients look for.
func storeNotFound(id uint64) error {
	return fmt.Errorf("invalid store ID %d, %w", id, errStoreNotFound)
}

// cloneStore copies the message; kvproto's own clone is slow and needs a cast.
func cloneStore(m *metapb.Store) *metapb.Store {
	c := *m
	return &c
}

func (c *cluster) store(id uint64) (*core.Store, error) {
	s := c.stores.Get(id)
	if s == nil {
		return nil, storeNotFound(id)
	}
	return s, nil
}

// putStore registers a store or takes in what a restarted one says of itself.
// The state is PD's, not the store's.
func (c *cluster) putStore(ctx context.Context, m *metapb.Store) error {
	switch {
	case m == nil || m.Id == 0:
		return errors.New("pd: the store has no id; take one with AllocID")
	case m.Address == "":
		return fmt.Errorf("pd: store %d has no address", m.Id)
	}
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	if err := c.stores.CheckAddress(m.Id, m.Address); err != nil {
		return err
	}
	m = cloneStore(m)
	next := &core.Store{HeardAt: time.Now()}
	if old := c.stores.Get(m.Id); old != nil {
		if old.IsTombstone() || old.Meta.PhysicallyDestroyed {
			return errStoreTombstone
		}
		cp := *old
		next = &cp
		m.State, m.NodeState = old.Meta.State, old.Meta.NodeState
		m.LastHeartbeat = old.Meta.LastHeartbeat
		m.Labels = mergeLabels(old.Meta.Labels, m.Labels)
	} else {
		m.State, m.NodeState = metapb.StoreState_Up, c.firstNodeState()
		m.PhysicallyDestroyed = false
	}
	if err := checkStoreLabels(m.Labels); err != nil {
		return fmt.Errorf("pd: store %d: %w", m.Id, err)
	}
	next.Meta = m
	if err := c.saveStore(ctx, m); err != nil {
		return err
	}
	c.stores.Put(next)
	return nil
}

func (c *cluster) saveStore(ctx context.Context, m *metapb.Store) error {
	raw, err := m.Marshal()
	if err != nil {
		return err
	}
	return c.t.put(ctx, c.s.storeKey(m.Id), raw)
}

// storeHeartbeat takes in a store's report and returns the state PD wants it in.
func (c *cluster) storeHeartbeat(ctx context.Context, stats *pdpb.StoreStats) (metapb.NodeState, error) {
	if stats == nil {
		return 0, errors.New("pd: the store heartbeat has no stats")
	}
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	old, err := c.store(stats.StoreId)
	if err != nil {
		return 0, err
	}
	if old.IsTombstone() {
		return 0, errStoreTombstone
	}
	now := time.Now()
	next := *old
	next.Meta = cloneStore(old.Meta)
	next.Meta.LastHeartbeat = now.UnixNano()
	next.Stats, next.HeardAt, next.Reported = stats, now, true
	next.StatsPeerBytes = c.regions.StoreCounts(stats.StoreId).PeerBytes
	if now.Sub(c.storeSaved[stats.StoreId]) >= storeSaveInterval {
		if err := c.saveStore(ctx, next.Meta); err != nil {
			return 0, err
		}
		c.storeSaved[stats.StoreId] = now
	}
	c.stores.Put(&next)
	c.sched.ObserveStore(stats)
	return next.Meta.NodeState, nil
}

var nodeStates = map[metapb.StoreState]metapb.NodeState{
	metapb.StoreState_Up:        metapb.NodeState_Serving,
	metapb.StoreState_Offline:   metapb.NodeState_Removing,
	metapb.StoreState_Tombstone: metapb.NodeState_Removed,
}

// removeTombstones forgets the stores that are gone for good.
func (c *cluster) removeTombstones(ctx context.Context) error {
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	for _, s := range c.stores.All() {
		if !s.IsTombstone() {
			continue
		}
		if err := c.t.fence.Delete(ctx, c.s.storeKey(s.ID())); err != nil {
			return err
		}
		c.stores.Delete(s.ID())
	}
	return nil
}
