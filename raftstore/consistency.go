package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
	"github.com/zeebo/xxh3"
)

// The consistency check compares what the replicas of a region hold at one
// place of the log. Every replica takes an engine snapshot there (the applier
// stops its round, so that the snapshot has nothing behind it) and hashes the
// region in the background; the leader then puts its own hash into the log, and
// the others compare.
//
//	leader     ComputeHash ─► apply at 17: snapshot ─► hash ─► VerifyHash{17, h}
//	follower                  apply at 17: snapshot ─► hash        └► compare
//
// A difference is a bug, or a disk that lies: the store that sees it reports it
// (Options.Inconsistent, metric, log) and goes on, because the one that is wrong
// may be the leader.

// RegionHash is what a replica held when it had applied Index.
type RegionHash struct {
	Index   uint64
	Hash    uint64 // xxh3 of the region and its keys and values
	Entries uint64 // keys in all families
}

// Inconsistency is what a replica reports that differs from its leader.
type Inconsistency struct {
	Region       *metapb.Region
	PeerID       uint64
	Index        uint64
	Hash, Leader uint64
}

// consistencyState is the Raft worker's view.
type consistencyState struct {
	last    int64 // when the leader's last check began
	busy    bool  // a hash is being computed here
	pending *raft_cmdpb.VerifyHashRequest
}

// hashJob is what apply asks for: a snapshot that was taken at index.
type hashJob struct {
	index  uint64
	region *metapb.Region
	es     *engine.Snapshot
}

// hashJobs are the jobs whose snapshots are open, so that none outlives the
// store, wherever it is on its way.
type hashJobs struct {
	mu   sync.Mutex
	open map[*hashJob]struct{}
}

func (h *hashJobs) add(j *hashJob) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = make(map[*hashJob]struct{})
	}
	h.open[j] = struct{}{}
}

// end closes a job's snapshot, once. That may wait for the disk, so not under the
// lock: apply takes it.
func (h *hashJobs) end(j *hashJob) error {
	h.mu.Lock()
	_, ok := h.open[j]
	delete(h.open, j)
	h.mu.Unlock()
	if !ok {
		return nil
	}
	return j.es.Close()
}

func (h *hashJobs) endAll() (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for j := range h.open {
		err = errors.Join(err, j.es.Close())
	}
	h.open = nil
	return err
}

type hashComputed struct {
	RegionHash
	err error
}

// CheckConsistency starts a check of a region that this store leads; each
// replica's result is in its RegionHash some time later.
func (s *Store) CheckConsistency(ctx context.Context, regionID uint64) error {
	p := s.peer(regionID)
	if p == nil {
		return errRegionNotFound(regionID)
	}
	if err := p.checkLeader(&kvrpcpb.Context{}, p.role.Load()); err != nil {
		return err
	}
	h := p.newHeader(entryKindAdmin, p.region.Load())
	admin := &raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_ComputeHash, ComputeHash: &raft_cmdpb.ComputeHashRequest{}}
	return p.propose(ctx, &proposal{
		id: h.id, epoch: proposalEpoch{h.epoch.ConfVer, h.epoch.Version},
		data: encodeAdmin(&h, admin), admin: &adminCommand{req: admin}, done: make(chan error, 1)})
}

// LastHash returns the newest hash of a replica, if it has one.
func (s *Store) LastHash(regionID uint64) (RegionHash, bool) {
	if p := s.peer(regionID); p != nil {
		if h := p.hash.Load(); h != nil {
			return *h, true
		}
	}
	return RegionHash{}, false
}

// tickConsistency starts a check on a leader when one is due.
func (p *peer) tickConsistency() {
	interval := p.store.cfg.ConsistencyCheckInterval
	if interval <= 0 || p.consistency.busy || p.recentlyDestroyed() || p.now-p.consistency.last < int64(interval) || p.merging.Load() != nil {
		return
	}
	p.consistency.last = p.now
	if h := p.hash.Load(); h != nil && p.applied.Load() <= h.Index+1 {
		return // nothing but the check itself was written since the last one
	}
	p.proposeCheck(&raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_ComputeHash, ComputeHash: &raft_cmdpb.ComputeHashRequest{}})
}

func (p *peer) proposeCheck(req *raft_cmdpb.AdminRequest) {
	h := p.newHeader(entryKindAdmin, p.region.Load())
	prop := &proposal{id: h.id, data: encodeAdmin(&h, req), done: make(chan error, 1)}
	p.store.metrics.proposals.WithLabelValues("consistency").Inc()
	if err := p.stepProposals([]*proposal{prop}, p.role.Load().term); err != nil {
		p.log.Debug("consistency check not proposed", slog.Any("error", err))
	}
}

// applyComputeHash ends the round here: finish takes the snapshot.
func (a *applier) applyComputeHash(index uint64) {
	a.out.hash = &hashJob{index: index}
}

// takeHashSnapshot is called when the batch that ends with ComputeHash is
// visible.
func (a *applier) takeHashSnapshot() {
	job := a.out.hash
	if job.index != a.state.index {
		panic(fmt.Sprintf("raftstore: region %d: consistency check at %d of a state at %d", a.p.regionID, job.index, a.state.index))
	}
	job.region, job.es = a.region, a.p.store.engine.NewSnapshot()
	a.p.store.hashing.add(job)
}

// startHash hashes in the background. A check that finds no room is left out.
func (p *peer) startHash(job *hashJob) {
	p.consistency.busy = p.store.background.submit(func() {
		m := &hashComputed{}
		m.RegionHash, m.err = hashRegion(p.store.ctx, job)
		m.err = errors.Join(m.err, p.store.hashing.end(job))
		p.send(m)
	})
	if !p.consistency.busy {
		p.dropHash(job)
	}
}

func (p *peer) dropHash(job *hashJob) {
	if err := p.store.hashing.end(job); err != nil {
		p.log.Warn("snapshot not closed", slog.Any("error", err))
	}
}

// hashRegion reads the region in the order of families and keys.
func hashRegion(ctx context.Context, job *hashJob) (out RegionHash, err error) {
	out.Index = job.index
	meta, err := job.region.Marshal()
	if err != nil {
		return out, err
	}
	d := xxh3.New()
	var lens [2 * binary.MaxVarintLen64]byte
	add := func(key, value []byte) {
		n := binary.PutUvarint(lens[:], uint64(len(key)))
		n += binary.PutUvarint(lens[n:], uint64(len(value)))
		_, _ = d.Write(lens[:n])
		_, _ = d.Write(key)
		_, _ = d.Write(value)
	}
	add(nil, meta)
	for _, cf := range kv.CFs {
		n, err := hashFamily(ctx, job, cf, add)
		if err != nil {
			return out, err
		}
		add([]byte{byte(cf)}, nil)
		out.Entries += n
	}
	out.Hash = d.Sum64()
	return out, nil
}

// hashCancelKeys is after how many keys a hash looks whether the store stops.
const hashCancelKeys = 4096

func hashFamily(ctx context.Context, job *hashJob, cf kv.CF, add func(key, value []byte)) (n uint64, err error) {
	it, err := job.es.NewIter(cf, kv.IterOptions{Lower: job.region.StartKey, Upper: job.region.EndKey})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			return n, err
		}
		add(it.Key(), value)
		if n++; n%hashCancelKeys == 0 && ctx.Err() != nil {
			return n, ctx.Err()
		}
	}
	return n, it.Error()
}

// onHashComputed keeps the result, and compares or proposes it.
func (p *peer) onHashComputed(m *hashComputed) {
	p.consistency.busy = false
	if m.err != nil {
		p.log.Debug("region not hashed", slog.Any("error", m.err))
		return
	}
	p.hash.Store(&m.RegionHash)
	p.store.metrics.hashes.WithLabelValues("computed").Inc()
	if v := p.consistency.pending; v != nil {
		p.consistency.pending = nil
		p.verifyHash(v)
	}
	if !p.role.Load().leader || p.merging.Load() != nil || p.recentlyDestroyed() {
		return
	}
	p.proposeCheck(&raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_VerifyHash, VerifyHash: &raft_cmdpb.VerifyHashRequest{
		Index: m.Index, Hash: binary.BigEndian.AppendUint64(nil, m.Hash)}})
}

// verifyHash compares this replica's hash with the leader's.
func (p *peer) verifyHash(v *raft_cmdpb.VerifyHashRequest) {
	have := p.hash.Load()
	if p.recentlyDestroyed() {
		return
	}
	if have == nil || have.Index < v.GetIndex() {
		if p.consistency.busy {
			p.consistency.pending = v
		}
		return
	}
	if have.Index > v.GetIndex() || len(v.GetHash()) != 8 {
		return // a later check has taken its place
	}
	want := binary.BigEndian.Uint64(v.GetHash())
	if have.Hash == want {
		p.store.metrics.hashes.WithLabelValues("matched").Inc()
		return
	}
	p.store.metrics.hashes.WithLabelValues("different").Inc()
	p.log.Error("this replica differs from its leader's; look at both with copra ctl region check",
		slog.Uint64("index", have.Index), slog.Uint64("hash", have.Hash), slog.Uint64("leader_hash", want))
	if report := p.store.inconsistent; report != nil {
		report(Inconsistency{Region: p.region.Load(), PeerID: p.id, Index: have.Index, Hash: have.Hash, Leader: want})
	}
}
