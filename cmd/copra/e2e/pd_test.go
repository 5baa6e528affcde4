package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	pdclient "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"
)

// pdMember is one placement driver of several.
type pdMember struct {
	*process
	name, client, dir string
	args              []string
}

// pdGroup is placement drivers as separate processes.
type pdGroup struct {
	t       *testing.T
	dir     string
	members []*pdMember
}

func startPDs(t *testing.T, n int) *pdGroup {
	t.Helper()
	g := &pdGroup{t: t, dir: t.TempDir()}
	var initial []string
	peers := make([]string, n)
	for i := range n {
		peers[i] = freeAddr(t)
		initial = append(initial, fmt.Sprintf("pd%d=http://%s", i+1, peers[i]))
	}
	for i := range n {
		g.add(fmt.Sprintf("pd%d", i+1), peers[i], "--initial-cluster", strings.Join(initial, ","))
	}
	for _, m := range g.members {
		m.waitFor("pd: ready", time.Minute)
	}
	return g
}

func (g *pdGroup) add(name, peer string, more ...string) *pdMember {
	m := &pdMember{name: name, client: freeAddr(g.t), dir: filepath.Join(g.dir, name)}
	m.args = append([]string{"pd", "--name", name, "--data-dir", m.dir, "--client-addr", m.client, "--peer-addr", peer}, more...)
	m.process = launch(g.t, m.args...)
	g.members = append(g.members, m)
	return m
}

func (g *pdGroup) addrs() string {
	var list []string
	for _, m := range g.members {
		list = append(list, m.client)
	}
	return strings.Join(list, ",")
}

// leader is the member that all others take for the leader, or nil.
func (g *pdGroup) leader() *pdMember {
	for _, m := range g.members {
		var reply struct {
			Name string `json:"name"`
		}
		resp, err := http.Get("http://" + m.client + "/pd/api/v1/leader")
		if err != nil {
			continue
		}
		err = json.NewDecoder(resp.Body).Decode(&reply)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		for _, l := range g.members {
			if l.name == reply.Name {
				return l
			}
		}
	}
	return nil
}

func (g *pdGroup) awaitLeader(not *pdMember) *pdMember {
	g.t.Helper()
	var l *pdMember
	poll(g.t, time.Minute, "a leader of PD", func() bool { l = g.leader(); return l != nil && l != not })
	return l
}

func (g *pdGroup) ctl(args ...string) string {
	g.t.Helper()
	out, err := exec.Command(binary, append(append([]string{"ctl"}, args...), "--pd", g.addrs())...).CombinedOutput()
	if err != nil {
		g.t.Fatalf("copra ctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// stamps takes timestamps with the client that others use, all the time.
type stamps struct {
	gap  gapMeter
	n    atomic.Int64
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func startStamps(t *testing.T, g *pdGroup) *stamps {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := pdclient.NewClientWithContext(ctx, caller.TestComponent, strings.Split(g.addrs(), ","), pdclient.SecurityOption{},
		opt.WithCustomTimeoutOption(3*time.Second))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s := &stamps{}
	s.stop = func() { cancel(); s.wg.Wait(); c.Close() }
	t.Cleanup(s.stop)
	var mu sync.Mutex
	var floor int64
	for range 4 {
		s.wg.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				before := floor
				mu.Unlock()
				physical, logical, err := c.GetTS(ctx)
				if err != nil {
					continue
				}
				ts := physical<<18 + logical
				if ts <= before {
					t.Errorf("timestamp %d, and %d was granted before the call", ts, before)
				}
				mu.Lock()
				floor = max(floor, ts)
				mu.Unlock()
				s.gap.success()
				s.n.Add(1)
			}
		})
	}
	return s
}

// await waits for more timestamps.
func (s *stamps) await(t *testing.T) {
	t.Helper()
	from := s.n.Load()
	poll(t, time.Minute, "timestamps", func() bool { return s.n.Load() > from+100 })
}

// TestPDFailover kills, stops and moves the leader of three placement drivers
// under clients of timestamps and of SQL, restarts them one after the other,
// and replaces one.
func TestPDFailover(t *testing.T) {
	g := startPDs(t, 3)
	store := launch(t, "tikv", "--pd", g.addrs(), "--data-dir", filepath.Join(g.dir, "store"), "--addr", freeAddr(t),
		"--status-addr", freeAddr(t), "--block-cache-size", "64MiB")
	store.waitFor("tikv: ready", time.Minute)
	sqlAddr := freeAddr(t)
	sql := launch(t, "sql", "--pd", g.addrs(), "--addr", sqlAddr, "--flight-addr", freeAddr(t), "--status-addr", freeAddr(t))
	sql.waitFor("sql: ready", time.Minute)
	ctx, cancel := within(time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn(sqlAddr))
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, conn, "CREATE TABLE t (id int PRIMARY KEY, n int)")
	exec1(t, conn, "INSERT INTO t VALUES (1, 0)")
	_ = conn.Close(ctx)
	var stop atomic.Bool
	writes := startPulse(sqlAddr, "update", 2, &stop, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "UPDATE t SET n = n + 1 WHERE id = 1")
		return err
	})
	defer func() { stop.Store(true); writes.wg.Wait() }()
	ts := startStamps(t, g)
	gaps := map[string]time.Duration{}
	measure := func(what string, do func()) {
		ts.await(t)
		writes.awaitAll(t, 5)
		ts.gap.reset()
		writes.reset()
		do()
		ts.await(t)
		writes.awaitAll(t, 5)
		gaps[what] = max(gaps[what], ts.gap.longest())
		t.Logf("%s: no timestamp for %v, no SQL write for %v", what, ts.gap.longest(), writes.longest())
	}
	restart := func(m *pdMember) {
		m.process = launch(t, m.args...)
		m.waitFor("pd: ready", time.Minute)
	}

	l := g.awaitLeader(nil)
	measure("kill -9 of the leader", func() { l.kill(); g.awaitLeader(l) })
	restart(l)
	l = g.awaitLeader(nil)
	measure("SIGTERM of the leader", func() { l.process.stop(); g.awaitLeader(l) })
	restart(l)
	l = g.awaitLeader(nil)
	measure("leader resign", func() { g.ctl("member", "leader", "resign"); g.awaitLeader(l) })
	measure("leader transfer", func() {
		g.ctl("member", "leader", "transfer", l.name)
		poll(t, time.Minute, "the leader is back", func() bool { return g.leader() == l })
	})
	measure("rolling restart", func() {
		for _, m := range g.members {
			m.process.stop()
			restart(m)
		}
	})

	// One is replaced.
	old := g.members[0]
	peer := freeAddr(t)
	if out := g.ctl("member", "add", peer); !strings.Contains(out, "--join") {
		t.Fatalf("member add says %s", out)
	}
	joined := g.add("pd4", peer, "--join", g.addrs())
	joined.waitFor("pd: ready", time.Minute)
	measure("member remove", func() { g.ctl("member", "remove", old.name); g.awaitLeader(old) })
	select {
	case <-old.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("a removed member goes on")
	}
	if out := old.text(); !strings.Contains(out, "was removed from its cluster") {
		t.Fatalf("the removed member ended without saying why:\n%s", out)
	}
	again := launch(t, old.args...)
	select {
	case <-again.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("a removed member started again")
	}
	if out := again.text(); !strings.Contains(out, "was removed from its cluster") {
		t.Fatalf("the data of a removed member is refused with:\n%s", out)
	}
	g.members = g.members[1:]
	g.ctl("member", "priority", "pd4", "5")
	poll(t, time.Minute, "the member of the highest priority leads", func() bool { return g.leader() == joined })
	if out := g.ctl("member"); strings.Contains(out, "pd1") || !strings.Contains(out, "pd4") {
		t.Fatalf("at last the members are\n%s", out)
	}
	if out := g.ctl("gossip"); strings.Count(out, "alive") < 4 {
		t.Fatalf("the gossip knows\n%s", out)
	}
}
