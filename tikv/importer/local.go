package importer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
)

// regionTablesMax tables are ingested into a region by one entry.
const regionTablesMax = 64

// Local is a Loader for the stores of this process. The zero value is ready.
type Local struct {
	mu     sync.RWMutex
	stores map[uint64]*raftstore.Store
}

var _ bulkload.Loader = (*Local)(nil)

// Add makes a store reachable.
func (l *Local) Add(id uint64, s *raftstore.Store) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stores == nil {
		l.stores = make(map[uint64]*raftstore.Store)
	}
	l.stores[id] = s
}

// Remove forgets a store, before it stops.
func (l *Local) Remove(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.stores, id)
}

func (l *Local) store(id uint64) *raftstore.Store {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.stores[id]
}

// Reaches implements bulkload.Loader.
func (l *Local) Reaches(id uint64) bool { return l.store(id) != nil }

// Begin implements bulkload.Loader.
func (l *Local) Begin(startTS, commitTS uint64) (bulkload.Job, error) {
	if startTS == 0 || startTS >= commitTS {
		return nil, fmt.Errorf("importer: a load from %d commits at %d", startTS, commitTS)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	var home *raftstore.Store
	var least uint64
	for id, s := range l.stores { // always the same, so that all links stay on one disk
		if home == nil || id < least {
			home, least = s, id
		}
	}
	if home == nil {
		return nil, errors.New("importer: there is no store in this process")
	}
	j := &job{l: l, home: home, id: uuid.NewString(), startTS: startTS, commitTS: commitTS, tables: map[uint64]*files{}}
	j.dir = home.FS().PathJoin(home.BuildDir(), j.id)
	if err := home.FS().MkdirAll(j.dir, 0o755); err != nil {
		return nil, fmt.Errorf("importer: create %s: %w", j.dir, err)
	}
	return j, nil
}

// job implements bulkload.Job.
type job struct {
	l                 *Local
	home              *raftstore.Store // in whose directory it writes
	id, dir           string
	startTS, commitTS uint64
	last              atomic.Uint64 // table and staging names

	mu     sync.Mutex
	tables map[uint64]*files
}

// files are a table's.
type files struct {
	write   engine.LoadTable
	long    engine.LoadTable // values that are not in the records
	hasLong bool
}

func (f *files) all() []engine.LoadTable {
	if f.hasLong {
		return []engine.LoadTable{f.write, f.long}
	}
	return []engine.LoadTable{f.write}
}

func (j *job) files(t bulkload.Table) (*files, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.tables[t.ID]
	if f == nil {
		return nil, fmt.Errorf("importer: table %d is not of this load, or was dropped", t.ID)
	}
	return f, nil
}

// Drop implements bulkload.Job.
func (j *job) Drop(tables []bulkload.Table) {
	for _, t := range tables {
		j.mu.Lock()
		f := j.tables[t.ID]
		delete(j.tables, t.ID)
		j.mu.Unlock()
		if f == nil {
			continue
		}
		for _, file := range f.all() {
			if err := j.home.FS().Remove(file.Path); err != nil {
				slog.Warn("importer: a table was not removed; the store's next start does it", "path", file.Path, "error", err)
			}
		}
	}
}

// Close implements bulkload.Job.
func (j *job) Close() {
	if err := j.home.FS().RemoveAll(j.dir); err != nil {
		slog.Warn("importer: tables of a load were not removed; the store's next start does it", "path", j.dir, "error", err)
	}
}

// Ingest implements bulkload.Job.
func (j *job) Ingest(ctx context.Context, region *metapb.Region, tables []bulkload.Table) error {
	for part := range slices.Chunk(tables, regionTablesMax) {
		if err := j.ingest(ctx, region, part); err != nil {
			return fmt.Errorf("ingest %d tables into region %d: %w", len(part), region.GetId(), err)
		}
	}
	return nil
}

func (j *job) ingest(ctx context.Context, region *metapb.Region, tables []bulkload.Table) error {
	var list []raftstore.IngestTable
	var paths, names []string
	for _, t := range tables {
		f, err := j.files(t)
		if err != nil {
			return err
		}
		for _, file := range f.all() {
			name := fmt.Sprintf("%s-%d", j.id, j.last.Add(1))
			list = append(list, raftstore.IngestTable{Name: name, Bytes: file.Bytes, Keys: file.Keys})
			paths, names = append(paths, file.Path), append(names, name)
		}
	}
	drop := func() {
		for _, p := range region.GetPeers() {
			if s := j.l.store(p.GetStoreId()); s != nil {
				s.DropStaged(region.GetId(), region.GetRegionEpoch(), names)
			}
		}
	}
	leader, err := j.stage(ctx, region, names, paths)
	if err != nil {
		drop()
		return err
	}
	rc := &kvrpcpb.Context{RegionId: region.GetId(), RegionEpoch: region.GetRegionEpoch(), Peer: leader}
	err = j.l.store(leader.GetStoreId()).Ingest(ctx, rc, list)
	if re := kv.AsRegionError(err); re != nil && re.GetUndeterminedResult() == nil {
		drop()
	}
	return err
}

// stage gives the tables to all replicas' stores, and returns the peer that leads.
func (j *job) stage(ctx context.Context, region *metapb.Region, names, paths []string) (leader *metapb.Peer, err error) {
	for _, p := range region.GetPeers() {
		s := j.l.store(p.GetStoreId())
		if s == nil {
			return nil, fmt.Errorf("importer: store %d has a replica and is not in this process", p.GetStoreId())
		}
		if r, ok := s.Region(region.GetId()); ok && r.Leader {
			leader = p
		}
		for i, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := s.StageIngest(region.GetId(), region.GetRegionEpoch(), name, raftstore.IngestSource{FS: j.home.FS(), Path: paths[i]}); err != nil {
				if errors.Is(err, raftstore.ErrBusy) {
					err = fmt.Errorf("%w: %w", bulkload.ErrDiskFull, err)
				}
				return nil, err
			}
		}
	}
	if leader == nil {
		return nil, &kv.RegionError{Err: &errorpb.Error{
			Message: fmt.Sprintf("region %d has no leader now", region.GetId()), NotLeader: &errorpb.NotLeader{RegionId: region.GetId()}}}
	}
	return leader, nil
}
