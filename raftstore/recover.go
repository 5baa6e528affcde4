package raftstore

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"

	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Recovery of a lost quorum. When the majority of a region's stores is gone for
// good, Offline.Recover leaves a mark in the Raft log of every store that is
// left: these stores have failed. From the next start the region's Raft group
// counts only the others. They elect the one of them that has the most, and its
// first work as leader is to remove the failed peers, one change of members at
// a time, in the log: so all survivors come to the same region, however far
// each had applied, and the epoch grows as it must for a failed store that
// comes back to be turned away.
//
// What the survivors had not received is lost, and what was not committed may
// be: hence "unsafe", and an operator's decision.

// recoverKind keys, in the Raft log, the mark: 'u' region(8) → version(1), then
// uvarint ids of the failed stores.
const recoverKind = 'u'

const recoverVersion = 1

func encodeFailedStores(ids []uint64) []byte {
	b := []byte{recoverVersion}
	for _, id := range ids {
		b = binary.AppendUvarint(b, id)
	}
	return b
}

func decodeFailedStores(regionID uint64, value []byte) (ids []uint64, err error) {
	if len(value) > 1 && value[0] == recoverVersion {
		d := decoder{rest: value[1:]}
		for len(d.rest) > 0 && !d.failed {
			ids = append(ids, d.uvarint())
		}
		if !d.failed {
			return ids, nil
		}
	}
	return nil, fmt.Errorf("raftstore: recovery mark of region %d is damaged: %x", regionID, value)
}

// loadFailed reads the marks. A region with one must not be without it for a
// single vote.
func (s *Store) loadFailed() error {
	return s.raftLog.ScanMeta([]byte{recoverKind}, func(key, value []byte) error {
		if len(key) != 9 {
			return fmt.Errorf("raftstore: recovery mark %x is damaged", key)
		}
		id := binary.BigEndian.Uint64(key[1:])
		ids, err := decodeFailedStores(id, value)
		if err != nil {
			return err
		}
		s.failed.Store(id, ids)
		s.log.Warn("region recovers from a lost quorum", slog.Uint64("region", id), slog.Any("failed_stores", ids))
		return nil
	})
}

// failedOf returns the stores that a region has to do without.
func (s *Store) failedOf(regionID uint64) []uint64 {
	ids, _ := s.failed.Load(regionID)
	out, _ := ids.([]uint64)
	return out
}

// inheritFailed gives a recovering region's mark to the child of a split that
// its log still held. The child's initTask makes it durable.
func (p *peer) inheritFailed(child uint64) {
	if len(p.failed) > 0 {
		p.store.failed.Store(child, p.failed)
	}
}

// survivors is a region's configuration without the peers on failed stores.
func survivors(region *metapb.Region, failed []uint64) (*raftpb.ConfState, error) {
	cs := confState(region)
	if len(failed) == 0 {
		return cs, nil
	}
	gone := func(id uint64) bool { return slices.Contains(failed, findPeer(region, id).GetStoreId()) }
	joint := len(cs.VotersOutgoing) > 0
	cs.Voters = slices.DeleteFunc(cs.Voters, gone)
	cs.VotersOutgoing = slices.DeleteFunc(cs.VotersOutgoing, gone)
	cs.Learners = slices.DeleteFunc(cs.Learners, gone)
	cs.LearnersNext = slices.DeleteFunc(cs.LearnersNext, gone)
	switch {
	case len(cs.Voters) == 0:
		return nil, fmt.Errorf("raftstore: region %d has no voter outside of the stores %v", region.GetId(), failed)
	case joint && len(cs.VotersOutgoing) == 0:
		cs.VotersOutgoing = slices.Clone(cs.Voters) // still joint: the log holds the entry that leaves it
	}
	return cs, nil
}

// tickRecovery removes one failed peer after the other, and then the mark.
func (p *peer) tickRecovery() {
	if len(p.failed) == 0 {
		return
	}
	region := p.region.Load()
	if isJoint(region) {
		return // Raft leaves it by itself
	}
	for _, peer := range region.Peers {
		if !slices.Contains(p.failed, peer.StoreId) {
			continue
		}
		if err := p.removeFailed(region, peer); err != nil {
			p.log.Debug("failed peer not removed yet", slog.Uint64("failed", peer.Id), slog.Any("error", err))
		}
		return
	}
	p.recovered()
}

// recovered drops the mark of a region without failed peers.
func (p *peer) recovered() {
	p.log.Warn("region has recovered from a lost quorum", slog.Any("failed_stores", p.failed))
	p.failed = nil
	p.store.failed.Delete(p.regionID)
	key := metaKey(recoverKind, p.regionID)
	p.store.background.must(func() {
		// Not before the region is durable as it is now: a crash must not bring
		// the failed peers back.
		if err := p.store.engine.Flush(p.store.ctx); err != nil {
			p.log.Warn("recovery mark stays until the next start", slog.Any("error", err))
			return
		}
		p.store.logWriter.submit(&logTask{p: p, sync: true, extra: func(b *raftlog.Batch) { b.DeleteMeta(key) }})
	})
}

// withoutFailed is a change of members as Raft is to see it while the region
// recovers: the log may hold, from before the loss, one that adds a peer on a
// failed store, and its vote could not be had. region is as of behind it.
func (p *peer) withoutFailed(cc *raftpb.ConfChangeV2, region *metapb.Region) *raftpb.ConfChangeV2 {
	if len(p.failed) == 0 || cc.LeaveJoint() {
		return cc
	}
	if _, err := survivors(region, p.failed); err != nil {
		return cc // nobody would be left
	}
	cc = proto.CloneOf(cc)
	for _, c := range cc.Changes {
		at := findPeer(region, c.GetNodeId()).GetStoreId()
		if c.GetType() != raftpb.ConfChangeRemoveNode && slices.Contains(p.failed, at) {
			c.NodeId = new(uint64(raft.None)) // Raft passes over it, and still enters the joint configuration
		}
	}
	return cc
}

// removeFailed proposes to remove a voter in one step: Raft's own configuration
// doesn't have it any longer.
func (p *peer) removeFailed(region *metapb.Region, gone *metapb.Peer) error {
	plan := []*pdpb.ChangePeer{{ChangeType: eraftpb.ConfChangeType_RemoveNode, Peer: &metapb.Peer{Id: gone.Id, StoreId: gone.StoreId}}}
	h := p.newHeader(entryKindAdmin, region)
	cc := confChange(plan)
	cc.Context = encodeAdmin(&h, membershipRequest(plan))
	p.store.metrics.proposals.WithLabelValues("conf_change").Inc()
	return p.rn.ProposeConfChange(cc)
}

// followRecovery drops the mark on a follower once the leader's changes are
// applied.
func (p *peer) followRecovery(region *metapb.Region) {
	if len(p.failed) == 0 || p.role.Load().leader {
		return
	}
	if !p.hasFailed(region) {
		p.recovered()
	}
}

func (p *peer) hasFailed(region *metapb.Region) bool {
	return slices.ContainsFunc(region.Peers, func(peer *metapb.Peer) bool { return slices.Contains(p.failed, peer.StoreId) })
}

// dropOldMark forgets, at the start, the mark of a region that had recovered when
// a crash came. It must not leave out peers that are put on those stores later.
func (p *peer) dropOldMark() error {
	if len(p.failed) == 0 || p.hasFailed(p.region.Load()) {
		return nil
	}
	p.failed = nil
	p.store.failed.Delete(p.regionID)
	return p.store.commitLog(func(b *raftlog.Batch) { b.DeleteMeta(metaKey(recoverKind, p.regionID)) })
}
