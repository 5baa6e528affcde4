package raftstore

import (
	"context"
	"log/slog"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// A peer that was removed while nobody could tell it asks the other members that
// it knows (tickMissing, sleepcheck.go). Where all of those have left the region,
// too, and their stores are gone or remember nothing, nobody answers. So a peer
// that has heard of no leader for MaxLeaderMissingDuration asks PD, as TiKV's
// do. PD knows regions by what their leaders have applied: a region of a later
// conf_ver without the peer has removed it, for good, since peer ids are not used
// again (hazard 15). Of a region that PD does not know nothing follows.
const (
	// validateCountMax peers of a store ask PD at a time.
	validateCountMax = 16
	// validateShare: a peer asks again after 1/validateShare of the duration.
	validateShare = 8
)

// mailValidated is PD's answer.
type mailValidated struct{ region *metapb.Region }

// heardLeader notes that the leader is there.
func (p *peer) heardLeader(now int64) { p.leaderToldAt.Store(max(now, 1)) }

// validate asks PD whether a peer that misses its leader is still a member. It
// may be called by anybody.
func (s *Store) validate(p *peer, now int64) {
	heard, missing := p.leaderToldAt.Load(), int64(s.cfg.MaxLeaderMissingDuration)
	if p.role.Load().leader || heard == 0 {
		p.heardLeader(now) // from here on it counts
		return
	}
	asked := p.validatedAt.Load()
	if now-heard < missing || asked > heard && now-asked < missing/validateShare {
		return
	}
	if s.validating.Add(1) > validateCountMax || !p.validatedAt.CompareAndSwap(asked, now) || !s.splits.submit(func() {
		defer s.validating.Add(-1)
		s.askMembership(p, time.Duration(now-heard))
	}) {
		s.validating.Add(-1)
	}
}

func (s *Store) askMembership(p *peer, missing time.Duration) {
	ctx, cancel := context.WithTimeout(s.ctx, pdRequestTimeout)
	defer cancel()
	region, err := s.pd.GetRegionByID(ctx, p.regionID)
	p.log.Info("a peer that misses its leader asks PD whether it is a member", slog.Duration("missing", missing),
		slog.String("known", region.GetRegionEpoch().String()), slog.Any("error", err))
	if err == nil && region != nil {
		p.send(mailValidated{region})
	}
}

// onValidated ends a peer that is no member.
func (p *peer) onValidated(known *metapb.Region) {
	region := p.region.Load()
	if p.role.Load().leader || p.merging.Load() != nil || p.merge.stop != nil || findPeer(known, p.id) != nil ||
		known.GetRegionEpoch().GetConfVer() <= region.GetRegionEpoch().GetConfVer() {
		return
	}
	p.log.Warn("PD says that this peer was removed", slog.String("epoch", known.RegionEpoch.String()))
	p.endLife(*known.RegionEpoch)
}
