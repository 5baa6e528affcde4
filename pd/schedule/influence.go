package schedule

import (
	"maps"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// influence is what the operators under way will have done to a store when they
// are through. Decisions count it in, or each would be taken a thousand times
// before its first effect shows.
type influence struct {
	leaders, peers int
	// adding is how many peers the store is to get, until their operators are
	// through.
	adding                 int
	leaderBytes, peerBytes int64
}

func (i influence) plus(o influence, sign int) influence {
	return influence{
		leaders: i.leaders + sign*o.leaders, peers: i.peers + sign*o.peers, adding: i.adding + sign*o.adding,
		leaderBytes: i.leaderBytes + int64(sign)*o.leaderBytes, peerBytes: i.peerBytes + int64(sign)*o.peerBytes,
	}
}

type storeInfluence struct {
	store uint64
	influence
}

// account replaces what is counted for an operator by what it will still do to
// the region as it is now; with no region, by nothing. Called with the lock
// held. The totals are kept up operator by operator: with thousands under way
// nobody can add them up for each decision.
func (c *Controller) account(op *Operator, r *core.Region) {
	c.tally(op.share, -1)
	op.share = op.share[:0]
	if r != nil {
		op.share = op.influences(r, op.share)
	}
	c.tally(op.share, 1)
}

func (c *Controller) tally(share []storeInfluence, sign int) {
	for _, s := range share {
		if v := c.inflight[s.store].plus(s.influence, sign); v == (influence{}) {
			delete(c.inflight, s.store)
		} else {
			c.inflight[s.store] = v
		}
	}
}

// influences appends what the steps from the present one on will do.
func (o *Operator) influences(r *core.Region, out []storeInfluence) []storeInfluence {
	size := int64(r.ScoreBytes())
	change := func(store uint64, by influence) { out = append(out, storeInfluence{store, by}) }
	leader := r.Leader
	for _, s := range o.Steps[o.at:] {
		switch s := s.(type) {
		case AddLearner:
			by := influence{adding: 1}
			if r.Peer(s.Peer) == nil {
				by.peers, by.peerBytes = 1, size
			}
			change(s.Store, by)
		case Remove:
			if r.Peer(s.Peer) != nil {
				change(s.Store, influence{peers: -1, peerBytes: -size})
			}
		case TransferLeader:
			if leader != nil && leader.StoreId != s.To {
				change(leader.StoreId, influence{leaders: -1, leaderBytes: -size})
				change(s.To, influence{leaders: 1, leaderBytes: size})
				leader = o.peerOn(r, s.To)
			}
		}
	}
	return out
}

// peerOn is the peer that the store will have when its turn comes.
func (o *Operator) peerOn(r *core.Region, store uint64) *metapb.Peer {
	if p := r.StorePeer(store); p != nil {
		return p
	}
	return &metapb.Peer{StoreId: store}
}

// influence returns what all operators under way will do, by store.
func (c *Controller) influence() map[uint64]influence {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.inflight)
}

// room is how many more operators of the kind may start.
func (c *Controller) room(k Kind) int {
	limit := c.cluster.Options().limit(k)
	c.mu.Lock()
	defer c.mu.Unlock()
	return limit - c.running[k]
}
