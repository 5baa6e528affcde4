package raftstore

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

type nowhere struct{}

func (nowhere) Send(*RaftMessage) {}
func (nowhere) SendSnapshot(context.Context, *RaftMessage, []SnapshotFile) error {
	return context.Canceled
}
func (nowhere) AskBatchSplit(context.Context, *metapb.Region, int) (*pdpb.AskBatchSplitResponse, error) {
	return nil, context.Canceled
}
func (nowhere) ReportBatchSplit(context.Context, []*metapb.Region) error      { return nil }
func (nowhere) GetRegionByID(context.Context, uint64) (*metapb.Region, error) { return nil, nil }
func (nowhere) ReportRegion(*pdpb.RegionHeartbeatRequest)                     {}

// disks are the databases of store 1.
type disks struct {
	t      *testing.T
	fs     *vfs.MemFS
	engine *engine.Engine
	log    *raftlog.Log
}

func newDisks(t *testing.T) *disks {
	d := &disks{t: t, fs: vfs.NewMem()}
	var err error
	d.engine, err = engine.Open(engine.Options{Dir: "data", FS: d.fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	require.NoError(t, err)
	d.log, err = raftlog.Open(raftlog.Options{Dir: "raft", FS: d.fs, CacheBytes: 1 << 20})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, d.engine.Close())
		require.NoError(t, d.log.Close())
	})
	return d
}

func (d *disks) open() (*Store, error) {
	return New(Options{StoreID: 1, Engine: d.engine, Log: d.log, Transport: nowhere{}, PD: nowhere{}, SnapDir: "snap", FS: d.fs})
}

func (d *disks) writeLog(fill func(b *raftlog.Batch)) {
	b := d.log.NewBatch()
	fill(b)
	require.NoError(d.t, d.log.Commit(b, true))
	require.NoError(d.t, b.Close())
}

func (d *disks) writeData(fill func(b *engine.Batch)) {
	b := d.engine.NewBatch()
	fill(b)
	require.NoError(d.t, d.engine.Apply(b))
	require.NoError(d.t, b.Close())
}

func testRegion(peers ...uint64) *metapb.Region {
	r := &metapb.Region{Id: 7, StartKey: []byte("a"), EndKey: []byte("m"), RegionEpoch: &metapb.RegionEpoch{ConfVer: 3, Version: 4}}
	for i, id := range peers {
		r.Peers = append(r.Peers, &metapb.Peer{Id: id, StoreId: uint64(i + 1)})
	}
	return r
}

func normal(b *engine.Batch, r *metapb.Region, applied applyState) {
	b.PutMeta(metaKey(regionStateKind, r.Id), encodeRegionState(normalState(r)))
	b.PutMeta(metaKey(applyStateKind, r.Id), applied.encode())
}

// The crash came when the snapshot was in the data engine and the log was
// still the old one.
func TestHazard10_SnapshotIngestedLogNot(t *testing.T) {
	d := newDisks(t)
	d.writeData(func(b *engine.Batch) { normal(b, testRegion(70, 71), applyState{100, 9}) })
	d.writeLog(func(b *raftlog.Batch) {
		b.PutMeta(metaKey(peerIDKind, 7), encodeUvarint(70))
		b.SetTruncated(7, initialIndex, initialTerm)
		b.Append(7, []*raftpb.Entry{{Index: new(uint64(6)), Term: new(uint64(6))}}, 5)
		b.SetHardState(7, hardState{term: 9, vote: 71, commit: 6}.proto())
		b.PutMeta(metaKey(snapIntentKind, 7), snapshotIntent{70, 100, 9}.encode())
	})
	s, err := d.open()
	require.NoError(t, err)
	defer s.Stop()
	p := s.peer(7)
	require.True(t, p.ensureRaft())
	require.Equal(t, hardState{term: 9, vote: 71, commit: 100}, p.hs, "the vote of the term stays")
	require.Equal(t, uint64(100), p.st.truncatedIndex)
	require.Equal(t, uint64(100), p.st.last)
	_, ok, err := d.log.GetMeta(metaKey(snapIntentKind, 7))
	require.NoError(t, err)
	require.False(t, ok)
}

// The crash came before the snapshot was ingested: nothing has happened.
func TestHazard10_SnapshotNotIngested(t *testing.T) {
	d := newDisks(t)
	d.writeData(func(b *engine.Batch) { normal(b, testRegion(70, 71), applyState{5, 5}) })
	d.writeLog(func(b *raftlog.Batch) {
		b.PutMeta(metaKey(peerIDKind, 7), encodeUvarint(70))
		b.SetTruncated(7, initialIndex, initialTerm)
		b.SetHardState(7, hardState{term: 9, vote: 71, commit: 5}.proto())
		b.PutMeta(metaKey(snapIntentKind, 7), snapshotIntent{70, 100, 9}.encode())
	})
	s, err := d.open()
	require.NoError(t, err)
	defer s.Stop()
	require.True(t, s.peer(7).ensureRaft())
	require.Equal(t, hardState{term: 9, vote: 71, commit: 5}, s.peer(7).hs)
	require.Equal(t, uint64(5), s.peer(7).st.last)
}

// The crash came between the tombstone and the end of the data.
func TestHazard10_DestroyIsFinished(t *testing.T) {
	d := newDisks(t)
	region := testRegion(70, 71)
	d.writeData(func(b *engine.Batch) {
		b.Put(kv.CFDefault, []byte("b"), []byte("mine"))
		b.Put(kv.CFDefault, []byte("n"), []byte("another region's"))
		normal(b, region, applyState{50, 6})
		b.PutMeta(metaKey(regionStateKind, 7), encodeRegionState(tombstoneState(testRegion(71), metapb.Peer{Id: 70, StoreId: 1})))
	})
	d.writeLog(func(b *raftlog.Batch) {
		b.PutMeta(metaKey(peerIDKind, 7), encodeUvarint(70))
		b.SetTruncated(7, initialIndex, initialTerm)
	})
	s, err := d.open()
	require.NoError(t, err)
	require.Nil(t, s.peer(7))
	require.Equal(t, uint64(70), s.tombstone(7))
	s.Stop()
	es := d.engine.NewSnapshot()
	_, _, err = es.Get(kv.CFDefault, []byte("b"))
	require.ErrorIs(t, err, kv.ErrNotFound)
	_, closer, err := es.Get(kv.CFDefault, []byte("n"))
	require.NoError(t, err)
	require.NoError(t, closer.Close())
	require.NoError(t, es.Close())
	_, ok, err := d.log.Load(7)
	require.NoError(t, err)
	require.False(t, ok)
	s, err = d.open() // and it stays so
	require.NoError(t, err)
	defer s.Stop()
	require.Equal(t, uint64(70), s.tombstone(7))
}

// Databases that don't belong together are refused, not repaired.
func TestLoadRefusesForeignLog(t *testing.T) {
	d := newDisks(t)
	d.writeData(func(b *engine.Batch) { normal(b, testRegion(70, 71), applyState{50, 6}) })
	_, err := d.open()
	require.ErrorContains(t, err, "don't belong together")
}

// Hazard 9: while something committed is not applied, a snapshot is too early:
// among it may be a split that gives a part of the range away.
func TestHazard09_SnapshotWaitsForApply(t *testing.T) {
	d := newDisks(t)
	d.writeData(func(b *engine.Batch) { normal(b, testRegion(70, 71), applyState{5, 5}) })
	d.writeLog(func(b *raftlog.Batch) {
		b.PutMeta(metaKey(peerIDKind, 7), encodeUvarint(70))
		b.SetTruncated(7, initialIndex, initialTerm)
		b.Append(7, []*raftpb.Entry{{Index: new(uint64(6)), Term: new(uint64(6))}}, 5)
		b.SetHardState(7, hardState{term: 6, commit: 6}.proto())
	})
	s, err := d.open()
	require.NoError(t, err)
	defer s.Stop()
	region := testRegion(70, 71)
	data, err := s.encodeSnapshotData(normalState(region), nil, nil)
	require.NoError(t, err)
	m := &RaftMessage{
		RegionID: 7, From: *region.Peers[1], To: *region.Peers[0],
		Msg: &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(71)), To: new(uint64(70)), Term: new(uint64(6)),
			Snapshot: &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
				Index: new(uint64(100)), Term: new(uint64(6)), ConfState: confState(region)}}},
	}
	_, err = s.BeginSnapshot(m)
	require.NoError(t, err)
	p := s.peer(7)
	require.True(t, p.ensureRaft())
	require.False(t, p.acceptSnapshot(m))
	p.appliedIndex = 6
	require.True(t, p.acceptSnapshot(m))
}
