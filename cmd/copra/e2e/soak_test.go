package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// soakSplitSize makes every table many regions.
const soakSplitSize = "64KiB"

// soakRecovery is how long the load may need to succeed everywhere again after
// the last fault: locks of a killed SQL node live for 20 s.
const soakRecovery = 90 * time.Second

// soakCluster is something to run load on, and what can be done to it.
type soakCluster struct {
	sql    []string // addresses
	pd     string
	status func() string // address of a PD that answers HTTP, or nil: pd
	faults []fault
	roles  []*role
}

// fault is a trouble that is over when run returns.
type fault struct {
	name   string
	weight int
	run    func(rng *rand.Rand)
}

// role is a process that is started again after each end.
type role struct {
	t       *testing.T
	args    []string
	status  string // address of its profiles, or empty
	ready   string
	p       *process
	outputs []*process // with the ones before
	ended   atomic.Bool
	started func(*process) // told of each start, or nil
}

func startRole(t *testing.T, ready string, args ...string) *role {
	r := &role{t: t, args: args, ready: ready}
	if i := slices.Index(args, "--status-addr"); i >= 0 {
		r.status = args[i+1]
	}
	r.launch()
	return r
}

func (r *role) launch() {
	r.p = launch(r.t, r.args...)
	if r.started != nil {
		r.started(r.p)
	}
	r.outputs = append(r.outputs, r.p)
	r.ended.Store(false)
}

func (r *role) restart() {
	r.launch()
	r.p.waitFor(r.ready, time.Minute)
}

func (r *role) kill() {
	r.ended.Store(true)
	r.p.kill()
}

func (r *role) stop() {
	r.ended.Store(true)
	r.p.stop()
}

// check finds ends that nobody asked for, and panics.
func (r *role) check() {
	r.t.Helper()
	select {
	case <-r.p.exited:
		if !r.ended.Load() {
			r.t.Errorf("copra %s ended on its own: %v", r.p.name, r.p.err)
		}
	default:
	}
	for _, p := range r.outputs {
		text := p.text()
		for _, word := range []string{"panic:", "fatal error:", "DATA RACE", "panicked"} {
			if i := strings.Index(text, word); i >= 0 {
				r.t.Errorf("copra %s says %s", p.name, text[i:min(len(text), i+4000)])
			}
		}
	}
}

func pause(rng *rand.Rand, atMost time.Duration) {
	time.Sleep(time.Duration(rng.Int63n(int64(atMost)))) // the nemesis's own rhythm
}

// soakProcesses are a PD, four stores (so that replicas move) and two SQL nodes.
func soakProcesses(t *testing.T) *soakCluster {
	dir := t.TempDir()
	c := &soakCluster{pd: freeAddr(t)}
	pd := startRole(t, "pd: ready", "pd", "--data-dir", dir+"/pd", "--client-addr", c.pd, "--peer-addr", freeAddr(t))
	pd.p.waitFor(pd.ready, time.Minute)
	var stores, sqls []*role
	for i := range 4 {
		stores = append(stores, startRole(t, "tikv: ready", "tikv", "--pd", c.pd, "--data-dir", dir+"/store"+strconv.Itoa(i),
			"--addr", freeAddr(t), "--status-addr", freeAddr(t), "--block-cache-size", "64MiB", "--region-split-size", soakSplitSize))
	}
	for _, s := range stores {
		s.p.waitFor(s.ready, time.Minute)
	}
	for range 2 {
		addr := freeAddr(t)
		c.sql = append(c.sql, addr)
		sqls = append(sqls, startRole(t, "sql: ready", "sql", "--pd", c.pd, "--addr", addr, "--flight-addr", freeAddr(t), "--status-addr", freeAddr(t)))
	}
	for _, s := range sqls {
		s.p.waitFor(s.ready, time.Minute)
	}
	c.roles = append(append([]*role{pd}, stores...), sqls...)
	one := func(from []*role, rng *rand.Rand) *role { return from[rng.Intn(len(from))] }
	c.faults = []fault{
		{"kill -9 a store", 5, func(rng *rand.Rand) { killed(one(stores, rng), rng) }},
		{"kill -9 all stores", 1, func(rng *rand.Rand) {
			for _, s := range stores {
				s.kill()
			}
			for _, s := range stores {
				s.launch()
			}
			for _, s := range stores {
				s.p.waitFor(s.ready, time.Minute)
			}
		}},
		{"SIGTERM a store", 2, func(rng *rand.Rand) { stopped(one(stores, rng), rng) }},
		{"SIGSTOP a store", 4, func(rng *rand.Rand) { frozen(one(stores, rng), rng) }},
		{"kill -9 PD", 2, func(rng *rand.Rand) { killed(pd, rng) }},
		{"SIGSTOP PD", 2, func(rng *rand.Rand) { frozen(pd, rng) }},
		{"kill -9 a SQL node", 2, func(rng *rand.Rand) { killed(one(sqls, rng), rng) }},
		{"SIGTERM a SQL node", 1, func(rng *rand.Rand) { stopped(one(sqls, rng), rng) }},
		{"SIGSTOP a SQL node", 1, func(rng *rand.Rand) { frozen(one(sqls, rng), rng) }},
	}
	return c
}

// soakPlayground is everything in one process.
func soakPlayground(t *testing.T) *soakCluster {
	offset := freeOffset(t)
	c := &soakCluster{sql: []string{"127.0.0.1:" + strconv.Itoa(5433+offset)}, pd: "127.0.0.1:" + strconv.Itoa(2379+offset)}
	all := startRole(t, "is ready", "playground", "--data-dir", t.TempDir(), "--port-offset", strconv.Itoa(offset), "--stores", "4",
		"--region-split-size", soakSplitSize)
	all.p.waitFor(all.ready, time.Minute)
	all.status = "127.0.0.1:" + strconv.Itoa(10080+offset)
	c.roles = []*role{all}
	c.faults = []fault{
		{"kill -9", 3, func(rng *rand.Rand) { killed(all, rng) }},
		{"SIGTERM", 1, func(rng *rand.Rand) { stopped(all, rng) }},
		{"SIGSTOP", 1, func(rng *rand.Rand) { frozen(all, rng) }},
	}
	return c
}

func killed(r *role, rng *rand.Rand) {
	r.kill()
	pause(rng, 4*time.Second)
	r.restart()
}

func stopped(r *role, rng *rand.Rand) {
	r.stop()
	pause(rng, 2*time.Second)
	r.restart()
}

func frozen(r *role, rng *rand.Rand) {
	r.p.signal(stopSignal)
	pause(rng, 6*time.Second)
	r.p.signal(continueSignal)
}

// pick chooses by weight.
func (c *soakCluster) pick(rng *rand.Rand) fault {
	total := 0
	for _, f := range c.faults {
		total += f.weight
	}
	n := rng.Intn(total)
	for _, f := range c.faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("weights")
}

func soakDuration(short time.Duration) time.Duration {
	if testSettings["LONG"] == "" {
		return short
	}
	if d, err := time.ParseDuration(testSettings["DURATION"]); err == nil {
		return d
	}
	return 2 * time.Minute
}

func soakSeed(t *testing.T) int64 {
	seed := int64(1)
	if testSettings["LONG"] != "" {
		seed = time.Now().UnixNano()
	}
	if s := testSettings["SEED"]; s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("COPRA_TEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("COPRA_TEST_SEED=%d", seed)
	return seed
}

// TestSoakProcesses: SQL, raw and transactional clients on a cluster of
// processes, whose members are killed, stopped and frozen; nothing that was
// acknowledged is lost, doubled or half there, and no read goes back.
func TestSoakProcesses(t *testing.T) { soak(t, soakProcesses(t), soakDuration(6*time.Second)) }

// TestSoakPlayground is the same for everything in one process.
func TestSoakPlayground(t *testing.T) { soak(t, soakPlayground(t), soakDuration(5*time.Second)) }

func soak(t *testing.T, c *soakCluster, d time.Duration) {
	seed := soakSeed(t)
	rng := rand.New(rand.NewSource(seed))
	cluster := &processCluster{t: t, pdAddr: c.pd}
	if c.status != nil {
		cluster.pdAddr = c.status()
	}
	cluster.replicated()
	l := newLoad(t, c)
	l.create()
	l.start(seed)
	l.awaitProgress("the load to start", soakRecovery)
	for end := time.Now().Add(d); time.Now().Before(end) && !t.Failed(); {
		f := c.pick(rng)
		t.Logf("%s %s", time.Now().Format("15:04:05.000"), f.name)
		f.run(rng)
		for _, r := range c.roles {
			r.check()
		}
		pause(rng, 2*time.Second)
	}
	healed := time.Now()
	l.awaitProgress("every client to succeed after the last fault", soakRecovery)
	if c.status != nil {
		cluster.pdAddr = c.status()
	}
	t.Logf("%s recovered after %s", time.Now().Format("15:04:05.000"), time.Since(healed).Round(time.Millisecond))
	l.finish()
	l.verify()
	cluster.replicated()
	t.Logf("%d regions", len(cluster.regions()))
	for _, r := range c.roles {
		r.check()
		t.Logf("%s: %d file descriptors, %d threads", r.args[0], r.p.count("fd"), r.p.count("task"))
		if n := r.p.count("fd"); n > soakDescriptorsMax {
			t.Errorf("copra %s has %d file descriptors open", r.p.name, n)
		}
	}
	t.Logf("%s", l.summary())
}

// soakDescriptorsMax is far above what a process needs with these few clients.
const soakDescriptorsMax = 700

// count counts the entries of a directory of /proc/<pid>.
func (p *process) count(what string) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, what))
	if err != nil {
		return 0
	}
	return len(entries)
}

// goroutines writes the stacks of each process to a file, for who looks into a
// hang.
func (c *soakCluster) goroutines(t *testing.T) {
	for i, r := range c.roles {
		if r.status == "" {
			continue
		}
		resp, err := http.Get("http://" + r.status + "/debug/pprof/goroutine?debug=2")
		if err != nil {
			t.Logf("goroutines of %s: %v", r.p.name, err)
			continue
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		name := fmt.Sprintf("%s/copra-goroutines-%d-%d-%s", os.TempDir(), os.Getpid(), i, r.args[0])
		if err := errors.Join(err, os.WriteFile(name, text, 0o600)); err != nil {
			t.Log(err)
		}
		t.Logf("goroutines of copra %s are in %s", r.p.name, name)
	}
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
