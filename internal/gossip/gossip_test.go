package gossip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// known is how soon everybody knows of a death, by the promise of doc.go.
const knownWithin = 2 * time.Second

func addrOf(id int) string { return fmt.Sprintf("host%d:20160", id) }

// group starts n stores that know the first one's address.
func group(t *testing.T, net *memNet, n int) []*memNode {
	t.Helper()
	var nodes []*memNode
	for id := 1; id <= n; id++ {
		nodes = append(nodes, net.start(t, testCluster, uint64(id), addrOf(id), addrOf(1)))
	}
	t.Cleanup(func() {
		for _, m := range nodes {
			m.shutdown()
		}
		time.Sleep(streamTimeout + time.Second) // memberlist's goroutines look once more
	})
	time.Sleep(3 * time.Second)
	for _, m := range nodes {
		if got := aliveIn(m); got != n {
			t.Fatalf("%s knows %d living nodes of %d: %v", m.Name(), got, n, m.Members())
		}
	}
	return nodes
}

func aliveIn(m *memNode) (alive int) {
	for _, x := range m.Members() {
		if x.Alive {
			alive++
		}
	}
	return alive
}

func TestDeathIsKnownToAll(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes := group(t, newMemNet(), n)
				died := time.Now()
				nodes[n-1].shutdown()
				time.Sleep(10 * time.Second)
				worst := time.Duration(0)
				for _, m := range nodes[:n-1] {
					e, at := m.lastOf(nodes[n-1].Name())
					if e != EventDead {
						t.Fatalf("%s was told: %s", m.Name(), m.told())
					}
					worst = max(worst, at.Sub(died))
					if alive, known := m.StoreAlive(uint64(n)); alive || !known {
						t.Fatalf("%s: alive %v, known %v", m.Name(), alive, known)
					}
				}
				t.Logf("%d nodes: all knew after %v", n, worst)
				if limit := knownWithin * time.Duration(max(1, (n+9)/20)); worst > limit {
					t.Fatalf("%d nodes: the last knew after %v", n, worst)
				}
			})
		})
	}
}

// TestSilentDeathIsKnownToAll: nothing comes back at all, no refused
// connection either.
func TestSilentDeathIsKnownToAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newMemNet()
		nodes := group(t, net, 4)
		died := time.Now()
		net.divide([]string{addrOf(4)}, []string{addrOf(1), addrOf(2), addrOf(3)}, true)
		time.Sleep(10 * time.Second)
		for _, m := range nodes[:3] {
			e, at := m.lastOf("store-4")
			if e != EventDead || at.Sub(died) > knownWithin {
				t.Fatalf("%s was told %s, after %v", m.Name(), m.told(), at.Sub(died))
			}
		}
	})
}

func TestStopIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := group(t, newMemNet(), 3)
		stopped := time.Now()
		nodes[2].Close()
		time.Sleep(time.Second)
		for _, m := range nodes[:2] {
			if e, at := m.lastOf("store-3"); e != EventDead || at.Sub(stopped) > 2*leaveTimeout {
				t.Fatalf("%s was told %s, after %v", m.Name(), m.told(), at.Sub(stopped))
			}
		}
	})
}

// TestRestart comes back before and after the others noticed, at the same
// address and at another.
func TestRestart(t *testing.T) {
	for _, away := range []time.Duration{0, 100 * time.Millisecond, 5 * time.Second, 2 * time.Minute} {
		for _, addr := range []string{addrOf(3), "elsewhere:1"} {
			t.Run(fmt.Sprint(away, addr), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					net := newMemNet()
					nodes := group(t, net, 3)
					nodes[2].shutdown()
					time.Sleep(max(away, 10*time.Millisecond))
					again := net.start(t, testCluster, 3, addr, addrOf(1))
					t.Cleanup(again.shutdown)
					time.Sleep(5 * time.Second)
					for _, m := range nodes[:2] {
						if log := m.told(); !strings.HasSuffix(log, "store-3 dead, store-3 alive") {
							t.Fatalf("%s was told %s", m.Name(), log)
						}
						for _, x := range m.Members() {
							if x.ID == 3 && (x.Address != addr || !x.Alive) {
								t.Fatalf("%s knows %+v", m.Name(), x)
							}
						}
					}
					if aliveIn(again) != 3 {
						t.Fatalf("the restarted store knows %v", again.Members())
					}
				})
			})
		}
	}
}

// TestPartitionHeals: each side goes on without the other, however long, and
// they find together again.
func TestPartitionHeals(t *testing.T) {
	for _, d := range []time.Duration{5 * time.Second, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			net := newMemNet()
			nodes := group(t, net, 5)
			net.divide([]string{addrOf(1), addrOf(2)}, []string{addrOf(3), addrOf(4), addrOf(5)}, true)
			time.Sleep(d)
			for i, m := range nodes {
				if want := []int{2, 2, 3, 3, 3}[i]; aliveIn(m) != want {
					t.Fatalf("divided: %s knows %d living nodes, want %d", m.Name(), aliveIn(m), want)
				}
			}
			net.divide([]string{addrOf(1), addrOf(2)}, []string{addrOf(3), addrOf(4), addrOf(5)}, false)
			time.Sleep(10 * time.Second)
			for _, m := range nodes {
				if aliveIn(m) != 5 {
					t.Fatalf("healed after %v: %s knows %d living nodes: %v", d, m.Name(), aliveIn(m), m.Members())
				}
			}
		})
	}
}

// TestShortPauseIsForgiven: a stall of one node is no death.
func TestShortPauseIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newMemNet()
		nodes := group(t, net, 4)
		others := []string{addrOf(1), addrOf(2), addrOf(3)}
		for range 20 {
			net.divide([]string{addrOf(4)}, others, true)
			time.Sleep(400 * time.Millisecond)
			net.divide([]string{addrOf(4)}, others, false)
			time.Sleep(2 * time.Second)
		}
		for _, m := range nodes {
			if strings.Contains(m.told(), "dead") {
				t.Fatalf("%s was told %s", m.Name(), m.told())
			}
		}
	})
}

func TestStatusSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := group(t, newMemNet(), 5)
		if err := nodes[1].UpdateStatus(Status{SlowScore: 90, Disk: DiskAlmostFull, Note: "compaction debt"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for _, m := range nodes {
			x, ok := m.table.get("store-2")
			if !ok || !x.Status.Slow() || x.Status.Disk != DiskAlmostFull || x.Status.Note != "compaction debt" {
				t.Fatalf("%s knows %+v", m.Name(), x)
			}
			if m != nodes[1] && !strings.HasSuffix(m.told(), "store-2 slow") {
				t.Fatalf("%s was told %s", m.Name(), m.told())
			}
		}
		if err := nodes[1].UpdateStatus(Status{SlowScore: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if e, _ := nodes[4].lastOf("store-2"); e != EventUpdated {
			t.Fatalf("store-5 was told %s", nodes[4].told())
		}
		for _, bad := range []Status{{SlowScore: 101}, {Disk: 3}, {Note: strings.Repeat("x", noteBytesMax+1)}, {Note: "\xff"}} {
			if nodes[0].UpdateStatus(bad) == nil {
				t.Errorf("%+v was taken", bad)
			}
		}
	})
}

func TestOtherClusterIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newMemNet()
		nodes := group(t, net, 2)
		stranger := net.start(t, testCluster+1, 9, addrOf(9), addrOf(1), addrOf(2))
		time.Sleep(10 * time.Second)
		stranger.shutdown()
		time.Sleep(10 * time.Second)
		if len(stranger.Members()) != 1 {
			t.Fatalf("the stranger knows %v", stranger.Members())
		}
		for _, m := range nodes {
			if len(m.Members()) != 2 {
				t.Fatalf("%s knows %v", m.Name(), m.Members())
			}
		}
	})
}

func TestDiff(t *testing.T) {
	t0 := time.UnixMilli(1000)
	up := Member{Name: "store-1", Alive: true, Started: t0, Since: t0, Address: "a:1"}
	down := up
	down.Alive, down.Since = false, t0.Add(time.Second)
	restarted := up
	restarted.Started = t0.Add(time.Second)
	back := up
	back.Since = t0.Add(2 * time.Second)
	moved, slow, note := up, up, up
	moved.Address, slow.Status.SlowScore, note.Status.Note = "b:1", SlowScoreSlow, "x"
	for _, c := range []struct {
		known    bool
		old, now Member
		want     string
	}{
		{false, Member{}, up, "alive"},
		{false, Member{}, down, "dead"},
		{true, up, up, ""},
		{true, up, down, "dead"},
		{true, down, down, ""},
		{true, down, up, "alive"},
		{true, up, restarted, "dead alive"},
		{true, up, back, "dead alive"},
		{true, up, moved, "updated"},
		{true, up, slow, "slow"},
		{true, slow, up, "updated"},
		{true, up, note, "updated"},
	} {
		var got []string
		for _, e := range diff(c.old, c.known, c.now) {
			got = append(got, e.Type.String())
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v -> %+v: %q, want %q", c.old, c.now, s, c.want)
		}
	}
}
