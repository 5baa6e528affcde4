package raftstore

import (
	"context"
	"log/slog"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

const (
	// handOverCountMax is how many leaders are asked to go per tick.
	handOverCountMax = 512
	// handOverTimeout bounds it all; what still leads then is elected elsewhere.
	handOverTimeout = 5 * time.Second
)

// mailHandOver asks a leader to let another voter lead.
type mailHandOver struct{}

// HandOver gives the leaders of this store to other stores that are alive and
// up to date, in batches, so that a store that is about to stop leaves no
// region without a leader. Regions without such a voter are left alone. It
// returns how many leaders went and how many that could have gone are left,
// after handOverTimeout at the latest.
func (s *Store) HandOver(ctx context.Context) (gone, left int) {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	ticks, stop := s.clock.NewTicker(s.cfg.TickInterval)
	defer stop()
	s.stopping.Store(1)
	s.beat()                    // stores that stop together don't pass leaders back and forth
	asked := map[uint64]int64{} // region → when
	first := -1
	for {
		left = s.handOverOnce(asked)
		if first < 0 {
			first = left
		}
		if left == 0 {
			break
		}
		select {
		case <-ticks:
			continue
		case <-ctx.Done():
		case <-s.stopped:
		}
		break
	}
	s.log.Info("leaders handed over", slog.Int("gone", first-left), slog.Int("left", left))
	return first - left, left
}

// handOverOnce asks those that were not asked lately, and counts those that
// lead and could go.
func (s *Store) handOverOnce(asked map[uint64]int64) (left int) {
	now, sent := s.now(), 0
	s.eachPeer(func(p *peer) {
		if !p.role.Load().leader || !s.successor(p.region.Load(), now) {
			return
		}
		left++
		last, before := asked[p.regionID]
		if sent >= handOverCountMax || (before && now-last < int64(s.cfg.electionTimeout())) {
			return
		}
		asked[p.regionID] = now
		sent++
		p.send(mailHandOver{})
	})
	return left
}

// successor reports whether another store that is alive has a voter.
func (s *Store) successor(region *metapb.Region, now int64) bool {
	for _, peer := range region.GetPeers() {
		if peer.StoreId != s.id && peer.Role == metapb.PeerRole_Voter && s.mayLead(peer.StoreId, now) {
			return true
		}
	}
	return false
}

// onHandOver transfers the leadership to the voter that has the most of the
// log; among equals the region's id decides, so that no store gets all.
func (p *peer) onHandOver() {
	if !p.role.Load().leader || p.rn.BasicStatus().LeadTransferee != raft.None {
		return
	}
	region := p.region.Load()
	match := map[uint64]uint64{}
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.State == tracker.StateReplicate {
			match[id] = pr.Match
		}
	})
	var best *metapb.Peer
	n := len(region.Peers)
	for i := range n {
		peer := region.Peers[(int(p.regionID%uint64(n))+i)%n]
		if !p.store.mayLead(peer.StoreId, p.now) || peer.Id == p.id || peer.Role != metapb.PeerRole_Voter || match[peer.Id] == 0 {
			continue
		}
		if best == nil || match[peer.Id] > match[best.Id] {
			best = peer
		}
	}
	if best == nil {
		return
	}
	if err := p.transferLeader(&pdpb.TransferLeader{Peer: best}); err != nil {
		p.log.Debug("leader not handed over", slog.Any("error", err))
	}
}
