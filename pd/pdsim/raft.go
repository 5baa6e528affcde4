package pdsim

import (
	"fmt"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

func clone(m *metapb.Region) *metapb.Region {
	c := &metapb.Region{Id: m.Id, StartKey: slices.Clone(m.StartKey), EndKey: slices.Clone(m.EndKey),
		RegionEpoch: &metapb.RegionEpoch{Version: m.RegionEpoch.Version, ConfVer: m.RegionEpoch.ConfVer}}
	for _, p := range m.Peers {
		cp := *p
		c.Peers = append(c.Peers, &cp)
	}
	return c
}

// Send implements schedule.Cluster: the region's leader does what it is told, if
// it still leads and has a quorum, and reports soon.
func (s *Sim) Send(known *core.Region, m *pdpb.RegionHeartbeatResponse) {
	r := &s.regions[known.ID()-1]
	if known.Leader.StoreId != r.leader || s.stores[r.leader-1].dead || !s.quorum(r.meta) {
		return
	}
	if e := known.Epoch(); e.ConfVer != r.meta.RegionEpoch.ConfVer || e.Version != r.meta.RegionEpoch.Version {
		return // stores refuse commands for another epoch
	}
	before := len((&core.Region{Meta: r.meta}).Voters())
	switch {
	case m.TransferLeader != nil:
		to := m.TransferLeader.Peer.StoreId
		if to == r.leader || s.stores[to-1].dead {
			return
		}
		r.leader = to
		s.Moves.Leaders++
	case m.ChangePeer != nil:
		s.changePeer(r, m.ChangePeer)
	case m.ChangePeerV2 != nil:
		s.changePeers(r, m.ChangePeerV2)
	default:
		return
	}
	if n := len((&core.Region{Meta: r.meta}).Voters()); n < before && before <= s.cfg.Options.Replicas {
		panic(fmt.Sprintf("pdsim: region %d went from %d voters to %d by %v", known.ID(), before, n, m))
	}
	s.after(reportDelay+time.Duration(s.rnd.Int64N(int64(reportDelay))), known.ID(), 0)
}

// quorum reports whether majorities of both peer sets are alive.
func (s *Sim) quorum(m *metapb.Region) bool {
	for _, without := range []metapb.PeerRole{metapb.PeerRole_IncomingVoter, metapb.PeerRole_DemotingVoter} {
		voters, alive := 0, 0
		for _, p := range m.Peers {
			if p.Role == metapb.PeerRole_Learner || p.Role == without {
				continue
			}
			voters++
			if !s.stores[p.StoreId-1].dead {
				alive++
			}
		}
		if alive < voters/2+1 {
			return false
		}
	}
	return true
}

// change gives the region new peers.
func (r *region) change(m *metapb.Region) {
	m.RegionEpoch.ConfVer++
	r.meta, r.sent = m, nil
}

func (s *Sim) changePeer(r *region, c *pdpb.ChangePeer) {
	m := clone(r.meta)
	p := (&core.Region{Meta: m}).Peer(c.Peer.Id)
	switch c.ChangeType {
	case eraftpb.ConfChangeType_AddLearnerNode:
		if p != nil {
			return
		}
		m.Peers = append(m.Peers, &metapb.Peer{Id: c.Peer.Id, StoreId: c.Peer.StoreId, Role: metapb.PeerRole_Learner})
		s.snapshot(r, c.Peer)
	case eraftpb.ConfChangeType_AddNode:
		if p == nil || p.Role != metapb.PeerRole_Learner {
			return
		}
		p.Role = metapb.PeerRole_Voter
	case eraftpb.ConfChangeType_RemoveNode:
		if p == nil || p.StoreId == r.leader {
			return
		}
		m.Peers = slices.DeleteFunc(m.Peers, func(o *metapb.Peer) bool { return o.Id == p.Id })
		r.pending = slices.DeleteFunc(r.pending, func(id uint64) bool { return id == p.Id })
		r.left = append(r.left, p.StoreId)
		st := s.stores[p.StoreId-1]
		st.used -= r.size
		delete(st.hot, r.meta.Id)
	}
	r.change(m)
}

// changePeers enters a joint change, or leaves it.
func (s *Sim) changePeers(r *region, c *pdpb.ChangePeerV2) {
	m := clone(r.meta)
	joint := (&core.Region{Meta: m}).InJoint()
	if joint != (len(c.Changes) == 0) {
		return
	}
	for _, ch := range c.Changes {
		p := (&core.Region{Meta: m}).Peer(ch.Peer.Id)
		if p.Role = metapb.PeerRole_DemotingVoter; ch.ChangeType == eraftpb.ConfChangeType_AddNode {
			p.Role = metapb.PeerRole_IncomingVoter
		}
	}
	for _, p := range m.Peers {
		switch {
		case joint && p.Role == metapb.PeerRole_IncomingVoter:
			p.Role = metapb.PeerRole_Voter
		case joint && p.Role == metapb.PeerRole_DemotingVoter:
			p.Role = metapb.PeerRole_Learner
		}
	}
	r.change(m)
}

// snapshot starts on its way to a new peer; a store takes in one after the
// other.
func (s *Sim) snapshot(r *region, p *metapb.Peer) {
	s.Moves.Peers++
	if slices.Contains(r.left, p.StoreId) {
		s.Moves.Back++
	}
	st := s.stores[p.StoreId-1]
	st.used += r.size
	st.receiving++
	r.pending = append(r.pending, p.Id)
	if r.flow != nil {
		st.hot[r.meta.Id] = r.flow
	}
	if st.busyUntil.Before(s.now) {
		st.busyUntil = s.now
	}
	st.busyUntil = st.busyUntil.Add(time.Duration(float64(r.size) / s.cfg.SnapshotBytesPerSecond * float64(time.Second)))
	s.after(st.busyUntil.Sub(s.now), r.meta.Id, p.Id)
}

func (s *Sim) snapshotArrived(id, peer uint64) {
	r := &s.regions[id-1]
	for _, p := range r.meta.Peers {
		if p.Id == peer {
			st := s.stores[p.StoreId-1]
			st.receiving--
			if st.dead {
				return
			}
		}
	}
	r.pending = slices.DeleteFunc(r.pending, func(p uint64) bool { return p == peer })
	s.after(reportDelay, id, 0)
}

// Kill loses a store: its regions elect new leaders.
func (s *Sim) Kill(id uint64) {
	st := s.stores[id-1]
	st.dead, st.diedAt = true, s.now
	for i := range s.regions {
		r := &s.regions[i]
		if r.leader != id {
			continue
		}
		for _, p := range r.meta.Peers {
			if p.StoreId != id && !s.stores[p.StoreId-1].dead && p.Role == metapb.PeerRole_Voter && !r.waits(p.Id) {
				r.leader = p.StoreId
				s.after(electionDuration+time.Duration(s.rnd.Int64N(int64(electionDuration))), r.meta.Id, 0)
				break
			}
		}
	}
}

// Heat makes a region hot.
func (s *Sim) Heat(id uint64, f *Flow) {
	r := &s.regions[id-1]
	r.flow = f
	for _, p := range r.meta.Peers {
		s.stores[p.StoreId-1].hot[id] = f
	}
}
