package raftstore

import (
	"fmt"
	"log/slog"

	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

func sprintf(f string, v []any) string { return fmt.Sprintf(f, v...) }

// appendDone says that a log task is durable.
type appendDone struct {
	last uint64            // the log's last entry now, or 0: as before
	took int64             // nanoseconds from the submission until it was durable
	self []*raftpb.Message // responses to this peer
}

// handleReady passes on what Raft wants done.
func (p *peer) handleReady() {
	for !p.gone && p.merge.stop == nil && p.rn.HasReady() {
		rd := p.rn.Ready()
		p.observeRole(&rd)
		p.st.cache.append(rd.Entries)
		if n := len(rd.Entries); n > 0 {
			p.gc.added(rd.Entries)
			if p.role.Load().leader {
				p.leases.mark(rd.Entries[n-1].GetIndex(), p.now)
			}
		}
		if !raft.IsEmptyHardState(rd.HardState) {
			p.committed.Store(rd.HardState.GetCommit())
		}
		if !raft.IsEmptyHardState(rd.HardState) && p.leases.committed(rd.HardState.GetCommit()) {
			p.renewLease()
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				p.storageAppend(m)
			case raft.LocalApplyThread:
				p.handed = m.Entries[len(m.Entries)-1].GetIndex()
				p.apply.put(&applyTask{entries: m.Entries, responses: m.Responses, times: p.commitTimes()})
				p.store.applySched.enqueue(p)
			default:
				p.sendMessage(m)
			}
		}
		for _, rs := range rd.ReadStates {
			p.onReadState(rs)
		}
		p.stepSelf()
	}
	if !p.gone {
		p.makeSnapshotIfWanted()
	}
}

// stepSelf delivers responses that need no write.
func (p *peer) stepSelf() {
	for _, m := range p.selfSteps {
		p.step(m)
	}
	clear(p.selfSteps)
	p.selfSteps = p.selfSteps[:0]
}

func (p *peer) step(m *raftpb.Message) {
	if p.merge.stop != nil && p.merge.stop.catchUp != nil {
		return // Raft has no further part in it
	}
	if err := p.rn.Step(m); err != nil {
		p.log.Debug("raft refused a message", slog.String("type", m.GetType().String()), slog.Any("error", err))
	}
}

// storageAppend hands a write to the log writer, with the responses that wait
// for it.
func (p *peer) storageAppend(m *raftpb.Message) {
	t, done := &logTask{p: p}, new(appendDone)
	if n := len(m.Entries); n > 0 {
		t.entries = m.Entries
		done.last = m.Entries[n-1].GetIndex()
		t.sync = true
	}
	if m.Term != nil || m.Vote != nil || m.Commit != nil {
		// A commit index alone is not worth a write: it goes with the next one,
		// and after a restart the leader tells it again.
		t.sync = t.sync || m.GetTerm() != p.hs.term || m.GetVote() != p.hs.vote
		p.hs = hardState{term: m.GetTerm(), vote: m.GetVote(), commit: m.GetCommit()}
	}
	for _, r := range m.Responses {
		if r.GetTo() == p.id {
			done.self = append(done.self, r)
		} else if rm := p.wrap(r); rm != nil {
			t.sends = append(t.sends, rm)
		}
	}
	if m.Snapshot != nil {
		p.applySnapshot(m.Snapshot, t, done)
		return
	}
	if p.snap.applying {
		p.snap.held = append(p.snap.held, heldAppend{t, done})
		return
	}
	p.submitAppend(t, done)
}

func (p *peer) submitAppend(t *logTask, done *appendDone) {
	if done.last != 0 {
		t.prevLast, p.st.written = p.st.written, done.last
	}
	if !t.sync && p.appends == 0 {
		for _, m := range t.sends {
			p.store.transport.Send(m)
		}
		p.selfSteps = append(p.selfSteps, done.self...)
		return
	}
	if t.sync {
		t.hs = p.hs.proto()
	}
	t.done = done
	p.appends++
	p.store.logWriter.submit(t)
}

func (p *peer) onAppendDone(d *appendDone) {
	p.appends--
	if d.last != 0 {
		p.st.last = d.last
		p.persisted.note(d.last, d.took)
	}
	for _, m := range d.self {
		p.step(m)
	}
}

// sendMessage sends one message of Raft to another store.
func (p *peer) sendMessage(m *raftpb.Message) {
	rm := p.wrap(m)
	if p.sleep.offered { // whom it reaches wakes up
		p.sleep.offered, p.sleep.idle = false, 0
	}
	if m.GetType() == raftpb.MsgSnap {
		p.sendSnapshot(m, rm)
		return
	}
	if rm == nil {
		return
	}
	p.store.transport.Send(rm)
}

// wrap addresses a message, or returns nil if nobody knows its receiver.
func (p *peer) wrap(m *raftpb.Message) *RaftMessage {
	if isVoteAnswer(m) {
		p.tellCommit(m)
	}
	region := p.region.Load()
	rm := p.newMessage(region)
	rm.Msg = m
	if to := findPeer(region, m.GetTo()); to != nil {
		rm.To = *to
	} else if to, ok := p.otherPeers[m.GetTo()]; ok {
		rm.To = to
	} else {
		return nil
	}
	return rm
}

func (p *peer) newMessage(region *metapb.Region) *RaftMessage {
	return &RaftMessage{
		RegionID: p.regionID, From: p.self(), DiskLevel: p.store.space.Level(),
		Epoch:    metapb.RegionEpoch{ConfVer: region.GetRegionEpoch().GetConfVer(), Version: region.GetRegionEpoch().GetVersion()},
		StartKey: region.GetStartKey(), EndKey: region.GetEndKey(),
	}
}

// observeRole publishes a new role before any message of the Ready is sent: a
// leader that steps down stops serving before its successor can be elected.
func (p *peer) observeRole(rd *raft.Ready) {
	old := p.role.Load()
	term := old.term
	if !raft.IsEmptyHardState(rd.HardState) {
		term = rd.HardState.GetTerm()
	}
	if rd.SoftState == nil && term == old.term {
		return
	}
	status := p.rn.BasicStatus()
	r := &role{term: term, leader: status.RaftState == raft.StateLeader}
	if status.Lead != raft.None {
		if lead := findPeer(p.region.Load(), status.Lead); lead != nil {
			r.lead = lead
		} else if lead, ok := p.otherPeers[status.Lead]; ok {
			r.lead = &lead
		}
	}
	if r.term == old.term && r.leader == old.leader && r.lead.GetId() == old.lead.GetId() {
		return
	}
	changed := r.leader != old.leader || (r.leader && r.term != old.term)
	if changed {
		p.resetLease()
	}
	p.role.Store(r)
	p.store.metrics.roleChanges.Inc()
	if old.lead.GetId() != r.lead.GetId() {
		p.onLeaderChanged()
	}
	if !changed {
		return
	}
	p.log.Info("role changed", slog.Bool("leader", r.leader), slog.Uint64("term", r.term))
	p.admin.reset()
	p.leases.blocked = false
	if src := &p.st.snap; src.ready != nil && !r.leader {
		p.dropMade(src.ready, src.dir)
		src.ready = nil
	}
	if r.leader {
		p.store.metrics.elected.Inc()
		p.report.soon = true
		p.gc.becameLeader()
	}
	p.failLeaderReads(r)
	p.store.observer.RoleChanged(p.regionID, r.leader, r.term)
}
