package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"github.com/zeebo/xxh3"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A snapshot brings a peer that needs entries the log no longer has up to date.
//
//	leader                                   follower
//	Raft asks Storage.Snapshot
//	engine snapshot ► SST files (SnapDir/send)
//	MsgSnap + files ────── Transport ──────► SnapDir/recv, range reserved
//	                                         Raft takes MsgSnap
//	                                         intent in the Raft log, synced
//	                                         IngestReplace: data + region + apply state
//	                                         log replaced, intent removed
//
// The message's data is version(1), the region's state, the names, sizes and
// checksums of the files, and the safe point up to which garbage was dropped.

const snapshotVersion = 2

// snapshotSource is what raft.Storage hands out.
type snapshotSource struct {
	wanted bool // Raft asked, and nothing is being made
	busy   bool
	ready  *raftpb.Snapshot
	dir    string
}

// take returns the snapshot that was made, if it is not older than the log.
func (s *snapshotSource) take(truncated uint64) *raftpb.Snapshot {
	if s.ready != nil && s.ready.GetMetadata().GetIndex() >= truncated {
		out := s.ready
		s.ready = nil
		return out
	}
	s.wanted = true
	return nil
}

// made has a snapshot ready for the next take. Raft has asked again and again
// while it was being made; this is what it gets.
func (s *snapshotSource) made(snap *raftpb.Snapshot, dir string) {
	s.ready, s.dir, s.wanted = snap, dir, false
}

// snapshotState is the Raft worker's view of snapshots of its peer.
type snapshotState struct {
	// made are the directories of snapshots whose MsgSnap is still to come, by
	// index; sending those on their way.
	made map[uint64]string

	applying bool
	ended    *metapb.RegionEpoch // the region ended meanwhile
	held     []heldAppend        // log tasks behind the snapshot
	// current is the received snapshot whose MsgSnap Raft was given.
	current *receivedSnapshot
}

type heldAppend struct {
	task *logTask
	done *appendDone
}

// snapshotMade, snapshotSent and snapshotApplied are mails of the background
// workers.
type (
	snapshotMade struct {
		snap *raftpb.Snapshot
		dir  string
		err  error
	}
	snapshotSent struct {
		to  uint64
		err error
	}
)

// makeSnapshotIfWanted starts to make a snapshot that Raft has asked for.
func (p *peer) makeSnapshotIfWanted() {
	src := &p.st.snap
	if !src.wanted || src.busy {
		return
	}
	src.wanted = false
	if !p.snapshotTaken() {
		return // Raft asks again with the next heartbeat
	}
	if src.ready != nil { // too old
		p.dropMade(src.ready, src.dir)
		src.ready = nil
	}
	src.busy = p.store.background.submit(func() {
		made := p.store.makeSnapshot(p.regionID)
		p.send(made)
	})
}

func (p *peer) onSnapshotMade(m *snapshotMade) {
	src := &p.st.snap
	src.busy = false
	if m.err != nil {
		p.log.Warn("snapshot not made", slog.Any("error", m.err))
		return
	}
	p.store.metrics.snapshots.WithLabelValues("made").Inc()
	region := p.region.Load()
	cs := m.snap.GetMetadata().GetConfState()
	if m.snap.GetMetadata().GetIndex() < p.st.truncatedIndex || !proto.Equal(confState(region), cs) {
		p.dropMade(m.snap, m.dir) // a new member would not find itself in it
		src.wanted = p.role.Load().leader
		return
	}
	src.made(m.snap, m.dir)
	if p.snap.made == nil {
		p.snap.made = make(map[uint64]string)
	}
	p.snap.made[m.snap.GetMetadata().GetIndex()] = m.dir
}

func (p *peer) dropMade(snap *raftpb.Snapshot, dir string) {
	delete(p.snap.made, snap.GetMetadata().GetIndex())
	p.store.background.must(func() { p.store.removeDir(dir) })
}

// makeSnapshot exports a region as of one engine snapshot: data, region and
// applied index belong together because they are written together.
func (s *Store) makeSnapshot(regionID uint64) *snapshotMade {
	if s.space.Level() == disk.AlreadyFull {
		return &snapshotMade{err: fmt.Errorf("raftstore: snapshot of region %d: the disk is full", regionID)}
	}
	es := s.engine.NewSnapshot()
	defer es.Close()
	state, err := s.snapshotRegion(es, regionID)
	if err != nil {
		return &snapshotMade{err: err}
	}
	st := state.Region
	applied, err := s.snapshotApplyState(es, regionID)
	if err != nil {
		return &snapshotMade{err: err}
	}
	dir := s.fs.PathJoin(s.snapDir, snapSendDir, fmt.Sprintf("%d_%d_%d", regionID, applied.index, s.snapSeq.Add(1)))
	if err := s.fs.MkdirAll(dir, 0o755); err != nil {
		return &snapshotMade{err: fmt.Errorf("raftstore: create %s: %w", dir, err)}
	}
	files, err := s.engine.ExportRange(es, st.StartKey, st.EndKey, dir, snapshotFileBytesMax)
	if err != nil {
		s.removeDir(dir)
		return &snapshotMade{err: err}
	}
	data, err := s.encodeSnapshotData(state, files, s.safePointsOf(st))
	if err != nil {
		s.removeDir(dir)
		return &snapshotMade{err: err}
	}
	return &snapshotMade{dir: dir, snap: &raftpb.Snapshot{
		Data: data,
		Metadata: &raftpb.SnapshotMetadata{
			Index: new(applied.index), Term: new(applied.term), ConfState: confState(st)},
	}}
}

// snapshotData is the decoded data of a MsgSnap.
type snapshotData struct {
	state  *raft_serverpb.RegionLocalState // Normal or Merging
	region *metapb.Region                  // in it
	files  []snapshotDataFile
	// safePoints is up to where garbage may be missing; none: none is.
	safePoints []kv.CollectedAt
}

type snapshotDataFile struct {
	name string
	size int64
	sum  uint64 // xxh3
}

func (s *Store) encodeSnapshotData(st *raft_serverpb.RegionLocalState, files []engine.SSTFile, safePoints []kv.CollectedAt) ([]byte, error) {
	b := appendBytes([]byte{snapshotVersion}, encodeRegionState(st))
	b = binary.AppendUvarint(b, uint64(len(files)))
	for _, f := range files {
		sum, err := s.checksum(f.Path)
		if err != nil {
			return nil, err
		}
		b = appendBytes(b, []byte(s.fs.PathBase(f.Path)))
		b = binary.AppendUvarint(b, f.Size)
		b = binary.AppendUvarint(b, sum)
	}
	// What comes behind the files is unknown to builds before it, which ignore it.
	b = binary.AppendUvarint(b, uint64(len(safePoints)))
	for _, c := range safePoints {
		b = binary.AppendUvarint(appendBytes(b, c.Key), c.TS)
	}
	return b, nil
}

func (s *Store) checksum(path string) (uint64, error) {
	f, err := s.fs.Open(path)
	if err != nil {
		return 0, err
	}
	h := xxh3.New()
	_, err = io.Copy(h, f)
	return h.Sum64(), errors.Join(err, f.Close())
}

func decodeSnapshotData(b []byte) (*snapshotData, error) {
	if len(b) == 0 || b[0] != snapshotVersion {
		return nil, fmt.Errorf("raftstore: snapshot of an unknown format; are all stores of the same release?")
	}
	d := decoder{rest: b[1:]}
	out := &snapshotData{state: new(raft_serverpb.RegionLocalState)}
	state := d.bytes()
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		out.files = append(out.files, snapshotDataFile{name: string(d.bytes()), size: int64(d.uvarint()), sum: d.uvarint()})
	}
	if len(d.rest) > 0 {
		for n := d.uvarint(); n > 0 && !d.failed; n-- {
			out.safePoints = append(out.safePoints, kv.CollectedAt{Key: d.bytes(), TS: d.uvarint()})
		}
	}
	if d.failed {
		return nil, fmt.Errorf("raftstore: snapshot header of %d bytes is cut off", len(b))
	}
	err := out.state.Unmarshal(state)
	out.region = out.state.Region
	merging := out.state.State == raft_serverpb.PeerState_Merging
	if err != nil || out.region.GetRegionEpoch() == nil || len(out.region.Peers) == 0 || merging != (out.state.MergeState != nil) {
		return nil, fmt.Errorf("raftstore: region in a snapshot is damaged: %v", err)
	}
	return out, nil
}

// sendSnapshot sends a MsgSnap with its files on a background worker. rm is nil
// if its receiver is unknown.
func (p *peer) sendSnapshot(m *raftpb.Message, rm *RaftMessage) {
	s, snap := p.store, m.GetSnapshot()
	dir, ok := p.snap.made[snap.GetMetadata().GetIndex()]
	delete(p.snap.made, snap.GetMetadata().GetIndex())
	sent := &snapshotSent{to: m.GetTo()}
	if ok && rm != nil && s.snapSends.submit(func() {
		ctx, cancel := context.WithTimeout(s.ctx, snapshotSendTimeout)
		defer cancel()
		sent.err = s.transport.SendSnapshot(ctx, rm, s.snapshotFiles(dir, snap.GetData()))
		s.removeDir(dir)
		p.send(sent)
	}) {
		return
	}
	sent.err = fmt.Errorf("its receiver is unknown, or too many snapshots wait")
	p.send(sent)
	if ok {
		s.background.must(func() { s.removeDir(dir) })
	}
}

// snapshotFiles lists the files of a snapshot that was made here.
func (s *Store) snapshotFiles(dir string, data []byte) []SnapshotFile {
	d, err := decodeSnapshotData(data)
	if err != nil {
		panic(fmt.Sprintf("raftstore: own snapshot: %v", err))
	}
	var out []SnapshotFile
	for _, f := range d.files {
		path := s.fs.PathJoin(dir, f.name)
		out = append(out, SnapshotFile{Name: f.name, Size: f.size, Open: func() (io.ReadCloser, error) { return s.fs.Open(path) }})
	}
	return out
}

func (p *peer) onSnapshotSent(m *snapshotSent) {
	status := raft.SnapshotFinish
	if m.err != nil {
		status = raft.SnapshotFailure
		p.log.Warn("snapshot not sent", slog.Uint64("to", m.to), slog.Any("error", m.err))
		p.store.metrics.snapshots.WithLabelValues("failed").Inc()
	} else {
		p.store.metrics.snapshots.WithLabelValues("sent").Inc()
	}
	p.rn.ReportSnapshot(m.to, status)
}

func (s *Store) removeDir(dir string) {
	if err := s.fs.RemoveAll(dir); err != nil {
		s.log.Warn("snapshot files not removed", slog.String("dir", dir), slog.Any("error", err))
	}
}
