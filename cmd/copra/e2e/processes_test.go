package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// processCluster is a PD, three stores and a SQL node as separate processes.
type processCluster struct {
	t          *testing.T
	pdAddr     string
	sqlAddr    string
	pd, sql    *process
	pdArgs     []string
	stores     [3]*process
	storeArgs  [3][]string
	storeAddrs [3]string
	statuses   [3]string
}

func startProcesses(t *testing.T) *processCluster {
	t.Helper()
	dir := t.TempDir()
	c := &processCluster{t: t, pdAddr: freeAddr(t), sqlAddr: freeAddr(t)}
	c.pdArgs = []string{"pd", "--data-dir", filepath.Join(dir, "pd"), "--client-addr", c.pdAddr, "--peer-addr", freeAddr(t)}
	c.pd = launch(t, c.pdArgs...)
	c.pd.waitFor("pd: ready", 30*time.Second)
	for i := range c.stores {
		c.storeAddrs[i], c.statuses[i] = freeAddr(t), freeAddr(t)
		c.storeArgs[i] = []string{"tikv", "--pd", c.pdAddr, "--data-dir", filepath.Join(dir, "store"+strconv.Itoa(i)),
			"--addr", c.storeAddrs[i], "--status-addr", c.statuses[i], "--block-cache-size", "64MiB"}
		c.stores[i] = launch(t, c.storeArgs[i]...)
	}
	for _, s := range c.stores {
		s.waitFor("tikv: ready", 30*time.Second)
	}
	c.sql = launch(t, "sql", "--pd", c.pdAddr, "--addr", c.sqlAddr, "--flight-addr", freeAddr(t), "--status-addr", freeAddr(t))
	c.sql.waitFor("sql: ready", time.Minute)
	return c
}

type pdRegion struct {
	ID    uint64 `json:"id"`
	Peers []struct {
		StoreID uint64 `json:"store_id"`
	} `json:"peers"`
	Leader struct {
		StoreID uint64 `json:"store_id"`
	} `json:"leader"`
	Pending []json.RawMessage `json:"pending_peers"`
	Down    []json.RawMessage `json:"down_peers"`
}

func (c *processCluster) get(path string, out any) bool {
	resp, err := http.Get("http://" + c.pdAddr + path)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(out) == nil
}

func (c *processCluster) regions() []pdRegion {
	var reply struct {
		Regions []pdRegion `json:"regions"`
	}
	if !c.get("/pd/api/v1/regions", &reply) {
		return nil
	}
	return reply.Regions
}

// replicated waits until each region was seen with three peers, none of them
// behind. Not all at one moment: PD goes on balancing many small regions.
func (c *processCluster) replicated() {
	c.t.Helper()
	var why string
	healthy := map[uint64]bool{}
	defer func() {
		if why != "" {
			c.t.Logf("not replicated:%s", why)
		}
	}()
	poll(c.t, 2*time.Minute, "three healthy peers of every region", func() bool {
		why = " no regions"
		if regions := c.regions(); len(regions) > 0 {
			why = ""
			for _, r := range regions {
				if healthy[r.ID] {
					continue
				}
				if len(r.Peers) != 3 || len(r.Pending) != 0 || len(r.Down) != 0 || r.Leader.StoreID == 0 {
					why += fmt.Sprintf(" region %d: peers %v, pending %s, down %s, leader on %d;", r.ID, r.Peers, r.Pending, r.Down, r.Leader.StoreID)
				} else {
					healthy[r.ID] = true
				}
			}
		}
		return why == ""
	})
}

// leaders counts the region leaders of each of our stores, by index.
func (c *processCluster) busiest() int {
	var stores struct {
		Stores []struct {
			Store struct {
				ID      uint64 `json:"id"`
				Address string `json:"address"`
			} `json:"store"`
		} `json:"stores"`
	}
	if !c.get("/pd/api/v1/stores", &stores) {
		c.t.Fatal("PD does not answer")
	}
	leaders := map[uint64]int{}
	for _, r := range c.regions() {
		leaders[r.Leader.StoreID]++
	}
	best, most := 0, -1
	for _, s := range stores.Stores {
		for i, addr := range c.storeAddrs {
			if addr == s.Store.Address && leaders[s.Store.ID] > most {
				best, most = i, leaders[s.Store.ID]
			}
		}
	}
	return best
}

// TestStoreKilledUnderLoad: kill -9 of the store with the most leaders while
// clients read and write. Both go on after an election, nothing acknowledged
// is lost, and the store catches up when it is back.
func TestStoreKilledUnderLoad(t *testing.T) {
	c := startProcesses(t)
	c.replicated()
	setup := connect(t, c.sqlAddr)
	exec1(t, setup, "CREATE TABLE ledger (id bigint PRIMARY KEY, v bigint NOT NULL)")
	c.replicated()

	var (
		next, acked  atomic.Int64
		gap          gapMeter
		stop         atomic.Bool
		wg           sync.WaitGroup
		ackedIDs     sync.Map
		wrongAnswers atomic.Int64
	)
	for range 4 {
		wg.Add(1)
		conn := connect(t, c.sqlAddr)
		go func() {
			defer wg.Done()
			for !stop.Load() {
				id := next.Add(1)
				if _, err := conn.Exec(context.Background(), "INSERT INTO ledger VALUES ($1, $2)", id, id*3); err != nil {
					if conn.IsClosed() {
						return
					}
					continue // not acknowledged: it may or may not be there
				}
				ackedIDs.Store(id, true)
				acked.Add(1)
				var v int64
				err := conn.QueryRow(context.Background(), "SELECT v FROM ledger WHERE id = $1", id).Scan(&v)
				if err == pgx.ErrNoRows || err == nil && v != id*3 {
					wrongAnswers.Add(1)
				}
				gap.success()
			}
		}()
	}
	poll(t, time.Minute, "load to run", func() bool { return acked.Load() > 200 })
	victim := c.busiest()
	before := acked.Load()
	gap.reset()
	c.stores[victim].kill()
	poll(t, time.Minute, "writes to go on without the store", func() bool { return acked.Load() > before+500 })
	t.Logf("longest pause of all clients together after kill -9 of a store: %s", gap.longest())

	c.stores[victim] = launch(t, c.storeArgs[victim]...)
	c.stores[victim].waitFor("tikv: ready", 30*time.Second)
	after := acked.Load()
	poll(t, time.Minute, "writes to go on with the store back", func() bool { return acked.Load() > after+200 })
	stop.Store(true)
	wg.Wait()
	c.replicated()

	if n := wrongAnswers.Load(); n != 0 {
		t.Errorf("%d reads did not see their own acknowledged write", n)
	}
	found := map[int64]bool{}
	rows, err := setup.Query(context.Background(), "SELECT id, v FROM ledger")
	if err != nil {
		t.Fatal(err)
	}
	var id, v int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &v}, func() error {
		if found[id] || v != id*3 {
			t.Errorf("row %d: v = %d, seen before: %v", id, v, found[id])
		}
		found[id] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	lost := 0
	ackedIDs.Range(func(key, _ any) bool {
		if !found[key.(int64)] {
			lost++
		}
		return true
	})
	if lost > 0 {
		t.Errorf("%d acknowledged rows are lost", lost)
	}

	// The returned store holds the data: with another one gone, there is still
	// a majority only if it has caught up.
	other := (victim + 1) % 3
	c.stores[other].kill()
	reader := connect(t, c.sqlAddr)
	poll(t, time.Minute, "reads from the returned store's majority", func() bool {
		var n int64
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err := reader.QueryRow(ctx, "SELECT count(*) FROM ledger").Scan(&n)
		return err == nil && n == int64(len(found))
	})
}

// TestProcessesStopOnSIGTERM also shows that identity is checked: a store of
// one cluster refuses to serve another.
func TestProcessesStopOnSIGTERM(t *testing.T) {
	c := startProcesses(t)
	t.Run("cancelled while waiting", func(t *testing.T) { // stores of other processes don't hear of it
		connect := func() *pgx.Conn { return connect(t, c.sqlAddr) }
		exec1(t, connect(), "CREATE TABLE hot (a int PRIMARY KEY, n int)")
		exec1(t, connect(), "INSERT INTO hot VALUES (1, 0), (2, 0)")
		hotRowCancelled(t, connect)
	})
	t.Run("compressed answers", func(t *testing.T) {
		conn := connect(t, c.sqlAddr)
		exec1(t, conn, "CREATE TABLE wide (a int PRIMARY KEY, s text, n numeric(10,2), d date)")
		exec1(t, conn, "INSERT INTO wide SELECT i, 'text ' || i % 7, i * 0.5, date '2026-01-01' + i % 30 FROM generate_series(1, 3000) i")
		sums := map[string]int{}
		for _, how := range []string{"none", "lz4", "zstd"} {
			exec1(t, conn, "SET copra.flight_compression = "+how)
			var rows, sum int
			if err := conn.QueryRow(context.Background(), "SELECT count(*), sum(a + length(s)) FROM (SELECT * FROM wide ORDER BY d, a OFFSET 0) w").Scan(&rows, &sum); err != nil {
				t.Fatal(how, err)
			}
			if rows != 3000 {
				t.Errorf("%s: %d rows", how, rows)
			}
			sums[how] = sum
		}
		if sums["lz4"] != sums["none"] || sums["zstd"] != sums["none"] {
			t.Errorf("the answers differ: %v", sums)
		}
	})
	for _, status := range c.statuses {
		resp, err := http.Get("http://" + status + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("metrics of a store: %s", resp.Status)
		}
	}
	c.sql.stop()
	for _, s := range c.stores {
		s.stop()
	}
	c.pd.stop()

	stranger := freeAddr(t)
	pd2 := launch(t, "pd", "--data-dir", filepath.Join(t.TempDir(), "pd"), "--client-addr", stranger, "--peer-addr", freeAddr(t))
	pd2.waitFor("pd: ready", 30*time.Second)
	args := append([]string(nil), c.storeArgs[0]...)
	args[2] = stranger
	lost := launch(t, args...)
	select {
	case <-lost.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("a store of another cluster was not refused")
	}
	if lost.err == nil || !strings.Contains(lost.text(), "cluster") {
		t.Errorf("a store of another cluster: %v\n%s", lost.err, lost.text())
	}
	pd2.stop()
}

// gapMeter remembers the longest time between two successes.
type gapMeter struct {
	mu   sync.Mutex
	last time.Time
	gap  time.Duration
}

func (g *gapMeter) success() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !g.last.IsZero() {
		g.gap = max(g.gap, now.Sub(g.last))
	}
	g.last = now
}

func (g *gapMeter) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last, g.gap = time.Now(), 0
}

func (g *gapMeter) longest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gap
}
