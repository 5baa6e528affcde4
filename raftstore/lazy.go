package raftstore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
)

// A cold peer has its region and its applied index in memory, and nothing of
// Raft: no RawNode, no log state, no hard state. All peers are cold when the
// store starts, and followers that sleep for long become so again. Its Raft
// worker loads it before it handles the first mail that needs more: what it
// voted for is known again before it answers anything (hazard 4).

// newColdPeer makes a peer of which only region and applied index are known.
func (s *Store) newColdPeer(region *metapb.Region, id uint64, applied applyState) *peer {
	p := &peer{store: s, regionID: region.GetId(), id: id}
	p.log = slog.New(&regionLog{Handler: s.log.Handler(), region: p.regionID, peer: id})
	p.cold.Store(true)
	p.failed = s.failedOf(p.regionID)
	p.region.Store(region)
	p.role.Store(&role{})
	p.applied.Store(applied.index)
	p.appliedIndex, p.appliedTerm, p.handed = applied.index, applied.term, applied.index
	p.apply.init(p, region, applied)
	s.knowStores(region)
	return p
}

// startFrom makes the peer's Raft from its log.
func (p *peer) startFrom(rs raftlog.RaftState) error {
	members, err := survivors(p.region.Load(), p.failed)
	if err != nil {
		return err
	}
	p.st = newPeerStorage(p.regionID, p.store.raftLog, newEntryCache(&p.store.caches, &p.cacheBytes), rs, members)
	p.hs = hardState{
		term: rs.HardState.GetTerm(), vote: rs.HardState.GetVote(),
		commit: max(rs.HardState.GetCommit(), p.appliedIndex, rs.TruncatedIndex),
	}
	p.st.hardState = p.hs.proto()
	if err := p.startRaft(p.appliedIndex); err != nil {
		p.st = nil
		return err
	}
	p.role.Store(&role{term: p.hs.term})
	p.cold.Store(false)
	return nil
}

// coldLog reads the log of a cold peer. fresh says that it is a split's child
// whose log is still to be started.
func (p *peer) coldLog() (rs raftlog.RaftState, fresh bool, err error) {
	rs, ok, err := p.store.loadLog(p.regionID, p.id)
	if err != nil {
		return rs, false, err
	}
	if fresh = p.appliedIndex == initialIndex && (!ok || rs.TruncatedIndex == 0); fresh {
		return initialLog(rs, ok), true, nil
	}
	if !ok || p.appliedIndex < rs.TruncatedIndex || p.appliedIndex > rs.LastIndex {
		return rs, false, errForeignLog(p.regionID, p.appliedIndex, rs)
	}
	return rs, false, nil
}

func errForeignLog(regionID, applied uint64, rs raftlog.RaftState) error {
	return fmt.Errorf("raftstore: region %d has applied index %d, but its log holds (%d, %d]: the raft log and the data directory don't belong together",
		regionID, applied, rs.TruncatedIndex, rs.LastIndex)
}

// ensureRaft makes a cold peer a whole one. false means that the store cannot go on.
func (p *peer) ensureRaft() bool {
	if p.rn != nil {
		return true
	}
	rs, fresh, err := p.coldLog()
	known := p.role.Load()
	if err == nil {
		err = p.startFrom(rs)
	}
	if err != nil {
		p.store.fatal(fmt.Errorf("raftstore: load region %d: %w", p.regionID, err))
		return false
	}
	if fresh {
		p.store.logWriter.submit(p.initTask())
	}
	p.store.metrics.loads.Inc()
	p.restoreLeader(known)
	return true
}

// restoreLeader tells Raft who leads, as a heartbeat that says nothing else
// would. Without it a peer that slept would vote for anybody who asks, and
// healthy sleeping leaders would be deposed. A leader that is lost is forgotten
// instead. That a term's leader is a fact that never changes makes it safe.
func (p *peer) restoreLeader(known *role) {
	if known.lead == nil || known.term < p.hs.term || p.store.lost(known.lead, p.leadIncarnation.Load(), p.now) {
		return
	}
	p.role.Store(&role{term: known.term, lead: known.lead})
	p.step(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(known.lead.Id), To: new(p.id), Term: new(known.term), Commit: new(uint64(0))})
}

// unload makes a follower that sleeps a cold peer. What it has promised to its
// leader is over by then: see unloadAfter.
func (p *peer) unload() {
	if p.rn == nil || p.awake.Load() || p.role.Load().leader || p.now-p.quietSince < p.store.unloadAfter() || !p.settled() {
		return
	}
	p.st.cache.clear()
	p.rn, p.st = nil, nil
	p.cold.Store(true)
	p.selfSteps, p.props, p.reads = nil, nil, nil
	p.index = readIndexState{}
	p.leases.marks = nil
}

// ColdCount is how many peers have nothing of Raft in memory.
func (s *Store) ColdCount() (n int) {
	s.eachPeer(func(p *peer) {
		if p.cold.Load() {
			n++
		}
	})
	return n
}

// unloadAfter is how long a follower sleeps before it becomes cold. A cold peer
// forgets how long ago it heard from its leader, so leases must have ended.
func (s *Store) unloadAfter() int64 { return 3 * int64(s.cfg.electionTimeout()) }

// regionLog adds a region's attributes to log records. slog's own With would
// format and keep them for every region.
type regionLog struct {
	slog.Handler
	region, peer uint64
}

// Handle implements slog.Handler.
func (h *regionLog) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.AddAttrs(slog.Uint64("region", h.region), slog.Uint64("peer", h.peer))
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *regionLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &regionLog{Handler: h.Handler.WithAttrs(attrs), region: h.region, peer: h.peer}
}

// WithGroup implements slog.Handler.
func (h *regionLog) WithGroup(name string) slog.Handler {
	return &regionLog{Handler: h.Handler.WithGroup(name), region: h.region, peer: h.peer}
}
