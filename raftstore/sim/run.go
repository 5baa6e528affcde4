package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// Result says what a run has done.
type Result struct {
	Seed                       uint64
	Reads, Writes, Unknown     int
	Faults, Operators, Regions int
	Fake                       time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("seed %d: %.0f s of fake time, %d reads, %d writes, %d of unknown outcome, %d faults, %d operators, %d regions at the end",
		r.Seed, r.Fake.Seconds(), r.Reads, r.Writes, r.Unknown, r.Faults, r.Operators, r.Regions)
}

// shape is what a run is made of. Each seed leaves some of it out, so that what
// the rest does is not always drowned by it.
type shape struct {
	stores, voters, clients, keys int
	config                        raftstore.Config
	faultTime                     time.Duration
	crash, pause, slowDisk        bool
	syncError, drift, fullDisk    bool
	weather, partition            bool
	split, members, transfer      bool
	merge                         bool
	operatorPause, think          time.Duration // longest
	flush, gracefulStop           bool
}

// world is one run.
type world struct {
	t     testing.TB
	seed  uint64
	shape shape
	log   *eventLog
	c     *rafttest.Cluster
	net   *network
	nodes map[uint64]*node
	hist  history
	load  Load     // nil: the clients of client.go
	keys  []string // encoded, if the load encodes keys
	began time.Time

	ctx    context.Context // ends with the faults, or with the first failure
	cancel context.CancelFunc

	faults, operators atomic.Int64
	regionCount       int // at the end

	mu      sync.Mutex
	failure string
	leaders map[leaderOf]uint64
	regions map[regionVersion]string
	applied map[appliedKey]uint64
}

// Run runs one seed in a bubble of its own. A failure prints the end of the
// event log, the seed and the command that repeats it.
func Run(t *testing.T, seed uint64) (res Result) { return run(t, seed, "", nil) }

// run names the event log after the load.
func run(t *testing.T, seed uint64, name string, load func(*Sim) Load) (res Result) {
	w := &world{t: t, seed: seed, leaders: map[leaderOf]uint64{}, regions: map[regionVersion]string{}, applied: map[appliedKey]uint64{}}
	cryptotest.SetGlobalRandom(t, seed) // Raft draws its election timeouts from it
	synctest.Test(t, func(t *testing.T) {
		w.t = t
		w.run(name, load)
		res = w.result()
	})
	w.t = t
	w.checkHistory()
	w.report()
	return res
}

// rng is the random stream of one actor.
func (w *world) rng(actor string, ids ...uint64) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, actor, ids)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

func (w *world) makeShape(load bool) {
	rng := w.rng("shape")
	often := func() bool { return rng.IntN(10) < 7 }
	s := shape{
		stores: 3 + rng.IntN(3), clients: 3 + rng.IntN(5), keys: 4 + rng.IntN(16),
		faultTime: time.Duration(15+rng.IntN(30)) * time.Second,
		crash:     often(), pause: often(), slowDisk: often(), syncError: !often(), drift: often(),
		weather: often(), partition: often(),
		split: often(), members: often(), transfer: often(), flush: often(), gracefulStop: often(), merge: often(),
		operatorPause: [...]time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 1500 * time.Millisecond}[rng.IntN(3)],
		think:         [...]time.Duration{40 * time.Millisecond, 40 * time.Millisecond, 200 * time.Millisecond, 3 * time.Second}[rng.IntN(4)],
	}
	s.voters = 3
	if s.stores == 5 && rng.IntN(2) == 0 {
		s.voters = 5
	}
	s.config = raftstore.Config{
		RaftWorkers: 1 + rng.IntN(4), ApplyWorkers: 1 + rng.IntN(2), BackgroundWorkers: 1 + rng.IntN(4),
		LogCheckInterval:   time.Duration(100+rng.IntN(2000)) * time.Millisecond,
		LogTruncateEntries: uint64(2 + rng.IntN(40)), LogTruncateBytes: 4 << 10,
		LogKeepEntriesMax: uint64(5 + rng.IntN(100)), LogKeepBytesMax: 64 << 10,
		RegionHeartbeatInterval: time.Second,
		NoHibernation:           !often(),
		HibernateTicks:          2 + rng.IntN(30),
	}
	s.fullDisk = !often()
	s.leaveOut(os.Getenv("COPRA_SIM_WITHOUT"), load)
	w.shape = s
	for i := range s.keys {
		w.keys = append(w.keys, fmt.Sprintf("%c%d", 'b'+i*24/s.keys, i))
	}
}

// leaveOut switches off what a list names, to find out what a failure needs. A
// load knows other names, see Sim.Without.
func (s *shape) leaveOut(list string, load bool) {
	parts := map[string]*bool{
		"crash": &s.crash, "pause": &s.pause, "slowdisk": &s.slowDisk, "syncerror": &s.syncError, "fulldisk": &s.fullDisk, "drift": &s.drift,
		"weather": &s.weather, "partition": &s.partition, "split": &s.split, "members": &s.members, "transfer": &s.transfer,
		"merge": &s.merge, "flush": &s.flush, "stop": &s.gracefulStop}
	for name := range strings.SplitSeq(list, ",") {
		switch part := parts[name]; {
		case part != nil:
			*part = false
		case name == "hibernation":
			s.config.NoHibernation = true
		case name != "" && !load:
			panic(fmt.Sprintf("sim: COPRA_SIM_WITHOUT names %q, which is not one of its parts", name))
		}
	}
}

// logDir is where event logs go.
func logDir() string {
	if dir := os.Getenv("COPRA_SIM_LOG"); dir != "" {
		return dir
	}
	return os.TempDir()
}

func (w *world) run(name string, load func(*Sim) Load) {
	w.makeShape(load != nil)
	var err error
	if w.log, err = newEventLog(filepath.Join(logDir(), fmt.Sprintf("copra-sim%s-%d.log", name, w.seed))); err != nil {
		w.t.Fatal(err)
	}
	w.began = time.Now()
	w.ctx, w.cancel = context.WithTimeout(context.Background(), w.shape.faultTime)
	defer w.cancel()
	w.log.add(0, 0, "seed %d: %+v", w.seed, w.shape)
	if load != nil {
		w.load = load(&Sim{w})
		for i, key := range w.keys {
			w.keys[i] = w.load.Encode(key)
		}
	}
	w.startCluster()
	var actors sync.WaitGroup
	if w.load != nil {
		actors.Go(w.load.Run)
	} else {
		for id := range w.shape.clients {
			actors.Go(func() { w.client(id) })
		}
	}
	for _, n := range w.nodes {
		actors.Go(func() { w.storeFaults(n) })
	}
	actors.Go(w.networkFaults)
	actors.Go(w.driver)
	actors.Go(w.flusher)
	actors.Go(w.watch)
	actors.Wait()
	if !w.failed() {
		w.converge()
	}
	if w.load != nil {
		w.load.End(!w.failed())
	}
	w.regionCount = len(w.newestRegions())
	w.net.heal()
	for _, n := range w.nodes {
		n.resume()
	}
	w.c.Close()
	if w.load != nil {
		time.Sleep(afterlife)
	}
}

// afterlife is fake time in which what clients of a load have begun in the
// background comes to its end.
const afterlife = 10 * time.Minute

func (w *world) startCluster() {
	w.net = newNetwork(w)
	w.nodes = map[uint64]*node{}
	rng := w.rng("clocks")
	for id := uint64(1); id <= uint64(w.shape.stores); id++ {
		n := &node{id: id, w: w, rate: 1, start: time.Now(), busy: make(chan struct{}, 1), died: make(chan string, 1)}
		if w.shape.drift {
			n.rate = 0.96 + 0.08*rng.Float64()
		}
		n.disk.gate = &n.gate
		w.nodes[id] = n
	}
	w.c = rafttest.NewCluster(w.t, w.shape.stores, w.shape.voters, w.shape.config, func(c *rafttest.Cluster) {
		c.WrapFS = func(id uint64, fs vfs.FS) vfs.FS { return w.nodes[id].disk.wrap(fs) }
		c.FatalOf = w.fatal
		if w.shape.fullDisk {
			c.DiskBytes, c.DiskReserve, c.LogMemTableBytes = diskBytes, diskReserveBytes, 1<<20
		}
		c.Customize = func(o *raftstore.Options) { w.nodes[o.StoreID].customize(o) }
		if w.load != nil {
			c.Attach, c.Detach = w.load.Attach, w.load.Detach
		}
	})
	w.c.Net.SetFilter(w.net.filter)
}

func (w *world) logger(id uint64) *slog.Logger {
	return slog.New(slogHandler{log: w.log, store: id})
}

// fail notes what went wrong first, and ends the run.
func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	first := w.failure == ""
	if first {
		w.failure = text
	}
	w.mu.Unlock()
	if first {
		what, _, _ := strings.Cut(text, "\n")
		w.log.add(0, 0, "FAILED: %s", what)
		w.cancel()
	}
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure != ""
}

func (w *world) report() {
	failed := w.failed() || w.t.Failed()
	path := w.log.file.Name()
	w.log.close(!failed && os.Getenv("COPRA_SIM_LOG") == "")
	if failed {
		w.t.Errorf("the last events (all of them: %s)\n%s\n\nFAILED: %s\nseed %d; to repeat: make sim SEED=%d",
			path, w.log.tail(), w.failure, w.seed, w.seed)
	}
}

func (w *world) result() Result {
	r := Result{Seed: w.seed, Faults: int(w.faults.Load()), Operators: int(w.operators.Load()), Fake: time.Since(w.began)}
	r.Reads, r.Writes, r.Unknown = w.hist.counts()
	r.Regions = w.regionCount
	return r
}

// sleep waits a random time, or returns false when the faults are over.
func (w *world) sleep(rng *rand.Rand, lo, hi time.Duration) bool {
	t := time.NewTimer(between(rng, lo, hi))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

func describe(r *metapb.Region) string {
	text := fmt.Sprintf("[%q, %q) epoch %d.%d:", r.StartKey, r.EndKey, r.RegionEpoch.GetConfVer(), r.RegionEpoch.GetVersion())
	for _, p := range r.Peers {
		text += fmt.Sprintf(" s%d=%d", p.StoreId, p.Id)
		if p.Role != metapb.PeerRole_Voter {
			text += "(" + p.Role.String() + ")"
		}
	}
	return text
}
