package raftstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
)

// Ingestion adds tables (SSTs) that were written elsewhere to a region, without
// their data going through the log:
//
//	StageIngest, on the store of every peer     the table is in ImportDir, synced
//	Ingest, on the leader                       an entry with the tables' names
//	apply, on every peer                        data + apply state, in one durable step
//
// The entry takes effect only in the epoch, conf_ver included, for which the
// tables were staged: then every peer that applies it has them. A peer that
// joins later comes by a snapshot from behind the change of members, and with it
// from behind the entry or an epoch in which it fails. A staged table goes with
// the ingestion, or when its epoch has passed here, since no entry can ask for
// it any more.
//
// Data and apply state are durable together, so that after a crash the entry is
// either applied, and never again, or still to be applied, and its tables are
// there. They have a round of apply of their own: what is before them must be in
// the engine, or it could be lost while they are not.

const (
	// importDirName is the directory beside SnapDir for staged tables, and
	// importBuildDirName, in it, the one for tables being made. That one is
	// emptied at start.
	importDirName      = "import"
	importBuildDirName = "build"
	// ingestTableCountMax tables go into one entry.
	ingestTableCountMax = 256
	// ingestSweepInterval is how often staged tables are looked through.
	ingestSweepInterval = 10 * time.Minute
	// ingestOrphanAge is the age at which a staged table of a region that is not
	// here is taken for one that nobody will ask for: an entry follows its tables
	// within seconds, and a log does not keep entries that long.
	ingestOrphanAge = 7 * 24 * time.Hour
)

// IngestTable is a staged table.
type IngestTable struct {
	Name        string // unique; of letters, digits and '-'
	Bytes, Keys uint64
}

// IngestSource is where StageIngest gets a table from.
type IngestSource struct {
	// FS and Path, if the table is a file of this process: it is linked, if the
	// file systems are the same.
	FS   vfs.FS
	Path string
}

// ImportDir is where this store keeps staged tables; BuildDir is for who makes
// tables in this process. They are on the engine's file system.
func (s *Store) ImportDir() string { return s.fs.PathJoin(s.fs.PathDir(s.snapDir), importDirName) }

// BuildDir see ImportDir.
func (s *Store) BuildDir() string { return s.fs.PathJoin(s.ImportDir(), importBuildDirName) }

// RoomToBuild is an error (ErrBusy) unless the disk has room for tables that are
// made here: they may not take what the store itself needs.
func (s *Store) RoomToBuild() error {
	if level := s.space.Level(); level != disk.Normal {
		return fmt.Errorf("the disk of store %d is %s: %w", s.id, level, ErrBusy)
	}
	return nil
}

// FS is the file system of BuildDir.
func (s *Store) FS() vfs.FS { return s.fs }

// stagedPath is where a region's table is staged.
func (s *Store) stagedPath(regionID uint64, epoch *metapb.RegionEpoch, name string) string {
	return s.fs.PathJoin(s.ImportDir(), fmt.Sprintf("%d_%d_%d_%s.sst", regionID, epoch.GetConfVer(), epoch.GetVersion(), name))
}

// parseStaged reads a file name of stagedPath.
func parseStaged(base string) (regionID uint64, epoch *metapb.RegionEpoch, ok bool) {
	parts := strings.SplitN(strings.TrimSuffix(base, ".sst"), "_", 4)
	if len(parts) != 4 {
		return 0, nil, false
	}
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(parts[i], 10, 64); err != nil {
			return 0, nil, false
		}
	}
	return n[0], &metapb.RegionEpoch{ConfVer: n[1], Version: n[2]}, true
}

// StageIngest takes a table that an entry of the region at this epoch may name.
// It is durable when it returns. The source stays.
func (s *Store) StageIngest(regionID uint64, epoch *metapb.RegionEpoch, name string, src IngestSource) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
	}) {
		return fmt.Errorf("raftstore: a table to be ingested is named %q", name)
	}
	if err := s.RoomToBuild(); err != nil {
		return fmt.Errorf("raftstore: a table for region %d is refused: %w", regionID, err)
	}
	if p := s.peer(regionID); p != nil && laterEpoch(p.region.Load().GetRegionEpoch(), epoch) {
		return s.epochNotMatch(p.region.Load())
	}
	s.sweepStagedNow(false)
	path := s.stagedPath(regionID, epoch, name)
	if err := stage(s.fs, path, src); err != nil {
		return fmt.Errorf("raftstore: stage table %s for region %d: %w", name, regionID, err)
	}
	return syncDir(s.fs, s.ImportDir())
}

// stage links or copies src. What is there already may be linked into databases:
// it is not written over.
func stage(fs vfs.FS, path string, src IngestSource) error {
	if _, err := fs.Stat(path); err == nil {
		return fmt.Errorf("%s is there already", path)
	}
	if vfs.Root(fs) == vfs.Root(src.FS) {
		if fs.Link(src.Path, path) == nil {
			return nil
		}
	}
	from, err := src.FS.Open(src.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = io.Copy(to, from); err == nil {
		err = to.Sync()
	}
	if e := to.Close(); err == nil {
		err = e
	}
	return err
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("raftstore: sync %s: %w", dir, err)
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// DropStaged removes tables that no entry names: none was proposed, or it was
// refused for certain.
func (s *Store) DropStaged(regionID uint64, epoch *metapb.RegionEpoch, names []string) {
	for _, name := range names {
		s.removeStaged(s.stagedPath(regionID, epoch, name))
	}
}

func (s *Store) removeStaged(path string) {
	if _, err := s.fs.Stat(path); err != nil {
		return
	}
	if err := s.fs.Remove(path); err != nil {
		s.log.Warn("staged table not removed", slog.String("path", path), slog.Any("error", err))
	}
}

// Ingest replicates the ingestion of tables that were staged, at rc's epoch, on
// the stores of all peers. It returns when the leader has applied it, durably;
// for errors see kv.Engine's Write. The tables may not overlap each other; what
// they hold must not depend on the order of this and other writes.
func (s *Store) Ingest(ctx context.Context, rc *kvrpcpb.Context, tables []IngestTable) error {
	p, err := s.peerFor(rc)
	if err != nil {
		return err
	}
	if err := p.checkLeader(rc, p.role.Load()); err != nil {
		return err
	}
	region := p.region.Load()
	if !sameEpoch(rc.GetRegionEpoch(), region.GetRegionEpoch()) {
		return s.epochNotMatch(region)
	}
	if p.merging.Load() != nil {
		return errMerging(p.regionID)
	}
	if err := s.checkIngest(region, tables); err != nil {
		return err
	}
	if err := s.admitBacklog(); err != nil {
		return err
	}
	s.metrics.proposals.WithLabelValues("ingest").Inc()
	h := p.newHeader(entryKindIngest, region)
	return p.proposeWrite(ctx, &proposal{
		id: h.id, epoch: proposalEpoch{h.epoch.ConfVer, h.epoch.Version}, decidedIn: rc.GetTerm(),
		data: encodeIngest(&h, tables), done: make(chan error, 1),
	})
}

// checkIngest looks at the tables before others have to rely on them.
func (s *Store) checkIngest(region *metapb.Region, tables []IngestTable) error {
	if len(tables) == 0 || len(tables) > ingestTableCountMax {
		return fmt.Errorf("raftstore: ingestion of %d tables into region %d: want 1 to %d", len(tables), region.Id, ingestTableCountMax)
	}
	paths := make([]string, len(tables))
	for i, t := range tables {
		paths[i] = s.stagedPath(region.Id, region.RegionEpoch, t.Name)
	}
	if err := s.engine.CheckLoad(paths, region.StartKey, region.EndKey); err != nil {
		return fmt.Errorf("raftstore: ingestion into region %d: %w", region.Id, err)
	}
	return nil
}

func encodeIngest(h *entryHeader, tables []IngestTable) []byte {
	b := h.appendTo(nil)
	b = binary.AppendUvarint(b, uint64(len(tables)))
	for _, t := range tables {
		b = appendBytes(b, []byte(t.Name))
		b = binary.AppendUvarint(b, t.Bytes)
		b = binary.AppendUvarint(b, t.Keys)
	}
	return b
}

func decodeIngest(rest []byte) ([]IngestTable, error) {
	d := decoder{rest: rest}
	var out []IngestTable
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		out = append(out, IngestTable{Name: string(d.bytes()), Bytes: d.uvarint(), Keys: d.uvarint()})
	}
	if d.failed || len(out) == 0 {
		return nil, fmt.Errorf("raftstore: an ingestion in the log, of %d bytes, is damaged", len(rest))
	}
	return out, nil
}

// isIngest reports whether an entry is an ingestion.
func isIngest(e *raftpb.Entry) bool {
	data := e.GetData()
	return e.GetType() == raftpb.EntryNormal && len(data) >= 2 && data[1] == entryKindIngest
}

// ingestIn returns the tables of an ingestion that takes effect now.
func (a *applier) ingestIn(e *raftpb.Entry) []IngestTable {
	h, rest, err := decodeEntry(e.GetData())
	if err == nil && (a.merge != nil || !sameEpoch(&h.epoch, a.region.RegionEpoch)) {
		return nil
	}
	var tables []IngestTable
	if err == nil {
		tables, err = decodeIngest(rest)
	}
	if err != nil {
		panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), err))
	}
	return tables
}

// ingest puts the tables of an entry into the engine, with the apply state behind
// it, before the entry is applied. It reports false if the entry must wait: for
// the end of the round, or for ever since the store stops.
func (a *applier) ingest(e *raftpb.Entry) bool {
	if a.count > 0 {
		a.cut = true
		return false
	}
	tables := a.ingestIn(e)
	if tables == nil {
		return true
	}
	p := a.p
	paths := make([]string, len(tables))
	for i, t := range tables {
		paths[i] = p.store.stagedPath(p.regionID, a.region.RegionEpoch, t.Name)
		if _, err := p.store.fs.Stat(paths[i]); err != nil {
			panic(fmt.Sprintf("raftstore: region %d, entry %d: a table that this store said it had is gone: %v; "+
				"remove this store's peer of the region, another one will be made", p.regionID, e.GetIndex(), err))
		}
	}
	state := applyState{index: e.GetIndex(), term: e.GetTerm()}
	ok, err := p.store.untilRoom(fmt.Sprintf("ingest into region %d", p.regionID), func() error {
		return p.store.engine.IngestLoad(paths, []engine.MetaPut{{Key: metaKey(applyStateKind, p.regionID), Value: state.encode()}})
	})
	if ok && err != nil {
		p.store.fatal(fmt.Errorf("raftstore: region %d, entry %d: %w", p.regionID, e.GetIndex(), err))
		ok = false
	}
	if !ok {
		a.held.Store(true) // nothing has changed, and the store ends
	}
	return ok
}

// applyIngest is the entry's turn: ingest has done the work.
func (a *applier) applyIngest(e *raftpb.Entry) error {
	tables := a.ingestIn(e)
	switch {
	case a.merge != nil:
		return errMerging(a.p.regionID)
	case tables == nil:
		return a.epochNotMatch()
	}
	a.ingested = true
	for _, t := range tables {
		a.bytes += int(t.Bytes)
		a.keys += int(t.Keys)
	}
	return nil
}

// tellIngested tells the observer that the region's data has changed beside
// its writes.
func (a *applier) tellIngested() {
	if f := a.p.store.follower; f != nil && a.ingested {
		start := a.region.StartKey
		if len(a.out.splits) > 0 { // behind the ingestion, in the same round
			start = a.out.splits[0].region.StartKey
		}
		f.Ingested(kv.KeyRange{Start: start, End: a.region.EndKey})
	}
	a.ingested, a.cut = false, false
}

// openImport makes the directories and removes what was being made.
func (s *Store) openImport() error {
	build := s.BuildDir()
	if err := s.fs.RemoveAll(build); err != nil {
		return fmt.Errorf("raftstore: clear %s: %w", build, err)
	}
	if err := s.fs.MkdirAll(build, 0o755); err != nil {
		return fmt.Errorf("raftstore: create %s: %w", build, err)
	}
	return syncDir(s.fs, s.fs.PathDir(s.snapDir)) // a crash must not take the directory away
}

// sweepStagedNow removes staged tables that no entry can ask for.
func (s *Store) sweepStagedNow(atStart bool) {
	now := s.now()
	last := s.lastStagedSweep.Load()
	if !atStart && (now-last < int64(ingestSweepInterval) || !s.lastStagedSweep.CompareAndSwap(last, now)) {
		return
	}
	names, err := s.fs.List(s.ImportDir())
	if err != nil {
		s.log.Warn("staged tables not listed", slog.Any("error", err))
		return
	}
	slices.Sort(names)
	for _, base := range names {
		path := s.fs.PathJoin(s.ImportDir(), base)
		if id, epoch, ok := parseStaged(base); ok && s.stagedIsOver(path, id, epoch) {
			s.removeStaged(path)
		}
	}
}

func (s *Store) stagedIsOver(path string, regionID uint64, epoch *metapb.RegionEpoch) bool {
	if p := s.peer(regionID); p != nil {
		return laterEpoch(p.region.Load().GetRegionEpoch(), epoch)
	}
	info, err := s.fs.Stat(path)
	return err == nil && time.Since(info.ModTime()) > ingestOrphanAge
}

// laterEpoch reports whether a is one that a region comes to only behind b.
func laterEpoch(a, b *metapb.RegionEpoch) bool {
	return a.GetVersion() > b.GetVersion() || a.GetConfVer() > b.GetConfVer()
}
