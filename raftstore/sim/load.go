package sim

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// Load is what runs on the stores of a simulation in the place of the clients
// that put and get. All methods are called inside of the bubble.
type Load interface {
	// Encode makes a key of regions of one of Sim.Keys or of a split key.
	Encode(key string) string
	// Options may change the options of a store before it is made; an Observer
	// must pass on to the one that it finds there.
	Options(o *raftstore.Options)
	// Attach is called with a store that was made and not started yet, Detach when
	// it has ended; for each of its lives.
	Attach(n *rafttest.Node)
	Detach(n *rafttest.Node)
	// Run is the clients. It returns soon after Sim.Context has ended.
	Run()
	// Touch reads and writes everywhere, when the faults are over. What does not
	// succeed before end is a failure. It is called again after a restart of all stores.
	Touch(end time.Time)
	// End checks what the clients saw, if the run has not failed before, and
	// frees what the load holds. The stores are still up.
	End(check bool)
}

// RunLoad runs one seed with another load. Its event log is named
// copra-sim<name>-<seed>.log.
func RunLoad(t *testing.T, seed uint64, name string, load func(*Sim) Load) Result {
	return run(t, seed, name, load)
}

// Sim is what a Load sees of the simulation.
type Sim struct{ w *world }

// TB is the test.
func (s *Sim) TB() testing.TB { return s.w.t }

// Seed is the run's.
func (s *Sim) Seed() uint64 { return s.w.seed }

// Context ends with the faults, or with the first failure.
func (s *Sim) Context() context.Context { return s.w.ctx }

// Without reports whether COPRA_SIM_WITHOUT names a part of the load.
func (s *Sim) Without(part string) bool {
	return slices.Contains(strings.Split(os.Getenv("COPRA_SIM_WITHOUT"), ","), part)
}

// Clients is how many there should be; Keys are spread over the key space.
func (s *Sim) Clients() int   { return s.w.shape.clients }
func (s *Sim) Keys() []string { return slices.Clone(s.w.keys) }

// Think is the longest pause of a client.
func (s *Sim) Think() time.Duration { return s.w.shape.think }

// Rng is the random stream of an actor of this name.
func (s *Sim) Rng(actor string, ids ...uint64) *rand.Rand { return s.w.rng(actor, ids...) }

// Sleep waits a random time; false: the faults are over.
func (s *Sim) Sleep(rng *rand.Rand, lo, hi time.Duration) bool { return s.w.sleep(rng, lo, hi) }

// Fail notes a failure, the first of which ends the run.
func (s *Sim) Fail(format string, args ...any) { s.w.fail(format, args...) }

// Failed reports whether there was a failure.
func (s *Sim) Failed() bool { return s.w.failed() }

// Log adds a line to the event log, Op one that is only in its file.
func (s *Sim) Log(store, region uint64, format string, args ...any) {
	s.w.log.add(store, region, format, args...)
}
func (s *Sim) Op(store, region uint64, format string, args ...any) {
	s.w.log.op(store, region, format, args...)
}

// Count counts operations for the run's Result.
func (s *Sim) Count(reads, writes, unknown int) {
	s.w.hist.mu.Lock()
	defer s.w.hist.mu.Unlock()
	s.w.hist.others[0] += reads
	s.w.hist.others[1] += writes
	s.w.hist.others[2] += unknown
}

// Stores lists their ids.
func (s *Sim) Stores() []uint64 { return s.w.c.IDs() }

// Node is a store in its present life.
func (s *Sim) Node(store uint64) *rafttest.Node { return s.w.c.Node(store) }

// Use calls fn with a store that is up, see rafttest.Cluster.Use.
func (s *Sim) Use(store uint64, fn func(*rafttest.Node)) bool { return s.w.c.Use(store, fn) }

// Wait returns when the store's process is not stopped.
func (s *Sim) Wait(store uint64) { s.w.nodes[store].gate.wait() }

// Cut reports whether nothing gets from one store to another.
func (s *Sim) Cut(from, to uint64) bool {
	s.w.net.mu.Lock()
	defer s.w.net.mu.Unlock()
	return s.w.net.cut[link{from, to}]
}

// Weather draws what the network does to one message of a client: how long it
// takes, and whether it is lost.
func (s *Sim) Weather(rng *rand.Rand) (delay time.Duration, lost bool) {
	s.w.net.mu.Lock()
	wt := s.w.net.weather
	s.w.net.mu.Unlock()
	delay = between(rng, wt.delayMin, wt.delayMax)
	if rng.IntN(100) < wt.slowPercent {
		delay += between(rng, 0, max(wt.slowMax, 1))
	}
	return delay, rng.IntN(100) < wt.lossPercent
}

// Dump shows the regions of all stores.
func (s *Sim) Dump() string { return s.w.c.Dump() }

// Route is a region and, if one is known, its leader.
type Route struct {
	Region *metapb.Region
	Leader *metapb.Peer
	term   uint64
}

// Routes is what PD knows: what leaders have reported. It remembers regions
// whose leaders don't answer.
type Routes struct {
	s *Sim

	mu    sync.Mutex
	known map[uint64]Route
}

// NewRoutes returns Routes that know nothing yet.
func (s *Sim) NewRoutes() *Routes { return &Routes{s: s, known: map[uint64]Route{}} }

// List asks all stores that are not stopped, and returns the newest regions in
// the order of their keys, none of which overlap.
func (r *Routes) List() (out []Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.s.w.sorted() {
		if n.gate.isShut() {
			continue
		}
		r.s.w.c.Use(n.id, func(up *rafttest.Node) {
			for _, info := range up.Store.Regions() {
				if !info.Leader || len(info.Region.Peers) == 0 {
					continue
				}
				if old, ok := r.known[info.Region.Id]; ok && (newer(old.Region, info.Region) || old.term > info.Term) {
					continue
				}
				r.known[info.Region.Id] = Route{info.Region, peerOn(info.Region, n.id), info.Term}
			}
		})
	}
	for _, route := range r.known {
		out = append(out, route)
	}
	slices.SortFunc(out, func(a, b Route) int {
		if d := int(b.Region.RegionEpoch.Version) - int(a.Region.RegionEpoch.Version); d != 0 {
			return d
		}
		return bytes.Compare(a.Region.StartKey, b.Region.StartKey)
	})
	var kept []Route
	for _, route := range out {
		if slices.ContainsFunc(kept, func(k Route) bool { return overlap(k.Region, route.Region) }) {
			delete(r.known, route.Region.Id)
			continue
		}
		kept = append(kept, route)
	}
	slices.SortFunc(kept, func(a, b Route) int { return bytes.Compare(a.Region.StartKey, b.Region.StartKey) })
	return kept
}

func overlap(a, b *metapb.Region) bool {
	return (len(a.EndKey) == 0 || bytes.Compare(b.StartKey, a.EndKey) < 0) && (len(b.EndKey) == 0 || bytes.Compare(a.StartKey, b.EndKey) < 0)
}
