package raftstore

import "github.com/pingcap/kvproto/pkg/metapb"

// A peer that sleeps while it is removed may miss all of it: the entry, the
// word of the one who removed it, and the patrol sees nothing wrong if the
// leader's store is up. Nobody would send it anything any more (hazard 15). So
// sleepers ask, with SignalPeek, which wakes nobody who is healthy: leaders
// answer it from an atomic, and who has left learns that (onPeek, answerForDead).
//
//	a store of the region is back, or has restarted     all others, in the next two rounds of the patrol
//	followerCheckRounds have passed                     the leader; all others if it did not answer last time
//	leaderCheckRounds have passed                       all others
//
// The first covers outages, the others what was lost without one.
const (
	sleeperCheckCountMax = 256 // peers that ask, per tick; the others wait for the next round
	// Rounds of HibernateHeartbeatInterval. A leader is removed behind its back
	// only when others took it for dead, so it asks less often.
	followerCheckRounds   = 2
	leaderCheckRounds     = 10
	leaderlessCheckRounds = 1 // its leader's store is gone, and it cannot vote for another
)

// checkSleeper lets a sleeping peer ask whether it still belongs to its region.
func (s *Store) checkSleeper(p *peer, region *metapb.Region, r *role, now int64, rounds int) {
	t := &s.patrol
	if p.checkedAt == 0 {
		p.checkedAt = now
		return
	}
	back := s.backSince(region, p.checkedAt)
	round := int64(s.cfg.HibernateHeartbeatInterval)
	if !back && now-p.checkedAt < int64(rounds)*round-round/4 { // rounds vary a little
		return
	}
	if t.checked >= sleeperCheckCountMax {
		return
	}
	t.checked++
	last := p.checkedAt
	p.checkedAt = now
	if back || rounds != followerCheckRounds || p.leaderToldAt.Load() < last {
		p.signalOthers(Signal{Kind: SignalPeek})
		return
	}
	p.signal(r.lead, Signal{Kind: SignalPeek})
}

// backSince reports whether one of the region's stores came back, or was
// restarted, since a point in time.
func (s *Store) backSince(region *metapb.Region, since int64) bool {
	for _, peer := range region.Peers {
		if h := s.live.health(peer.StoreId); h != nil && h.backAt > since {
			return true
		}
	}
	return false
}

// toldLeader takes a leader's word on the transport's goroutine. It reports
// whether that is all, because the peer has known it before.
func (p *peer) toldLeader(m *RaftMessage) bool {
	p.heardLeader(p.store.now())
	r := p.role.Load()
	return r.lead.GetId() == m.From.Id && r.term == m.Signal.Term && p.leadIncarnation.Load() == m.Signal.Index
}

// wakeDeposed wakes a sleeper that has slept through an election.
func (p *peer) wakeDeposed(m *RaftMessage) {
	if !p.awake.Load() && m.Signal.Term > p.role.Load().term {
		p.wake()
		p.signal(&m.From, Signal{Kind: SignalWake, Term: m.Signal.Term})
	}
}
