package sim

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// The crash matrix: a script that meets every kind of durable step (writes, a
// flush, a split, a log truncation, the removal of a peer and its return by a
// snapshot, a merge) is run again and again, and each time one store crashes at
// another of its syncs, before or after it, with none, half or all of what was
// not synced. Crashes while a store starts are not in it.

// MatrixPoint is one crash.
type MatrixPoint struct {
	Victim uint64 // 1 leads at first, 2 follows; 2 is removed and comes back
	Sync   int    // which of the victim's syncs, from 1; 0: no crash
	After  bool   // the sync has taken effect
	Kept   int    // percent of what was not synced
}

func (p MatrixPoint) String() string {
	when := "before"
	if p.After {
		when = "after"
	}
	return fmt.Sprintf("store%d/sync%d/%s/kept%d", p.Victim, p.Sync, when, p.Kept)
}

const (
	matrixStores = 3
	matrixMoving = 2 // the store that loses its peer and gets another one
	matrixKeys   = 8
)

// matrix is one run of the script.
type matrix struct {
	*world
	point MatrixPoint
	syncs atomic.Int64
	path  string // of the sync at which it crashed
	want  map[string]string
	count int
}

// RunMatrix runs the script with one crash and returns how many syncs the victim
// has done, and the file of the one at which it crashed.
func RunMatrix(t *testing.T, point MatrixPoint) (syncs int, path string) {
	m := &matrix{point: point, want: map[string]string{}, world: &world{
		seed: 1, leaders: map[leaderOf]uint64{}, regions: map[regionVersion]string{}, applied: map[appliedKey]uint64{}}}
	cryptotest.SetGlobalRandom(t, m.seed)
	synctest.Test(t, func(t *testing.T) {
		m.t = t
		m.run()
	})
	m.t = t
	if failed := m.failed() || t.Failed(); failed {
		t.Errorf("crash at sync %d of store %d (%s); the last events:\n%s\n\nFAILED: %s", point.Sync, point.Victim, m.path, m.log.tail(), m.failure)
	}
	m.log.close(!t.Failed())
	return int(m.syncs.Load()), m.path
}

func (m *matrix) run() {
	var err error
	if m.log, err = newEventLog(filepath.Join(logDir(), fmt.Sprintf("copra-matrix-%d-%d.log", m.point.Victim, m.point.Sync))); err != nil {
		m.t.Fatal(err)
	}
	m.began = time.Now()
	m.ctx, m.cancel = context.WithCancel(context.Background())
	defer m.cancel()
	m.shape = shape{stores: matrixStores, voters: matrixStores, config: raftstore.Config{
		LogCheckInterval: 200 * time.Millisecond, LogTruncateEntries: 5, LogTruncateBytes: 4 << 10, LogKeepEntriesMax: 20, LogKeepBytesMax: 64 << 10}}
	for i := range matrixKeys {
		m.keys = append(m.keys, fmt.Sprintf("%c%d", 'b'+3*i, i))
	}
	m.startCluster()
	victim := m.nodes[m.point.Victim]
	var reaper sync.WaitGroup
	reaper.Go(func() { m.reap(victim) })
	victim.disk.setHook(m.onSync)
	m.script()
	victim.disk.setHook(nil)
	close(victim.died)
	reaper.Wait()
	if !m.failed() {
		m.check()
	}
	m.c.Close()
}

// onSync is the victim's disk.
func (m *matrix) onSync(path string, after bool) {
	if !m.c.Node(m.point.Victim).Up.Load() { // it is dead, or starts
		return
	}
	n := m.syncs.Load()
	if !after {
		n = m.syncs.Add(1)
	}
	if int(n) != m.point.Sync || after != m.point.After {
		return
	}
	if m.c.Kill(m.point.Victim, m.point.Kept, m.rng("crash", uint64(n))) {
		m.path = path
		m.log.add(m.point.Victim, 0, "crashes at its sync %d (after: %v) of %s; %d %% of what was not synced is kept", n, after, path, m.point.Kept)
		m.nodes[m.point.Victim].died <- path
	}
}

// reap takes the dead store apart and starts it again a little later, when the
// others have gone on.
func (m *matrix) reap(n *node) {
	for range n.died {
		m.c.Bury(n.id)
		time.Sleep(2 * time.Second)
		m.restart(n)
	}
}

func (m *matrix) put(keys ...string) {
	for _, key := range keys {
		m.count++
		m.want[key] = fmt.Sprint(m.count)
		m.touch(0, key, m.want[key], time.Now().Add(availableWithin))
		m.want[key] += ".1"
		if ops := m.hist.ops; len(ops) > 0 {
			m.want[key] = ops[len(ops)-1].value // the attempt that succeeded
		}
	}
}

func (m *matrix) flush() {
	for _, n := range m.sorted() {
		if up := m.c.Node(n.id); up.Up.Load() {
			_ = up.Engine.Flush(m.ctx) // a victim may crash in it
		}
	}
}

func (m *matrix) script() {
	c, moving := m.c, rafttest.FirstPeer+uint64(matrixMoving)
	c.PD.TransferLeader(rafttest.FirstRegion, 1)
	m.put(m.keys...)
	m.log.add(0, 0, "script: flush")
	m.flush()
	m.put(m.keys[:2]...)
	m.log.add(0, 0, "script: split")
	left := m.split("n")
	for range 12 {
		m.put(m.keys[:3]...)
		m.put(m.keys[6:]...)
	}
	m.log.add(0, 0, "script: truncate logs")
	m.flush()
	time.Sleep(2 * time.Second)
	m.put(m.keys...)
	m.log.add(0, 0, "script: remove a peer")
	m.removePeer(rafttest.FirstRegion, moving)
	c.Eventually("the peer is gone", func() bool { return !m.has(matrixMoving, moving) })
	m.put(m.keys...)
	m.log.add(0, 0, "script: the peer's successor")
	c.PD.AddPeer(rafttest.FirstRegion, matrixMoving)
	m.put(m.keys...)
	m.log.add(0, 0, "script: merge")
	c.PD.Merge(left, rafttest.FirstRegion)
	m.put(m.keys...)
	m.flush()
	m.put(m.keys[3:5]...)
}

func (m *matrix) split(key string) (left uint64) {
	m.c.Eventually("split", func() bool {
		if r := m.c.RegionAt(m.keys[0]); r != nil && string(r.EndKey) == key {
			left = r.Id
			return true
		}
		if lead := m.c.LeaderOf(rafttest.FirstRegion); lead != 0 {
			ctx, cancel := context.WithTimeout(m.ctx, time.Second)
			defer cancel()
			// An error is answered by the next look.
			_, _ = m.c.Node(lead).Store.SplitRegion(ctx, m.c.Context(lead, rafttest.FirstRegion), [][]byte{[]byte(key)})
		}
		return false
	})
	return left
}

// removePeer moves the leadership away first, whoever has it now.
func (m *matrix) removePeer(region, peer uint64) {
	m.c.PD.TransferLeader(region, 3)
	m.c.PD.ChangePeers(region, func(r *metapb.Region) bool { return rafttest.RoleOf(r, peer) < 0 },
		removal(peer))
}

func (m *matrix) has(store, peer uint64) bool {
	if !m.c.Node(store).Up.Load() {
		return true
	}
	for _, r := range m.c.Node(store).Store.Regions() {
		if r.PeerID == peer {
			return true
		}
	}
	return false
}

// check looks at everything, and again behind a crash of all stores.
func (m *matrix) check() {
	for range 2 {
		m.settle()
		for key, want := range m.want {
			if got := m.c.Get(key); got != want && !m.failed() {
				m.fail("key %s is %q, and %q was acknowledged", key, got, want)
			}
		}
		for _, n := range m.sorted() {
			m.c.Crash(n.id, 0)
		}
		for _, n := range m.sorted() {
			m.restart(n)
		}
	}
}
