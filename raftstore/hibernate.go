package raftstore

import (
	"log/slog"
	"slices"

	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Hibernation: a region in which nothing happens and nothing is owed sleeps.
// Its peers get no ticks, so the leader sends no heartbeats and nobody starts
// an election (adr 5 has the argument why that is safe).
//
//	leader                            followers
//	idle for HibernateTicks, all peers on stores that
//	are alive have all of the log
//	   ──── SignalSleep(term, index) ───► same log, all of it applied?
//	                                      sleep
//	   ◄─── SignalSleepAck ──────────────
//	all have agreed and nothing was
//	sent since: sleep
//
// Every mail wakes a peer: a message of Raft's, a proposal, a read, an operator.
// A follower that wakes by itself wakes its leader, and a leader's heartbeats
// wake the others. A follower whose leader died with its store is woken by the
// patrol (patrol.go).
//
// Leases: a sleeping leader has none that it did not have before, since only
// answers to messages renew one. A follower's promise not to vote is counted in
// ticks and so gets longer by sleep; where it is cut short, it is after an
// election timeout of sleep by the store's clock (promiseOver).

// sleepState is the Raft worker's view of its peer's way to sleep.
type sleepState struct {
	idle int // ticks since something happened
	// A leader's offer: made at the end of a round, void as soon as anything is
	// sent after it.
	offer   bool // to be made in this round
	offered bool
	age     int // ticks since
	acks    []uint64
	// brief: the patrol woke it, and it has had nothing else to do since.
	brief bool
	// campaignIn ticks a peer that woke without a leader stands for election.
	campaignIn int
}

// mails that don't wake a peer.
type (
	mailReport struct{} // a sleeping leader's heartbeat to PD
	mailUnload struct{}
	mailWarm   struct{} // a cold peer: is all of the log applied?
)

// mailWake wakes a peer.
type mailWake struct{}

// mailNudge wakes a peer that has, or may have, no leader. asked says that the
// other stores were asked who leads, and had time to answer.
type mailNudge struct{ asked bool }

// quiet handles mail that concerns sleep itself; it reports whether m was such.
func (p *peer) quiet(m any) bool {
	switch m := m.(type) {
	case *RaftMessage:
		switch m.Signal.Kind {
		case 0:
			return false
		case SignalSleep:
			p.onSleep(m)
		case SignalSleepAck:
			p.onSleepAck(m)
		case SignalWake:
			if p.role.Load().leader {
				p.wake()
				p.sleep.idle = 0
				p.index.renew = true // its heartbeats wake everybody
			}
		case SignalLeader:
			p.onLeaderSignal(m)
		}
	case mailReport:
		if p.rn == nil || !p.role.Load().leader {
			break
		}
		if p.report.soon = true; !p.awake.Load() {
			p.reportIfDue()
		}
	case mailUnload:
		p.unload()
	case mailWarm:
		p.warmUp()
	case mailUnreachable:
		return !p.awake.Load() // what was lost did not matter
	default:
		return false
	}
	return true
}

// rouse makes a peer ready to handle m. false means that it cannot.
func (p *peer) rouse(m any) bool {
	if !p.ensureRaft() {
		return false
	}
	if !p.awake.Load() {
		p.wake()
		if _, byMessage := m.(*RaftMessage); !byMessage {
			p.wakeLeader()
		}
	}
	switch m := m.(type) {
	case mailNudge:
		p.sleep.brief = m.asked
	case *proposal, *readRequest, mailOperator, mailRenewLease:
		p.sleep.brief = false
	}
	if isActivity(m) {
		p.sleep.idle, p.sleep.offered = 0, false
	}
	return true
}

// isActivity: what keeps a region awake. Heartbeats don't, nor what follows
// from something that did.
func isActivity(m any) bool {
	switch m := m.(type) {
	case *RaftMessage:
		t := m.Msg.GetType()
		return (m.Msg != nil || m.Merge != nil) && t != raftpb.MsgHeartbeat && t != raftpb.MsgHeartbeatResp
	case *appendDone, *applyDone, *splitKeysFound, mailUnreachable:
		return false
	}
	return true
}

// wake makes the clock tick again.
func (p *peer) wake() {
	if p.awake.Load() || p.gone || !p.ensureRaft() {
		return
	}
	p.sleep = sleepState{acks: p.sleep.acks[:0]}
	p.missing = 0
	p.store.awake.add(p)
	p.store.metrics.wakes.Inc()
	r := p.role.Load()
	if !r.leader && r.lead != nil && p.store.lost(r.lead, p.leadIncarnation.Load(), p.now) && p.promiseOver() {
		p.forgetLeader()
	}
}

// promiseOver: no leader can have a lease that rests on this peer's word.
func (p *peer) promiseOver() bool {
	return p.now-p.quietSince > int64(p.store.cfg.electionTimeout()) && !p.store.votesRefused()
}

// forgetLeader lets the peer vote for others at once.
func (p *peer) forgetLeader() {
	if err := p.rn.ForgetLeader(); err != nil {
		p.log.Debug("leader not forgotten", slog.Any("error", err))
	}
}

// wakeLeader tells the leader that somebody is awake.
func (p *peer) wakeLeader() {
	if r := p.role.Load(); !r.leader && r.lead != nil {
		p.signal(r.lead, Signal{Kind: SignalWake, Term: r.term})
	}
}

// onNudge wakes a peer whose leader is lost or unknown. Whoever leads is asked
// to say so; if nobody does, it stands for election. Raft's pre-vote makes that
// harmless where a leader is alive and well.
func (p *peer) onNudge(m mailNudge) {
	r := p.role.Load()
	if r.leader || (r.lead != nil && !p.store.lost(r.lead, p.leadIncarnation.Load(), p.now)) {
		return
	}
	switch {
	case p.votesAlone(p.region.Load()):
		p.campaign()
	case (r.lead != nil || m.asked) && p.promiseOver():
		p.forgetLeader()
		p.campaign()
	case p.sleep.campaignIn == 0:
		p.signalOthers(Signal{Kind: SignalWake})
		p.sleep.campaignIn = 2
	}
}

// votesAlone: nobody else need be asked.
func (p *peer) votesAlone(region *metapb.Region) bool {
	return lone(region) && confState(region).Voters[0] == p.id
}

// tickCampaign stands for election if nobody has answered a nudge.
func (p *peer) tickCampaign() {
	if p.sleep.campaignIn == 0 {
		return
	}
	if r := p.role.Load(); r.lead != nil && !p.store.lost(r.lead, p.leadIncarnation.Load(), p.now) {
		p.sleep.campaignIn = 0
		return
	}
	if !p.promiseOver() {
		return // its own vote counts, too
	}
	if p.sleep.campaignIn--; p.sleep.campaignIn == 0 {
		p.campaign()
	}
}

// tickSleep counts idle ticks of a leader and offers to sleep.
func (p *peer) tickSleep() {
	s, c := &p.sleep, &p.store.cfg
	if c.NoHibernation {
		return
	}
	s.idle++
	if s.offered {
		if s.age++; s.age > c.HeartbeatTicks {
			s.offered, s.idle = false, 0 // somebody has reasons; ask again later
		}
		return
	}
	enough := c.HibernateTicks
	if s.brief {
		enough = min(enough, c.ElectionTicks)
	}
	s.offer = s.idle >= enough && p.idleLeader()
}

// offerSleep makes the offer behind everything that this round has sent.
func (p *peer) offerSleep() {
	s := &p.sleep
	if !s.offer {
		return
	}
	s.offer = false
	if p.gone || !p.idleLeader() {
		return
	}
	s.offered, s.age, s.acks = true, 0, s.acks[:0]
	p.signalOthers(Signal{Kind: SignalSleep, Term: p.role.Load().term, Index: p.st.last})
	p.sleepIfAgreed()
}

// onSleep is the follower's side: the last thing it does awake is to answer.
func (p *peer) onSleep(m *RaftMessage) {
	if !p.ensureRaft() || p.merge.stop != nil {
		return
	}
	p.handleReady() // a heartbeat that came with it
	r := p.role.Load()
	incarnation, alive := p.store.live.alive(m.From.StoreId, p.now)
	if p.store.cfg.NoHibernation || !alive || r.leader || r.term != m.Signal.Term || r.lead.GetId() != m.From.Id ||
		p.st.last != m.Signal.Index || !p.settled() {
		return
	}
	p.leadIncarnation.Store(incarnation)
	p.fallAsleep()
	p.signal(&m.From, Signal{Kind: SignalSleepAck, Term: m.Signal.Term, Index: m.Signal.Index})
}

// onSleepAck is the leader's side.
func (p *peer) onSleepAck(m *RaftMessage) {
	s := &p.sleep
	if !s.offered || p.rn == nil || p.merge.stop != nil || m.Signal.Term != p.role.Load().term || m.Signal.Index != p.st.last {
		return
	}
	if !slices.Contains(s.acks, m.From.Id) {
		s.acks = append(s.acks, m.From.Id)
	}
	p.handleReady()
	p.sleepIfAgreed()
}

// sleepIfAgreed puts the leader to sleep when all others are.
func (p *peer) sleepIfAgreed() {
	var without []uint64
	for _, peer := range p.region.Load().Peers {
		switch {
		case peer.Id == p.id:
		case !p.present(peer):
			without = append(without, peer.StoreId)
		case !slices.Contains(p.sleep.acks, peer.Id):
			return
		}
	}
	if p.idleLeader() {
		p.without.Store(nil)
		if len(without) > 0 {
			p.without.Store(&without)
		}
		p.fallAsleep()
	}
}

func (p *peer) fallAsleep() {
	p.awake.Store(false)
	p.sleptAt.Store(p.now)
	p.sleep = sleepState{}
	p.st.cache.clear()
	p.report.lastActive = nil
	p.leases.marks = nil
	p.store.metrics.sleeps.Inc()
}

// settled: nothing is on its way through this peer, and all of its log is
// committed, durable and applied.
func (p *peer) settled() bool {
	st := p.rn.BasicStatus()
	last := p.st.last
	return p.initialized() && !p.ending && !p.gone && p.appends == 0 && !p.rn.HasReady() &&
		p.st.written == last && st.GetCommit() == last && p.appliedIndex == last && p.applied.Load() == last && p.handed == last &&
		len(p.props) == 0 && len(p.reads) == 0 && len(p.index.batches) == 0 && !p.index.renew &&
		p.waiters.empty() && p.readers.empty() && p.snap.idle() && p.st.snap.idle() &&
		p.gc.compactTo <= p.st.truncatedIndex && !isJoint(p.region.Load()) &&
		p.merging.Load() == nil && p.merge.stop == nil && p.apply.want.Load() == nil
}

// idleLeader: the region owes nobody anything who could take it. A quorum of
// it is there.
func (p *peer) idleLeader() bool {
	r, region := p.role.Load(), p.region.Load()
	if !r.leader || p.appliedTerm != r.term || !p.settled() || p.busyAdmin() || p.unmeasured() || len(p.failed) > 0 || p.consistency.busy {
		return false
	}
	if p.rn.BasicStatus().LeadTransferee != raft.None {
		return false
	}
	equal, count, voters := true, 0, 0
	p.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		count++
		if id != p.id && !p.present(findPeer(region, id)) {
			return
		}
		if typ == raft.ProgressTypePeer {
			voters++
		}
		equal = equal && pr.Match == p.st.last && (id == p.id || (pr.State == tracker.StateReplicate && pr.RecentActive))
	})
	return equal && count == len(region.Peers) && voters > len(confState(region).Voters)/2
}

// present: the peer's store is alive. The others cannot be asked to sleep, and
// are woken for: the patrol wakes the leader when their store is back.
func (p *peer) present(peer *metapb.Peer) bool {
	_, ok := p.store.live.alive(peer.GetStoreId(), p.now)
	return ok
}

// busyAdmin: a command of this store's own is on its way.
func (p *peer) busyAdmin() bool {
	a := &p.admin
	return a.split != (proposalID{}) || a.prepare != (proposalID{}) || a.merge != (proposalID{}) || len(a.removing) > 0 || a.compact
}

// unmeasured: PD does not know the region's size yet, or it has grown too much.
func (p *peer) unmeasured() bool {
	size := p.stats.sizeBytes.Load()
	return p.report.splitBusy || p.report.soon || size == 0 ||
		size+p.stats.sizeDelta.Load() >= p.store.cfg.RegionMaxBytes || p.approxKeys() >= p.store.cfg.RegionMaxKeys
}

// onLeaderSignal notes who leads, for a cold peer that does not know.
func (p *peer) onLeaderSignal(m *RaftMessage) {
	if p.rn != nil {
		p.wakeDeposed(m)
		return
	}
	r := p.role.Load()
	lead := findPeer(p.region.Load(), m.From.Id)
	if lead == nil || m.Signal.Term < r.term {
		return
	}
	rs, _, err := p.coldLog()
	if err != nil {
		p.store.fatal(err)
		return
	}
	if m.Signal.Term < rs.HardState.GetTerm() {
		return // deposed; a role says that no later vote was cast here (CheckLeaders)
	}
	p.leadIncarnation.Store(m.Signal.Index)
	p.role.Store(&role{term: m.Signal.Term, lead: lead})
}

// warmUp applies what a cold peer has in its log: it may have lost, in a crash,
// what it had applied when its leader went to sleep.
func (p *peer) warmUp() {
	if p.rn != nil {
		return
	}
	rs, fresh, err := p.coldLog()
	if err != nil {
		p.store.fatal(err)
		return
	}
	p.warm.Store(true)
	if fresh || rs.LastIndex != p.appliedIndex {
		p.wake()
		p.wakeLeader()
	}
}

// isAsleep reports whether the peer gets no ticks.
func (p *peer) isAsleep() bool { return !p.awake.Load() }

// leaderHint is the leader that a request is sent to instead. A peer that knows
// of none, or of one that is gone, sees to it.
func (p *peer) leaderHint(r *role) *metapb.Peer {
	if p.isAsleep() && (r.lead == nil || p.store.lost(r.lead, p.leadIncarnation.Load(), p.store.now())) && p.nudged.CompareAndSwap(false, true) {
		asked := p.askedAt.Load()
		p.send(mailNudge{asked: asked != 0 && p.store.now()-asked > 2*int64(p.store.cfg.TickInterval)})
	}
	return r.lead
}

func (w *waiterTable) empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.m) == 0
}

func (t *readerTable) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) == 0
}

// idle: no snapshot is on its way from or to this peer.
func (s *snapshotState) idle() bool {
	return len(s.made) == 0 && !s.applying && s.current == nil && len(s.held) == 0 && s.ended == nil
}

func (s *snapshotSource) idle() bool { return !s.wanted && !s.busy && s.ready == nil }
