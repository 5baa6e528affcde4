package pd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/etcdkv"
)

const (
	// splitCountMax is how many new regions one AskBatchSplit may ask for.
	splitCountMax = 4096
	// saveBatchRegionsMax is how many regions one write to etcd takes.
	saveBatchRegionsMax = 256
	// saveBatchBytesMax is how large one write to etcd gets (a region with
	// megabyte keys still goes through, alone).
	saveBatchBytesMax = etcdkv.RequestBytesMax / 4
)

// putRegion takes in a report; a stale one is an error that wraps core.ErrStale.
func (c *cluster) putRegion(r *core.Region) error {
	change, err := c.regions.Put(r)
	if err != nil {
		return err
	}
	for _, id := range change.Removed {
		c.saver.remove(id)
	}
	if change.Meta {
		c.saver.put(r.Meta)
	}
	return nil
}

// regionHeartbeat takes in a leader's report and drives the region's operator.
func (c *cluster) regionHeartbeat(hb *pdpb.RegionHeartbeatRequest) error {
	if err := core.CheckMeta(hb.Region); err != nil {
		return err
	}
	if hb.Leader == nil || hb.Leader.Id == 0 {
		return fmt.Errorf("pd: the heartbeat of region %d names no leader", hb.Region.Id)
	}
	r := core.FromHeartbeat(hb, time.Now())
	if err := c.putRegion(r); err != nil {
		return err
	}
	c.sched.Dispatch(r)
	return nil
}

// askBatchSplit allocates the ids of n new regions with as many peers as the
// region has.
func (c *cluster) askBatchSplit(ctx context.Context, m *metapb.Region, n uint32) ([]*pdpb.SplitID, error) {
	if err := core.CheckMeta(m); err != nil {
		return nil, err
	}
	if n == 0 || n > splitCountMax {
		return nil, fmt.Errorf("pd: a split of region %d into %d new ones is outside of 1 to %d", m.Id, n, splitCountMax)
	}
	if known := c.regions.ByID(m.Id); known != nil && known.Epoch().Version > m.RegionEpoch.Version {
		return nil, fmt.Errorf("pd: region %d asks to split at version %d, known is %d: retry with the current epoch",
			m.Id, m.RegionEpoch.Version, known.Epoch().Version)
	}
	peers := uint64(len(m.Peers))
	next, err := c.t.ids.Alloc(ctx, n*uint32(peers+1))
	if err != nil {
		return nil, err
	}
	out := make([]*pdpb.SplitID, n)
	for i := range out {
		id := &pdpb.SplitID{NewRegionId: next, NewPeerIds: make([]uint64, peers)}
		for j := range id.NewPeerIds {
			id.NewPeerIds[j] = next + 1 + uint64(j)
		}
		next += peers + 1
		out[i] = id
	}
	return out, nil
}

// reportSplit takes in the regions that came out of a split before their
// leaders report them, so that clients find them at once.
func (c *cluster) reportSplit(regions []*metapb.Region) error {
	leaderStore := uint64(0)
	for _, m := range regions {
		if err := core.CheckMeta(m); err != nil {
			return err
		}
		if known := c.regions.ByID(m.Id); known != nil && known.Leader != nil {
			leaderStore = known.Leader.StoreId
		}
	}
	for _, m := range regions {
		r := &core.Region{Meta: m}
		// The new regions' leaders start where the old one led.
		r.Leader = r.StorePeer(leaderStore)
		if err := c.putRegion(r); err != nil && !errors.Is(err, core.ErrStale) {
			return err
		}
	}
	return nil
}

// regionSaver writes changed regions to etcd in batches, so that a restarted PD
// knows them before the first heartbeats. What it has not written yet is lost
// with the leader, and learnt again from heartbeats.
type regionSaver struct {
	s *Server
	t *term

	mu    sync.Mutex
	dirty map[uint64]*metapb.Region // nil: to be deleted
}

func newRegionSaver(s *Server, t *term) *regionSaver {
	return &regionSaver{s: s, t: t, dirty: make(map[uint64]*metapb.Region)}
}

func (w *regionSaver) put(m *metapb.Region) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty[m.Id] = m
}

func (w *regionSaver) remove(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty[id] = nil
}

// run flushes every interval, and once more when the term ends: a stopping
// leader still has its key then.
func (w *regionSaver) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), every)
			defer cancel()
			if err := w.flush(fctx); err != nil && !errors.Is(err, etcdkv.ErrNotLeader) {
				w.s.log.Warn("pd: the last regions were not saved; heartbeats will tell them", "err", err)
			}
			return
		case <-tick.C:
		}
		if err := w.flush(ctx); err != nil && ctx.Err() == nil {
			w.s.metrics.saveErrors.Inc()
			w.s.log.Warn("pd: save regions", "err", err)
		}
	}
}

// flush writes all that is dirty. What fails stays dirty, unless it has changed
// since.
func (w *regionSaver) flush(ctx context.Context) error {
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = make(map[uint64]*metapb.Region)
	w.mu.Unlock()
	var ops []clientv3.Op
	var ids []uint64
	bytes := 0
	write := func() error {
		if err := w.t.fence.Txn(ctx, ops...); err != nil {
			return err
		}
		for _, id := range ids {
			delete(dirty, id)
		}
		w.s.metrics.regionSaves.Add(float64(len(ids)))
		ops, ids, bytes = ops[:0], ids[:0], 0
		return nil
	}
	for id, m := range dirty {
		op, n, err := w.op(id, m)
		if err != nil {
			return err
		}
		if len(ops) > 0 && (len(ops) >= saveBatchRegionsMax || bytes+n > saveBatchBytesMax) {
			if err := write(); err != nil {
				w.restore(dirty)
				return err
			}
		}
		ops, ids, bytes = append(ops, op), append(ids, id), bytes+n
	}
	if err := write(); err != nil {
		w.restore(dirty)
		return err
	}
	return nil
}

func (w *regionSaver) op(id uint64, m *metapb.Region) (clientv3.Op, int, error) {
	key := w.s.regionKey(id)
	if m == nil {
		return clientv3.OpDelete(key), len(key), nil
	}
	raw, err := m.Marshal()
	if err != nil {
		return clientv3.Op{}, 0, err
	}
	return clientv3.OpPut(key, string(raw)), len(key) + len(raw), nil
}

func (w *regionSaver) restore(dirty map[uint64]*metapb.Region) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, m := range dirty {
		if _, newer := w.dirty[id]; !newer {
			w.dirty[id] = m
		}
	}
}
