package tikv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/copradb/copra/internal/pdclient"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// placement is raftstore's view of PD.
type placement struct{ pd *pdclient.Client }

// AskBatchSplit implements raftstore.PD.
func (p placement) AskBatchSplit(ctx context.Context, region *metapb.Region, count int) (*pdpb.AskBatchSplitResponse, error) {
	ids, err := p.pd.AskBatchSplit(ctx, region, count)
	if err != nil {
		return nil, err
	}
	return &pdpb.AskBatchSplitResponse{Ids: ids}, nil
}

// ReportBatchSplit implements raftstore.PD.
func (p placement) ReportBatchSplit(ctx context.Context, regions []*metapb.Region) error {
	return p.pd.ReportBatchSplit(ctx, regions)
}

// GetRegionByID implements raftstore.PD.
func (p placement) GetRegionByID(ctx context.Context, id uint64) (*metapb.Region, error) {
	r, err := p.pd.GetRegionByID(ctx, id)
	if errors.Is(err, pdclient.ErrRegionNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.Meta, nil
}

// ReportRegion implements raftstore.PD.
func (p placement) ReportRegion(hb *pdpb.RegionHeartbeatRequest) {
	// A dropped report is counted by the client and repeated by the next one.
	_ = p.pd.ReportRegion(hb)
}

// heartbeats tells PD every interval how the store is.
func (n *Node) heartbeats() {
	ticker := time.NewTicker(n.cfg.StoreHeartbeatInterval)
	defer ticker.Stop()
	last := n.started
	for {
		now := time.Now()
		if err := n.heartbeat(last, now); err == nil {
			last = now
		} else if pdclient.IsTombstone(err) {
			n.fatal(fmt.Errorf("store %d was removed from cluster %d: its data is no longer needed; start it with an empty data directory to join again: %w", n.storeID, n.clusterID, err))
			return
		} else if n.ctx.Err() == nil {
			n.log.Warn("store heartbeat failed", "err", err)
		}
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) heartbeat(from, to time.Time) error {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.StoreHeartbeatInterval)
	defer cancel()
	_, err := n.pd.StoreHeartbeat(ctx, n.stats(from, to))
	return err
}

// HandOver gives the store's leaders to other stores; it is for a store that is
// about to stop while the others go on. PD is told first, so that it doesn't
// give them back. It takes a few seconds at most; ctx can make it less.
func (n *Node) HandOver(ctx context.Context) {
	n.stopping.Store(true)
	told, cancel := context.WithTimeout(ctx, stoppingTimeout)
	_, err := n.pd.StoreHeartbeat(told, n.stats(time.Now(), time.Now()))
	cancel()
	if err != nil {
		n.log.Warn("PD does not know that the store is about to stop", "err", err)
	}
	n.regions.HandOver(ctx)
}

// stoppingTimeout is how long a store that stops waits for PD to hear of it.
const stoppingTimeout = time.Second

// reportAll tells all regions to a leader of PD that may be new.
func (n *Node) reportAll() {
	if s := n.reporter.Load(); s != nil {
		s.ReportAll()
	}
}

// stats is the store's report for [from, to).
func (n *Node) stats(from, to time.Time) *pdpb.StoreStats {
	used := n.data.Pressure().DiskUsageBytes + n.raftLog.Pressure().DiskUsageBytes
	st := &pdpb.StoreStats{
		StoreId: n.storeID, RegionCount: uint32(n.regions.RegionCount()), IsStopping: n.stopping.Load(),
		StartTime: uint32(n.started.Unix()), UsedSize: used, Capacity: n.cfg.CapacityBytes,
		Interval:  &pdpb.TimeInterval{StartTimestamp: uint64(from.Unix()), EndTimestamp: uint64(to.Unix())},
		SlowScore: n.regions.SlowScore(),
	}
	t := n.regions.SlowTrend()
	st.SlowTrend = &pdpb.SlowTrend{CauseValue: t.CauseMicros, CauseRate: t.CauseRate, ResultValue: t.ResultPerSecond, ResultRate: t.ResultRate}
	du := n.space.Usage()
	if !du.Known {
		// An in-memory file system: it is as large as it is said to be.
		du.TotalBytes, du.AvailBytes = memoryDiskBytes, memoryDiskBytes-min(used, memoryDiskBytes)
	}
	if st.Capacity == 0 || st.Capacity > du.TotalBytes {
		st.Capacity = du.TotalBytes
	}
	st.Available = min(du.AvailBytes, st.Capacity-min(st.Capacity, used))
	// PD moves no region to a busy store.
	st.IsBusy = du.Level != disk.Normal
	return st
}

// memoryDiskBytes is the capacity of a file system that cannot tell its own.
const memoryDiskBytes = 64 << 30
