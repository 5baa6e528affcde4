package raftstore

import (
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// What a store does as its disk fills up. Every message tells the sender's
// level, so that a leader knows where its entries would be refused.
//
//	            as leader                        as follower
//	normal      all                              all
//	almost full what frees room (deletes, ends   appends; no snapshots
//	            of transactions), or is marked
//	            so by the client; leadership
//	            goes to a store with room
//	full        what is marked so; changes of    heartbeats, votes, entries that
//	            members, transfers, truncation   are no writes, and what leaders of
//	                                             earlier terms left uncommitted
//
// The last are for reads: a leader serves none before an entry of its own term
// is committed, and so all that is before it in the log. They get a share of the
// reserve (disk.Space.TailRoom).
//
// Reads are served at every level. Behind an error of the disk itself the level
// is "full" until it takes writes again; no restart is needed.

// diskRetryInterval is the pause of a background job that found no space.
const diskRetryInterval = time.Second

// DiskLevel is how full the store's disk is.
func (s *Store) DiskLevel() disk.Level { return s.space.Level() }

// watchDisk looks at the disk now and then.
func (s *Store) watchDisk() {
	t := time.NewTicker(s.cfg.DiskCheckInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-t.C:
		case <-s.diskWake:
		}
		s.checkDisk()
	}
}

// diskCheckShare: the disk is looked at again, whatever the time, when
// 1/diskCheckShare of the room has been asked for since the last look. An entry
// takes its size in the log and again in the data, and some more in compactions.
const (
	diskCheckShare    = 16
	diskCheckBytesMin = 1 << 20
)

// willWrite counts bytes on their way to the disk.
func (s *Store) willWrite(bytes int64) {
	if s.space != nil && s.unchecked.Add(bytes) > s.checkAfter.Load() {
		select {
		case s.diskWake <- struct{}{}:
		default:
		}
	}
}

func (s *Store) checkDisk() {
	s.unchecked.Store(0)
	data, log := s.engine.Pressure(), s.raftLog.Pressure()
	level := s.space.Check(data.MemTableBytes+log.MemTableBytes, data.DiskUsageBytes+log.DiskUsageBytes)
	s.fullTail.Store(0)
	s.checkAfter.Store(max(s.space.AboveReserve()/diskCheckShare, diskCheckBytesMin))
	if level != disk.Normal {
		s.flushSoon() // so that logs can be truncated
	}
}

// noteDisk remembers the level of another store.
func (s *Store) noteDisk(storeID uint64, level disk.Level) {
	have := s.fullStores.Load()
	if have == nil && level == disk.Normal || have != nil && (*have)[storeID] == level {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[uint64]disk.Level{}
	if have = s.fullStores.Load(); have != nil {
		maps.Copy(next, *have)
	}
	if next[storeID] = level; level == disk.Normal {
		delete(next, storeID)
	}
	s.log.Info("disk usage of another store changed", slog.Uint64("other", storeID), slog.String("level", level.String()))
	if len(next) == 0 {
		s.fullStores.Store(nil)
		return
	}
	s.fullStores.Store(&next)
}

// diskLevelOf is the level of a store as it is known here.
func (s *Store) diskLevelOf(storeID uint64) disk.Level {
	if storeID == s.id {
		return s.space.Level()
	}
	if full := s.fullStores.Load(); full != nil {
		return (*full)[storeID]
	}
	return disk.Normal
}

// admitDisk refuses a write for which this store, or a majority of the
// region's, has no room.
func (p *peer) admitDisk(region *metapb.Region, opt kvrpcpb.DiskFullOpt, b *kv.Batch) error {
	s := p.store
	if s.space.Level() == disk.Normal && s.fullStores.Load() == nil {
		return nil
	}
	allowed := disk.Level(opt)
	if allowed == disk.Normal && !takesRoom(b) {
		allowed = disk.AlmostFull
	}
	var full []uint64
	taken := map[uint64]bool{} // voters that would take the entry
	for _, peer := range region.Peers {
		level := s.diskLevelOf(peer.StoreId)
		if peer.StoreId != s.id && level == disk.AlreadyFull || level > allowed {
			full = append(full, peer.StoreId)
			continue
		}
		taken[peer.Id] = true
	}
	cs := confState(region)
	quorum := majority(cs.Voters, taken) && majority(cs.VotersOutgoing, taken)
	own := s.space.Level() > allowed
	if !own && quorum {
		return nil
	}
	s.diskFullRefusals.Inc()
	if own && quorum {
		p.shedLeader(fmt.Sprintf("the disk of store %d is %s", s.id, s.space.Level()), true)
	}
	return errDiskFull(p.regionID, full, s.space.Level())
}

func majority(voters []uint64, of map[uint64]bool) bool {
	n := 0
	for _, id := range voters {
		if of[id] {
			n++
		}
	}
	return len(voters) == 0 || n > len(voters)/2
}

// takesRoom reports whether a batch is more than deletes.
func takesRoom(b *kv.Batch) bool {
	r := kv.ReadBatch(b.Bytes())
	for {
		op, _, _, _, ok, err := r.Next()
		if !ok || err != nil {
			return err != nil
		}
		if op == kv.OpPut {
			return true
		}
	}
}

// admitByDisk returns what of a message a full disk takes, nil for nothing:
// entries up to the first write that it has no room for, as if the rest had been
// lost. Elections, changes of members and truncations go on: an entry that is no
// write is small.
func (s *Store) admitByDisk(m *RaftMessage) *RaftMessage {
	if s.space.Level() != disk.AlreadyFull || m.Msg.GetType() != raftpb.MsgApp {
		return m
	}
	es := m.Msg.GetEntries()
	// A new leader waits for the commit of all that is before its own first
	// entry. Who only lags behind what is committed has to wait for room.
	needed := len(es) > 0 && es[len(es)-1].GetIndex() > m.Msg.GetCommit()
	for i, e := range es {
		data := e.GetData()
		if e.GetType() != raftpb.EntryNormal || len(data) < 2 || data[1] != entryKindWrite ||
			needed && e.GetTerm() < m.Msg.GetTerm() && s.admitTail(int64(len(data))) {
			continue
		}
		if i == 0 {
			return nil
		}
		cut := *m // others may hold the message
		cut.Msg = &raftpb.Message{
			Type: m.Msg.Type, From: m.Msg.From, To: m.Msg.To, Term: m.Msg.Term,
			LogTerm: m.Msg.LogTerm, Index: m.Msg.Index, Commit: m.Msg.Commit, Entries: es[:i:i],
		}
		return &cut
	}
	return m
}

// tailCost is how many bytes of the disk a byte of an entry takes in the end:
// in the log, in a table, and in the compaction of that.
const tailCost = 3

// admitTail reports whether the reserve has room for a write of an earlier term.
func (s *Store) admitTail(bytes int64) bool {
	if s.fullTail.Add(bytes*tailCost) > s.space.TailRoom() {
		s.fullTail.Add(-bytes * tailCost)
		return false
	}
	return true
}

// mailShedLeader asks a leader to hand over to somebody whose store is better
// off.
type mailShedLeader struct {
	why  string
	room bool // the other must have room on its disk
}

// shedLeader asks the Raft worker to hand the leadership over. One mail at a
// time is enough.
func (p *peer) shedLeader(why string, room bool) {
	if p.shedding.CompareAndSwap(false, true) {
		p.send(mailShedLeader{why, room})
	}
}

// onShedLeader hands over to the voter that has most of the log among those
// that answer.
func (p *peer) onShedLeader(m mailShedLeader) {
	defer p.shedding.Store(false)
	status := p.rn.BasicStatus()
	if status.RaftState != raft.StateLeader || status.LeadTransferee != raft.None || p.admin.split != (proposalID{}) {
		return
	}
	region := p.region.Load()
	var to *metapb.Peer
	var match uint64
	p.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		peer := findPeer(region, id)
		if id == p.id || typ != raft.ProgressTypePeer || peer == nil || peer.Role != metapb.PeerRole_Voter ||
			!pr.RecentActive || pr.State != tracker.StateReplicate || m.room && p.store.diskLevelOf(peer.StoreId) != disk.Normal {
			return
		}
		if to == nil || pr.Match > match {
			to, match = peer, pr.Match
		}
	})
	if to == nil {
		return
	}
	p.log.Info("leadership is handed over", slog.String("why", m.why), slog.Uint64("to_store", to.StoreId))
	p.handOver(to)
}

// untilRoom repeats fn, which changes nothing when it fails, while the disk has
// no space for it. It reports false when the store stops meanwhile.
func (s *Store) untilRoom(what string, fn func() error) (ok bool, err error) {
	for {
		err := fn()
		if err == nil || !vfs.IsNoSpaceError(err) {
			return true, err
		}
		s.log.Warn("no space left; trying again", slog.String("what", what), slog.Any("error", err))
		select {
		case <-s.stopped:
			return false, nil
		case <-time.After(diskRetryInterval):
		}
	}
}

// snapshotTaken reports whether a peer that lags behind the log would take a
// snapshot. To make one for a store that refuses it would be in vain, and it is
// much work.
func (p *peer) snapshotTaken() bool {
	region, lags, taken := p.region.Load(), false, false
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id == p.id || pr.Match >= p.st.truncatedIndex {
			return
		}
		lags = true
		peer := findPeer(region, id)
		taken = taken || peer == nil || p.store.diskLevelOf(peer.StoreId) == disk.Normal
	})
	return taken || !lags
}
