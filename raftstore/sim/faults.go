package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// fatal is what a store calls in the place of exiting.
func (w *world) fatal(id uint64, err error) {
	n := w.nodes[id]
	if !n.disk.failed.Load() {
		w.fail("store %d stopped itself: %v", id, err)
	}
	if !w.c.Kill(id, 0, nil) {
		return
	}
	w.log.add(id, 0, "ended itself: %v", err)
	select {
	case n.died <- err.Error():
	default:
	}
}

// storeFaults breaks one store, one fault at a time.
func (w *world) storeFaults(n *node) {
	rng := w.rng("store", n.id)
	var menu []func(*node, *rand.Rand)
	add := func(on bool, times int, f func(*node, *rand.Rand)) {
		for range times {
			if on {
				menu = append(menu, f)
			}
		}
	}
	add(w.shape.crash, 4, w.crashOne)
	add(w.shape.crash && n.id == 1, 1, w.crashAll)
	add(w.shape.gracefulStop, 1, w.stopOne)
	add(w.shape.pause, 3, w.pauseOne)
	add(w.shape.slowDisk, 2, w.slowDisk)
	add(w.shape.syncError, 2, w.breakDisk)
	add(w.shape.fullDisk, 2, w.fillDisk)
	for w.sleep(rng, time.Second, 12*time.Second) {
		if len(menu) == 0 {
			continue
		}
		w.faults.Add(1)
		n.lock()
		menu[rng.IntN(len(menu))](n, rng)
		n.unlock()
	}
}

// rest waits even when the faults are over: a fault has its time.
func rest(rng *rand.Rand, lo, hi time.Duration) { time.Sleep(between(rng, lo, hi)) }

func (w *world) crashOne(n *node, rng *rand.Rand) {
	w.crash(n, rng)
	rest(rng, 0, 4*time.Second)
	w.restart(n)
}

// crash is a power cut.
func (w *world) crash(n *node, rng *rand.Rand) {
	kept := [...]int{0, 0, 100, rng.IntN(101)}[rng.IntN(4)]
	if w.c.Kill(n.id, kept, w.rng("crash", n.id, rng.Uint64())) {
		w.log.add(n.id, 0, "crashes; %d %% of what was not synced is kept", kept)
		w.bury(n)
	}
}

// bury takes what remains of a process apart.
func (w *world) bury(n *node) {
	n.disk.failing.Store(false)
	n.disk.latency.Store(0)
	n.forgetInbox()
	n.resume()
	w.c.Bury(n.id)
	select {
	case <-n.died:
	default:
	}
}

func (w *world) restart(n *node) {
	if w.c.Node(n.id).Up.Load() {
		return
	}
	n.disk.failed.Store(false)
	w.log.add(n.id, 0, "starts")
	w.c.Restart(n.id)
}

// crashAll is a power cut of the whole cluster.
func (w *world) crashAll(_ *node, rng *rand.Rand) {
	w.log.add(0, 0, "all stores crash")
	var wg sync.WaitGroup
	for _, n := range w.sorted() {
		rng := w.rng("crash all", n.id, rng.Uint64())
		wg.Go(func() {
			if n.id != 1 { // whose lock is held
				n.lock()
				defer n.unlock()
			}
			w.crash(n, rng)
			rest(rng, 0, 2*time.Second)
			w.restart(n)
		})
	}
	wg.Wait()
}

func (w *world) stopOne(n *node, rng *rand.Rand) {
	w.log.add(n.id, 0, "stops in order")
	w.c.Stop(n.id)
	rest(rng, 0, 2*time.Second)
	w.restart(n)
}

// pauseOne stops a process as SIGSTOP, a long GC cycle or a hypervisor does.
func (w *world) pauseOne(n *node, rng *rand.Rand) {
	d := [...]time.Duration{200 * time.Millisecond, 2 * time.Second, 8 * time.Second}[rng.IntN(3)]
	w.log.add(n.id, 0, "is stopped")
	n.pause()
	rest(rng, d/4, d)
	w.log.add(n.id, 0, "continues")
	n.resume()
}

func (w *world) slowDisk(n *node, rng *rand.Rand) {
	d := between(rng, time.Millisecond, 600*time.Millisecond)
	w.log.add(n.id, 0, "disk is slow: %v a sync", d)
	n.disk.latency.Store(int64(d))
	rest(rng, time.Second, 6*time.Second)
	n.disk.latency.Store(0)
	w.log.add(n.id, 0, "disk is fast again")
}

// Sizes of disks in runs in which they fill up.
const (
	diskBytes        = 256 << 20
	diskReserveBytes = 4 << 20
)

// fillDisk leaves less room than the store wants: it refuses what it must, and
// recovers without a restart.
func (w *world) fillDisk(n *node, rng *rand.Rand) {
	left := rng.Int64N(2 * diskReserveBytes)
	w.log.add(n.id, 0, "disk is nearly full: %d bytes are left", left)
	d := w.c.Node(n.id).Disk
	d.Resize(d.Used() + left)
	rest(rng, time.Second, 8*time.Second)
	d.Resize(diskBytes)
	w.log.add(n.id, 0, "disk has room again")
}

// breakDisk makes syncs fail: the process must stop (hazard 2).
func (w *world) breakDisk(n *node, rng *rand.Rand) {
	w.log.add(n.id, 0, "disk fails: no sync succeeds")
	n.disk.failing.Store(true)
	select {
	case <-n.died:
	case <-time.After(between(rng, time.Second, 10*time.Second)): // it may have had nothing to write
		w.c.Kill(n.id, 0, nil)
		w.log.add(n.id, 0, "is killed")
	}
	w.bury(n)
	rest(rng, 0, 2*time.Second)
	w.restart(n)
}

// networkFaults changes the weather and cuts links.
func (w *world) networkFaults() {
	rng := w.rng("network")
	for w.sleep(rng, 500*time.Millisecond, 5*time.Second) {
		switch {
		case w.shape.weather && rng.IntN(2) == 0:
			w.faults.Add(1)
			w.net.setWeather(weathers[rng.IntN(len(weathers))])
		case w.shape.partition:
			w.faults.Add(1)
			w.partition(rng)
			w.sleep(rng, 200*time.Millisecond, 6*time.Second)
			w.net.setCut(map[link]bool{})
			w.log.add(0, 0, "all links are up")
		}
	}
}

// partition cuts one store off, splits the stores in two, or cuts single links;
// in one direction or both.
func (w *world) partition(rng *rand.Rand) {
	nodes := w.sorted()
	cut := map[link]bool{}
	side := map[uint64]bool{}
	for _, n := range nodes {
		side[n.id] = rng.IntN(2) == 0
	}
	one, oneWay, kind := nodes[rng.IntN(len(nodes))].id, rng.IntN(3), rng.IntN(4)
	for _, a := range nodes {
		for _, b := range nodes {
			odds := rng.IntN(4) == 0
			var out, in bool
			switch kind {
			case 0: // links of their own
				cut[link{a.id, b.id}] = odds
				continue
			case 1:
				out, in = side[a.id] && !side[b.id], side[b.id] && !side[a.id]
			default:
				out, in = a.id == one, b.id == one
			}
			cut[link{a.id, b.id}] = (out && oneWay != 1) || (in && oneWay != 2)
		}
	}
	for l, c := range cut {
		if !c || l.from == l.to {
			delete(cut, l)
		}
	}
	w.net.setCut(cut)
	w.log.add(0, 0, "links are cut: %s", describeCut(nodes, cut))
}

// flusher makes data durable at odd times, so that logs can be truncated.
func (w *world) flusher() {
	rng := w.rng("flusher")
	for w.sleep(rng, 50*time.Millisecond, 2*time.Second) {
		id := 1 + rng.Uint64N(uint64(w.shape.stores))
		n := w.nodes[id]
		if !w.shape.flush || n.gate.isShut() || n.disk.failing.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		n.lock()
		if up := w.c.Node(id); up.Up.Load() {
			_ = up.Engine.Flush(ctx) // if it fails the store's own flush will
		}
		n.unlock()
		cancel()
	}
}
