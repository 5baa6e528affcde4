package raftstore

import (
	"fmt"
	"log/slog"

	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
)

// missingLeaderElections: after so many election timeouts without a word from a
// leader a peer asks the others whether it still belongs to the region.
const missingLeaderElections = 5

// Step takes a message from another store, see Handler.
func (s *Store) Step(m *RaftMessage) error {
	if m.To.StoreId != s.id {
		return fmt.Errorf("raftstore: message for store %d arrived at store %d", m.To.StoreId, s.id)
	}
	s.noteDisk(m.From.StoreId, m.DiskLevel)
	if m.Signal.Kind != 0 {
		s.onSignal(m)
		return nil
	}
	taken := s.admitByDisk(m)
	if taken == nil {
		s.drop("disk_full")
		return ErrBusy
	}
	m = taken
	if s.refusedByBacklog(m) {
		s.drop("apply_full")
		return ErrBusy
	}
	size := int64(m.bytesSize())
	if s.received.Add(size)+s.logWriter.queued.Load() > s.cfg.ReceiveBytesMax {
		s.received.Add(-size)
		s.drop("full")
		return ErrBusy
	}
	s.willWrite(size)
	if p := s.peer(m.RegionID); p != nil {
		p.send(m)
		return nil
	}
	s.stepUnknown(m)
	return nil
}

func (s *Store) drop(reason string) { s.metrics.droppedMessages.WithLabelValues(reason).Inc() }

// ReportUnreachable tells the sender's Raft that messages were lost.
func (s *Store) ReportUnreachable(regionID, peerID uint64) {
	if p := s.peer(regionID); p != nil && !p.isAsleep() {
		p.send(mailUnreachable{peerID})
	}
}

// stepUnknown handles a message for a region that is not here: it is too old,
// too early (a split or a snapshot will bring the region), or it announces a
// new peer.
func (s *Store) stepUnknown(m *RaftMessage) {
	size := int64(m.bytesSize())
	s.mu.Lock()
	if p := s.peer(m.RegionID); p != nil {
		s.mu.Unlock()
		p.send(m)
		return
	}
	s.received.Add(-size)
	switch {
	case m.Tombstone:
	case s.tombstones[m.RegionID] >= m.To.Id:
		s.drop("tombstone")
		s.mu.Unlock()
		s.answerForDead(m)
		return
	case m.Msg == nil:
	case s.overlapsLocked(m.RegionID, m.StartKey, m.EndKey) && !s.consumedLocked(m):
		s.holdLocked(m)
		s.nudgeRangeLocked(m.StartKey, m.EndKey)
	case createsPeer(m.Msg.GetType()):
		p, err := s.createPeer(m)
		if err != nil {
			s.mu.Unlock()
			s.fatal(err)
			return
		}
		if p != nil {
			s.peers.Store(m.RegionID, p)
			s.awake.add(p)
			s.received.Add(size)
			s.mu.Unlock()
			p.send(m)
			return
		}
	default:
		s.drop("region_not_found")
	}
	s.mu.Unlock()
}

// createsPeer: a leader's message creates a peer, and so does a candidate's, who
// may need the vote to become one: the child of a split whose parent was removed
// from this store before it came to the split exists only elsewhere. The vote is
// safe, because this peer has acknowledged nothing yet; if its log says
// otherwise it is not created (createPeer).
func createsPeer(t raftpb.MessageType) bool {
	return t == raftpb.MsgHeartbeat || t == raftpb.MsgApp || t == raftpb.MsgVote || t == raftpb.MsgPreVote
}

// createPeer makes a peer without data, with the votes that it may have cast
// before a restart. It returns nil if the message is for an older peer.
func (s *Store) createPeer(m *RaftMessage) (*peer, error) {
	logged, err := s.loggedPeerID(m.RegionID)
	if err != nil {
		return nil, err
	}
	if logged > m.To.Id {
		s.drop("stale_peer")
		return nil, nil
	}
	rs, ok, err := s.loadLog(m.RegionID, m.To.Id)
	if err != nil {
		return nil, err
	}
	if !ok {
		rs = raftlog.RaftState{HardState: hardState{}.proto()}
	}
	if rs.LastIndex != 0 {
		// Its region is still to be found: the parent of a split, say.
		s.holdLocked(m)
		return nil, nil
	}
	// The sender's epoch is the first that has this peer. Members that have not
	// come so far must not take it for one that was removed.
	region := &metapb.Region{Id: m.RegionID, RegionEpoch: &metapb.RegionEpoch{ConfVer: m.Epoch.ConfVer, Version: m.Epoch.Version}}
	p, err := s.newPeer(region, m.To.Id, rs, applyState{})
	if err != nil {
		return nil, fmt.Errorf("raftstore: create peer %d of region %d: %w", m.To.Id, m.RegionID, err)
	}
	if !ok {
		s.logWriter.submit(&logTask{p: p, sync: true, extra: func(b *raftlog.Batch) {
			b.DeleteRegion(p.regionID)
			b.PutMeta(metaKey(peerIDKind, p.regionID), encodeUvarint(p.id))
		}})
	}
	p.log.Info("peer created by a message", slog.String("type", m.Msg.GetType().String()), slog.Uint64("from", m.From.Id))
	return p, nil
}

// holdLocked keeps a message for a region that a split here will create. Raft
// would send it again, but a child's first election should not wait for that.
func (s *Store) holdLocked(m *RaftMessage) {
	if len(s.held) >= heldMessageCountMax {
		s.held = append(s.held[:0], s.held[1:]...)
		s.drop("held")
	}
	s.held = append(s.held, m)
}

// releaseHeld delivers what was held for a new region.
func (s *Store) releaseHeld(p *peer) {
	s.mu.Lock()
	var out []*RaftMessage
	kept := s.held[:0]
	for _, m := range s.held {
		if m.RegionID == p.regionID {
			out = append(out, m)
		} else {
			kept = append(kept, m)
		}
	}
	clear(s.held[len(kept):])
	s.held = kept
	s.mu.Unlock()
	for _, m := range out {
		s.received.Add(int64(m.bytesSize()))
		p.send(m)
	}
}

// answerForDead answers what a region that has left this store is asked: it
// tells a peer that asks or campaigns from outside the region
// that it is no member, when this store's own peer has left the region, too.
func (s *Store) answerForDead(m *RaftMessage) {
	if m.Merge != nil && m.Merge.Kind != MergeVerdict {
		s.answerMerge(m)
		return
	}
	if !m.Query && m.Signal.Kind != SignalPeek && m.Msg.GetType() != raftpb.MsgPreVote && m.Msg.GetType() != raftpb.MsgVote {
		return
	}
	value, ok, err := s.engine.GetMeta(metaKey(regionStateKind, m.RegionID))
	if err != nil || !ok {
		return
	}
	st, err := decodeRegionState(nil, value)
	if err != nil {
		return
	}
	record := recordOf(st.MergedRecords, m.RegionID)
	if record != nil && findPeer(&metapb.Region{Peers: record.SourcePeers}, m.From.Id) != nil {
		s.sendMerge(&RaftMessage{RegionID: m.RegionID, From: m.To, To: m.From,
			Merge: &MergeMessage{Kind: MergeVerdict, Commit: record.SourceIndex, Record: record}})
		return
	}
	if r := st.GetRegion(); findPeer(r, m.From.Id) == nil && m.Epoch.ConfVer < r.RegionEpoch.GetConfVer() {
		s.transport.Send(&RaftMessage{
			RegionID: m.RegionID, From: m.To, To: m.From, Tombstone: true,
			Epoch: metapb.RegionEpoch{ConfVer: r.RegionEpoch.GetConfVer(), Version: r.RegionEpoch.GetVersion()}})
	}
}

// onMessage is a message that reached its peer, or a namesake.
func (p *peer) onMessage(m *RaftMessage) {
	switch {
	case m.To.Id < p.id:
		p.store.drop("stale_peer")
		p.store.discardSnapshotOf(m)
		return
	case m.To.Id > p.id:
		// This peer was removed without noticing, and a new one is to come. The
		// sender is in the region as of Epoch and this peer cannot be.
		p.store.drop("newer_peer")
		if m.Epoch.ConfVer > p.region.Load().RegionEpoch.GetConfVer() && m.Msg != nil && createsPeer(m.Msg.GetType()) {
			p.endLife(m.Epoch)
		}
		return
	case m.Tombstone:
		if m.Epoch.ConfVer > p.region.Load().RegionEpoch.GetConfVer() {
			p.endLife(m.Epoch)
		}
		return
	}
	if m.Merge != nil {
		p.onMergeMessage(m)
		return
	}
	if p.fromOutsider(m) || m.Msg == nil {
		return
	}
	if !p.acceptable(m) {
		return
	}
	if m.From.Id == p.role.Load().lead.GetId() && p.missing > 0 { // or it is noted since the last tick
		p.missing = 0
		p.heardLeader(p.now)
	}
	p.quietSince = p.now
	if isVoteAnswer(m.Msg) {
		p.learnCommit(m.Msg)
	}
	p.step(m.Msg)
	if m.Msg.GetType() == raftpb.MsgSnap {
		p.afterSnapshotStep(m)
	}
}

// fromOutsider answers peers that have left the region without knowing it, and
// remembers the addresses of those that this peer doesn't know yet.
func (p *peer) fromOutsider(m *RaftMessage) bool {
	region := p.region.Load()
	if findPeer(region, m.From.Id) != nil {
		return false
	}
	if p.initialized() && m.Epoch.ConfVer < region.RegionEpoch.GetConfVer() {
		asks := m.Query || m.Msg.GetType() == raftpb.MsgPreVote || m.Msg.GetType() == raftpb.MsgVote
		if asks {
			p.bury(&m.From, region)
		}
		return asks
	}
	if p.otherPeers == nil {
		p.otherPeers = make(map[uint64]metapb.Peer)
	}
	if len(p.otherPeers) >= peerCacheCountMax {
		clear(p.otherPeers)
	}
	p.otherPeers[m.From.Id] = m.From
	return false
}

// bury tells a peer that it is no member of region.
func (p *peer) bury(to *metapb.Peer, region *metapb.Region) {
	m := p.newMessage(region)
	m.To, m.Tombstone = *to, true
	p.store.transport.Send(m)
}

// buryPeers tells the peers that a change of members has removed. Without it
// they might never learn: the leader doesn't feed them any longer.
func (p *peer) buryPeers(left []*metapb.Peer, region *metapb.Region) {
	if !p.role.Load().leader {
		return
	}
	for _, peer := range left {
		if peer.Id != p.id {
			p.bury(peer, region)
		}
	}
}

// acceptable filters what Raft must not see.
func (p *peer) acceptable(m *RaftMessage) bool {
	msg := m.Msg
	if msg.GetTo() != p.id || msg.GetFrom() != m.From.Id {
		p.store.drop("malformed")
		return false
	}
	switch msg.GetType() {
	case raftpb.MsgPreVote, raftpb.MsgVote:
		// Before a restart this peer may have promised a leader's lease.
		if p.store.votesRefused() && string(msg.GetContext()) != campaignTransfer {
			p.store.drop("vote_after_restart")
			return false
		}
	case raftpb.MsgReadIndex:
		if r := p.role.Load(); r.leader && p.appliedTerm != r.term {
			return false // it asks again; see readAll
		} else if r.leader {
			p.followerReads.Store(r.term)
		}
		return !p.lockedReadIndex(msg)
	case raftpb.MsgSnap:
		return p.acceptSnapshot(m)
	case raftpb.MsgProp, raftpb.MsgTransferLeader, raftpb.MsgHup, raftpb.MsgBeat, raftpb.MsgUnreachable, raftpb.MsgSnapStatus,
		raftpb.MsgCheckQuorum, raftpb.MsgStorageAppend, raftpb.MsgStorageAppendResp, raftpb.MsgStorageApply,
		raftpb.MsgStorageApplyResp, raftpb.MsgForgetLeader:
		p.store.drop("malformed")
		return false
	}
	return true
}

// campaignTransfer is the context of votes in a leader transfer; Raft keeps the
// constant to itself. Such votes break leases, so the old leader gave its own up.
const campaignTransfer = "CampaignTransfer"

// votesRefused: for one election timeout after its start a store keeps
// promises that it may have made before and has forgotten (hazard 7).
func (s *Store) votesRefused() bool { return s.now() < int64(s.cfg.electionTimeout()) }

// tickMissing asks the other members whether this peer still is one, when it has
// not heard of its leader for long. Who leads is no sign of life: a learner never
// campaigns, and so believes in its last leader for ever (hazard 15).
func (p *peer) tickMissing() {
	if p.role.Load().leader {
		p.missing = 0
		return
	}
	p.missing++
	if p.missing < missingLeaderElections*p.store.cfg.ElectionTicks {
		return
	}
	p.missing = 0
	p.store.validate(p, p.now)
	region := p.region.Load()
	for _, peer := range region.Peers {
		if peer.Id != p.id {
			p.query(peer)
		}
	}
	for _, peer := range p.otherPeers {
		p.query(&peer)
	}
}

func (p *peer) query(to *metapb.Peer) {
	m := p.newMessage(p.region.Load())
	m.To, m.Query = *to, true
	p.store.transport.Send(m)
}
