package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
	"github.com/copradb/copra/pd/statistics"
)

const (
	// recordsMax is how many finished operators are remembered, for
	// GetOperator.
	recordsMax = 4096
	// prepareTimeout is after how long balancing starts although not every
	// store and region was heard of; preparedPart is how many regions must be.
	prepareTimeout    = 5 * time.Minute
	preparedPartNum   = 8
	preparedPartDenom = 10
	// tellAgainAfter is when a leader is told the same again without a report.
	tellAgainAfter = 5 * time.Second
	// sweepEvery is how often operators are looked at whose regions are silent.
	sweepEvery = time.Second
)

// Cluster is what scheduling sees of the cluster.
type Cluster interface {
	Regions() *core.Regions
	Stores() *core.Stores
	Options() Options
	// Rules and Labels say what belongs where, and what is left alone.
	Rules() *placement.Manager
	Labels() *labeler.Labeler
	AllocID(ctx context.Context) (uint64, error)
	// Send tells the region's leader something, if its store is connected; a
	// message may be lost.
	Send(r *core.Region, m *pdpb.RegionHeartbeatResponse)
}

// Controller holds the operators under way. Safe for concurrent use.
type Controller struct {
	cluster Cluster
	log     *slog.Logger
	events  *prometheus.CounterVec // labels: type, event
	now     func() time.Time
	started time.Time
	scatter *scatterer
	rnd     *rand.Rand // of the schedulers, which take turns
	plans   schedulers
	hot     *statistics.Hot
	metrics *Metrics // may be nil
	// regionBytes is the size at which stores split regions, 0: not known.
	regionBytes atomic.Uint64

	mu        sync.Mutex
	ops       map[uint64]*Operator // by region
	running   [kindCount]int       // operators by kind
	inflight  map[uint64]influence // by store, of all operators
	budgets   budgets
	records   map[uint64]Record // by region, the last one
	recorded  []uint64          // regions with records, oldest first
	history   []Record          // the last ones that ended, a ring
	historyAt int               // where the next one goes
	prepared  bool

	patrol   patrolState
	noStores noStore
}

// NewController returns a controller without operators.
func NewController(cluster Cluster, log *slog.Logger, events *prometheus.CounterVec) *Controller {
	return newController(cluster, log, events, time.Now)
}

func newController(cluster Cluster, log *slog.Logger, events *prometheus.CounterVec, now func() time.Time) *Controller {
	c := &Controller{
		cluster: cluster, log: log, events: events, now: now, started: now(), scatter: newScatterer(),
		rnd: rand.New(rand.NewPCG(uint64(now().UnixNano()), 0)),
		ops: make(map[uint64]*Operator), records: make(map[uint64]Record), inflight: make(map[uint64]influence),
		hot: statistics.New(), budgets: make(budgets), patrol: newPatrolState(),
	}
	c.plans.init(c)
	return c
}

// Run checks and balances until ctx ends.
func (c *Controller) Run(ctx context.Context) {
	o := c.cluster.Options()
	patrol, balance, sweep := time.NewTicker(o.PatrolInterval), time.NewTicker(o.BalanceInterval), time.NewTicker(sweepEvery)
	defer patrol.Stop()
	defer balance.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-patrol.C:
			c.Patrol(ctx)
		case <-balance.C:
			c.Balance(ctx)
		case <-sweep.C:
			c.Sweep()
		}
	}
}

// Add starts an operator, if the region is as the operator expects, has no
// other of the same priority, and no limit is reached. It tells the leader at
// once.
func (c *Controller) Add(op *Operator) bool { return c.AddAll(op) == nil }

// AddAll starts operators that belong together, all or none, and says why not.
func (c *Controller) AddAll(ops ...*Operator) error {
	regions := make([]*core.Region, len(ops))
	for i, op := range ops {
		r := c.cluster.Regions().ByID(op.Region)
		if err := op.fits(r); err != nil {
			c.event(op, "refused")
			return err
		}
		regions[i] = r
	}
	c.mu.Lock()
	for i, op := range ops {
		if err := c.admit(op, regions[i]); err != nil {
			c.mu.Unlock()
			c.event(op, "exceed-limit")
			return err
		}
	}
	for i, op := range ops {
		if old := c.ops[op.Region]; old != nil {
			c.finish(old, pdpb.OperatorStatus_REPLACE, "replaced by "+op.Desc)
		}
		op.created = c.now()
		op.stepStarted = op.created
		c.ops[op.Region] = op
		c.running[op.Kind]++
		c.account(op, regions[i])
		c.takeBudget(op, regions[i])
		c.event(op, "create")
		c.log.Info("pd: operator added", "region", op.Region, "operator", op.String())
	}
	c.mu.Unlock()
	for _, r := range regions {
		c.Dispatch(r)
	}
	return nil
}

// fits returns why the operator can't start on the region as it is.
func (o *Operator) fits(r *core.Region) error {
	switch {
	case r == nil:
		return fmt.Errorf("region %d is not known", o.Region)
	case r.Leader == nil:
		return fmt.Errorf("region %d has no known leader", o.Region)
	case len(o.Steps) == 0:
		return fmt.Errorf("region %d needs no change for %s", o.Region, o.Desc)
	case r.Epoch().Version != o.version || r.Epoch().ConfVer != o.confVer:
		return fmt.Errorf("region %d changed meanwhile", o.Region)
	}
	return nil
}

// admit is called with the lock held.
func (c *Controller) admit(op *Operator, r *core.Region) error {
	if old := c.ops[op.Region]; old != nil && old.Priority >= op.Priority {
		return fmt.Errorf("region %d %w: %s", op.Region, ErrHasOperator, old.Desc)
	}
	if !c.withinLimits(op) {
		return fmt.Errorf("as many operators of kind %v run as may", op.Kind)
	}
	if !c.hasBudget(op, r) {
		return fmt.Errorf("the store limit for region %d is used up for now", op.Region)
	}
	return nil
}

// withinLimits is called with the lock held.
func (c *Controller) withinLimits(op *Operator) bool {
	o := c.cluster.Options()
	if c.running[op.Kind] >= o.limit(op.Kind) {
		return false
	}
	for _, s := range op.Steps {
		if add, ok := s.(AddLearner); ok && op.Kind != KindAdmin && c.inflight[add.Store].adding >= o.StoreLimit {
			return false
		}
	}
	return true
}

func (c *Controller) busy(region uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ops[region] != nil
}

// Dispatch drives the region's operator on by a report of the region's leader.
func (c *Controller) Dispatch(r *core.Region) {
	c.mu.Lock()
	op := c.ops[r.ID()]
	if op == nil || r.Leader == nil {
		c.mu.Unlock()
		c.suspect(r)
		return
	}
	if now := c.cluster.Regions().ByID(r.ID()); now != nil && now.Leader != nil {
		r = now // a later report may have come to its place in between
	}
	msg := c.drive(op, r)
	c.mu.Unlock()
	if msg != nil {
		c.cluster.Send(r, msg)
	}
}

// drive returns the next message of the operator, or ends it. Called with the
// lock held.
func (c *Controller) drive(op *Operator, r *core.Region) *pdpb.RegionHeartbeatResponse {
	now := c.now()
	done := op.advance(r, now)
	c.account(op, r)
	if err := op.stale(r); err != nil {
		c.finish(op, pdpb.OperatorStatus_CANCEL, err.Error())
		return nil
	}
	if done {
		c.finish(op, pdpb.OperatorStatus_SUCCESS, "")
		return nil
	}
	if op.timedOut(now) {
		c.finish(op, pdpb.OperatorStatus_TIMEOUT, "timed out")
		return nil
	}
	step := op.Steps[op.at]
	if err := step.Check(r, c.cluster.Stores()); err != nil {
		c.finish(op, pdpb.OperatorStatus_CANCEL, err.Error())
		return nil
	}
	if _, ok := step.(AddLearner); ok && step.ConfChanges(r) > 0 {
		return nil // added; it only has to catch up
	}
	op.toldAt = now
	return step.Message(r)
}

// finish is called with the lock held.
func (c *Controller) finish(op *Operator, status pdpb.OperatorStatus, reason string) {
	delete(c.ops, op.Region)
	c.running[op.Kind]--
	c.account(op, nil)
	if _, ok := c.records[op.Region]; !ok {
		c.recorded = append(c.recorded, op.Region)
	}
	rec := Record{Op: op, Status: status, Reason: reason, FinishedAt: c.now()}
	c.records[op.Region] = rec
	c.remember(rec)
	if len(c.recorded) > recordsMax {
		delete(c.records, c.recorded[0])
		c.recorded = c.recorded[1:]
	}
	c.event(op, map[pdpb.OperatorStatus]string{
		pdpb.OperatorStatus_SUCCESS: "finish", pdpb.OperatorStatus_TIMEOUT: "timeout", pdpb.OperatorStatus_CANCEL: "cancel",
		pdpb.OperatorStatus_REPLACE: "replace",
	}[status])
	c.log.Info("pd: operator ended", "region", op.Region, "status", status.String(), "reason", reason, "operator", op.String())
	if other := c.ops[op.related]; op.related != 0 && other != nil && other.related == op.Region && status != pdpb.OperatorStatus_SUCCESS {
		c.finish(other, status, fmt.Sprintf("the merge with region %d ended: %s", op.Region, reason))
	}
}

func (c *Controller) event(op *Operator, event string) {
	if c.events != nil {
		c.events.WithLabelValues(op.Desc, event).Inc()
	}
}

// Sweep ends the operators that took too long or whose regions are gone, and
// tells leaders again that have not answered: a message may be lost, and a
// region that sleeps does not report.
func (c *Controller) Sweep() {
	for _, r := range c.sweep() {
		c.Dispatch(r)
	}
}

// hopeless reports whether the operator waits for a store that died meanwhile.
// It is dispatched, which ends it. Called with the lock held.
func (c *Controller) hopeless(op *Operator) bool {
	to, ok := op.Steps[min(op.at, len(op.Steps)-1)].(TransferLeader)
	return ok && c.cluster.Stores().Suspect(c.cluster.Stores().Get(to.To))
}

// sweep returns the regions whose leaders are to be told again.
func (c *Controller) sweep() []*core.Region {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var again []*core.Region
	for id, op := range c.ops {
		switch {
		case c.ops[id] == nil: // ended together with its other half
		case c.cluster.Regions().ByID(id) == nil && op.merges():
			c.finish(op, pdpb.OperatorStatus_SUCCESS, "")
		case c.cluster.Regions().ByID(id) == nil:
			c.finish(op, pdpb.OperatorStatus_CANCEL, "the region is gone")
		case op.timedOut(now):
			c.finish(op, pdpb.OperatorStatus_TIMEOUT, "timed out")
		case now.Sub(op.toldAt) >= tellAgainAfter || c.hopeless(op):
			op.toldAt = now
			again = append(again, c.cluster.Regions().ByID(id))
		}
	}
	return again
}

// Status returns the region's operator, or the last one it had.
func (c *Controller) Status(region uint64) (Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if op := c.ops[region]; op != nil {
		return Record{Op: op, Status: pdpb.OperatorStatus_RUNNING}, true
	}
	r, ok := c.records[region]
	return r, ok
}

// Cancel ends the region's operator and reports whether there was one.
func (c *Controller) Cancel(region uint64, reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	op := c.ops[region]
	if op == nil {
		return false
	}
	c.finish(op, pdpb.OperatorStatus_CANCEL, reason)
	return true
}

// List describes the operators under way, by region.
func (c *Controller) List() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]uint64, 0, len(c.ops))
	for id := range c.ops {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = c.ops[id].String()
	}
	return out
}

// Prepared reports whether enough was heard of the cluster to balance it.
func (c *Controller) Prepared() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.prepared {
		return true
	}
	if c.now().Sub(c.started) < prepareTimeout {
		for _, s := range c.cluster.Stores().All() {
			if s.IsUp() && !s.Reported {
				return false
			}
		}
		rs := c.cluster.Regions()
		if n := rs.Len(); n == 0 || rs.Reported()*preparedPartDenom < n*preparedPartNum {
			return false
		}
	}
	c.prepared = true
	return true
}
