//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// TestHazard07_FrozenLeader stops the process that leads the registers' region
// under a lease, lets others write meanwhile, and reads from it with what
// arrived while it stood still and with what comes after. No answer may be old.
func TestHazard07_FrozenLeader(t *testing.T) {
	freezes := []time.Duration{4 * time.Second}
	if testSettings["LONG"] != "" {
		freezes = []time.Duration{time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second}
	}
	c := startFaults(t, 1, 3)
	r := startRegisters(t, c.pdList)
	for _, d := range freezes {
		r.awaitPuts(20)
		at, err := r.locate(registerKey(0))
		if err != nil {
			t.Fatal(err)
		}
		victim := c.at(at.addr)
		// Reads that are answered by the lease connect before.
		if err := r.readAt(at, at.context()); err != nil {
			t.Fatal(err)
		}
		r.resetGaps()
		victim.p.signal(stopSignal)
		thaw := time.After(d)
		moved := d > 2*time.Second
		if moved {
			r.awaitPuts(5) // others write
		}
		var late sync.WaitGroup
		var answered, refused atomic.Int64
		for range 8 {
			late.Go(func() {
				if err := r.readAt(at, at.context()); err == nil {
					answered.Add(1)
				} else {
					refused.Add(1)
				}
			})
		}
		<-thaw
		victim.p.signal(continueSignal)
		for range 200 { // what a store believes in its first moments
			if err := r.readAt(at, at.context()); err == nil {
				answered.Add(1)
			} else {
				refused.Add(1)
			}
		}
		late.Wait()
		r.awaitPuts(5)
		reads, writes := r.gaps()
		t.Logf("frozen for %s: the leader that was answered %d reads and refused %d; no raw read for %s, no put for %s (load average %s)",
			d, answered.Load(), refused.Load(), reads.Round(time.Millisecond), writes.Round(time.Millisecond), machineLoad())
	}
	r.check()
	c.check()
}

// readAt reads each register at a place; the answers become part of the history.
func (r *registers) readAt(at place, rc *kvrpcpb.Context) (err error) {
	ctx, cancel := within(time.Minute) // longer than any freeze
	defer cancel()
	for i := range registerKeys {
		if e := r.get(ctx, registerClients, at, rc, registerKey(i)); e != nil {
			err = e
		}
	}
	return err
}

// networkTrouble is something that goes wrong between processes.
type networkTrouble struct {
	name  string
	start func(c *faultCluster, victim *member)
	long  bool // only in long runs
}

var cut = trouble{cut: true}

// fromClients cuts clients off from a leader that is well otherwise: they must
// wait, since nobody passes requests on.
const fromClients = "from clients"

var networkTroubles = []networkTrouble{
	{"from the other stores", func(c *faultCluster, v *member) { c.net.both(cut, []string{v.name}, c.others(v)) }, false},
	{"it does not hear the other stores", func(c *faultCluster, v *member) { c.net.set(cut, c.others(v), []string{v.name}) }, false},
	{"the other stores do not hear it", func(c *faultCluster, v *member) { c.net.set(cut, []string{v.name}, c.others(v)) }, true},
	{"from PD", func(c *faultCluster, v *member) { c.net.both(cut, []string{v.name}, c.pdNames()) }, false},
	{fromClients, func(c *faultCluster, v *member) { c.net.both(cut, []string{v.name}, []string{testName, "sql"}) }, true},
	{"from everything", func(c *faultCluster, v *member) {
		c.net.both(cut, []string{v.name}, append(append(c.others(v), c.pdNames()...), testName, "sql"))
	}, true},
	{"from one other store", func(c *faultCluster, v *member) { c.net.both(cut, []string{v.name}, c.others(v)[:1]) }, true},
	{"100 ms from the other stores", func(c *faultCluster, v *member) {
		c.net.both(trouble{delay: 100 * time.Millisecond}, []string{v.name}, c.others(v))
	}, true},
	{"100 kB/s from the other stores", func(c *faultCluster, v *member) {
		c.net.both(trouble{bytesPerSecond: 100_000}, []string{v.name}, c.others(v))
	}, true},
}

// TestPartitions cuts the store with the most leaders off, from others and in
// single directions. Reads and writes go on while that lasts and afterwards.
func TestPartitions(t *testing.T) {
	long := testSettings["LONG"] != ""
	c := startFaults(t, 1, 3)
	c.addSQL()
	b := startBank(t, c.sqlAddr)
	r := startRegisters(t, c.pdList)
	c.replicated()
	settled := func() { b.await(5); r.awaitPuts(5) }
	for _, trouble := range networkTroubles {
		if trouble.long && !long {
			continue
		}
		settled()
		victim := c.busiestStore()
		b.resetGaps()
		r.resetGaps()
		trouble.start(c, victim)
		if long {
			time.Sleep(10 * time.Second) // how long it lasts
		}
		if trouble.name == fromClients {
			c.net.heal() // it leads on, and nobody reaches it
		}
		settled()
		during := b.gaps()
		reads, writes := r.gaps()
		b.resetGaps()
		c.net.heal()
		settled()
		t.Logf("%s cut off: %s: %s; no raw read for %s, no put for %s; after it: %s (load average %s)", victim.name, trouble.name, during,
			reads.Round(time.Millisecond), writes.Round(time.Millisecond), b.gaps(), machineLoad())
	}
	if long {
		c.flap(settled)
	}
	r.check()
	b.check()
	c.replicated()
	c.check()
}

// flap cuts and heals in quick turns.
func (c *faultCluster) flap(settled func()) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 3 * time.Second} {
		for range int(15 * time.Second / every) {
			v := c.stores[time.Now().UnixNano()%int64(len(c.stores))]
			c.net.both(cut, []string{v.name}, c.others(v))
			time.Sleep(every / 2) // cut
			c.net.heal()
			time.Sleep(every / 2) // not
		}
		settled()
		c.t.Logf("went on after flapping every %s", every)
	}
}

// TestRollingRestart stops and starts every store and placement driver under
// load, one after the other, with SIGTERM as an operator would.
func TestRollingRestart(t *testing.T) {
	pds, rounds := 1, 1
	if testSettings["LONG"] != "" {
		pds, rounds = 3, 3
	}
	c := startFaults(t, pds, 3)
	c.addSQL()
	b := startBank(t, c.sqlAddr)
	r := startRegisters(t, c.pdList)
	c.replicated()
	b.await(20)
	for range rounds {
		members := c.stores
		if pds > 1 {
			members = append(append([]*member(nil), c.stores...), c.pds...)
		}
		for _, m := range members {
			b.await(20)
			b.resetGaps()
			r.resetGaps()
			m.stop()
			m.restart()
			b.await(20)
			r.awaitPuts(5)
			reads, writes := r.gaps()
			t.Logf("restart of %s: %s; no raw read for %s, no put for %s (load average %s)", m.name, b.gaps(),
				reads.Round(time.Millisecond), writes.Round(time.Millisecond), machineLoad())
			c.answering()
			c.replicated()
		}
	}
	r.check()
	b.check()
	c.check()
}

// TestLostQuorum kills two of three stores for good and recovers with what the
// third has: everything that was replicated to it.
func TestLostQuorum(t *testing.T) {
	c := startFaults(t, 1, 3)
	c.addSQL()
	conn := connect(t, c.sqlAddr)
	exec1(t, conn, "CREATE TABLE kept (id int PRIMARY KEY, v text)")
	exec1(t, conn, "INSERT INTO kept SELECT g, repeat('k', 100) FROM generate_series(1, 2000) g")
	r := startRegisters(t, c.pdList)
	r.awaitPuts(20)
	r.check() // stops them
	c.replicated()
	left := c.stores[2]
	r.awaitReplica(left)

	failed := c.stores[:2]
	var ids []string
	for _, m := range failed {
		ids = append(ids, fmt.Sprint(c.id(m)))
		m.kill()
	}
	c.node.kill()
	left.kill()
	args := []string{"ctl", "offline", "unsafe-recover", "--data-dir", left.dir, "--failed-stores", strings.Join(ids, ",")}
	out, err := exec.Command(binary, args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nothing was changed: pass --accept-data-loss") {
		t.Fatalf("unsafe-recover without the flag: %v\n%s", err, out)
	}
	if out, err = exec.Command(binary, append(args, "--accept-data-loss")...).CombinedOutput(); err != nil {
		t.Fatalf("unsafe-recover: %v\n%s", err, out)
	}
	left.restart()
	c.node.restart()

	ctx, cancel := within(time.Minute)
	defer cancel()
	poll(t, time.Minute, "reads of what was replicated", func() bool {
		at, err := r.locate(registerKey(0))
		return err == nil && at.addr == left.addr && r.readAt(at, at.context()) == nil
	})
	at, err := r.locate(registerKey(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.put(ctx, registerClients, at, registerKey(0), "after"); err != nil {
		t.Errorf("put after the recovery: %v", err)
	}
	if err := r.readAt(at, at.context()); err != nil {
		t.Errorf("read after the recovery: %v", err)
	}
	conn = connect(t, c.sqlAddr)
	if n := queryInt(t, conn, "SELECT count(*) FROM kept WHERE v = repeat('k', 100)"); n != 2000 {
		t.Errorf("%d of 2000 rows are left", n)
	}
	exec1(t, conn, "INSERT INTO kept VALUES (2001, 'new')")

	// The dead come back, though they must not: they are turned away.
	for _, id := range ids {
		c.ask("DELETE", "/pd/api/v1/store/"+id+"?force=true", "")
	}
	for _, m := range failed {
		m.launch()
	}
	exec1(t, conn, "UPDATE kept SET v = 'newer' WHERE id = 2001")
	for _, m := range failed {
		m.awaitEnd()
	}
	if n := queryInt(t, conn, "SELECT count(*) FROM kept"); n != 2001 {
		t.Errorf("%d rows, want 2001", n)
	}
	r.check()
	c.check()
}

// awaitReplica waits until a store has applied what was acknowledged: a read
// of its replica waits for that.
func (r *registers) awaitReplica(m *member) {
	r.t.Helper()
	poll(r.t, time.Minute, "reads of the replica", func() bool {
		at, err := r.locate(registerKey(0))
		if err != nil {
			return false
		}
		for _, p := range at.region.Peers {
			ctx, cancel := within(registerOpTimeout)
			follower, err := r.placeOn(ctx, at.region, p)
			cancel()
			if err == nil && follower.addr == m.addr {
				rc := follower.context()
				rc.ReplicaRead = true
				return r.readAt(follower, rc) == nil
			}
		}
		return false
	})
}
