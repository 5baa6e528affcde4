package raftstore

import (
	"fmt"
	"log/slog"

	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Truncation of the log takes two steps. The leader, which knows how far the
// other peers are, decides by a CompactLog command how much the group needs.
// Each peer then drops what it needs neither for itself: only what is durably
// applied may go, because the data engine has no log of its own and forgets its
// memtables in a crash.

// logGCState is the Raft worker's view of it.
type logGCState struct {
	compactTo uint64 // all peers may drop the log up to here
	bytes     uint64 // of the log, roughly, since the start or the last truncation
	unchecked uint64 // bytes that came since lastCheck
	lastCheck int64
}

// logUncheckedBytesMax is how much a log grows before it is looked at, however
// short the time: what is truncated while the log's memtable still holds it is
// never written to a table.
const logUncheckedBytesMax = 8 << 20

func (g *logGCState) added(ents []*raftpb.Entry) {
	for _, e := range ents {
		g.bytes += uint64(entryCost(e))
		g.unchecked += uint64(entryCost(e))
	}
}

// due reports whether the log is to be looked at.
func (g *logGCState) due(now, interval int64) bool {
	return now-g.lastCheck >= interval || g.unchecked >= logUncheckedBytesMax
}

func (g *logGCState) checked(now int64) { g.lastCheck, g.unchecked = now, 0 }

// becameLeader looks at the log soon.
func (g *logGCState) becameLeader() { g.lastCheck = 0 }

func (p *peer) tickLog() {
	if !p.gc.due(p.now, int64(p.store.cfg.LogCheckInterval)) || !p.initialized() {
		return
	}
	p.gc.checked(p.now)
	if p.role.Load().leader {
		p.proposeCompact()
	}
	p.truncateLog()
}

// proposeCompact tells the group to forget what every peer has. A peer that
// lags too far, or is down, loses its claim and gets a snapshot.
func (p *peer) proposeCompact() {
	c := &p.store.cfg
	applied, first := p.applied.Load(), max(p.st.truncatedIndex, p.gc.compactTo)+1
	if p.admin.compact || applied <= first || p.admin.prepare != (proposalID{}) || p.merging.Load() != nil {
		return
	}
	to := min(applied, p.minMatch())
	if applied-first >= c.LogKeepEntriesMax || p.gc.bytes >= c.LogKeepBytesMax {
		to = applied // the slow ones have had their chance
	}
	if to <= first || (to-first < c.LogTruncateEntries && p.gc.bytes < c.LogTruncateBytes) {
		return
	}
	to-- // the newest entry all have stays: probing peers match on it
	term, err := p.st.Term(to)
	if err != nil {
		return
	}
	region := p.region.Load()
	h := p.newHeader(entryKindAdmin, region)
	req := &raft_cmdpb.AdminRequest{
		CmdType: raft_cmdpb.AdminCmdType_CompactLog, CompactLog: &raft_cmdpb.CompactLogRequest{CompactIndex: to, CompactTerm: term}}
	p.store.metrics.proposals.WithLabelValues("compact_log").Inc()
	prop := &proposal{id: h.id, data: encodeAdmin(&h, req), done: make(chan error, 1)}
	if p.stepProposals([]*proposal{prop}, p.role.Load().term) == nil {
		p.admin.compact = true
	}
}

// truncateLog drops what the group has given up and this store has durably
// applied.
func (p *peer) truncateLog() {
	if p.gc.compactTo <= p.st.truncatedIndex || p.snap.applying {
		return
	}
	value, ok, err := p.store.engine.GetMetaDurable(metaKey(applyStateKind, p.regionID))
	if err != nil {
		p.store.fatal(err)
		return
	}
	var durable applyState
	if ok {
		if durable, err = decodeApplyState(p.regionID, value); err != nil {
			p.store.fatal(err)
			return
		}
	}
	to := min(p.gc.compactTo, durable.index)
	if to < p.gc.compactTo {
		p.store.flushSoon()
	}
	// An applier that waits for the source of a merge is further than Raft
	// knows, which will look at all entries behind its own applied index.
	to = min(to, p.rn.BasicStatus().Applied)
	if to <= p.st.truncatedIndex {
		return
	}
	term, err := p.st.Term(to)
	if err != nil {
		p.log.Warn("log not truncated", slog.Uint64("to", to), slog.Any("error", err))
		return
	}
	p.gc.bytes -= p.gc.bytes * (to - p.st.truncatedIndex) / max(p.st.last-p.st.truncatedIndex, 1)
	p.st.truncate(to, term)
	p.store.metrics.truncations.Inc()
	// Unsynced: a log that is longer than it must be does no harm.
	p.appends++ // until it is done the log must not be read anew
	p.store.logWriter.submit(&logTask{p: p, done: new(appendDone), extra: func(b *raftlog.Batch) { b.SetTruncated(p.regionID, to, term) }})
}

// minMatch is the last entry that all peers have.
func (p *peer) minMatch() uint64 {
	match := p.applied.Load()
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		match = min(match, pr.Match)
	})
	return match
}

// minActiveMatch is the last entry that all peers have that are being fed.
func (p *peer) minActiveMatch() uint64 {
	match := p.applied.Load()
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id != p.id && pr.State == tracker.StateReplicate && pr.RecentActive {
			match = min(match, pr.Match)
		}
	})
	return match
}

// flushSoon asks for a flush of the data engine, so that logs can be truncated.
// Flushing more often than flushIntervalMin would make small tables.
func (s *Store) flushSoon() {
	now, last := s.now(), s.lastFlush.Load()
	if now-last >= int64(flushIntervalMin) && s.lastFlush.CompareAndSwap(last, now) {
		select {
		case s.flushWake <- struct{}{}:
		default:
		}
	}
}

// logFlushShare: the Raft log is flushed on a full disk while 1/logFlushShare of
// the reserve is left.
const logFlushShare = 4

// flusher starts the flushes that flushSoon asks for. A stalled engine holds up
// whoever starts one, and must hold up no Raft worker.
func (s *Store) flusher() {
	for {
		select {
		case <-s.stopped:
			return
		case <-s.flushWake:
			s.engine.FlushAsync()
			// A full disk: the log's files go with its memtables. A new one takes
			// room itself, so not at the very end.
			if u := s.space.Usage(); u.Level != disk.Normal && u.AvailBytes > uint64(u.ReserveBytes)/logFlushShare {
				if err := s.raftLog.FlushAsync(); err != nil {
					s.fatal(fmt.Errorf("raftstore: flush raft log: %w", err))
				}
			}
		}
	}
}

// onRegionChanged follows a change of the region that apply has published.
func (p *peer) onRegionChanged(region *metapb.Region) {
	p.st.confState = confState(region)
	p.followRecovery(region)
	for _, peer := range region.Peers {
		delete(p.otherPeers, peer.Id)
	}
	p.store.knowStores(region)
	p.store.observer.RegionChanged(region, false)
	if p.role.Load().leader {
		p.report.soon = true
	}
}
