package pdsim

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
	"github.com/copradb/copra/pd/schedule"
)

const (
	stepLength       = 100 * time.Millisecond
	regionReports    = time.Minute      // every region reports once in this time
	storeReports     = 10 * time.Second // every store does
	reportDelay      = 50 * time.Millisecond
	electionDuration = 10 * time.Second
)

// Config is what to simulate.
type Config struct {
	Stores, Regions int
	// Skew is how uneven the stores are at the start: a store gets 1-Skew to
	// 1+Skew times the average.
	Skew float64
	// RegionBytes is the average size; regions have 1-SizeSpread to 1+SizeSpread
	// times as much.
	RegionBytes, CapacityBytes uint64
	SizeSpread                 float64
	// LargeDisks is how many stores have twice the capacity.
	LargeDisks int
	// SnapshotBytesPerSecond is what a store takes in.
	SnapshotBytesPerSecond float64
	Seed                   uint64
	Options                schedule.Options
}

// Sim is a cluster.
type Sim struct {
	cfg     Config
	rnd     *rand.Rand
	now     time.Time
	start   time.Time
	events  events
	nextID  uint64
	stores  []*store // by id-1
	regions []region // by id-1

	// PD's side.
	known  *core.Regions
	peers  *core.Stores
	ctl    *schedule.Controller
	rules  *placement.Manager
	labels *labeler.Labeler

	cursor  int // the region whose periodic report is next
	credit  float64
	Moves   Moves
	Reports int64
	// ReportTime is the time spent in PD's handling of reports, PlanTime that in
	// patrols and schedulers.
	ReportTime, PlanTime time.Duration
}

// Moves counts what was done to the regions.
type Moves struct {
	Peers   int // added
	Leaders int // transferred
	// Back is how many peers were added on stores that the region had left.
	Back int
}

type region struct {
	meta    *metapb.Region // replaced, never changed
	sent    *metapb.Region // the copy that PD has of it, nil where it has changed
	leader  uint64         // store
	size    uint64
	pending []uint64 // peers that wait for a snapshot
	left    []uint64 // stores that it was on
	flow    *Flow
	told    time.Time // last report
}

// Flow is what is read from and written to a region, per second.
type Flow struct{ ReadBytes, ReadKeys, ReadQueries, WriteBytes, WriteKeys, WriteQueries float64 }

type store struct {
	id        uint64
	used      uint64
	capacity  uint64
	dead      bool
	diedAt    time.Time
	busyUntil time.Time // receiving snapshots
	receiving int
	told      time.Time
	hot       map[uint64]*Flow // flow of regions with a peer here
	slowScore uint64
}

type event struct {
	at     time.Time
	region uint64
	peer   uint64 // whose snapshot has arrived; 0: the region reports
}

// events is a heap by time.
type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// New makes a cluster that PD knows nothing of yet.
func New(cfg Config) *Sim {
	s := &Sim{
		cfg: cfg, rnd: rand.New(rand.NewPCG(cfg.Seed, 1)), now: time.Unix(1_700_000_000, 0), nextID: uint64(cfg.Regions) + 1,
		known: core.NewRegions(), peers: core.NewStores(),
	}
	s.start = s.now
	s.cfg.Options = cfg.Options.WithDefaults()
	weights := make([]float64, cfg.Stores)
	for i := range weights {
		s.addStore()
		weights[i] = 1 + cfg.Skew*(2*s.rnd.Float64()-1)
	}
	s.regions = make([]region, cfg.Regions)
	for i := range s.regions {
		s.regions[i] = s.makeRegion(i, weights)
	}
	var err error
	if s.rules, err = placement.NewManager(unsaved{}, nil, placement.DefaultRule(s.cfg.Options.Replicas, nil, "")); err != nil {
		panic(err)
	}
	if s.labels, err = labeler.New(unsaved{}, nil, func() time.Time { return s.now }); err != nil {
		panic(err)
	}
	s.ctl = schedule.NewSimulated(s, slog.New(slog.DiscardHandler), func() time.Time { return s.now }, cfg.Seed)
	return s
}

// unsaved keeps no rules.
type unsaved struct{}

// Save implements placement's and labeler's storage.
func (unsaved) Save(context.Context, map[string][]byte) error { return nil }

func (s *Sim) addStore() *store {
	st := &store{id: uint64(len(s.stores) + 1), hot: make(map[uint64]*Flow), capacity: s.cfg.CapacityBytes}
	if len(s.stores) < s.cfg.LargeDisks {
		st.capacity *= 2
	}
	s.stores = append(s.stores, st)
	return st
}

func (s *Sim) makeRegion(i int, weights []float64) region {
	key := func(i int) []byte {
		if i == 0 || i == s.cfg.Regions {
			return nil
		}
		// As long as a row's key in a table is.
		return fmt.Appendf(nil, "x000001t%016x_r%016x", i/1000, i)
	}
	m := &metapb.Region{Id: uint64(i + 1), StartKey: key(i), EndKey: key(i + 1), RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1}}
	r := region{meta: m, size: uint64(float64(s.cfg.RegionBytes) * (1 + s.cfg.SizeSpread*(2*s.rnd.Float64()-1)))}
	for len(m.Peers) < s.cfg.Options.Replicas {
		n := s.rnd.IntN(len(weights))
		if s.rnd.Float64()*(1+s.cfg.Skew) > weights[n] || (&core.Region{Meta: m}).StorePeer(uint64(n+1)) != nil {
			continue
		}
		s.nextID++
		m.Peers = append(m.Peers, &metapb.Peer{Id: s.nextID, StoreId: uint64(n + 1)})
		s.stores[n].used += r.size
	}
	r.leader = m.Peers[0].StoreId
	return r
}

// The methods below are what PD's scheduling sees of the cluster.

// Regions implements schedule.Cluster.
func (s *Sim) Regions() *core.Regions { return s.known }

// Stores implements schedule.Cluster.
func (s *Sim) Stores() *core.Stores { return s.peers }

// Options implements schedule.Cluster.
func (s *Sim) Options() schedule.Options { return s.cfg.Options }

// Rules implements schedule.Cluster.
func (s *Sim) Rules() *placement.Manager { return s.rules }

// Labels implements schedule.Cluster.
func (s *Sim) Labels() *labeler.Labeler { return s.labels }

// AllocID implements schedule.Cluster.
func (s *Sim) AllocID(context.Context) (uint64, error) {
	s.nextID++
	return s.nextID, nil
}

// Step lets stepLength pass.
func (s *Sim) Step() {
	s.now = s.now.Add(stepLength)
	for _, st := range s.stores {
		if !st.dead && s.now.Sub(st.told) >= storeReports {
			s.reportStore(st)
		}
	}
	for len(s.events) > 0 && !s.events[0].at.After(s.now) {
		e := heap.Pop(&s.events).(event)
		if e.peer != 0 {
			s.snapshotArrived(e.region, e.peer)
		} else {
			s.Report(e.region)
		}
	}
	s.credit += float64(len(s.regions)) * float64(stepLength) / float64(regionReports)
	for ; s.credit >= 1; s.credit-- {
		id := uint64(s.cursor + 1)
		s.cursor = (s.cursor + 1) % len(s.regions)
		if s.now.Sub(s.regions[id-1].told) >= regionReports/2 {
			s.Report(id)
		}
	}
	began := time.Now()
	s.ctl.Patrol(context.Background())
	s.ctl.Balance(context.Background())
	if s.now.UnixMilli()%1000 == 0 {
		s.ctl.Sweep()
	}
	s.PlanTime += time.Since(began)
}

func (s *Sim) after(d time.Duration, region, peer uint64) {
	heap.Push(&s.events, event{s.now.Add(d), region, peer})
}

// Report is one region's heartbeat.
func (s *Sim) Report(id uint64) {
	hb := s.heartbeat(id)
	if hb == nil {
		return
	}
	began := time.Now()
	s.Take(hb)
	s.ReportTime += time.Since(began)
	s.Reports++
}

// Take is what PD does with a heartbeat.
func (s *Sim) Take(hb *pdpb.RegionHeartbeatRequest) {
	r := core.FromHeartbeat(hb, s.now)
	if _, err := s.known.Put(r); err != nil {
		panic(fmt.Sprintf("pdsim: region %d: %v", hb.Region.Id, err))
	}
	s.ctl.Observe(r)
	s.ctl.Dispatch(r)
}

// heartbeat is what the region's leader says, nil where it is dead.
func (s *Sim) heartbeat(id uint64) *pdpb.RegionHeartbeatRequest {
	r := &s.regions[id-1]
	if s.stores[r.leader-1].dead {
		return nil
	}
	hb := &pdpb.RegionHeartbeatRequest{ApproximateSize: r.size, ApproximateKeys: r.size / 128, Term: 6}
	if hb.Region = r.sent; hb.Region == nil {
		hb.Region = clone(r.meta)
		r.sent = hb.Region
	}
	for _, p := range hb.Region.Peers {
		switch st := s.stores[p.StoreId-1]; {
		case p.StoreId == r.leader:
			hb.Leader = p
		case st.dead:
			hb.DownPeers = append(hb.DownPeers, &pdpb.PeerStats{Peer: p, DownSeconds: uint64(s.now.Sub(st.diedAt).Seconds())})
			hb.PendingPeers = append(hb.PendingPeers, p)
		case r.waits(p.Id):
			hb.PendingPeers = append(hb.PendingPeers, p)
		}
	}
	if !r.told.IsZero() {
		hb.Interval = &pdpb.TimeInterval{StartTimestamp: uint64(r.told.Unix()), EndTimestamp: uint64(s.now.Unix())}
		if f := r.flow; f != nil {
			secs := float64(hb.Interval.EndTimestamp - hb.Interval.StartTimestamp)
			hb.BytesRead, hb.KeysRead = uint64(f.ReadBytes*secs), uint64(f.ReadKeys*secs)
			hb.BytesWritten, hb.KeysWritten = uint64(f.WriteBytes*secs), uint64(f.WriteKeys*secs)
			hb.QueryStats = &pdpb.QueryStats{Get: uint64(f.ReadQueries * secs), Put: uint64(f.WriteQueries * secs)}
		}
	}
	r.told = s.now
	return hb
}

func (r *region) waits(peer uint64) bool {
	for _, id := range r.pending {
		if id == peer {
			return true
		}
	}
	return false
}

// reportStore is one store's heartbeat.
func (s *Sim) reportStore(st *store) {
	stats := &pdpb.StoreStats{StoreId: st.id, Capacity: st.capacity, ReceivingSnapCount: uint32(st.receiving),
		Available: st.capacity - min(st.used, st.capacity), SlowScore: max(st.slowScore, 1)}
	if secs := s.now.Sub(st.told).Seconds(); !st.told.IsZero() {
		stats.Interval = &pdpb.TimeInterval{StartTimestamp: uint64(st.told.Unix()), EndTimestamp: uint64(s.now.Unix())}
		stats.QueryStats = &pdpb.QueryStats{}
		for id, f := range st.hot {
			stats.BytesWritten += uint64(f.WriteBytes * secs)
			stats.KeysWritten += uint64(f.WriteKeys * secs)
			stats.QueryStats.Put += uint64(f.WriteQueries * secs)
			if s.regions[id-1].leader == st.id {
				stats.BytesRead += uint64(f.ReadBytes * secs)
				stats.KeysRead += uint64(f.ReadKeys * secs)
				stats.QueryStats.Get += uint64(f.ReadQueries * secs)
			}
		}
	}
	st.told = s.now
	meta := &metapb.Store{Id: st.id, Address: fmt.Sprintf("s%d", st.id)}
	if old := s.peers.Get(st.id); old != nil {
		meta = old.Meta
	}
	s.peers.Put(&core.Store{Meta: meta, Stats: stats, HeardAt: s.now, Reported: true,
		StatsPeerBytes: s.known.StoreCounts(st.id).PeerBytes})
	s.ctl.ObserveStore(stats)
}
