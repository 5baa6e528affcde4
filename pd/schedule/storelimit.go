package schedule

import (
	"time"

	"github.com/copradb/copra/pd/core"
)

// StoreRateUnlimited is a rate without a limit, as in PD.
const StoreRateUnlimited = 100_000_000

// StoreRate is how many peers a minute may be added to and removed from a
// store. Small regions count a fifth, empty ones nothing.
type StoreRate struct {
	AddPeer    float64 `json:"add-peer"`
	RemovePeer float64 `json:"remove-peer"`
}

// RateOf is the rate of a store.
func (o Options) RateOf(store uint64) StoreRate {
	if r, ok := o.StoreRates[store]; ok {
		return r
	}
	return o.StoreRate
}

const (
	// moveCost is what moving a region takes from a store's budget, by size.
	moveCost           = 1000
	moveCostSmall      = 200
	smallRegionBytes   = 20 << 20
	emptyRegionBytes   = 1 << 20
	storeBudgetSeconds = 60 // the rates are per minute
)

func costOf(r *core.Region) float64 {
	switch {
	case r.SizeBytes <= emptyRegionBytes:
		return 0
	case r.SizeBytes <= smallRegionBytes:
		return moveCostSmall
	}
	return moveCost
}

// direction is what is limited of a store.
type direction int

const (
	peersIn direction = iota
	peersOut
)

type budgetKey struct {
	store uint64
	dir   direction
}

// budget is a token bucket. A new one is full.
type budget struct {
	left float64
	at   time.Time
}

// budgets are the rates' state. Called with the controller's lock held.
type budgets map[budgetKey]*budget

// full is the size of a bucket: what comes in a second, and one region at least.
func full(perMinute float64) float64 {
	return max(moveCost, perMinute*moveCost/storeBudgetSeconds)
}

// has reports whether the budget of the store covers cost. As long as something
// is left it does: a bucket may be overdrawn by one region.
func (b budgets) has(k budgetKey, cost, perMinute float64, now time.Time) bool {
	if cost == 0 || perMinute >= StoreRateUnlimited {
		return true
	}
	bu := b[k]
	if bu == nil {
		return perMinute > 0
	}
	left := min(full(perMinute), bu.left+now.Sub(bu.at).Seconds()*perMinute*moveCost/storeBudgetSeconds)
	return left >= cost
}

func (b budgets) take(k budgetKey, cost, perMinute float64, now time.Time) {
	if cost == 0 || perMinute >= StoreRateUnlimited {
		return
	}
	bu := b[k]
	if bu == nil {
		bu = &budget{left: full(perMinute), at: now}
		b[k] = bu
	}
	bu.left = min(full(perMinute), bu.left+now.Sub(bu.at).Seconds()*perMinute*moveCost/storeBudgetSeconds) - cost
	bu.at = now
}

func (o Options) rate(k budgetKey) float64 {
	if k.dir == peersIn {
		return o.RateOf(k.store).AddPeer
	}
	return o.RateOf(k.store).RemovePeer
}

// touches returns whose budgets the operator takes from.
func (o *Operator) touches() []budgetKey {
	var out []budgetKey
	for _, s := range o.Steps {
		switch s := s.(type) {
		case AddLearner:
			out = append(out, budgetKey{s.Store, peersIn})
		case Remove:
			out = append(out, budgetKey{s.Store, peersOut})
		}
	}
	return out
}

// hasBudget reports whether the stores' rates let the operator start. Called
// with the lock held.
func (c *Controller) hasBudget(op *Operator, r *core.Region) bool {
	if op.Kind == KindAdmin {
		return true
	}
	o, cost := c.cluster.Options(), costOf(r)
	for _, k := range op.touches() {
		if !c.budgets.has(k, cost, o.rate(k), c.now()) {
			return false
		}
	}
	return true
}

func (c *Controller) takeBudget(op *Operator, r *core.Region) {
	o, cost := c.cluster.Options(), costOf(r)
	for _, k := range op.touches() {
		c.budgets.take(k, cost, o.rate(k), c.now())
	}
}

// storeHasBudget reports whether a region of that cost may come to the store.
func (c *Controller) storeHasBudget(store uint64, cost float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := budgetKey{store, peersIn}
	return c.budgets.has(k, cost, c.cluster.Options().rate(k), c.now())
}

// budgetFor reports whether a region may move to the store, or away from it.
func (c *Controller) budgetFor(store uint64, d direction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := budgetKey{store, d}
	return c.budgets.has(k, moveCost, c.cluster.Options().rate(k), c.now())
}
