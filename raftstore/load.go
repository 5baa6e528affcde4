package raftstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
)

// load makes the peers from the databases, after it has finished what a crash
// interrupted. The data engine lost its memtables in a crash, so it is behind
// the Raft log, never before it.
func (s *Store) load() error {
	for _, dir := range [...]string{snapSendDir, snapRecvDir} {
		dir = s.fs.PathJoin(s.snapDir, dir)
		if err := errors.Join(s.fs.RemoveAll(dir), s.fs.MkdirAll(dir, 0o755)); err != nil {
			return fmt.Errorf("raftstore: clear %s: %w", dir, err)
		}
	}
	if err := s.openImport(); err != nil {
		return err
	}
	err := s.raftLog.ScanMeta([]byte{tombstoneKind}, func(key, value []byte) error {
		id, ok := decodeUvarint(value)
		if !ok || len(key) != 9 {
			return fmt.Errorf("raftstore: tombstone %x is damaged", key)
		}
		s.tombstones[binary.BigEndian.Uint64(key[1:])] = id
		return nil
	})
	if err == nil {
		err = s.loadFailed()
	}
	if err == nil {
		err = s.finishSnapshots()
	}
	if err != nil {
		return err
	}
	found, err := s.scanRegions()
	if err != nil {
		return err
	}
	for _, st := range found.states {
		if err := s.loadRegion(st, found); err != nil {
			return err
		}
	}
	s.sweepStagedNow(true)
	s.log.Info("regions loaded", slog.Int("regions", int(s.countRegions())), slog.Int("states", len(found.states)))
	return nil
}

// foundRegions is what the databases say about regions, read in long scans:
// one look for each region would dominate the start of a store of many.
type foundRegions struct {
	states  []*raft_serverpb.RegionLocalState // by start key
	applied map[uint64]applyState
	logged  map[uint64]uint64 // region → the peer whose log is in the Raft log
}

func (s *Store) scanRegions() (*foundRegions, error) {
	f := &foundRegions{applied: map[uint64]applyState{}, logged: map[uint64]uint64{}}
	err := s.engine.ScanMeta([]byte{regionStateKind}, func(key, value []byte) error {
		st, err := decodeRegionState(key, value)
		f.states = append(f.states, st)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = s.engine.ScanMeta([]byte{applyStateKind}, func(key, value []byte) error {
		if len(key) != 9 {
			return fmt.Errorf("raftstore: apply state %x is damaged", key)
		}
		id := binary.BigEndian.Uint64(key[1:])
		f.applied[id], err = decodeApplyState(id, value)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = s.raftLog.ScanMeta([]byte{peerIDKind}, func(key, value []byte) error {
		id, ok := decodeUvarint(value)
		if !ok || len(key) != 9 {
			return fmt.Errorf("raftstore: peer id %x in the raft log is damaged: %x", key, value)
		}
		f.logged[binary.BigEndian.Uint64(key[1:])] = id
		return nil
	})
	slices.SortFunc(f.states, func(a, b *raft_serverpb.RegionLocalState) int {
		return bytes.Compare(a.Region.StartKey, b.Region.StartKey)
	})
	return f, err
}

// loadRegion makes a cold peer, or finishes its end.
func (s *Store) loadRegion(st *raft_serverpb.RegionLocalState, found *foundRegions) error {
	region := st.Region
	applied, hasData := found.applied[region.Id]
	if st.State == raft_serverpb.PeerState_Tombstone {
		return s.finishDestroy(region, tombstonePeerID(st), hasData)
	}
	self := peerOnStore(region, s.id)
	if self == nil || !hasData {
		return fmt.Errorf("raftstore: region %d on disk has no peer on store %d, or no apply state: is the data directory of another store?", region.Id, s.id)
	}
	if s.tombstones[region.Id] >= self.Id {
		return s.finishDestroy(region, self.Id, true)
	}
	if found.logged[region.Id] != self.Id && applied.index != initialIndex {
		return errForeignLog(region.Id, applied.index, raftlog.RaftState{})
	}
	p := s.newColdPeer(region, self.Id, applied)
	p.apply.restore(st)
	p.merging.Store(p.apply.merge)
	if err := p.dropOldMark(); err != nil {
		return err
	}
	if s.overlapsLocked(region.Id, region.StartKey, region.EndKey) {
		return fmt.Errorf("raftstore: region %d overlaps another region of the store", region.Id)
	}
	s.ranges.set(region)
	s.peers.Store(p.regionID, p)
	return nil
}

// finishDestroy takes up the end of a peer where a crash left it.
func (s *Store) finishDestroy(region *metapb.Region, peerID uint64, hasData bool) error {
	if hasData {
		if err := s.destroyData(region, peerID); err != nil {
			return err
		}
	}
	if s.tombstones[region.Id] >= peerID {
		return nil
	}
	s.tombstones[region.Id] = peerID
	return s.commitLog(func(b *raftlog.Batch) { buryInLog(b, region.Id, peerID) })
}

// finishSnapshots brings the log behind snapshots that were ingested.
func (s *Store) finishSnapshots() error {
	intents := map[uint64]snapshotIntent{}
	err := s.raftLog.ScanMeta([]byte{snapIntentKind}, func(key, value []byte) error {
		if len(key) != 9 {
			return fmt.Errorf("raftstore: snapshot intent %x is damaged", key)
		}
		id := binary.BigEndian.Uint64(key[1:])
		intent, err := decodeSnapshotIntent(id, value)
		intents[id] = intent
		return err
	})
	if err != nil {
		return err
	}
	for id, intent := range intents {
		if err := s.finishSnapshot(id, intent); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) finishSnapshot(regionID uint64, intent snapshotIntent) error {
	applied, ok, err := s.loadApplyState(regionID)
	if err != nil {
		return err
	}
	if !ok || applied != (applyState{intent.index, intent.term}) {
		return s.commitLog(func(b *raftlog.Batch) { b.DeleteMeta(metaKey(snapIntentKind, regionID)) })
	}
	rs, ok, err := s.loadLog(regionID, intent.peer)
	if err != nil {
		return err
	}
	hs := hardState{term: intent.term, commit: intent.index}
	if ok && rs.HardState.GetTerm() >= intent.term {
		hs.term, hs.vote = rs.HardState.GetTerm(), rs.HardState.GetVote()
	}
	s.log.Info("snapshot finished after a crash", slog.Uint64("region", regionID), slog.Uint64("index", intent.index))
	return s.commitLog(func(b *raftlog.Batch) {
		replaceLog(b, regionID, intent.peer, hs.proto(), intent.index, intent.term)
	})
}

// commitLog writes a batch before the log writer runs.
func (s *Store) commitLog(fill func(*raftlog.Batch)) error {
	b := s.raftLog.NewBatch()
	defer b.Close()
	fill(b)
	return s.raftLog.Commit(b, true)
}

func (s *Store) loadApplyState(regionID uint64) (applyState, bool, error) {
	value, ok, err := s.engine.GetMeta(metaKey(applyStateKind, regionID))
	if err != nil || !ok {
		return applyState{}, false, err
	}
	st, err := decodeApplyState(regionID, value)
	return st, true, err
}

// loggedPeerID returns the peer whose votes and entries the log has, or 0.
func (s *Store) loggedPeerID(regionID uint64) (uint64, error) {
	value, ok, err := s.raftLog.GetMeta(metaKey(peerIDKind, regionID))
	if err != nil || !ok {
		return 0, err
	}
	id, ok := decodeUvarint(value)
	if !ok {
		return 0, fmt.Errorf("raftstore: peer id of region %d in the raft log is damaged: %x", regionID, value)
	}
	return id, nil
}

// loadLog returns the log of a region if it is this peer's.
func (s *Store) loadLog(regionID, peerID uint64) (rs raftlog.RaftState, ok bool, err error) {
	id, err := s.loggedPeerID(regionID)
	if err != nil || id != peerID {
		return rs, false, err
	}
	rs, ok, err = s.raftLog.Load(regionID)
	if err == nil && !ok { // created, and nothing voted or written yet
		return raftlog.RaftState{HardState: hardState{}.proto()}, true, nil
	}
	return rs, ok, err
}

func (s *Store) snapshotRegion(es *engine.Snapshot, regionID uint64) (*raft_serverpb.RegionLocalState, error) {
	value, ok, err := es.GetMeta(metaKey(regionStateKind, regionID))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("raftstore: region %d has no state", regionID)
	}
	st, err := decodeRegionState(nil, value)
	if err != nil {
		return nil, err
	}
	if st.State != raft_serverpb.PeerState_Normal && st.State != raft_serverpb.PeerState_Merging {
		return nil, fmt.Errorf("raftstore: region %d is %s", regionID, st.State)
	}
	return st, nil
}

func (s *Store) snapshotApplyState(es *engine.Snapshot, regionID uint64) (applyState, error) {
	value, ok, err := es.GetMeta(metaKey(applyStateKind, regionID))
	if err != nil {
		return applyState{}, err
	}
	if !ok {
		return applyState{}, fmt.Errorf("raftstore: region %d has no apply state", regionID)
	}
	return decodeApplyState(regionID, value)
}

func (s *Store) snapshotApplied(es *engine.Snapshot, regionID uint64) (uint64, error) {
	st, err := s.snapshotApplyState(es, regionID)
	return st.index, err
}

// Bootstrap writes the first region of a cluster; the store must be empty. The
// region is durable when it returns.
func (s *Store) Bootstrap(region *metapb.Region) error {
	self := peerOnStore(region, s.id)
	if self == nil || region.GetRegionEpoch() == nil {
		return fmt.Errorf("raftstore: bootstrap: region %d has no epoch, or no peer on store %d", region.GetId(), s.id)
	}
	err := s.engine.ScanMeta([]byte{regionStateKind}, func(key, _ []byte) error {
		return fmt.Errorf("raftstore: bootstrap: the store has region state %x already", key)
	})
	if err != nil {
		return err
	}
	b := s.engine.NewBatch()
	defer b.Close()
	b.PutMeta(metaKey(regionStateKind, region.Id), encodeRegionState(normalState(region)))
	b.PutMeta(metaKey(applyStateKind, region.Id), applyState{initialIndex, initialTerm}.encode())
	if err := s.engine.Apply(b); err != nil {
		return fmt.Errorf("raftstore: bootstrap: %w", err)
	}
	if err := s.engine.Flush(context.Background()); err != nil {
		return fmt.Errorf("raftstore: bootstrap: %w", err)
	}
	p, err := s.newChild(cloneRegion(region))
	if err != nil {
		return err
	}
	s.addPeer(p)
	s.observer.RegionChanged(region, false)
	if lone(region) {
		p.send(mailCampaign{})
	}
	return nil
}
