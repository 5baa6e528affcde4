package pd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
	"github.com/copradb/copra/pd/schedule"
)

// errNotBootstrapped is the answer to everything about stores and regions
// before the first store has joined.
var errNotBootstrapped = errors.New("the cluster is not bootstrapped: no store has joined yet")

// cluster is the leader's picture of stores and regions, and its way to etcd.
type cluster struct {
	s         *Server
	t         *term
	log       *slog.Logger
	startedAt time.Time

	regions *core.Regions
	stores  *core.Stores
	saver   *regionSaver
	streams *heartbeatStreams
	sched   *schedule.Controller
	rules   *placement.Manager
	labels  *labeler.Labeler

	// metaMu serialises changes of stores and of the cluster's meta, from
	// reading what is there to the end of the write to etcd.
	metaMu sync.Mutex
	// mu guards the fields below.
	mu         sync.RWMutex
	meta       *metapb.Cluster // nil before bootstrap
	options    schedule.Options
	storeSaved map[uint64]time.Time // last write of a store's heartbeat time
}

func loadCluster(s *Server, t *term) (*cluster, error) {
	c := &cluster{
		s: s, t: t, log: s.log, startedAt: time.Now(),
		regions: core.NewRegions(), stores: core.NewStores(),
		streams: newHeartbeatStreams(s.clusterID), options: s.cfg.Schedule,
		storeSaved: make(map[uint64]time.Time),
	}
	c.stores.UseDetector(s.storeDeadSince)
	c.saver = newRegionSaver(c.regions, s.regionKey, t.fence.TxnUntil)
	c.saver.log, c.saver.saved, c.saver.failed = s.log, s.metrics.regionSaves, s.metrics.saveErrors
	if err := c.load(t.ctx); err != nil {
		return nil, err
	}
	c.sched = schedule.NewController(c, s.log, s.metrics.operators)
	c.sched.UseMetrics(s.metrics.schedulers)
	if err := c.sched.LoadSchedulers(t.ctx, schedulerStorage{s, t}); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cluster) load(ctx context.Context) error {
	raw, ok, err := c.t.fence.Get(ctx, c.s.clusterKey())
	if err != nil {
		return err
	}
	if ok {
		c.meta = &metapb.Cluster{}
		if err := c.meta.Unmarshal(raw); err != nil {
			return fmt.Errorf("pd: %s in etcd is damaged: %w", c.s.clusterKey(), err)
		}
		c.options.Replicas = int(c.meta.MaxPeerCount)
	}
	if err := c.loadOptions(ctx); err != nil {
		return err
	}
	if err := c.loadRules(ctx); err != nil {
		return err
	}
	if err := c.t.fence.Scan(ctx, c.s.storePrefix(), c.loadStore); err != nil {
		return err
	}
	if err := c.loadStoreWeights(ctx); err != nil {
		return err
	}
	return c.t.fence.Scan(ctx, c.s.regionPrefix(), c.loadRegion)
}

func (c *cluster) loadStore(key string, value []byte) error {
	m := &metapb.Store{}
	if err := m.Unmarshal(value); err != nil {
		return fmt.Errorf("pd: %s in etcd is damaged: %w", key, err)
	}
	c.stores.Put(&core.Store{Meta: m, HeardAt: c.startedAt})
	return nil
}

func (c *cluster) loadRegion(key string, value []byte) error {
	m := &metapb.Region{}
	if err := m.Unmarshal(value); err != nil {
		return fmt.Errorf("pd: %s in etcd is damaged: %w", key, err)
	}
	if err := core.CheckMeta(m); err != nil {
		return fmt.Errorf("pd: %s in etcd is damaged: %w", key, err)
	}
	// Regions are saved lazily, so a split may have been saved by halves: the
	// newer of two that overlap stays, the heartbeats tell the rest.
	change, err := c.regions.Put(&core.Region{Meta: m})
	if errors.Is(err, core.ErrStale) {
		c.saver.mark(m.Id)
		return nil
	}
	c.saver.mark(change.Removed...)
	return err
}

func (c *cluster) start() {
	c.t.wg.Go(func() { c.saver.run(c.t.ctx, c.s.cfg.RegionSaveInterval) })
	c.t.wg.Go(func() { c.sched.Run(c.t.ctx) })
	c.t.wg.Go(func() { c.watchStores(c.t.ctx) })
	c.t.wg.Go(func() { c.watchStoreConfigs(c.t.ctx) })
}

// bootstrapped returns nil once the cluster has its first store.
func (c *cluster) bootstrapped() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.meta == nil {
		return errNotBootstrapped
	}
	return nil
}

// bootstrap makes the first store and the first region.
func (c *cluster) bootstrap(ctx context.Context, store *metapb.Store, region *metapb.Region) error {
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	if c.bootstrapped() == nil {
		return errAlreadyBootstrapped
	}
	if err := checkBootstrap(store, region); err != nil {
		return err
	}
	meta := &metapb.Cluster{Id: c.s.clusterID, MaxPeerCount: uint32(c.Options().Replicas)}
	store = cloneStore(store)
	store.State, store.NodeState = metapb.StoreState_Up, metapb.NodeState_Serving
	ops := make([]clientv3.Op, 0, 3)
	for _, kv := range []struct {
		key string
		msg interface{ Marshal() ([]byte, error) }
	}{
		{c.s.clusterKey(), meta}, {c.s.storeKey(store.Id), store}, {c.s.regionKey(region.Id), region},
	} {
		raw, err := kv.msg.Marshal()
		if err != nil {
			return err
		}
		ops = append(ops, clientv3.OpPut(kv.key, string(raw)))
	}
	if err := c.t.fence.Txn(ctx, ops...); err != nil {
		return err
	}
	c.mu.Lock()
	c.meta = meta
	c.mu.Unlock()
	c.stores.Put(&core.Store{Meta: store, HeardAt: time.Now()})
	if _, err := c.regions.Put(&core.Region{Meta: region}); err != nil {
		return err
	}
	c.log.Info("pd: bootstrapped", "store", store.Id, "region", region.Id)
	return nil
}

var errAlreadyBootstrapped = errors.New("the cluster is bootstrapped already")

func checkBootstrap(store *metapb.Store, region *metapb.Region) error {
	switch {
	case store == nil || store.Id == 0:
		return errors.New("pd: bootstrap: the store has no id; take one with AllocID")
	case store.Address == "":
		return fmt.Errorf("pd: bootstrap: store %d has no address", store.Id)
	}
	if err := core.CheckMeta(region); err != nil {
		return err
	}
	switch {
	case len(region.StartKey) > 0 || len(region.EndKey) > 0:
		return fmt.Errorf("pd: bootstrap: the first region must hold all keys, not [%x, %x)", region.StartKey, region.EndKey)
	case len(region.Peers) != 1 || region.Peers[0].StoreId != store.Id:
		return fmt.Errorf("pd: bootstrap: the first region must have one peer, on store %d", store.Id)
	}
	return nil
}

// clusterMeta is the cluster as bootstrapped, or nil.
func (c *cluster) clusterMeta() *metapb.Cluster {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.meta
}

// putClusterMeta changes how many peers a region should have.
func (c *cluster) putClusterMeta(ctx context.Context, m *metapb.Cluster) error {
	if m == nil || m.Id != c.s.clusterID {
		return fmt.Errorf("pd: the cluster's meta must have the id %d", c.s.clusterID)
	}
	if m.MaxPeerCount < 1 || m.MaxPeerCount > schedule.ReplicasMax {
		return fmt.Errorf("pd: %d peers a region are outside of 1 to %d", m.MaxPeerCount, schedule.ReplicasMax)
	}
	c.metaMu.Lock()
	defer c.metaMu.Unlock()
	if err := c.bootstrapped(); err != nil {
		return err
	}
	raw, err := m.Marshal()
	if err != nil {
		return err
	}
	next := c.Options()
	next.Replicas = int(m.MaxPeerCount)
	if err := c.followOptions(ctx, c.Options(), next); err != nil {
		return err
	}
	if err := c.t.put(ctx, c.s.clusterKey(), raw); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meta = m
	c.options.Replicas = int(m.MaxPeerCount)
	return nil
}

// The methods below are what pd/schedule sees of the cluster.

// Regions implements schedule.Cluster.
func (c *cluster) Regions() *core.Regions { return c.regions }

// Stores implements schedule.Cluster.
func (c *cluster) Stores() *core.Stores { return c.stores }

// Options implements schedule.Cluster.
func (c *cluster) Options() schedule.Options {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.options
}

// AllocID implements schedule.Cluster.
func (c *cluster) AllocID(ctx context.Context) (uint64, error) { return c.t.ids.Alloc(ctx, 1) }

func (s *Server) clusterKey() string   { return s.root + "/raft" }
func (s *Server) storePrefix() string  { return s.root + "/raft/s/" }
func (s *Server) regionPrefix() string { return s.root + "/raft/r/" }
func (s *Server) storeKey(id uint64) string {
	return fmt.Sprintf("%s%020d", s.storePrefix(), id)
}
func (s *Server) regionKey(id uint64) string {
	return fmt.Sprintf("%s%020d", s.regionPrefix(), id)
}
