package raftstore

import (
	"slices"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// Limits of the patrol, per tick.
const (
	patrolVisitCountMax  = 16 << 10 // peers looked at
	patrolWakeCountMax   = 512      // peers woken or warmed up (hazard 14)
	patrolAskCountMax    = 2048     // peers whose leaders are asked for
	patrolReportCountMax = 512      // heartbeats to PD after its leader has changed
	// patrolBacklogCountMax: with more peers than that still waiting for a Raft
	// worker when the next tick comes, the patrol goes on every patrolBusyTicks only.
	patrolBacklogCountMax = 4096
	patrolBusyTicks       = 5
)

// patrol visits sleeping peers, for the few things that they cannot do
// themselves: to report to PD, to notice that the leader is gone, to find a
// leader after a restart, to ask whether they are still members (sleepcheck.go).
// It runs on the ticker, and goes around once in
// HibernateHeartbeatInterval. When stores have died or come back it goes
// faster, but wakes patrolWakeCountMax peers a tick at most.
//
// A region without a leader is served in this order, so that one peer stands
// for election and the others vote:
//
//	at once                the peers that lost a leader: the chosen one campaigns
//	                       the peers that never knew one: ask who leads
//	election timeout       the chosen one wakes and campaigns if nobody leads
//	3 election timeouts    everybody does (later, if a round takes long)
type patrol struct {
	next   int // place in the range map
	buf    []uint64
	stores map[uint64]struct{} // seen on this round

	// urgent: rounds to make at full speed. Two, since the one under way began
	// before the reason.
	urgent int
	// leaderless counts, on this round, those that still need somebody.
	leaderless int
	// reports: rounds on which every leader reports to PD.
	reportAll bool
	reportEnd int // visits left until then
	// What this tick has done.
	woken, asked, reported, checked int

	roundStart, roundTook int64
}

// exhausted: the rest is for the next tick.
func (t *patrol) exhausted() bool {
	return t.woken >= patrolWakeCountMax || t.asked >= patrolAskCountMax || t.reported >= patrolReportCountMax
}

// hurry makes the patrol look at everybody soon.
func (t *patrol) hurry() { t.urgent = 2 }

// ReportAll makes all leaders report to PD soon, in bounded batches: a new
// leader of PD knows little.
func (s *Store) ReportAll() { s.reportAll.Store(true) }

// patrolTick makes one step.
func (s *Store) patrolTick(now int64) {
	t := &s.patrol
	total := s.rangeCount()
	if s.reportAll.Swap(false) {
		t.reportAll, t.reportEnd = true, total
	}
	n := total/int(max(s.cfg.HibernateHeartbeatInterval/s.cfg.TickInterval, 1)) + 1
	if t.urgent > 0 || t.reportAll {
		n = patrolVisitCountMax
	}
	t.woken, t.asked, t.reported, t.checked = 0, 0, 0, 0
	for n = min(n, total); n > 0 && !t.exhausted(); {
		t.buf = s.rangeIDs(t.buf[:0], t.next, min(n, 256))
		if len(t.buf) == 0 {
			s.patrolRound(now)
			n--
			continue
		}
		for _, id := range t.buf {
			t.next++
			n--
			if p := s.peer(id); p != nil {
				s.visit(p, now)
			}
			if t.reportEnd--; t.reportEnd <= 0 {
				t.reportAll = false
			}
			if t.exhausted() {
				break
			}
		}
	}
}

// patrolRound ends one round and begins the next.
func (s *Store) patrolRound(now int64) {
	t := &s.patrol
	t.next = 0
	t.roundStart, t.roundTook = now, now-t.roundStart
	if t.stores != nil {
		s.live.keep(t.stores, now)
		for id := range t.stores {
			// One that was forgotten because a round missed its only region here (ranges
			// move under it): both sides would wait for the other's beats.
			s.live.add(id)
		}
	}
	t.stores = make(map[uint64]struct{})
	if t.urgent--; t.leaderless > 0 {
		t.urgent = max(t.urgent, 1)
	}
	t.urgent = max(t.urgent, 0)
	t.leaderless = 0
}

// visit looks at one peer.
func (s *Store) visit(p *peer, now int64) {
	t := &s.patrol
	region, r := p.region.Load(), p.role.Load()
	for _, peer := range region.Peers {
		if t.stores != nil && peer.StoreId != s.id {
			t.stores[peer.StoreId] = struct{}{}
		}
	}
	s.validate(p, now)
	if !p.isAsleep() {
		p.leaderlessSince, p.checkedAt = 0, now // tickMissing does it
		if t.reportAll && r.leader {
			t.reported++
			p.send(mailReport{})
		}
		return
	}
	if r.leader {
		p.leaderlessSince = 0
		if s.anyBack(p.without.Load(), now) {
			t.woken++
			p.send(mailWake{})
			return
		}
		s.checkSleeper(p, region, r, now, leaderCheckRounds)
		if t.reportAll || now-p.reportedAt >= int64(s.cfg.HibernateHeartbeatInterval)*3/4 {
			p.reportedAt = now
			t.reported++
			p.send(mailReport{})
		}
		return
	}
	if r.lead != nil && !s.lost(r.lead, p.leadIncarnation.Load(), now) {
		p.leaderlessSince = 0
		if slept := p.sleptAt.Load(); slept == 0 && !p.warm.Load() {
			t.woken++
			p.send(mailWarm{})
		} else if slept != 0 && now-slept >= s.unloadAfter() {
			p.sleptAt.Store(0)
			p.warm.Store(true)
			p.send(mailUnload{})
		}
		s.checkSleeper(p, region, r, now, followerCheckRounds)
		return
	}
	s.visitLeaderless(p, region, r, now)
}

// anyBack reports whether one of the stores is alive again: its peer may lack
// something.
func (s *Store) anyBack(stores *[]uint64, now int64) bool {
	if stores == nil {
		return false
	}
	for _, id := range *stores {
		if _, ok := s.live.alive(id, now); ok {
			return true
		}
	}
	return false
}

// visitLeaderless does what the time since the first look asks for.
func (s *Store) visitLeaderless(p *peer, region *metapb.Region, r *role, now int64) {
	t := &s.patrol
	t.leaderless++
	if p.votesAlone(region) {
		t.woken++
		p.send(mailNudge{asked: true})
		return
	}
	timeout := int64(s.cfg.electionTimeout())
	first := p.leaderlessSince == 0
	if first {
		p.leaderlessSince = now
	}
	since := now - p.leaderlessSince
	switch {
	case first && r.lead == nil:
		t.asked++
		p.askedAt.Store(max(now, 1))
		p.checkedAt = now
		p.signalOthers(Signal{Kind: SignalPeek})
		return
	case s.votesRefused(), r.lead == nil && since < timeout:
		return
	case r.lead != nil && s.backSince(region, now-timeout/2):
		return // where one store's beat comes through again, the leader's may be about to
	}
	chosen, quorum := s.chooses(region, now)
	switch {
	case quorum && chosen == p.id, quorum && since >= 3*timeout+2*t.roundTook:
		t.woken++
		p.send(mailNudge{asked: true})
	case since >= missingLeaderElections*timeout:
		p.leaderlessSince = 0 // ask again: there may be new members, or a tombstone
		if r.lead != nil {
			s.checkSleeper(p, region, r, now, leaderlessCheckRounds)
		}
	}
}

// chooses returns the voter that is to stand for election, the same on all
// stores that see the same stores alive, and whether a quorum is alive.
func (s *Store) chooses(region *metapb.Region, now int64) (chosen uint64, quorum bool) {
	var array [8]uint64
	up, voters := array[:0], 0
	for _, peer := range region.GetPeers() {
		if peer.Role != metapb.PeerRole_Voter && peer.Role != metapb.PeerRole_IncomingVoter {
			continue
		}
		voters++
		if _, ok := s.live.alive(peer.StoreId, now); ok || peer.StoreId == s.id {
			up = append(up, peer.Id)
		}
	}
	slices.Sort(up)
	if len(up) == 0 || len(up) <= voters/2 {
		return 0, false
	}
	return up[region.Id%uint64(len(up))], true
}
