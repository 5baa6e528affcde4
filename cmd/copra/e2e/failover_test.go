package e2e

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// pulse is clients that do one thing over and over, and the longest time that
// one of them was without success.
type pulse struct {
	name    string
	wg      sync.WaitGroup
	clients []*pulseClient
}

type pulseClient struct {
	gap     gapMeter
	success atomic.Int64
	lastErr atomic.Pointer[error]
}

// startPulse runs op on n connections until stop; an error is tried again.
func startPulse(addr, name string, n int, stop *atomic.Bool, op func(ctx context.Context, conn *pgx.Conn) error) *pulse {
	p := &pulse{name: name}
	for range n {
		client := &pulseClient{}
		p.clients = append(p.clients, client)
		p.wg.Go(func() {
			var conn *pgx.Conn
			for !stop.Load() {
				ctx, cancel := within(time.Minute)
				var err error
				if conn == nil || conn.IsClosed() {
					conn, err = pgx.Connect(ctx, dsn(addr))
				}
				if err == nil {
					err = op(ctx, conn)
				}
				cancel()
				if err != nil {
					client.lastErr.Store(&err)
					continue
				}
				client.gap.success()
				client.success.Add(1)
			}
			if conn != nil {
				_ = conn.Close(context.Background())
			}
		})
	}
	return p
}

func (p *pulse) reset() {
	for _, c := range p.clients {
		c.gap.reset()
	}
}

// longest is the longest time that a client has seen between two successes.
func (p *pulse) longest() (gap time.Duration) {
	for _, c := range p.clients {
		gap = max(gap, c.gap.longest())
	}
	return gap
}

// awaitAll waits until every client has succeeded n more times.
func (p *pulse) awaitAll(t *testing.T, n int64) {
	t.Helper()
	before := make([]int64, len(p.clients))
	for i, c := range p.clients {
		before[i] = c.success.Load()
	}
	defer func() {
		if t.Failed() {
			p.report(t)
		}
	}()
	poll(t, time.Minute, p.name, func() bool {
		for i, c := range p.clients {
			if c.success.Load() < before[i]+n {
				return false
			}
		}
		return true
	})
}

// report says what the clients saw last.
func (p *pulse) report(t *testing.T) {
	t.Helper()
	for _, c := range p.clients {
		if err := c.lastErr.Load(); err != nil {
			t.Logf("%s: %d successes, last error: %v", p.name, c.success.Load(), *err)
		}
	}
}

// failoverGapMax is generous: machines under test are busy. On an idle one with
// the default settings it is below three seconds.
const failoverGapMax = 15 * time.Second

// TestFailoverGap kills the store with the most leaders and measures the
// longest time that any client goes without a success.
func TestFailoverGap(t *testing.T) {
	rounds := 1
	if testSettings["LONG"] != "" {
		rounds = 6
	}
	c := startProcesses(t)
	c.replicated()
	setup := connect(t, c.sqlAddr)
	exec1(t, setup, "CREATE TABLE kv (id int PRIMARY KEY, v bigint NOT NULL)")
	exec1(t, setup, "INSERT INTO kv SELECT g, 0 FROM generate_series(1, 1000) g")
	var stop atomic.Bool
	var next atomic.Int64
	pulses := []*pulse{
		startPulse(c.sqlAddr, "reads", 4, &stop, func(ctx context.Context, conn *pgx.Conn) error {
			var v int64
			return conn.QueryRow(ctx, "SELECT v FROM kv WHERE id = $1", 1+next.Add(1)%1000).Scan(&v)
		}),
		startPulse(c.sqlAddr, "scans", 2, &stop, func(ctx context.Context, conn *pgx.Conn) error {
			var v int64
			return conn.QueryRow(ctx, "SELECT sum(v)::bigint FROM kv").Scan(&v)
		}),
		startPulse(c.sqlAddr, "writes", 4, &stop, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "UPDATE kv SET v = v + 1 WHERE id = $1", 1+next.Add(1)%1000)
			return err
		}),
	}
	for round := range rounds {
		for _, p := range pulses {
			p.awaitAll(t, 20)
		}
		victim := c.busiest()
		for _, p := range pulses {
			p.reset()
		}
		c.stores[victim].kill()
		for _, p := range pulses {
			p.awaitAll(t, 20)
			t.Logf("round %d: %s paused for %s", round, p.name, p.longest().Round(time.Millisecond))
			if p.longest() > failoverGapMax {
				t.Errorf("%s paused for %s", p.name, p.longest())
			}
		}
		c.stores[victim] = launch(t, c.storeArgs[victim]...)
		c.stores[victim].waitFor("tikv: ready", 30*time.Second)
		c.replicated()
	}
	for _, p := range pulses {
		p.reset()
	}
	c.pd.kill()
	time.Sleep(500 * time.Millisecond) // how long PD is gone
	c.pd = launch(t, c.pdArgs...)
	for _, p := range pulses {
		p.awaitAll(t, 20)
		t.Logf("%s paused for %s around a restart of PD", p.name, p.longest().Round(time.Millisecond))
	}
	stop.Store(true)
	for _, p := range pulses {
		p.wg.Wait()
	}
}
