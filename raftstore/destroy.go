package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// The end of a peer, in an order that a crash can interrupt anywhere (hazard
// 10):
//
//  1. The applier writes the tombstone beside the apply state. If that is lost
//     in a crash, so is what came before it, and the log brings it back.
//  2. DestroyRange deletes the data and the apply state, durably.
//  3. The Raft log drops the region and notes the peer's id, durably: messages
//     for it and its predecessors are refused from now on, for ever (hazard 4).
//
// Until 3 the peer stays in the store's map, so its range is taken.

// tombstoneKind keys, in the Raft log, the highest peer id that has ended in a
// region: 't' region(8) → uvarint id.
const tombstoneKind = 't'

// doom is the end of a peer that has to apply something first.
type doom struct {
	epoch metapb.RegionEpoch
	after uint64 // index
}

// endLife ends a peer that has learned from others that it is no member as of
// epoch. What it knows to be committed is applied before: among it may be a
// split whose child has voted and acknowledged entries here, before a crash made
// this store forget that it had come so far (hazards 4, 10).
func (p *peer) endLife(epoch metapb.RegionEpoch) {
	if p.snap.applying {
		p.snap.ended = &epoch
		return
	}
	if p.ending {
		return
	}
	if after := max(p.rn.BasicStatus().GetCommit(), p.hs.commit); p.handed < after {
		p.doomed = &doom{epoch, after}
		return
	}
	p.ending = true
	p.log.Info("peer is no member any longer", slog.String("epoch", epoch.String()))
	p.apply.put(&applyTask{destroy: true})
	p.store.applySched.enqueue(p)
}

// endIfDue ends a doomed peer when apply has all that it waits for.
func (p *peer) endIfDue() {
	if d := p.doomed; d != nil && p.handed >= d.after && !p.gone {
		p.doomed = nil
		p.endLife(d.epoch)
	}
}

// startDestroy ends the Raft worker's part. region is as of the removal.
func (p *peer) startDestroy(region *metapb.Region) {
	p.leave(errRegionNotFound(p.regionID), errOutcomeUnknown(p.regionID, "the peer was removed"))
	initialized := p.initialized()
	p.store.background.must(func() { p.store.destroy(p, region, initialized) })
}

// leave ends the peer's office and all requests: those not proposed yet with
// err, those in the log with outcome.
func (p *peer) leave(err, outcome error) {
	old := p.role.Load()
	p.gone = true
	p.resetLease()
	p.role.Store(&role{term: old.term})
	if old.leader {
		p.store.observer.RoleChanged(p.regionID, false, old.term)
	}
	for _, prop := range p.props {
		prop.finish(err)
	}
	p.props = nil
	if p.st != nil {
		p.st.cache.clear()
	}
	p.failReads(err)
	for _, prop := range p.waiters.takeOlder(old.term + 1) {
		prop.finish(outcome)
	}
	if r := p.snap.current; r != nil {
		p.store.background.must(r.discard)
	}
	for _, dir := range p.snap.made {
		p.store.background.must(func() { p.store.removeDir(dir) })
	}
}

// destroy deletes what the store has of a peer.
func (s *Store) destroy(p *peer, region *metapb.Region, initialized bool) {
	if initialized {
		if err := s.destroyData(region, p.id); err != nil {
			s.destroyFailed(err)
			return
		}
	}
	s.logWriter.submit(&logTask{
		p: p, sync: true, call: func() { s.forget(p, region) },
		extra: func(b *raftlog.Batch) { buryInLog(b, region.Id, p.id) },
	})
}

// destroyFailed: a store that stops takes the destruction up at its next start.
func (s *Store) destroyFailed(err error) {
	if !errors.Is(err, ErrStopped) {
		s.fatal(err)
	}
}

// destroyData is step 2.
func (s *Store) destroyData(region *metapb.Region, peerID uint64) error {
	st := tombstoneState(region, metapb.Peer{Id: peerID, StoreId: s.id})
	ok, err := s.untilRoom(fmt.Sprintf("destroy region %d", region.Id), func() error {
		return s.engine.DestroyRange(region.StartKey, region.EndKey, []engine.MetaPut{
			{Key: metaKey(regionStateKind, region.Id), Value: encodeRegionState(st)},
			{Key: metaKey(applyStateKind, region.Id)},
		})
	})
	if !ok {
		return ErrStopped
	}
	if err != nil {
		return fmt.Errorf("raftstore: destroy region %d: %w", region.Id, err)
	}
	return nil
}

// buryInLog is step 3.
func buryInLog(b *raftlog.Batch, regionID, peerID uint64) {
	b.DeleteRegion(regionID)
	b.DeleteMeta(metaKey(peerIDKind, regionID))
	b.DeleteMeta(metaKey(snapIntentKind, regionID))
	b.PutMeta(metaKey(tombstoneKind, regionID), encodeUvarint(peerID))
}

// forget takes a destroyed peer out of the store.
func (s *Store) forget(p *peer, region *metapb.Region) {
	for _, m := range p.mail.close() {
		p.handleGone(m)
	}
	s.mu.Lock()
	s.peers.CompareAndDelete(p.regionID, p)
	if !s.unborn[p.regionID] {
		s.ranges.remove(p.regionID)
	}
	s.tombstones[p.regionID] = max(s.tombstones[p.regionID], p.id)
	s.mu.Unlock()
	p.log.Info("peer destroyed")
	s.observer.RegionChanged(region, true)
}

func (s *Store) tombstone(regionID uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tombstones[regionID]
}

// handleGone answers the mail of a peer that is being destroyed.
func (p *peer) handleGone(m any) {
	switch m := m.(type) {
	case *RaftMessage:
		p.store.received.Add(-int64(m.bytesSize()))
		p.store.discardSnapshotOf(m)
	case *applyDone:
		if m.hash != nil {
			p.dropHash(m.hash)
		}
	case *proposal:
		m.finish(errRegionNotFound(p.regionID))
	case *readRequest:
		m.finish(errRegionNotFound(p.regionID))
	case mailHold:
		m.take.answered(false)
	case *mailTaken:
		p.store.background.must(m.take.r.discard)
	case mailInitialize:
		p.store.mu.Lock()
		p.store.unborn[p.regionID] = true
		p.store.mu.Unlock()
		p.store.background.must(func() { p.store.destroyUnborn(m.region, p.id) })
	}
}

func (s *Store) discardSnapshotOf(m *RaftMessage) {
	if m.Msg == nil {
		return
	}
	if r := s.reservedFor(m); r != nil {
		s.background.must(r.discard)
	}
}

// destroyUnborn deletes the data of a split's child whose peer was removed
// between the split's apply and its birth.
func (s *Store) destroyUnborn(region *metapb.Region, peerID uint64) {
	if err := s.destroyData(region, peerID); err != nil {
		s.destroyFailed(err)
		return
	}
	s.mu.Lock()
	delete(s.unborn, region.Id)
	s.ranges.remove(region.Id)
	s.mu.Unlock()
}

func encodeUvarint(v uint64) []byte { return binary.AppendUvarint(nil, v) }

func decodeUvarint(b []byte) (uint64, bool) {
	v, n := binary.Uvarint(b)
	return v, n == len(b) && n > 0
}
