//go:build linux

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStoresComeAndGo adds a fourth store and drains one of the first under
// load: each region ends with three replicas on stores that live, and nothing is
// lost. Long runs measure it with more data, and lose a store in between.
func TestStoresComeAndGo(t *testing.T) {
	long := testSettings["LONG"] != ""
	rows, regions, split := 3_000, 8, "256KiB"
	if long {
		rows, regions, split = 200_000, 5, "32MiB"
	}
	// PD puts no peers on a disk that is four fifths full, as that of a machine
	// under test may be; the capacity makes it look at what the store has used.
	c := startFaults(t, 1, 3, "--region-split-size", split, "--capacity", "16GiB")
	c.addSQL()
	started := time.Now()
	c.fill(rows)
	t.Logf("%s filled in after %s", size(rows), time.Since(started).Round(time.Second))
	poll(t, time.Minute, "splits", func() bool { return len(c.regions()) >= regions })
	b := startBank(t, c.sqlAddr)
	r := startRegisters(t, c.pdList)
	b.await(5)
	c.replicated()
	figure := func(what string, since time.Time) {
		reads, writes := r.gaps()
		t.Logf("%s: %s (%s of SQL rows in %d regions; %s; no raw read for %s, no put for %s; load average %s)", what,
			time.Since(since).Round(100*time.Millisecond), size(rows), len(c.regions()), b.gaps(), reads.Round(time.Millisecond),
			writes.Round(time.Millisecond), machineLoad())
		b.await(5)
		r.awaitPuts(5)
		b.resetGaps()
		r.resetGaps()
	}
	b.resetGaps()
	r.resetGaps()

	since := time.Now()
	fourth := c.addStore(filepath.Dir(c.stores[0].dir))
	fourth.p.waitFor(fourth.ready, time.Minute)
	c.balanced()
	figure("balance after a fourth store joined", since)

	if long {
		c.loseStore(c.stores[0], figure)
	}

	drained := c.stores[1]
	drainedID := c.id(drained)
	since = time.Now()
	c.ask("DELETE", fmt.Sprintf("/pd/api/v1/store/%d", drainedID), "")
	c.without(drainedID)
	figure("a store drained", since)
	if long { // it hears of its end from its next report
		drained.awaitEnd()
	}

	r.check()
	b.check()
	conn := connect(t, c.sqlAddr)
	if n := queryInt(t, conn, "SELECT count(*) FROM filled"); n != int64(rows) {
		t.Errorf("%d of %d rows are left", n, rows)
	}
	c.check()
}

// size is that of numbered rows.
func size(rows int) string { return fmt.Sprintf("%d MB", rows/1000) }

// fill makes a table of numbered rows.
func (c *faultCluster) fill(rows int) {
	c.t.Helper()
	const atOnce, streams = 1_000, 4
	exec1(c.t, connect(c.t, c.sqlAddr), "CREATE TABLE filled (id int PRIMARY KEY, t text)")
	var next atomic.Int64
	var wg sync.WaitGroup
	for range streams {
		conn := connect(c.t, c.sqlAddr)
		wg.Go(func() {
			for from := int(next.Add(atOnce)) - atOnce; from < rows; from = int(next.Add(atOnce)) - atOnce {
				if _, err := conn.PgConn().CopyFrom(context.Background(), numbered(from, min(atOnce, rows-from)), "COPY filled FROM STDIN"); err != nil {
					c.t.Errorf("COPY: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// awaitEnd waits until a store that was removed has noticed and ended.
func (m *member) awaitEnd() {
	m.t.Helper()
	m.ended.Store(true) // as it should
	select {
	case <-m.p.exited:
	case <-time.After(time.Minute):
		m.t.Fatalf("%s goes on though it was removed", m.name)
	}
	if !strings.Contains(m.p.text(), "tombstone") {
		m.t.Errorf("%s ended without saying why:\n%s", m.name, m.p.text())
	}
}

// loseStore kills a store for good and says so, waits until its replicas are
// made up, and replaces it.
func (c *faultCluster) loseStore(lost *member, figure func(what string, since time.Time)) {
	id, since := c.id(lost), time.Now()
	lost.kill()
	c.ask("DELETE", fmt.Sprintf("/pd/api/v1/store/%d?force=true", id), "")
	c.without(id)
	figure("replicas of a lost store made up after it was given up", since)
	since = time.Now()
	next := c.addStore(filepath.Dir(lost.dir))
	next.p.waitFor(next.ready, time.Minute)
	c.balanced()
	figure("balance after another store joined", since)
}

const growthTimeout = 90 * time.Second

// balanced waits until no store that is up has less than two thirds of the
// peers of the fullest, and each region has its three.
func (c *faultCluster) balanced() {
	c.t.Helper()
	var counts string
	defer func() {
		if c.t.Failed() {
			c.t.Logf("peers a store: %s", counts)
		}
	}()
	poll(c.t, growthTimeout, "balance", func() bool {
		least, most, whole := 1<<30, 0, true
		counts = ""
		for _, r := range c.regions() {
			whole = whole && len(r.Peers) == 3 && len(r.Pending) == 0
		}
		for _, s := range c.pdStores() {
			counts += fmt.Sprintf(" %s %s: %d, %d leaders;", s.Store.Address, s.Store.StateName, s.Status.Regions, s.Status.Leaders)
			if s.Store.StateName == "Up" {
				least, most = min(least, s.Status.Regions), max(most, s.Status.Regions)
			}
		}
		return whole && least*3 >= most*2
	})
	c.t.Logf("balanced:%s", counts)
}

// without waits until each region has three peers, none of them behind or on
// the store.
func (c *faultCluster) without(store uint64) {
	c.t.Helper()
	poll(c.t, growthTimeout, "replicas elsewhere", func() bool {
		regions := c.regions()
		for _, r := range regions {
			if len(r.Peers) != 3 || len(r.Pending) > 0 {
				return false
			}
			for _, p := range r.Peers {
				if p.StoreID == store {
					return false
				}
			}
		}
		return len(regions) > 0
	})
}
