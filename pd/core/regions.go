package core

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/google/btree"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// ErrStale is wrapped by what Put returns for a report older than what is
// known.
var ErrStale = errors.New("the region's report is stale")

// treeDegree is the fan-out of the tree over start keys.
const treeDegree = 64

// Regions is the set of all regions. Safe for concurrent use.
type Regions struct {
	mu     sync.RWMutex
	tree   *btree.BTreeG[*Region]
	byID   map[uint64]*Region
	stores map[uint64]*storeRegions
}

// storeRegions is what one store holds; its maps are indexes into byID.
type storeRegions struct {
	peers, leaders, learners, pending map[uint64]struct{}
	leaderBytes, peerBytes            uint64
}

// Counts is how much one store holds. Peers includes Learners and the leaders'
// own peers; sizes are approximate.
type Counts struct {
	Leaders, Peers, Learners, Pending int
	LeaderBytes, PeerBytes            uint64
}

// NewRegions returns an empty set.
func NewRegions() *Regions {
	return &Regions{
		tree: btree.NewG(treeDegree, func(a, b *Region) bool {
			return bytes.Compare(a.Meta.StartKey, b.Meta.StartKey) < 0
		}),
		byID:   make(map[uint64]*Region),
		stores: make(map[uint64]*storeRegions),
	}
}

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
	case len(m.EndKey) > 0 && bytes.Compare(m.StartKey, m.EndKey) >= 0:
		return fmt.Errorf("pd: region %d is empty: it starts at %x and ends at %x", m.Id, m.StartKey, m.EndKey)
	}
	for _, p := range m.Peers {
		if p == nil || p.Id == 0 || p.StoreId == 0 {
			return fmt.Errorf("pd: region %d has a peer without id or store: %v", m.Id, p)
		}
	}
	return nil
}

// Change says what a Put did.
type Change struct {
	// Meta says that the region is new or its range or peers changed: it has
	// to be saved.
	Meta bool
	// Leader says that another peer leads than before.
	Leader bool
	// Removed are the regions that were covered by the new one.
	Removed []uint64
}

// Put takes in a report. A stale one changes nothing and is an error that wraps
// ErrStale. A report without a leader keeps the leader that is known, where
// that is still a peer.
func (rs *Regions) Put(r *Region) (Change, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	old := rs.byID[r.ID()]
	overlaps := rs.overlaps(r.Meta)
	if err := checkStale(r, old, overlaps); err != nil {
		return Change{}, err
	}
	if r.Leader == nil && old != nil && old.Leader != nil {
		c := *r
		c.Leader = r.Peer(old.Leader.Id)
		r = &c
	}
	var ch Change
	if old == nil || epochDiffers(old, r) || !sameMeta(old.Meta, r.Meta) {
		ch.Meta = true
	}
	ch.Leader = old == nil || leaderID(old) != leaderID(r)
	for _, o := range overlaps {
		if o.ID() != r.ID() {
			ch.Removed = append(ch.Removed, o.ID())
			rs.remove(o)
		}
	}
	if old != nil {
		rs.remove(old)
	}
	rs.byID[r.ID()] = r
	rs.tree.ReplaceOrInsert(r)
	rs.index(r)
	return ch, nil
}

func checkStale(r, old *Region, overlaps []*Region) error {
	e := r.Epoch()
	for _, o := range overlaps {
		if e.Version < o.Epoch().Version {
			return fmt.Errorf("%w: region %d of version %d overlaps region %d of version %d",
				ErrStale, r.ID(), e.Version, o.ID(), o.Epoch().Version)
		}
	}
	if old == nil {
		return nil
	}
	if e.Version < old.Epoch().Version || e.ConfVer < old.Epoch().ConfVer {
		return fmt.Errorf("%w: region %d reports epoch {%v}, known is {%v}", ErrStale, r.ID(), e, old.Epoch())
	}
	if !epochDiffers(old, r) && r.Term != 0 && r.Term < old.Term {
		return fmt.Errorf("%w: region %d reports term %d, known is %d", ErrStale, r.ID(), r.Term, old.Term)
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
		if p.Id != q.Id || p.StoreId != q.StoreId || p.Role != q.Role {
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

// overlaps returns the regions in the tree that share keys with m. Called with
// the lock held.
func (rs *Regions) overlaps(m *metapb.Region) []*Region {
	var out []*Region
	from := m.StartKey
	if first := rs.find(m.StartKey); first != nil {
		from = first.Meta.StartKey
	}
	rs.tree.AscendGreaterOrEqual(keyItem(from), func(o *Region) bool {
		if len(m.EndKey) > 0 && bytes.Compare(o.Meta.StartKey, m.EndKey) >= 0 {
			return false
		}
		out = append(out, o)
		return true
	})
	return out
}

func keyItem(key []byte) *Region { return &Region{Meta: &metapb.Region{StartKey: key}} }

// find returns the region that holds key. Called with the lock held.
func (rs *Regions) find(key []byte) *Region {
	var out *Region
	rs.tree.DescendLessOrEqual(keyItem(key), func(r *Region) bool {
		out = r
		return false
	})
	if out == nil || !out.Contains(key) {
		return nil
	}
	return out
}

func (rs *Regions) remove(r *Region) {
	delete(rs.byID, r.ID())
	if cur, ok := rs.tree.Get(r); ok && cur.ID() == r.ID() {
		rs.tree.Delete(r)
	}
	rs.unindex(r)
}

func (rs *Regions) store(id uint64) *storeRegions {
	s := rs.stores[id]
	if s == nil {
		s = &storeRegions{
			peers: make(map[uint64]struct{}), leaders: make(map[uint64]struct{}),
			learners: make(map[uint64]struct{}), pending: make(map[uint64]struct{}),
		}
		rs.stores[id] = s
	}
	return s
}

func (rs *Regions) index(r *Region) {
	id := r.ID()
	for _, p := range r.Meta.Peers {
		s := rs.store(p.StoreId)
		s.peers[id] = struct{}{}
		s.peerBytes += r.SizeBytes
		if p.Role == metapb.PeerRole_Learner {
			s.learners[id] = struct{}{}
		}
	}
	for _, p := range r.Pending {
		rs.store(p.StoreId).pending[id] = struct{}{}
	}
	if r.Leader != nil {
		s := rs.store(r.Leader.StoreId)
		s.leaders[id] = struct{}{}
		s.leaderBytes += r.SizeBytes
	}
}

func (rs *Regions) unindex(r *Region) {
	id := r.ID()
	for _, p := range r.Meta.Peers {
		s := rs.store(p.StoreId)
		delete(s.peers, id)
		delete(s.learners, id)
		s.peerBytes -= r.SizeBytes
	}
	for _, p := range r.Pending {
		delete(rs.store(p.StoreId).pending, id)
	}
	if r.Leader != nil {
		s := rs.store(r.Leader.StoreId)
		delete(s.leaders, id)
		s.leaderBytes -= r.SizeBytes
	}
}
