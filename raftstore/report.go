package raftstore

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// PD is what the store needs of the placement driver.
type PD interface {
	// AskBatchSplit returns count new region ids, each with a peer id for every
	// peer of region.
	AskBatchSplit(ctx context.Context, region *metapb.Region, count int) (*pdpb.AskBatchSplitResponse, error)
	// ReportBatchSplit tells the pieces of a split, from left to right.
	ReportBatchSplit(ctx context.Context, regions []*metapb.Region) error
	// GetRegionByID returns the region as PD knows it, nil if it does not.
	GetRegionByID(ctx context.Context, id uint64) (*metapb.Region, error)
	// ReportRegion queues a leader's heartbeat and never blocks. Answers arrive
	// by Store.OnPDResponse.
	ReportRegion(*pdpb.RegionHeartbeatRequest)
}

// reportState is the Raft worker's view of the region's heartbeats to PD.
type reportState struct {
	soon       bool
	last       int64
	lastActive map[uint64]int64 // peer → when it was last heard of

	written, writtenKeys, read, readKeys uint64 // counters at the last report
	// pending and down are the peers that the last report called that.
	pending, down []uint64

	lastSplitCheck int64
	splitBusy      bool
}

func (p *peer) tickReport() {
	p.watchPeers()
	if p.now-p.report.last >= int64(p.store.cfg.RegionHeartbeatInterval) {
		p.report.soon = true
	}
}

// reportIfDue sends a heartbeat at the end of a round.
func (p *peer) reportIfDue() {
	if !p.report.soon {
		return
	}
	p.report.soon = false
	if p.role.Load().leader {
		p.store.pd.ReportRegion(p.heartbeat())
		p.report.last = p.now
	}
}

// watchPeers notes which peers have answered lately.
func (p *peer) watchPeers() {
	if p.report.lastActive == nil {
		p.report.lastActive = make(map[uint64]int64)
	}
	region, recovered := p.region.Load(), false
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.RecentActive || id == p.id {
			p.report.lastActive[id] = p.now
		} else if p.report.lastActive[id] == 0 { // new, or the region has slept
			p.report.lastActive[id] = max(p.now-p.store.live.silent(findPeer(region, id).GetStoreId(), p.now), 1)
		}
		recovered = recovered ||
			slices.Contains(p.report.pending, id) && !p.isPending(pr) ||
			slices.Contains(p.report.down, id) && p.silent(id, 0) < p.store.cfg.PeerDownDuration
	})
	// Good news are told at once, of every peer: PD's operators wait for them.
	if recovered {
		p.report.soon = true
	}
}

// isPending: the peer cannot be counted on yet, as far as this leader knows. A
// new leader knows nothing of anybody, until they answer.
func (p *peer) isPending(pr tracker.Progress) bool {
	return pr.State == tracker.StateSnapshot || pr.Match < p.st.truncatedIndex
}

// silent is for how long a peer has not been heard of. In a sleeping region its
// store speaks for it.
func (p *peer) silent(id, storeID uint64) time.Duration {
	if last := p.report.lastActive[id]; last != 0 {
		return time.Duration(p.now - last)
	}
	return time.Duration(p.store.live.silent(storeID, p.now))
}

func (p *peer) heartbeat() *pdpb.RegionHeartbeatRequest {
	region, st, r := p.region.Load(), &p.stats, &p.report
	written, writtenKeys := st.writtenBytes.Load(), st.writtenKeys.Load()
	read, readKeys := st.readBytes.Load(), st.readKeys.Load()
	now := uint64(time.Now().Unix())
	self := p.self()
	hb := &pdpb.RegionHeartbeatRequest{
		Region: region, Leader: &self, Term: p.role.Load().term,
		BytesWritten: written - r.written, KeysWritten: writtenKeys - r.writtenKeys,
		BytesRead: read - r.read, KeysRead: readKeys - r.readKeys,
		ApproximateSize: p.approxSize(), ApproximateKeys: p.approxKeys(),
		Interval: &pdpb.TimeInterval{StartTimestamp: now - uint64((p.now-r.last)/int64(time.Second)), EndTimestamp: now},
	}
	r.written, r.writtenKeys, r.read, r.readKeys = written, writtenKeys, read, readKeys
	r.pending, r.down = r.pending[:0], r.down[:0]
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		peer := findPeer(region, id)
		if peer == nil || id == p.id {
			return
		}
		if p.isPending(pr) {
			r.pending = append(r.pending, id)
			hb.PendingPeers = append(hb.PendingPeers, peer)
		}
		if silent := p.silent(id, peer.StoreId); silent >= p.store.cfg.PeerDownDuration {
			r.down = append(r.down, id)
			hb.DownPeers = append(hb.DownPeers, &pdpb.PeerStats{Peer: peer, DownSeconds: uint64(silent / time.Second)})
		}
	})
	return hb
}

// approxSize is the region's size, 0 where it has not been measured since the
// store started: what was written since says nothing about what is there.
func (p *peer) approxSize() uint64 {
	measured := p.stats.sizeBytes.Load()
	if measured == 0 && !p.stats.sizeGuessed.Load() {
		return 0
	}
	return measured + p.stats.sizeDelta.Load()
}

// approxKeys is how many entries the region has: as counted, with what was
// written since, or estimated by the size of what was written lately.
func (p *peer) approxKeys() uint64 {
	st := &p.stats
	keys, bytes := st.writtenKeys.Load(), st.writtenBytes.Load()
	if counted := st.sizeKeys.Load(); counted != 0 {
		return counted + keys - st.sizeKeysAt.Load()
	}
	if keys == 0 || bytes < keys {
		return 0
	}
	return (st.sizeBytes.Load() + st.sizeDelta.Load()) / (bytes / keys)
}

// reportSplit tells PD about the pieces of a split, from left to right.
func (p *peer) reportSplit(regions []*metapb.Region) {
	p.report.soon = true
	p.store.splits.submit(func() {
		ctx, cancel := context.WithTimeout(p.store.ctx, pdRequestTimeout)
		defer cancel()
		if err := p.store.pd.ReportBatchSplit(ctx, regions); err != nil {
			p.log.Debug("split not reported; heartbeats will tell PD", slog.Any("error", err))
		}
	})
}
