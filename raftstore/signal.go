package raftstore

import (
	"encoding/binary"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// SignalKind says what a message without a Raft message in it is about.
type SignalKind byte

// The signals. They travel in order with the messages of the control class.
const (
	// SignalBeat: the store of From is up; Term is its incarnation, Index 1 if it
	// is about to stop. It belongs to no region.
	SignalBeat SignalKind = 1 + iota
	// SignalSleep: the leader of Term, whose log ends at Index, wants the peer
	// to sleep until the next message.
	SignalSleep
	// SignalSleepAck: the peer sleeps.
	SignalSleepAck
	// SignalWake: if this peer leads, From wants to hear from it.
	SignalWake
	// SignalPeek: if this peer leads, it says so (SignalLeader); it sleeps on.
	SignalPeek
	// SignalLeader: From leads in Term; Index is its store's incarnation.
	SignalLeader
)

// Signal is a small message of the store itself, see adr 5. The zero value is
// none.
type Signal struct {
	Kind        SignalKind
	Term, Index uint64
}

func (g *Signal) appendTo(buf []byte) []byte {
	buf = append(buf, byte(g.Kind))
	buf = binary.AppendUvarint(buf, g.Term)
	return binary.AppendUvarint(buf, g.Index)
}

func (d *decoder) signal() (g Signal) {
	if len(d.rest) == 0 || d.rest[0] == 0 {
		d.failed = true
		return g
	}
	g.Kind, d.rest = SignalKind(d.rest[0]), d.rest[1:]
	g.Term, g.Index = d.uvarint(), d.uvarint()
	return g
}

// onSignal takes a signal from another store. A kind that is not known comes
// from a newer release and is none of this one's business.
func (s *Store) onSignal(m *RaftMessage) {
	switch m.Signal.Kind {
	case SignalLeader:
		h := s.live.health(m.From.StoreId)
		s.live.heard(m.From.StoreId, m.Signal.Index, h != nil && h.stopping.Load(), s.now())
	case SignalBeat:
		if s.live.heard(m.From.StoreId, m.Signal.Term, m.Signal.Index != 0, s.now()) && s.state.Load() == stateRunning {
			s.beatTo(m.From.StoreId) // it need not wait to know that this store is up
		}
		return
	}
	p := s.peer(m.RegionID)
	if p == nil {
		if m.Signal.Kind == SignalPeek && s.tombstone(m.RegionID) >= m.To.Id {
			s.answerForDead(m)
		}
		return
	}
	if m.Signal.Kind == SignalPeek {
		p.onPeek(m)
		return
	}
	if m.To.Id == p.id && !(m.Signal.Kind == SignalLeader && p.toldLeader(m)) {
		p.send(m)
	}
}

// onPeek answers without waking the peer. It runs on the transport's goroutine.
func (p *peer) onPeek(m *RaftMessage) {
	region, r := p.region.Load(), p.role.Load()
	if findPeer(region, m.From.Id) == nil {
		if p.initialized() && m.Epoch.ConfVer < region.RegionEpoch.GetConfVer() {
			p.bury(&m.From, region)
		}
		return
	}
	if r.leader {
		p.signal(&m.From, Signal{Kind: SignalLeader, Term: r.term, Index: p.store.incarnation})
	}
}

// signal sends a signal to another peer of the region.
func (p *peer) signal(to *metapb.Peer, g Signal) {
	m := p.newMessage(p.region.Load())
	m.To, m.Signal = *to, g
	p.store.transport.Send(m)
}

// signalOthers sends a signal to all other peers of the region.
func (p *peer) signalOthers(g Signal) {
	for _, to := range p.region.Load().GetPeers() {
		if to.Id != p.id {
			p.signal(to, g)
		}
	}
}
