package raftstore

import (
	"testing"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// These tests drive a store that was not started by hand, so that two of its
// workers meet in the one order that matters.

// openRegion7 opens a store with region 7, [a, m), applied up to 5.
func openRegion7(t *testing.T) (*disks, *Store) {
	d := newDisks(t)
	d.writeData(func(b *engine.Batch) {
		normal(b, testRegion(70, 71), applyState{initialIndex, initialTerm})
		b.Put(kv.CFDefault, []byte("b"), []byte("child's"))
		b.Put(kv.CFDefault, []byte("k"), []byte("parent's"))
		b.Put(kv.CFDefault, []byte("z"), []byte("another region's"))
	})
	d.writeLog(func(b *raftlog.Batch) {
		b.PutMeta(metaKey(peerIDKind, 7), encodeUvarint(70))
		b.SetTruncated(7, initialIndex, initialTerm)
		b.SetHardState(7, hardState{term: 6, commit: 5}.proto())
	})
	s, err := d.open()
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	require.True(t, s.peer(7).ensureRaft())
	return d, s
}

// applyRound does what an apply worker does with one peer.
func applyRound(t *testing.T, p *peer) {
	t.Helper()
	batch := p.store.engine.NewBatch()
	defer batch.Close()
	p.apply.round(batch)
	require.NoError(t, p.store.engine.Apply(batch))
	p.apply.finish()
}

// runBackground does what waits for a background worker.
func runBackground(s *Store) {
	for len(s.background.queue) > 0 {
		s.background.next()()
	}
}

func (d *disks) has(key string) bool {
	es := d.engine.NewSnapshot()
	defer es.Close()
	_, closer, err := es.Get(kv.CFDefault, []byte(key))
	if err != nil {
		require.ErrorIs(d.t, err, kv.ErrNotFound)
		return false
	}
	require.NoError(d.t, closer.Close())
	return true
}

// splitEntry is an entry that cuts region 7 at h; the child is region 8.
func splitEntry() *raftpb.Entry {
	req := &raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_BatchSplit, Splits: &raft_cmdpb.BatchSplitRequest{
		Requests: []*raft_cmdpb.SplitRequest{{SplitKey: []byte("h"), NewRegionId: 8, NewPeerIds: []uint64{80, 81}}}}}
	h := entryHeader{kind: entryKindAdmin, id: proposalID{peer: 71, seq: 1}, epoch: metapb.RegionEpoch{ConfVer: 3, Version: 4}}
	return &raftpb.Entry{Index: new(uint64(6)), Term: new(uint64(6)), Data: encodeAdmin(&h, req)}
}

// A peer hears that it was removed while a split is committed but not applied
// here: the children keep what they got.
func TestHazard10_DestroySparesChildrenOfLastSplit(t *testing.T) {
	d, s := openRegion7(t)
	p := s.peer(7)
	p.apply.put(&applyTask{entries: []*raftpb.Entry{splitEntry()}})
	p.endLife(metapb.RegionEpoch{ConfVer: 9, Version: 5})
	applyRound(t, p)
	p.process(nil)
	runBackground(s)
	require.NotNil(t, s.peer(8))
	require.True(t, d.has("b"), "the child's data is gone")
	require.False(t, d.has("k"))
	require.True(t, d.has("z"))
	require.False(t, s.ranges.overlaps(8, []byte("a"), []byte("h")), "the dying parent has the child's range")
}

// A child's peer that waits for its end gets the child's data by a split in
// between: the data goes, and nothing else.
func TestHazard10_DestroyOfUnbornChild(t *testing.T) {
	for _, endFirst := range []bool{false, true} {
		d, s := openRegion7(t)
		child, err := s.newPeer(&metapb.Region{Id: 8, RegionEpoch: &metapb.RegionEpoch{ConfVer: 3, Version: 5}}, 80,
			raftlog.RaftState{HardState: hardState{}.proto()}, applyState{})
		require.NoError(t, err)
		s.peers.Store(uint64(8), child)
		child.endLife(metapb.RegionEpoch{ConfVer: 9, Version: 5})
		if endFirst {
			applyRound(t, child)
		}
		p := s.peer(7)
		p.apply.put(&applyTask{entries: []*raftpb.Entry{splitEntry()}, responses: []*raftpb.Message{{Type: raftpb.MsgStorageApplyResp.Enum(), To: new(uint64(70)), From: new(uint64(0))}}})
		applyRound(t, p)
		for _, m := range p.mail.swap(nil) {
			d := m.(*applyDone)
			p.onSplits(d.splits, d.region) // and not more: Raft knows nothing of the entry
		}
		for _, m := range child.mail.swap(nil) {
			child.handle(m)
		}
		if !endFirst {
			applyRound(t, child)
		}
		child.process(nil)
		runBackground(s)
		require.True(t, d.has("z"), "another region's data is gone (%v)", endFirst)
		require.True(t, d.has("k"), "the parent's data is gone (%v)", endFirst)
		require.False(t, d.has("b"), "the child's data stays (%v)", endFirst)
	}
}

func snapshotFor7(t *testing.T, s *Store) *RaftMessage {
	region := testRegion(70, 71)
	data, err := s.encodeSnapshotData(normalState(region), nil, nil)
	require.NoError(t, err)
	return &RaftMessage{
		RegionID: 7, From: *region.Peers[1], To: *region.Peers[0],
		Msg: &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(71)), To: new(uint64(70)), Term: new(uint64(6)),
			Snapshot: &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
				Index: new(uint64(100)), Term: new(uint64(6)), ConfState: confState(region)}}},
	}
}

// A peer whose end is under way takes no snapshot: it would be written beside
// the deletion.
func TestHazard10_NoSnapshotWhileEnding(t *testing.T) {
	_, s := openRegion7(t)
	m := snapshotFor7(t, s)
	_, err := s.BeginSnapshot(m)
	require.NoError(t, err)
	p := s.peer(7)
	p.endLife(metapb.RegionEpoch{ConfVer: 9, Version: 5})
	require.False(t, p.acceptSnapshot(m))
	runBackground(s)
	require.Empty(t, s.reserved)
}

// A snapshot for a peer that a later one has replaced gives its range back.
func TestHazard09_SnapshotForFormerPeerFreesRange(t *testing.T) {
	_, s := openRegion7(t)
	m := snapshotFor7(t, s)
	_, err := s.BeginSnapshot(m)
	require.NoError(t, err)
	p := s.peer(7)
	p.id = 99 // as if destroyed and created anew meanwhile
	p.onMessage(m)
	runBackground(s)
	require.Empty(t, s.reserved)
}

// A read that has its index but not yet its snapshot when the data goes must
// not take what is left for the region.
func TestHazard10_ReadMeetsDestroy(t *testing.T) {
	_, s := openRegion7(t)
	p := s.peer(7)
	rc := &kvrpcpb.Context{RegionId: 7, RegionEpoch: p.region.Load().RegionEpoch}
	snap, err := p.takeSnapshot(0).checked(rc)
	require.NoError(t, err)
	require.NoError(t, snap.Close())
	p.endLife(metapb.RegionEpoch{ConfVer: 9, Version: 5})
	applyRound(t, p)
	p.process(nil)
	runBackground(s)
	_, err = p.takeSnapshot(0).checked(rc)
	require.NotNil(t, kv.AsRegionError(err).GetRegionNotFound(), "%v", err)
}

// Proposal numbers begin again after a restart. An old command that is applied
// late must not end the wait for a new one with the same number.
func TestHazard08_OldCommandLeavesLeaseSuspended(t *testing.T) {
	_, s := openRegion7(t)
	p := s.peer(7)
	p.role.Store(&role{term: 7, leader: true})
	p.admin.split = proposalID{peer: 70, seq: 1}
	p.suspendLease()
	p.onApplyDone(&applyDone{index: 6, term: 6, admins: []appliedAdmin{{proposalID{70, 1}, 6}}})
	require.True(t, p.leases.blocked)
	p.onApplyDone(&applyDone{index: 7, term: 7, admins: []appliedAdmin{{proposalID{70, 1}, 7}}})
	require.False(t, p.leases.blocked)
}

// A write that was decided on two leaderships ago, and was on its way to the
// peer since, is refused: another leader's writes may be in between.
func TestHazard12_TermCheckedAtPropose(t *testing.T) {
	_, s := openRegion7(t)
	p := s.peer(7)
	p.role.Store(&role{term: 9, leader: true})
	old := &proposal{epoch: proposalEpoch{3, 4}, decidedIn: 7, done: make(chan error, 1)}
	p.props = []*proposal{old}
	p.proposeAll()
	require.NotNil(t, kv.AsRegionError(<-old.done).GetStaleCommand())
}
