package pdsim

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// evenPart is when stores count as even: the fullest and the emptiest are not
// further apart than this part of the average.
const evenPart = 0.05

// Spread is how uneven the stores that are alive are, as PD sees them.
type Spread struct {
	MinPeers, MaxPeers, MinLeaders, MaxLeaders int
	Bytes, Peers, Leaders                      float64 // (max-min)/average
}

// Even reports whether nothing is further apart than evenPart.
func (s Spread) Even() bool { return max(s.Bytes, s.Peers, s.Leaders) <= evenPart }

func (s Spread) String() string {
	return fmt.Sprintf("peers %d to %d (%.1f %%), leaders %d to %d (%.1f %%), bytes %.1f %%",
		s.MinPeers, s.MaxPeers, 100*s.Peers, s.MinLeaders, s.MaxLeaders, 100*s.Leaders, 100*s.Bytes)
}

// Spread measures it.
func (s *Sim) Spread() Spread {
	out := Spread{MinPeers: math.MaxInt, MinLeaders: math.MaxInt}
	var peers, leaders, n int
	var bytes, minBytes, maxBytes uint64
	minBytes = math.MaxUint64
	for _, st := range s.stores {
		if st.dead {
			continue
		}
		c := s.known.StoreCounts(st.id)
		n, peers, leaders, bytes = n+1, peers+c.Peers, leaders+c.Leaders, bytes+c.PeerBytes
		out.MinPeers, out.MaxPeers = min(out.MinPeers, c.Peers), max(out.MaxPeers, c.Peers)
		out.MinLeaders, out.MaxLeaders = min(out.MinLeaders, c.Leaders), max(out.MaxLeaders, c.Leaders)
		minBytes, maxBytes = min(minBytes, c.PeerBytes), max(maxBytes, c.PeerBytes)
	}
	part := func(d, sum float64) float64 { return d * float64(n) / max(sum, 1) }
	out.Peers = part(float64(out.MaxPeers-out.MinPeers), float64(peers))
	out.Leaders = part(float64(out.MaxLeaders-out.MinLeaders), float64(leaders))
	out.Bytes = part(float64(maxBytes-minBytes), float64(bytes))
	return out
}

// Needed is the fewest peers that have to move until all stores that are alive
// have the same number of bytes, in average regions.
func (s *Sim) Needed() int {
	var sum, n float64
	for _, st := range s.stores {
		if !st.dead {
			sum, n = sum+float64(s.known.StoreCounts(st.id).PeerBytes), n+1
		}
	}
	over := 0.0
	for _, st := range s.stores {
		if !st.dead {
			over += max(0, float64(s.known.StoreCounts(st.id).PeerBytes)-sum/n)
		}
	}
	return int(over / float64(s.cfg.RegionBytes))
}

// Elapsed is the simulated time since the start.
func (s *Sim) Elapsed() time.Duration { return s.now.Sub(s.start) }

// RunUntil lets time pass until done, which is asked every second, and reports
// how long it took, or that it took longer than limit.
func (s *Sim) RunUntil(limit time.Duration, done func() bool) (time.Duration, bool) {
	began := s.now
	for s.now.Sub(began) < limit {
		for range time.Second / stepLength {
			s.Step()
		}
		if done() {
			return s.now.Sub(began), true
		}
	}
	return limit, false
}

// Run lets time pass.
func (s *Sim) Run(d time.Duration) {
	s.RunUntil(d, func() bool { return false })
}

// Footprint is what PD needs for the regions.
type Footprint struct {
	HeapBytesPerRegion    float64
	LoadNanoseconds       float64 // for a region's first heartbeat, from the wire
	HeartbeatNanoseconds  float64 // for a later one that changes nothing, from the wire
	HeartbeatAllocs       float64
	HeartbeatBytesAllocs  float64
	HeartbeatNoWireNanos  float64 // without decoding
	HeartbeatSecondsPer1M float64
}

// Load lets every store and region report for the first time and measures it.
// Heartbeats are encoded and decoded, as they are on the way from a store.
func (s *Sim) Load() Footprint {
	for _, st := range s.stores {
		s.reportStore(st)
		st.told = s.now.Add(-time.Duration(s.rnd.Int64N(int64(storeReports)))) // not all at once
	}
	var f Footprint
	before := heapBytes()
	took, _ := s.reportAll(true)
	f.LoadNanoseconds = per(took, len(s.regions))
	f.HeapBytesPerRegion = (float64(heapBytes()) - float64(before)) / float64(len(s.regions))
	for i := range s.regions {
		s.regions[i].sent = s.known.ByID(uint64(i + 1)).Meta
	}
	s.now = s.now.Add(regionReports)
	for _, st := range s.stores {
		s.reportStore(st)
	}
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	took, encode := s.reportAll(true)
	runtime.ReadMemStats(&m1)
	f.HeartbeatNanoseconds = per(took, len(s.regions))
	f.HeartbeatSecondsPer1M = f.HeartbeatNanoseconds / 1000
	f.HeartbeatAllocs = float64(m1.Mallocs-m0.Mallocs)/float64(len(s.regions)) - encode
	f.HeartbeatBytesAllocs = float64(m1.TotalAlloc-m0.TotalAlloc) / float64(len(s.regions))
	took, _ = s.reportAll(false)
	f.HeartbeatNoWireNanos = per(took, len(s.regions))
	return f
}

func per(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / float64(n) }

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// reportAll lets every region report and returns the time that PD took, and the
// allocations of the stores' side for each.
func (s *Sim) reportAll(wire bool) (time.Duration, float64) {
	const batch = 1024
	var took time.Duration
	var raws [][]byte
	var hbs []*pdpb.RegionHeartbeatRequest
	allocs := 0.0
	var m0, m1 runtime.MemStats
	for at := 0; at < len(s.regions); at += batch {
		raws, hbs = raws[:0], hbs[:0]
		runtime.ReadMemStats(&m0)
		for i := at; i < min(at+batch, len(s.regions)); i++ {
			hb := s.heartbeat(uint64(i + 1))
			hbs = append(hbs, hb)
			if wire {
				raw, err := hb.Marshal()
				if err != nil {
					panic(err)
				}
				raws = append(raws, raw)
			}
		}
		runtime.ReadMemStats(&m1)
		allocs += float64(m1.Mallocs - m0.Mallocs)
		began := time.Now()
		for i, hb := range hbs {
			if wire {
				hb = &pdpb.RegionHeartbeatRequest{}
				if err := hb.Unmarshal(raws[i]); err != nil {
					panic(err)
				}
			}
			s.Take(hb)
		}
		took += time.Since(began)
	}
	return took, allocs / float64(len(s.regions))
}

// Phase is what came of one part of a scenario.
type Phase struct {
	Name   string
	Took   time.Duration // simulated
	Done   bool
	Moves  Moves
	Needed int // the fewest peers to move
	After  Spread
	CPU    time.Duration // of PD
}

func (p Phase) String() string {
	return fmt.Sprintf("%-28s %8v simulated, done %v, %d peers moved (at least %d), %d back, %d leaders moved; %v; PD's CPU %v",
		p.Name, p.Took.Round(time.Second), p.Done, p.Moves.Peers, p.Needed, p.Moves.Back, p.Moves.Leaders, p.After, p.CPU.Round(time.Millisecond))
}

// phase runs until done, and a while longer: what is even has to stay so.
func (s *Sim) phase(w io.Writer, name string, needed int, limit, settle time.Duration, done func() bool) Phase {
	moves, cpu := s.Moves, s.ReportTime+s.PlanTime
	p := Phase{Name: name, Needed: needed}
	for i := range s.regions {
		s.regions[i].left = nil // where it was before is no matter
	}
	p.Took, p.Done = s.RunUntil(limit, done)
	s.Run(settle)
	p.Moves = Moves{s.Moves.Peers - moves.Peers, s.Moves.Leaders - moves.Leaders, s.Moves.Back - moves.Back}
	p.After, p.CPU = s.Spread(), s.ReportTime+s.PlanTime-cpu
	_, _ = fmt.Fprintln(w, p)
	return p
}

// Balance lets an uneven cluster become even.
func (s *Sim) Balance(w io.Writer, limit, settle time.Duration) Phase {
	return s.phase(w, "balance", s.Needed(), limit, settle, func() bool { return s.Spread().Even() })
}

// Grow adds n empty stores.
func (s *Sim) Grow(w io.Writer, n int, limit, settle time.Duration) Phase {
	for range n {
		s.reportStore(s.addStore())
	}
	return s.phase(w, fmt.Sprintf("%d stores join", n), s.Needed(), limit, settle, func() bool { return s.Spread().Even() })
}

// Lose kills a store and waits until all its peers are made up elsewhere.
func (s *Sim) Lose(w io.Writer, id uint64, limit, settle time.Duration) Phase {
	needed := s.known.StoreCounts(id).Peers
	s.Kill(id)
	return s.phase(w, fmt.Sprintf("store %d is lost", id), needed, limit, settle, func() bool {
		return s.known.StoreCounts(id).Peers == 0
	})
}

// HeatStore makes n of the regions that a store leads hot, and waits until no
// store serves more than slack times the average.
func (s *Sim) HeatStore(w io.Writer, id uint64, n int, slack float64, limit time.Duration) Phase {
	for _, r := range s.known.StoreLeaders(id) {
		if n--; n < 0 {
			break
		}
		s.Heat(r.ID(), &Flow{ReadBytes: 4 << 20, ReadKeys: 4000, ReadQueries: 1000, WriteBytes: 1 << 20, WriteKeys: 1000, WriteQueries: 500})
	}
	before := s.HotPart()
	return s.phase(w, fmt.Sprintf("hot: %.1f times the average", before), 0, limit, 0, func() bool { return s.HotPart() <= slack })
}

// HotPart is how much more the busiest store's leaders read and write than the
// average.
func (s *Sim) HotPart() float64 {
	most, sum, n := 0.0, 0.0, 0.0
	for _, st := range s.stores {
		if st.dead {
			continue
		}
		load := 0.0
		for id, f := range st.hot {
			if s.regions[id-1].leader == st.id {
				load += f.ReadQueries
			}
		}
		most, sum, n = max(most, load), sum+load, n+1
	}
	if sum == 0 {
		return 0
	}
	return most * n / sum
}

// Check returns what is wrong with the regions that should all be whole.
func (s *Sim) Check() error {
	for i := range s.regions {
		r := s.known.ByID(uint64(i + 1))
		if r == nil {
			return fmt.Errorf("region %d is not known", i+1)
		}
		if len(r.Voters()) != s.cfg.Options.Replicas || len(r.Meta.Peers) != s.cfg.Options.Replicas {
			return fmt.Errorf("region %d has the peers %v", i+1, r.Meta.Peers)
		}
		for _, p := range r.Meta.Peers {
			if s.stores[p.StoreId-1].dead {
				return fmt.Errorf("region %d has a peer on store %d, which is lost", i+1, p.StoreId)
			}
		}
	}
	return nil
}
