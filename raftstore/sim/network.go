package sim

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/copradb/copra/raftstore"
	"go.etcd.io/raft/v3/raftpb"
)

// network decides about every message: when it arrives, and whether.
type network struct {
	w *world

	mu      sync.Mutex
	links   map[flow]*linkState
	cut     map[link]bool
	weather weather
}

type link struct{ from, to uint64 }

// flow is what one region sends over a link. It has a stream of its own, because
// the order of regions within an instant does not repeat.
type flow struct {
	link
	region uint64
}

type linkState struct {
	rng  *rand.Rand
	last time.Time // arrival of the newest message, when the order is kept
}

// weather is how bad the network is.
type weather struct {
	name               string
	delayMin, delayMax time.Duration
	slowPercent        int // of messages that take up to slowMax
	slowMax            time.Duration
	lossPercent        int
	duplicatePercent   int
	reorder            bool
}

var weathers = []weather{
	{name: "lan", delayMin: 50 * time.Microsecond, delayMax: time.Millisecond},
	{name: "wan", delayMin: 10 * time.Millisecond, delayMax: 40 * time.Millisecond},
	{name: "lossy", delayMin: 50 * time.Microsecond, delayMax: 5 * time.Millisecond, lossPercent: 15},
	{name: "duplicating", delayMin: 50 * time.Microsecond, delayMax: 5 * time.Millisecond, duplicatePercent: 20, slowPercent: 20, slowMax: time.Second, reorder: true},
	{name: "reordering", delayMin: 50 * time.Microsecond, delayMax: 20 * time.Millisecond, slowPercent: 30, slowMax: 400 * time.Millisecond, reorder: true},
	{name: "congested", delayMin: 20 * time.Millisecond, delayMax: 300 * time.Millisecond, lossPercent: 5, slowPercent: 5, slowMax: 4 * time.Second, reorder: true},
}

func newNetwork(w *world) *network {
	return &network{w: w, links: map[flow]*linkState{}, cut: map[link]bool{}, weather: weathers[0]}
}

func (n *network) flow(f flow) *linkState {
	s := n.links[f]
	if s == nil {
		s = &linkState{rng: n.w.rng("link", f.from, f.to, f.region)}
		n.links[f] = s
	}
	return s
}

// filter is the network's local.Filter.
func (n *network) filter(m *raftstore.RaftMessage, deliver func()) bool {
	l := link{m.From.StoreId, m.To.StoreId}
	to := n.w.nodes[l.to]
	snapshot := m.Msg.GetType() == raftpb.MsgSnap
	n.mu.Lock()
	delays, cut := n.fate(flow{l, m.RegionID}, !snapshot)
	n.mu.Unlock()
	if cut || len(delays) == 0 {
		return false
	}
	if snapshot { // on a goroutine of its own, and delivered by it
		time.Sleep(delays[0])
		to.gate.wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		return !n.cut[l]
	}
	for _, d := range delays {
		time.AfterFunc(d, func() {
			n.mu.Lock()
			cut := n.cut[l]
			n.mu.Unlock()
			if !cut {
				to.arrive(deliver)
			}
		})
	}
	return false
}

// fate draws what becomes of one message: the delays of its copies.
func (n *network) fate(f flow, mayRepeat bool) (delays []time.Duration, cut bool) {
	s, wt := n.flow(f), &n.weather
	delay := between(s.rng, wt.delayMin, wt.delayMax)
	slow, lost, again := s.rng.IntN(100) < wt.slowPercent, s.rng.IntN(100) < wt.lossPercent, s.rng.IntN(100) < wt.duplicatePercent
	extra := between(s.rng, 0, max(wt.slowMax, 1))
	if n.cut[f.link] || lost {
		return nil, n.cut[f.link]
	}
	if slow {
		delay += extra
	}
	at := time.Now().Add(delay)
	if !wt.reorder && !at.After(s.last) {
		at = s.last.Add(1)
	}
	if at.After(s.last) {
		s.last = at
	}
	delays = append(delays, time.Until(at))
	if again && mayRepeat {
		delays = append(delays, delays[0]+extra+1)
	}
	return delays, false
}

// snapshotBreak draws the file at which the stream of a snapshot breaks, or -1.
func (n *network) snapshotBreak(m *raftstore.RaftMessage) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.flow(flow{link{m.From.StoreId, m.To.StoreId}, m.RegionID})
	if hit, file := s.rng.IntN(100) < n.weather.lossPercent, s.rng.IntN(3); hit {
		return file
	}
	return -1
}

func (n *network) setWeather(w weather) {
	n.mu.Lock()
	n.weather = w
	n.mu.Unlock()
	n.w.log.add(0, 0, "network is %s", w.name)
}

func (n *network) setCut(cut map[link]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// heal makes the network a good one.
func (n *network) heal() {
	n.setCut(map[link]bool{})
	n.setWeather(weathers[0])
}

func between(rng *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(rng.Int64N(int64(hi-lo)+1))
}
