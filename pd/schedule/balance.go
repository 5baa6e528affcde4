package schedule

import (
	"cmp"
	"slices"

	"github.com/copradb/copra/pd/core"
)

const (
	// sampleMax is how many regions of a store are looked at for one to move.
	sampleMax = 32
	// tolerantPart is the part of a store's regions or leaders that two stores
	// may each be off before something is moved, as in PD.
	tolerantPart = 0.005

	mib, gib = 1 << 20, 1 << 30
)

// load is a store as a balancer sees it, with what is under way counted in.
type load struct {
	store    *core.Store
	amount   float64 // leaders, or MiB of leaders or of peers
	count    int     // leaders or peers
	adding   int     // peers on their way to the store
	from, to bool    // whether things may leave it, and come to it
	full     bool    // things may come to it, but not before others have arrived
	scoreOf  func(s *core.Store, amount float64) float64
	score    float64 // of amount
}

func (l *load) move(amount float64, count int) {
	l.amount += amount
	l.count += count
	l.score = l.scoreOf(l.store, l.amount)
}

// loads are all stores that take part, the fullest first.
type loads struct {
	list []*load
	byID map[uint64]*load
	// unit is the average size of what is moved; tolerance is how many of them
	// two stores may each be off.
	unit, tolerance float64
	mean            float64 // score
}

func newLoads(list []*load, ratio float64) *loads {
	ls := &loads{list: list, byID: make(map[uint64]*load, len(list)), unit: 1}
	amount, count, most := 0.0, 0, 0
	for _, l := range list {
		l.score = l.scoreOf(l.store, l.amount)
		ls.byID[l.store.ID()] = l
		ls.mean += l.score / float64(len(list))
		amount, count, most = amount+l.amount, count+l.count, max(most, l.count)
	}
	if count > 0 {
		ls.unit = max(amount/float64(count), 0)
	}
	if ls.tolerance = ratio; ratio == 0 {
		ls.tolerance = float64(most) * tolerantPart
	}
	ls.tolerance = max(ls.tolerance, 1)
	ls.sort()
	return ls
}

func (ls *loads) sort() {
	slices.SortStableFunc(ls.list, func(a, b *load) int { return cmp.Compare(b.score, a.score) })
}

// worth reports whether moving something from one store to the other makes them
// more even, and by so much that it will not be moved back: each store is taken
// to be off by some regions, small ones as if they were average, large ones as
// large as they are. So a move never turns the order of two stores around.
func (ls *loads) worth(from, to *load, size float64) bool {
	if from == to || !from.from || !to.to {
		return false
	}
	off := ls.tolerance * max(size, ls.unit)
	return from.scoreOf(from.store, from.amount-off) >= to.scoreOf(to.store, to.amount+off)
}

// moved takes a move into account.
func (ls *loads) moved(from, to *load, size float64) {
	from.move(-size, -1)
	to.move(size, 1)
	ls.sort()
}

// sources calls try for the stores from which something should leave, the
// fullest first, until it returns true.
func (ls *loads) sources(try func(from *load) bool) bool {
	lowest := ls.lowest()
	for _, from := range ls.list {
		if !from.from {
			continue
		}
		if lowest == nil || !ls.worth(from, lowest, ls.unit) {
			return false // nor will it be for those that are less full
		}
		if try(from) {
			return true
		}
	}
	return false
}

// targets is sources from the other end.
func (ls *loads) targets(try func(to *load) bool) bool {
	var highest *load
	for _, l := range ls.list {
		if l.from {
			highest = l
			break
		}
	}
	for _, to := range slices.Backward(ls.list) {
		if !to.to {
			continue
		}
		if highest == nil || !ls.worth(highest, to, ls.unit) {
			return false
		}
		if try(to) {
			return true
		}
	}
	return false
}

func (ls *loads) lowest() *load {
	for _, l := range slices.Backward(ls.list) {
		if l.to {
			return l
		}
	}
	return nil
}

// detour reports whether a move to a store would only be a stop on the way: it
// has more than the average, and it is only looked at because stores with less
// are full for the moment.
func (ls *loads) detour(from, to *load, fits func(*load) bool) bool {
	if to.score <= ls.mean {
		return false
	}
	for _, l := range slices.Backward(ls.list) {
		if l == to {
			return false
		}
		if l.full && l != from && fits(l) {
			return true
		}
	}
	return false
}

// movable reports whether balance may move the region's peers: it is whole, as
// the rules want it, and not left alone by a label.
func (c *Controller) movable(r *core.Region) bool {
	return isHealthy(r) && !c.busy(r.ID()) && !c.cluster.Labels().ScheduleDenied(r) && c.Fit(r).Satisfied()
}

// leaderMovable reports whether balance may move the region's leader.
func (c *Controller) leaderMovable(r *core.Region) bool {
	return r.Leader != nil && !r.ReportedAt.IsZero() && !r.InJoint() && !c.busy(r.ID()) && !c.cluster.Labels().ScheduleDenied(r)
}

// canLead reports whether the region's peer on the store may get its leader.
func (c *Controller) canLead(r *core.Region, to *core.Store) bool {
	p := r.StorePeer(to.ID())
	return isVoter(p) && r.Healthy(p.Id) && c.acceptsLeaders(to) && leaderByRules(to, c.rulesOf(r))
}

// acceptsLeaders reports whether leaders may come to the store.
func (c *Controller) acceptsLeaders(s *core.Store) bool {
	return c.LeaderRefusal(s) == nil && !s.LeadersPaused(core.LeadersIn)
}

// acceptsPeers reports whether peers may come to the store for balance: it has
// space and is not behind with those it has.
func (c *Controller) acceptsPeers(s *core.Store, in influence) bool {
	return in.adding < c.cluster.Options().StoreLimit && c.PeerRefusal(s) == nil && c.storeHasBudget(s.ID(), moveCost)
}

// crowded reports whether the store would get peers if those that come to it had
// arrived, and its limits were not used up for now.
func (c *Controller) crowded(s *core.Store) bool {
	why := c.PeerRefusal(s)
	return c.LeaderRefusal(s) == nil && (why == nil || why.Temporary)
}

func snapshots(s *core.Store) int {
	return int(max(s.Stats.GetSendingSnapCount(), s.Stats.GetReceivingSnapCount(), s.Stats.GetApplyingSnapCount()))
}

// mayReplace reports whether the region's peer may move to the store.
func (c *Controller) mayReplace(r *core.Region, old, to uint64) bool {
	s := c.cluster.Stores().Get(to)
	return s != nil && c.rulesAllow(r, r.StorePeer(old), s)
}
