package txnsim_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/isolation"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/copradb/copra/raftstore/sim"
	"github.com/copradb/copra/txn/mvcccheck"
	"github.com/tikv/client-go/v2/tikv"
)

// run is the load of one simulation: clients that run transactions.
type run struct {
	s      *sim.Sim
	tso    timestamps
	routes *sim.Routes
	stores *stores
	names  []string // of the keys, spread over the key space
	clock  atomic.Int64
	values atomic.Int64 // appended so far
	ready  time.Time    // the setup was committed before
	// txnSafe and garbage are PD's safe points for transactions and for garbage
	// collection.
	txnSafe, garbage atomic.Uint64

	mu       sync.Mutex
	lists    []isolation.Txn
	txns     []mvcccheck.Txn
	locking  map[uint64]bool // start timestamps of pessimistic transactions
	counters []isolation.Observation
	forks    map[int64][]isolation.Sighting
	done     map[string]int // committed transactions by kind
}

var _ sim.Load = (*run)(nil)

func newRun(s *sim.Sim) *run {
	r := &run{s: s, routes: s.NewRoutes(), names: s.Keys(), locking: map[uint64]bool{}, forks: map[int64][]isolation.Sighting{}, done: map[string]int{}}
	r.stores = &stores{r: r, all: map[uint64]*store{}}
	return r
}

// now is the order of events as clients see it.
func (r *run) now() int64 { return r.clock.Add(1) }

// Encode implements sim.Load.
func (r *run) Encode(key string) string { return string(codec.EncodeBytes(nil, []byte(key))) }

// Options implements sim.Load.
func (r *run) Options(o *raftstore.Options) { r.stores.options(o) }

// Attach implements sim.Load.
func (r *run) Attach(n *rafttest.Node) { r.stores.attach(n) }

// Detach implements sim.Load.
func (r *run) Detach(n *rafttest.Node) { r.stores.detach(n) }

// Run implements sim.Load.
func (r *run) Run() {
	if !r.setup() {
		return
	}
	var wg sync.WaitGroup
	for id := range clientsPerActor * r.s.Clients() {
		wg.Go(func() {
			c := r.newClient(id)
			defer func() { c.close() }()
			for r.s.Sleep(c.rng, 0, r.s.Think()) {
				c.step()
			}
		})
	}
	if r.s.Rng("collect garbage").IntN(5) < 2 && !r.s.Without("garbage") {
		wg.Go(r.collectGarbage)
	}
	wg.Wait()
}

// collectGarbage is package gcworker in a hurry: no transaction may be older
// than some seconds.
func (r *run) collectGarbage() {
	rng := r.s.Rng("garbage")
	c := r.newClient(1003)
	defer c.close()
	for r.s.Sleep(rng, time.Second, 8*time.Second) {
		age := time.Duration(500+rng.IntN(8000)) * time.Millisecond
		ts := r.tso.next() - uint64(age.Milliseconds())<<logicalBits
		if ts <= r.txnSafe.Load() {
			continue
		}
		r.txnSafe.Store(ts)
		ctx, cancel := context.WithTimeout(r.s.Context(), 20*time.Second)
		err := c.resolve(ctx, ts)
		cancel()
		if err != nil {
			r.s.Op(0, 0, "locks below %d are not resolved: %v", ts, err)
			continue
		}
		r.garbage.Store(ts)
		r.s.Log(0, 0, "GC safe point %d, %v ago", ts, age)
	}
}

// clientsPerActor is how many clients there are for each that sim plans.
const clientsPerActor = 2

// setup gives accounts and pairs their first values, in one transaction.
func (r *run) setup() bool {
	c := r.newClient(1000)
	defer c.close()
	for r.s.Context().Err() == nil {
		x, err := c.begin(optimistic)
		if err != nil {
			continue
		}
		if v, err := x.get(account(r.names[0])); err == nil && v != nil {
			x.rollback()
			time.Sleep(time.Millisecond) // timestamps have the time in milliseconds
			r.ready = time.Now()
			return true
		}
		for _, name := range r.names {
			x.set(account(name), []byte(fmt.Sprint(balance)))
			x.set(pair(name, 0), []byte("1"))
			x.set(pair(name, 1), []byte("1"))
		}
		x.commit("setup")
	}
	return false
}

// Touch implements sim.Load: locks are resolved, and every key is written and
// read.
func (r *run) Touch(end time.Time) {
	c := r.newClient(1001)
	defer c.close()
	var err error
	for !r.s.Failed() {
		if err = r.touch(c, time.Until(end)); err == nil {
			return
		}
		if time.Now().After(end) {
			r.s.Fail("transactions are not possible after the last fault: %v\n%s", err, r.s.Dump())
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *run) touch(c *client, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), max(d, time.Second))
	defer cancel()
	if err := c.resolveAll(ctx); err != nil {
		return fmt.Errorf("resolve all locks: %w", err)
	}
	for _, name := range r.names {
		if !c.appendTo(optimistic, []string{list(name)}) {
			return fmt.Errorf("append to %s: %w", list(name), c.err)
		}
	}
	if !c.readLists(reading{}, r.names) || !r.ready.IsZero() && (!c.readBank(reading{}) || !c.readPairs(reading{})) {
		return fmt.Errorf("read everything: %w", c.err)
	}
	return nil
}

func (c *client) resolveAll(ctx context.Context) error { return c.resolve(ctx, c.r.tso.next()) }

// resolve ends all transactions that began at or before ts.
func (c *client) resolve(ctx context.Context, ts uint64) error {
	_, err := tikv.ResolveLocksForRange(ctx, tikv.NewRegionLockResolver("txnsim", c.kv), ts, nil, nil, tikv.NewGcResolveLockMaxBackoffer, tikv.GCScanLockLimit)
	return err
}

// End implements sim.Load.
func (r *run) End(check bool) {
	if !check {
		return
	}
	c := r.newClient(1002)
	defer c.close()
	if err := c.resolveAll(context.Background()); err != nil {
		r.s.Fail("resolve all locks at the end: %v", err)
		return
	}
	h, err := r.dump()
	if err != nil {
		r.s.Fail("read all records: %v", err)
		return
	}
	keys, commits, rollbacks := h.Count()
	r.s.Log(0, 0, "%d keys, %d commit records, %d rollbacks; transactions: %v", keys, commits, rollbacks, r.done)
	if err := r.verify(h); err != nil {
		r.s.Fail("%v", err)
	}
}

// dump reads all records, of each region on its first replica: that all are
// the same was checked before.
func (r *run) dump() (*mvcccheck.History, error) {
	h := mvcccheck.New()
	for _, route := range r.routes.List() {
		var err error
		region := route.Region
		up := r.s.Use(region.Peers[0].StoreId, func(n *rafttest.Node) {
			snap := n.Engine.NewSnapshot()
			defer snap.Close()
			err = h.AddSnapshot(snap, region.StartKey, region.EndKey)
		})
		if err != nil || !up {
			return nil, fmt.Errorf("store %d, region %d, up %v: %w", region.Peers[0].StoreId, region.Id, up, err)
		}
	}
	return h, nil
}

// verify compares what is stored with what clients know, and looks for
// anomalies in what they saw.
func (r *run) verify(h *mvcccheck.History) error {
	if err := h.Verify(mvcccheck.Options{Pessimistic: func(ts uint64) bool { return r.locking[ts] }}); err != nil {
		return fmt.Errorf("the records are not those of transactions: %w", err)
	}
	h.SafePoint = r.garbage.Load()
	for _, t := range r.txns {
		if err := h.Check(t); err != nil {
			return err
		}
	}
	if err := isolation.Check(r.lists).Err(isolation.StrongSnapshotIsolation); err != nil {
		return err
	}
	if err := isolation.Monotonic(r.counters, true); err != nil {
		return err
	}
	for group, sightings := range r.forks {
		if err := isolation.LongFork(sightings); err != nil {
			return fmt.Errorf("group %d: %w", group, err)
		}
	}
	return nil
}

func pick[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }

// hotNames is how many names get half of the load.
const hotNames = 2

// name draws one of the run's names.
func (c *client) name() string {
	if c.rng.IntN(2) == 0 {
		return pick(c.rng, c.r.names[:hotNames])
	}
	return pick(c.rng, c.r.names)
}
