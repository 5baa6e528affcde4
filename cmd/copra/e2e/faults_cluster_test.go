//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// member is a process of a faultCluster. Others reach it through the network.
type member struct {
	*role
	name, dir string
	listen    string // past the network
	addr      string // told to others
}

// faultCluster is placement drivers, stores and perhaps a SQL node, all of
// whose connections go through a network that can be troubled.
type faultCluster struct {
	*processCluster
	net         *network
	pds, stores []*member
	node        *member // SQL
	pdList      string
	storeArgs   []string
}

// startFaults starts pds placement drivers and stores.
func startFaults(t *testing.T, pds, stores int, storeArgs ...string) *faultCluster {
	t.Helper()
	dir := t.TempDir()
	c := &faultCluster{processCluster: &processCluster{t: t}, net: newNetwork(t), storeArgs: storeArgs}
	var initial, clients []string
	var args [][]string
	for i := range pds {
		m := &member{name: fmt.Sprintf("pd%d", i+1)}
		m.dir = filepath.Join(dir, m.name)
		m.listen, m.addr = c.net.front(m.name)
		peer, peerAdvertised := c.net.front(m.name)
		initial = append(initial, m.name+"=http://"+peerAdvertised)
		clients = append(clients, m.addr)
		args = append(args, []string{"pd", "--name", m.name, "--data-dir", m.dir, "--client-addr", m.listen, "--advertise-client-addr", m.addr,
			"--peer-addr", peer, "--advertise-peer-addr", peerAdvertised})
		c.pds = append(c.pds, m)
	}
	c.pdList, c.pdAddr = strings.Join(clients, ","), c.pds[0].listen
	for i, m := range c.pds {
		c.start(m, "pd: ready", append(args[i], "--initial-cluster", strings.Join(initial, ","))...)
	}
	for _, m := range c.pds {
		m.p.waitFor(m.ready, time.Minute)
	}
	for range stores {
		c.addStore(dir)
	}
	for _, m := range c.stores {
		m.p.waitFor(m.ready, time.Minute)
	}
	c.replicated()
	return c
}

func (c *faultCluster) start(m *member, ready string, args ...string) {
	m.role = &role{t: c.t, args: args, ready: ready, started: func(p *process) { c.net.know(m.name, p) }}
	m.launch()
}

// addStore does not wait.
func (c *faultCluster) addStore(dir string) *member {
	m := &member{name: fmt.Sprintf("store%d", len(c.stores)+1)}
	m.dir = filepath.Join(dir, m.name)
	m.listen, m.addr = c.net.front(m.name)
	c.start(m, "tikv: ready", append([]string{"tikv", "--pd", c.pdList, "--data-dir", m.dir, "--addr", m.listen, "--advertise-addr", m.addr,
		"--status-addr", freeAddr(c.t), "--block-cache-size", "64MiB"}, c.storeArgs...)...)
	c.stores = append(c.stores, m)
	return m
}

// addSQL starts a SQL node; it sees the same network.
func (c *faultCluster) addSQL() {
	m := &member{name: "sql", addr: freeAddr(c.t)}
	c.start(m, "sql: ready", "sql", "--pd", c.pdList, "--addr", m.addr, "--flight-addr", freeAddr(c.t), "--status-addr", freeAddr(c.t))
	m.p.waitFor(m.ready, time.Minute)
	c.node, c.sqlAddr = m, m.addr
}

func (c *faultCluster) all() []*member {
	all := append(append([]*member(nil), c.pds...), c.stores...)
	if c.node != nil {
		all = append(all, c.node)
	}
	return all
}

// others are the names of all stores but this one.
func (c *faultCluster) others(than *member) (names []string) {
	for _, m := range c.stores {
		if m != than {
			names = append(names, m.name)
		}
	}
	return names
}

func (c *faultCluster) pdNames() (names []string) {
	for _, m := range c.pds {
		names = append(names, m.name)
	}
	return names
}

func (c *faultCluster) at(addr string) *member {
	c.t.Helper()
	for _, m := range c.stores {
		if m.addr == addr {
			return m
		}
	}
	c.t.Fatalf("no store of ours is at %s", addr)
	return nil
}

type pdStore struct {
	Store struct {
		ID        uint64 `json:"id"`
		Address   string `json:"address"`
		StateName string `json:"state_name"`
	} `json:"store"`
	Status struct {
		Leaders int `json:"leader_count"`
		Regions int `json:"region_count"`
	} `json:"status"`
}

// pdStores asks whichever placement driver answers.
func (c *faultCluster) pdStores() map[string]pdStore {
	var reply struct {
		Stores []pdStore `json:"stores"`
	}
	c.answering()
	stores := map[string]pdStore{}
	if c.get("/pd/api/v1/stores", &reply) {
		for _, s := range reply.Stores {
			stores[s.Store.Address] = s
		}
	}
	return stores
}

func (c *faultCluster) id(m *member) uint64 {
	c.t.Helper()
	id := c.pdStores()[m.addr].Store.ID
	if id == 0 {
		c.t.Fatalf("PD does not know %s at %s", m.name, m.addr)
	}
	return id
}

// answering looks for a placement driver that knows a leader.
func (c *faultCluster) answering() {
	for _, m := range c.pds {
		var leader any
		if c.pdAddr = m.listen; c.get("/pd/api/v1/leader", &leader) {
			return
		}
	}
}

// ask sends a request to PD's HTTP API that changes something.
func (c *faultCluster) ask(method, path, body string) {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://"+c.pdAddr+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// busiestStore is the one with the most leaders.
func (c *faultCluster) busiestStore() *member {
	best := c.stores[0]
	stores := c.pdStores()
	for _, m := range c.stores {
		if stores[m.addr].Status.Leaders > stores[best.addr].Status.Leaders {
			best = m
		}
	}
	return best
}

func (c *faultCluster) check() {
	c.t.Helper()
	for _, m := range c.all() {
		m.role.check()
	}
}

// bank is SQL clients: transfers, sums and inserts.
type bank struct {
	t                       *testing.T
	addr                    string
	stop                    atomic.Bool
	transfers, sums, writes *pulse
	next                    atomic.Int64
	acked                   sync.Map
	count                   atomic.Int64
}

const (
	bankAccounts = 20
	bankBalance  = 1000
)

func startBank(t *testing.T, addr string) *bank {
	t.Helper()
	setup := connect(t, addr)
	exec1(t, setup, "CREATE TABLE bank (id int PRIMARY KEY, balance bigint NOT NULL)")
	exec1(t, setup, "INSERT INTO bank SELECT g, $1 FROM generate_series(1, $2) g", bankBalance, bankAccounts)
	exec1(t, setup, "CREATE TABLE ledger (id bigint PRIMARY KEY)")
	b := &bank{t: t, addr: addr}
	b.transfers = startPulse(addr, "transfers", 2, &b.stop, func(ctx context.Context, conn *pgx.Conn) error {
		n := b.next.Add(1)
		_, err := conn.Exec(ctx, "UPDATE bank SET balance = balance + CASE id WHEN $1 THEN -1 ELSE 1 END WHERE id = $1 OR id = $2",
			1+n%bankAccounts, 1+(n+1+n/bankAccounts%(bankAccounts-1))%bankAccounts)
		return b.slow(err)
	})
	b.sums = startPulse(addr, "sums", 2, &b.stop, func(ctx context.Context, conn *pgx.Conn) error {
		var sum, n int64
		err := conn.QueryRow(ctx, "SELECT sum(balance)::bigint, count(*) FROM bank").Scan(&sum, &n)
		if err == nil && (sum != bankAccounts*bankBalance || n != bankAccounts) {
			t.Errorf("%d accounts hold %d, want %d with %d", n, sum, bankAccounts, bankAccounts*bankBalance)
		}
		return b.slow(err)
	})
	b.writes = startPulse(addr, "inserts", 2, &b.stop, func(ctx context.Context, conn *pgx.Conn) error {
		id := b.next.Add(1)
		_, err := conn.Exec(ctx, "INSERT INTO ledger VALUES ($1)", id)
		if err == nil {
			b.acked.Store(id, true)
			b.count.Add(1)
			var found int64
			if err = conn.QueryRow(ctx, "SELECT count(*) FROM ledger WHERE id = $1", id).Scan(&found); err == nil && found != 1 {
				t.Errorf("an acknowledged row is there %d times", found)
			}
		}
		return b.slow(err)
	})
	t.Cleanup(b.halt)
	return b
}

// slow keeps the clients of a machine under test from taking all of it.
func (b *bank) slow(err error) error {
	time.Sleep(2 * time.Millisecond) // think time
	return err
}

func (b *bank) pulses() []*pulse { return []*pulse{b.transfers, b.sums, b.writes} }

func (b *bank) resetGaps() {
	for _, p := range b.pulses() {
		p.reset()
	}
}

// await waits until every client has succeeded n more times.
func (b *bank) await(n int64) {
	b.t.Helper()
	for _, p := range b.pulses() {
		p.awaitAll(b.t, n)
	}
}

func (b *bank) gaps() string {
	return fmt.Sprintf("SQL: no read for %s, no write for %s", b.sums.longest().Round(time.Millisecond),
		max(b.transfers.longest(), b.writes.longest()).Round(time.Millisecond))
}

func (b *bank) halt() {
	b.stop.Store(true)
	for _, p := range b.pulses() {
		p.wg.Wait()
	}
}

// check stops the clients and looks for what they were told is there.
func (b *bank) check() {
	b.t.Helper()
	b.halt()
	conn := connect(b.t, b.addr)
	found := keysOf[int64](b.t, conn, "SELECT id FROM ledger")
	lost := 0
	b.acked.Range(func(id, _ any) bool {
		if found[id.(int64)] != 1 {
			lost++
		}
		return true
	})
	if lost > 0 {
		b.t.Errorf("of %d acknowledged rows %d are lost", b.count.Load(), lost)
	}
	if sum := queryInt(b.t, conn, "SELECT sum(balance)::bigint FROM bank"); sum != bankAccounts*bankBalance {
		b.t.Errorf("in the end the accounts hold %d", sum)
	}
	b.t.Logf("bank: %d rows acknowledged, %d found", b.count.Load(), len(found))
}

// machineLoad is the load average, for who reads the figures.
func machineLoad() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(data))[0]
}
