package core

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// ErrStale is wrapped by what Put returns for a report older than what is
// known.
var ErrStale = errors.New("the region's report is stale")

// RegionPeersMax is how many peers of a region are taken in.
const RegionPeersMax = 64

// CheckMeta refuses a region that cannot be right, whoever sent it.
func CheckMeta(m *metapb.Region) error {
	switch {
	case m == nil:
		return errors.New("pd: the region is missing")
	case m.Id == 0:
		return errors.New("pd: the region has id 0")
	case m.RegionEpoch == nil:
		return fmt.Errorf("pd: region %d has no epoch", m.Id)
	case len(m.Peers) == 0:
		return fmt.Errorf("pd: region %d has no peers", m.Id)
	case len(m.Peers) > RegionPeersMax:
		return fmt.Errorf("pd: region %d has %d peers, more than %d", m.Id, len(m.Peers), RegionPeersMax)
	case len(m.EndKey) > 0 && bytes.Compare(m.StartKey, m.EndKey) >= 0:
		return fmt.Errorf("pd: region %d is empty: it starts at %x and ends at %x", m.Id, m.StartKey, m.EndKey)
	}
	for i, p := range m.Peers {
		if p == nil || p.Id == 0 || p.StoreId == 0 {
			return fmt.Errorf("pd: region %d has a peer without id or store: %v", m.Id, p)
		}
		for _, q := range m.Peers[:i] {
			if p.Id == q.Id || p.StoreId == q.StoreId {
				return fmt.Errorf("pd: region %d has peers %d and %d on stores %d and %d: ids and stores must differ",
					m.Id, q.Id, p.Id, q.StoreId, p.StoreId)
			}
		}
	}
	return nil
}

func epochDiffers(a, b *Region) bool {
	return a.Epoch().Version != b.Epoch().Version || a.Epoch().ConfVer != b.Epoch().ConfVer
}

func sameMeta(a, b *metapb.Region) bool {
	if !bytes.Equal(a.StartKey, b.StartKey) || !bytes.Equal(a.EndKey, b.EndKey) || len(a.Peers) != len(b.Peers) {
		return false
	}
	for i, p := range a.Peers {
		q := b.Peers[i]
		if p.Id != q.Id || p.StoreId != q.StoreId || p.Role != q.Role || p.IsWitness != q.IsWitness {
			return false
		}
	}
	return true
}

func leaderID(r *Region) uint64 {
	if r.Leader == nil {
		return 0
	}
	return r.Leader.Id
}

// staleAgainst refuses a report older than what is known of the same region.
func staleAgainst(r, old *Region) error {
	e := r.Epoch()
	if e.Version < old.Epoch().Version || e.ConfVer < old.Epoch().ConfVer {
		return fmt.Errorf("%w: region %d reports epoch {%v}, known is {%v}", ErrStale, r.ID(), e, old.Epoch())
	}
	if !epochDiffers(old, r) && r.Term != 0 && r.Term < old.Term {
		return fmt.Errorf("%w: region %d reports term %d, known is %d", ErrStale, r.ID(), r.Term, old.Term)
	}
	return nil
}

// staleOverlap refuses a report older than that of a region with keys in
// common.
func staleOverlap(r, o *Region) error {
	if r.Epoch().Version >= o.Epoch().Version {
		return nil
	}
	return fmt.Errorf("%w: region %d of version %d overlaps region %d of version %d",
		ErrStale, r.ID(), r.Epoch().Version, o.ID(), o.Epoch().Version)
}
