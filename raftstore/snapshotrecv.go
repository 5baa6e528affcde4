package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/zeebo/xxh3"
	"go.etcd.io/raft/v3/raftpb"
)

// Directories below SnapDir; both are emptied at start.
const (
	snapSendDir = "send"
	snapRecvDir = "recv"
)

// receivedSnapshot is a snapshot on this store. From BeginSnapshot to its end
// its range is reserved: no other region gets a part of it (hazard 9).
type receivedSnapshot struct {
	store  *Store
	m      *RaftMessage
	data   *snapshotData
	dir    string
	open   map[string]vfs.File
	sums   map[string]*xxh3.Hasher
	sizes  map[string]int64
	failed error
	takes  []uint64    // merged regions whose range it takes over (mergesnap.go)
	take   *sourceTake // set when they are asked to hold
}

var _ SnapshotReceiver = (*receivedSnapshot)(nil)

// BeginSnapshot starts to receive a snapshot, see Handler.
func (s *Store) BeginSnapshot(m *RaftMessage) (SnapshotReceiver, error) {
	if m.To.StoreId != s.id || m.Msg.GetType() != raftpb.MsgSnap || m.Msg.GetTo() != m.To.Id || m.Msg.GetFrom() != m.From.Id {
		return nil, fmt.Errorf("raftstore: not a snapshot for store %d", s.id)
	}
	data, err := decodeSnapshotData(m.Msg.GetSnapshot().GetData())
	if err != nil {
		return nil, err
	}
	for _, f := range data.files {
		if f.name == "" || f.name == "." || f.name == ".." || strings.ContainsAny(f.name, `/\`) {
			return nil, fmt.Errorf("raftstore: snapshot of region %d has a file named %q", m.RegionID, f.name)
		}
	}
	if level := s.space.Level(); level != disk.Normal {
		s.metrics.snapshots.WithLabelValues("refused").Inc()
		return nil, fmt.Errorf("raftstore: snapshot of region %d is refused, the disk of store %d is %s: %w", m.RegionID, s.id, level, ErrBusy)
	}
	r := &receivedSnapshot{store: s, m: m, data: data, open: map[string]vfs.File{}, sums: map[string]*xxh3.Hasher{}, sizes: map[string]int64{}}
	if err := s.reserve(r); err != nil {
		s.metrics.snapshots.WithLabelValues("refused").Inc()
		return nil, err
	}
	index := m.Msg.GetSnapshot().GetMetadata().GetIndex()
	r.dir = s.fs.PathJoin(s.snapDir, snapRecvDir, fmt.Sprintf("%d_%d_%d", m.RegionID, index, s.snapSeq.Add(1)))
	if err := s.fs.MkdirAll(r.dir, 0o755); err != nil {
		s.unreserve(r)
		return nil, fmt.Errorf("raftstore: create %s: %w", r.dir, err)
	}
	return r, nil
}

// reserve takes the snapshot's range, if the peer can use the snapshot.
func (s *Store) reserve(r *receivedSnapshot) error {
	id, region := r.m.RegionID, r.data.region
	if region.Id != id || findPeer(region, r.m.To.Id) == nil {
		return fmt.Errorf("raftstore: snapshot of region %d does not know its peer %d", id, r.m.To.Id)
	}
	p := s.peer(id)
	if p == nil || p.id != r.m.To.Id {
		return fmt.Errorf("raftstore: snapshot for peer %d of region %d, which is not here", r.m.To.Id, id)
	}
	if index := r.m.Msg.GetSnapshot().GetMetadata().GetIndex(); p.applied.Load() >= index {
		p.send(mailOldSnapshot{r.m.Msg})
		return fmt.Errorf("raftstore: region %d has applied index %d already", id, index)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reserved) >= snapshotReceiveCountMax {
		return ErrBusy
	}
	if s.reserved[id] != nil {
		return fmt.Errorf("raftstore: another snapshot of region %d is being received", id)
	}
	takes, ok := s.takesLocked(id, r.data.state)
	if !ok {
		return fmt.Errorf("raftstore: the range of region %d at version %d still belongs to another region here", id, region.RegionEpoch.Version)
	}
	r.takes = takes
	s.reserved[id] = r
	return nil
}

// onOldSnapshot lets Raft answer a snapshot that it has no use for: the answer
// tells the leader how far this peer is. A leader that doesn't know, because it
// is new and its log does not reach back to where it asks, would send the same
// snapshot for ever.
func (p *peer) onOldSnapshot(m *raftpb.Message) {
	if m.GetSnapshot().GetMetadata().GetIndex() <= p.rn.BasicStatus().GetCommit() {
		p.step(m)
	}
}

func (s *Store) unreserve(r *receivedSnapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserved[r.m.RegionID] == r {
		delete(s.reserved, r.m.RegionID)
	}
}

// Write appends a chunk to a file.
func (r *receivedSnapshot) Write(name string, chunk []byte) error {
	if r.failed != nil {
		return r.failed
	}
	r.failed = r.write(name, chunk)
	return r.failed
}

func (r *receivedSnapshot) write(name string, chunk []byte) error {
	var want int64 = -1
	for _, f := range r.data.files {
		if f.name == name {
			want = f.size
		}
	}
	if r.sizes[name]+int64(len(chunk)) > want {
		return fmt.Errorf("raftstore: snapshot of region %d: file %q has more than its %d bytes", r.m.RegionID, name, want)
	}
	f := r.open[name]
	if f == nil {
		var err error
		if f, err = r.store.fs.Create(r.store.fs.PathJoin(r.dir, name), vfs.WriteCategoryUnspecified); err != nil {
			return err
		}
		r.open[name], r.sums[name] = f, xxh3.New()
	}
	r.sizes[name] += int64(len(chunk))
	if _, err := r.sums[name].Write(chunk); err != nil { // first: a vfs.File may change what it is given
		return err
	}
	_, err := f.Write(chunk)
	return err
}

// Finish makes the files durable and gives the message to the peer.
func (r *receivedSnapshot) Finish() error {
	err := r.failed
	for _, f := range r.data.files {
		if err == nil && (r.sizes[f.name] != f.size || r.open[f.name] == nil) {
			err = fmt.Errorf("raftstore: snapshot of region %d: file %q has %d of %d bytes", r.m.RegionID, f.name, r.sizes[f.name], f.size)
		}
		if err == nil && r.sums[f.name].Sum64() != f.sum {
			err = fmt.Errorf("raftstore: snapshot of region %d: file %q was damaged on its way", r.m.RegionID, f.name)
		}
	}
	for _, f := range r.open {
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	r.open = nil
	if err == nil {
		err = r.syncDir()
	}
	p := r.store.peer(r.m.RegionID)
	if err == nil && p == nil {
		err = fmt.Errorf("raftstore: region %d has left the store", r.m.RegionID)
	}
	if err != nil {
		r.discard()
		return err
	}
	r.store.metrics.snapshots.WithLabelValues("received").Inc()
	r.store.received.Add(int64(r.m.bytesSize()))
	p.send(r.m)
	return nil
}

func (r *receivedSnapshot) syncDir() error {
	d, err := r.store.fs.OpenDir(r.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Abort removes what was received.
func (r *receivedSnapshot) Abort() {
	for _, f := range r.open {
		if err := f.Close(); err != nil {
			r.store.log.Warn("close a file of a snapshot", slog.Any("error", err))
		}
	}
	r.open = nil
	r.discard()
}

// discard gives the range and the space back.
func (r *receivedSnapshot) discard() {
	r.take.release()
	r.store.unreserve(r)
	r.store.removeDir(r.dir)
}

// reservedFor returns the received snapshot that a MsgSnap belongs to.
func (s *Store) reservedFor(m *RaftMessage) *receivedSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.reserved[m.RegionID]; r != nil && r.m == m {
		return r
	}
	return nil
}

// acceptSnapshot decides whether Raft gets a MsgSnap. What this peer knows to
// be committed must be applied first: among it may be the split that gives a
// part of the old range to another region (hazard 9).
func (p *peer) acceptSnapshot(m *RaftMessage) bool {
	r := p.store.reservedFor(m)
	if r == nil {
		p.store.drop("snapshot_without_files")
		return false
	}
	if p.ending || p.snap.applying || p.snap.current != nil || p.appliedIndex < max(p.rn.BasicStatus().GetCommit(), p.hs.commit) {
		p.store.drop("snapshot_too_early")
		p.store.background.must(r.discard)
		return false
	}
	if len(r.takes) > 0 && (r.take == nil || !r.take.done) {
		if r.take == nil {
			p.holdSources(r)
		}
		return false // it comes back when the sources are held
	}
	p.snap.current = r
	return true
}

// afterSnapshotStep lets Raft say whether it took the snapshot: if so it is in
// the next Ready.
func (p *peer) afterSnapshotStep(*RaftMessage) {
	p.handleReady()
	if r := p.snap.current; r != nil && !p.snap.applying {
		p.snap.current = nil // Raft had no use for it
		p.store.background.must(r.discard)
	}
}

// snapshotApplied says that a snapshot is in both databases, or that it could
// not be written and the peer is what it was.
type snapshotApplied struct {
	region      *metapb.Region
	index, term uint64
	task        *logTask
	done        *appendDone
}

// applySnapshot replaces the region by a snapshot that Raft has taken. Log
// tasks that come meanwhile wait.
func (p *peer) applySnapshot(snap *raftpb.Snapshot, t *logTask, done *appendDone) {
	r := p.snap.current
	if r == nil || r.m.Msg.GetSnapshot().GetMetadata().GetIndex() != snap.GetMetadata().GetIndex() {
		panic(fmt.Sprintf("raftstore: region %d: Raft took a snapshot that was not received", p.regionID))
	}
	p.snap.applying = true
	p.resetLease()
	applied := &snapshotApplied{
		region: r.data.region, index: snap.GetMetadata().GetIndex(), term: snap.GetMetadata().GetTerm(), task: t, done: done}
	old := p.region.Load()
	intent := snapshotIntent{peer: p.id, index: applied.index, term: applied.term}
	hs := p.hs.proto()
	p.store.logWriter.submit(&logTask{
		p: p, sync: true,
		extra: func(b *raftlog.Batch) { b.PutMeta(metaKey(snapIntentKind, p.regionID), intent.encode()) },
		call: func() {
			p.store.background.must(func() { p.store.ingestSnapshot(p, r, old, applied, hs) })
		},
	})
}

// ingestSnapshot writes the data and then the log.
func (s *Store) ingestSnapshot(p *peer, r *receivedSnapshot, old *metapb.Region, a *snapshotApplied, hs *raftpb.HardState) {
	ranges, meta := r.take.takeOver(r.data.state)
	ranges = append(ranges, kv.KeyRange{Start: r.data.region.StartKey, End: r.data.region.EndKey})
	if len(old.GetPeers()) > 0 { // what it had and has no longer goes, too
		ranges = append(ranges, kv.KeyRange{Start: old.StartKey, End: old.EndKey})
	}
	var files []string
	for _, f := range r.data.files {
		files = append(files, s.fs.PathJoin(r.dir, f.name))
	}
	meta = append(meta,
		engine.MetaPut{Key: metaKey(regionStateKind, p.regionID), Value: encodeRegionState(r.data.state)},
		engine.MetaPut{Key: metaKey(applyStateKind, p.regionID), Value: applyState{a.index, a.term}.encode()})
	s.learnSafePoint(r.data)
	p.applySeq.Add(1)
	p.dataGone.Store(true) // until region says what the data is of
	ok, err := s.untilRoom(fmt.Sprintf("apply snapshot of region %d", p.regionID), func() error {
		return s.engine.IngestReplaceRanges(ranges, files, meta)
	})
	if !ok {
		return // the next start takes it up: nothing has happened
	}
	if err != nil {
		s.fatal(fmt.Errorf("raftstore: apply snapshot of region %d: %w", p.regionID, err))
		return
	}
	if len(r.takes) > 0 {
		p.mergedAt.Store(r.data.region.RegionEpoch.GetVersion())
	}
	p.publishRegion(r.data.region, mergeStateOf(r.data.state))
	p.applied.Store(a.index)
	p.dataGone.Store(false)
	p.applySeq.Add(1)
	s.removeDir(r.dir)
	s.logWriter.submit(&logTask{
		p: p, sync: true, done: a,
		extra: func(b *raftlog.Batch) {
			replaceLog(b, p.regionID, p.id, hs, a.index, a.term)
			r.take.bury(b)
		},
	})
}

// replaceLog starts a region's log anew behind a snapshot.
func replaceLog(b *raftlog.Batch, regionID, peerID uint64, hs *raftpb.HardState, index, term uint64) {
	b.DeleteRegion(regionID)
	b.DeleteMeta(metaKey(snapIntentKind, regionID))
	b.PutMeta(metaKey(peerIDKind, regionID), encodeUvarint(peerID))
	b.SetTruncated(regionID, index, term)
	b.SetHardState(regionID, hs)
}

// onSnapshotApplied goes on behind the snapshot.
func (p *peer) onSnapshotApplied(a *snapshotApplied) {
	r := p.snap.current
	p.snap.current, p.snap.applying = nil, false
	p.st.reset(a.index, a.term)
	p.gc.compactTo, p.gc.bytes = a.index, 0
	p.appliedIndex, p.appliedTerm, p.handed = a.index, a.term, a.index
	p.apply.init(p, a.region, applyState{a.index, a.term})
	p.apply.restore(r.data.state)
	for _, prop := range p.waiters.takeOlder(p.hs.term + 1) {
		prop.finish(errOutcomeUnknown(p.regionID, "a snapshot covers its place in the log"))
	}
	r.take.finish(a.region)
	p.store.updateRange(a.region)
	p.store.unreserve(r)
	p.onRegionChanged(a.region)
	p.stats.sizeBytes.Store(0)
	p.stats.sizeKeys.Store(0)
	p.readers.release(a.index)
	p.store.releaseHeld(p)
	p.store.metrics.snapshots.WithLabelValues("applied").Inc()
	p.log.Info("snapshot applied", slog.Uint64("index", a.index), slog.Uint64("version", a.region.RegionEpoch.Version))
	p.submitAppend(a.task, a.done)
	held := p.snap.held
	p.snap.held = nil
	for _, h := range held {
		p.submitAppend(h.task, h.done)
	}
	p.stepSelf()
	if p.snap.ended != nil {
		p.endLife(*p.snap.ended)
	}
}

// snapshotIntent is written before a snapshot is ingested. At restart the data
// engine tells whether it was: then the log follows, else nothing has happened.
type snapshotIntent struct{ peer, index, term uint64 }

const snapshotIntentVersion = 1

func (i snapshotIntent) encode() []byte {
	b := []byte{snapshotIntentVersion}
	for _, v := range [...]uint64{i.peer, i.index, i.term} {
		b = append(b, encodeUvarint(v)...)
	}
	return b
}

func decodeSnapshotIntent(regionID uint64, b []byte) (snapshotIntent, error) {
	if len(b) > 0 && b[0] == snapshotIntentVersion {
		d := decoder{rest: b[1:]}
		if i := (snapshotIntent{d.uvarint(), d.uvarint(), d.uvarint()}); !d.failed {
			return i, nil
		}
	}
	return snapshotIntent{}, fmt.Errorf("raftstore: snapshot intent of region %d is damaged: %x", regionID, b)
}
