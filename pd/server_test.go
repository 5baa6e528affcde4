package pd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/pd/etcdkv"
)

func TestRestartKeepsEverything(t *testing.T) {
	dir, client, peer := t.TempDir(), freeAddr(t), freeAddr(t)
	reg := prometheus.NewRegistry()
	start := func() *Server {
		return startPD(t, func(c *Config) {
			c.DataDir, c.ClientAddr, c.PeerAddr, c.Registerer = dir, client, peer, reg
		})
	}
	s := start()
	id := s.ClusterID()
	c := bootstrap(t, s, 1)
	ctx := testContext(t)
	left := &metapb.Region{Id: 2, EndKey: []byte("m"), RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 1}, Peers: []*metapb.Peer{{Id: 3, StoreId: 1}}}
	right := &metapb.Region{Id: 10, StartKey: []byte("m"), RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 1}, Peers: []*metapb.Peer{{Id: 11, StoreId: 1}}}
	st := openStream(t, s, c)
	st.report(left, left.Peers[0])
	st.report(right, right.Peers[0])
	until(t, "both regions are known", func() bool { return s.term.Load().cluster.regions.Len() == 2 })
	alloc := func() uint64 {
		resp, err := c.AllocID(ctx, &pdpb.AllocIDRequest{Header: header(s)})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Id
	}
	lastID := alloc()
	if next := alloc(); next != lastID+1 {
		t.Fatalf("ids %d, %d", lastID, next)
	}
	lastTS := grant(t, s)
	s.Stop()

	s = start()
	if s.ClusterID() != id {
		t.Fatalf("cluster id %d became %d", id, s.ClusterID())
	}
	c = pdpb.NewPDClient(rpc(t, s))
	for key, want := range map[string]uint64{"a": 2, "z": 10} {
		resp, err := c.GetRegion(ctx, &pdpb.GetRegionRequest{Header: header(s), RegionKey: []byte(key)})
		if err != nil || resp.GetRegion().GetId() != want {
			t.Fatalf("key %s: %v %v", key, resp, err)
		}
	}
	if next := alloc(); next <= lastID+1 {
		t.Fatalf("id %d was given again", next)
	}
	if ts := grant(t, s); ts <= lastTS {
		t.Fatalf("timestamp %d after %d", ts, lastTS)
	}
	stores, err := c.GetAllStores(ctx, &pdpb.GetAllStoresRequest{Header: header(s)})
	if err != nil || len(stores.Stores) != 1 {
		t.Fatal(stores, err)
	}
}

func grant(t *testing.T, s *Server) uint64 {
	t.Helper()
	term, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	p, l, err := term.tso.Grant(testContext(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(p)<<18 | uint64(l)
}

func TestDataDirectoryOfNewerFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, formatFile), []byte(`{"format":99,"members":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(testContext(t), Config{DataDir: dir, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "format 99") {
		t.Fatalf("want a refusal that names the format, got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, formatFile), []byte(`garbage`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Start(testContext(t), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("want a refusal, got %v", err)
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().String()
	_, err = Start(testContext(t), Config{DataDir: t.TempDir(), ClientAddr: taken, PeerAddr: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), taken) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("want one line that names %s, got %v", taken, err)
	}
}

func TestBadConfig(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no directory": {}, "bad address": {DataDir: "x", ClientAddr: "nowhere"},
		"replicas": {DataDir: "x", Replicas: 99}, "both": {DataDir: "x", Join: "a", InitialCluster: "b"},
		"lease": {DataDir: "x", LeaderLeaseSeconds: -1},
	} {
		if _, err := Start(context.Background(), cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestWrongClusterID(t *testing.T) {
	s := startPD(t, nil)
	c := pdpb.NewPDClient(rpc(t, s))
	ctx := testContext(t)
	wrong := &pdpb.RequestHeader{ClusterId: s.ClusterID() + 1}
	_, err := c.AllocID(ctx, &pdpb.AllocIDRequest{Header: wrong})
	if status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("AllocID: %v", err)
	}
	stream, err := c.Tso(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pdpb.TsoRequest{Header: wrong, Count: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("Tso: %v", err)
	}
	resp, err := c.GetMembers(ctx, &pdpb.GetMembersRequest{Header: wrong})
	if err != nil || resp.Header.ClusterId != s.ClusterID() || len(resp.Leader.GetClientUrls()) != 1 || resp.EtcdLeader == nil {
		t.Fatalf("GetMembers: %v %v", resp, err)
	}
}

func TestNotBootstrapped(t *testing.T) {
	s := startPD(t, nil)
	c := pdpb.NewPDClient(rpc(t, s))
	ctx := testContext(t)
	resp, err := c.GetRegion(ctx, &pdpb.GetRegionRequest{Header: header(s)})
	if err != nil || resp.GetHeader().GetError().GetType() != pdpb.ErrorType_NOT_BOOTSTRAPPED {
		t.Fatal(resp, err)
	}
	for name, bad := range map[string]*pdpb.BootstrapRequest{
		"no store":  {Region: firstRegion()},
		"no region": {Store: &metapb.Store{Id: 1, Address: "a"}},
		"two peers": {Store: &metapb.Store{Id: 1, Address: "a"}, Region: &metapb.Region{Id: 2, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{{Id: 1, StoreId: 1}, {Id: 2, StoreId: 2}}}},
	} {
		bad.Header = header(s)
		b, err := c.Bootstrap(ctx, bad)
		if err == nil && b.GetHeader().GetError() == nil {
			t.Errorf("bootstrap with %s was taken", name)
		}
	}
	bootstrap(t, s, 1)
	b, err := c.Bootstrap(ctx, &pdpb.BootstrapRequest{Header: header(s), Store: &metapb.Store{Id: 9, Address: "b"}, Region: firstRegion()})
	if err != nil || b.GetHeader().GetError().GetType() != pdpb.ErrorType_ALREADY_BOOTSTRAPPED {
		t.Fatal(b, err)
	}
}

// TestHazard17_DeposedLeaderCannotWrite takes the leader key away and lets the
// old leader write.
func TestHazard17_DeposedLeaderCannotWrite(t *testing.T) {
	s := startPD(t, nil)
	ctx := testContext(t)
	old, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	before := grant(t, s)
	if _, err := s.cli.Delete(ctx, s.leaderKey); err != nil {
		t.Fatal(err)
	}
	// Whether the write or the watch comes to know it first: the term has ended.
	if err := old.put(ctx, s.root+"/test", nil); !errors.Is(err, etcdkv.ErrNotLeader) && (err == nil || old.ctx.Err() == nil) {
		t.Fatalf("the deposed leader wrote: %v", err)
	}
	if resp, err := s.cli.Get(ctx, s.root+"/test"); err != nil || resp.Count != 0 {
		t.Fatalf("the deposed leader wrote: %v, %v", resp, err)
	}
	until(t, "it leads again", func() bool { n := s.term.Load(); return n != nil && n != old })
	if _, _, err := old.tso.Grant(ctx, 1); !errors.Is(err, etcdkv.ErrNotLeader) {
		t.Fatalf("the deposed leader granted a timestamp: %v", err)
	}
	if after := grant(t, s); after <= before {
		t.Fatalf("timestamp %d after %d", after, before)
	}
}

// startThree starts a cluster of three members; the leader comes first.
func startThree(t *testing.T) []*Server {
	t.Helper()
	var initial []string
	var peers [3]string
	for i := range peers {
		peers[i] = freeAddr(t)
		initial = append(initial, fmt.Sprintf("pd%d=http://%s", i+1, peers[i]))
	}
	members := make([]*Server, 3)
	var wg sync.WaitGroup
	for i := range members {
		wg.Go(func() {
			var err error
			members[i], err = Start(testContext(t), Config{
				Name: fmt.Sprintf("pd%d", i+1), DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: peers[i],
				InitialCluster: strings.Join(initial, ","),
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range members {
		if s != nil {
			t.Cleanup(s.Stop)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	until(t, "one leads", func() bool { return slices.ContainsFunc(members, (*Server).IsLeader) })
	slices.SortStableFunc(members, func(a, b *Server) int {
		if a.IsLeader() {
			return -1
		}
		return 0
	})
	return members
}

func TestJoin(t *testing.T) {
	t.Parallel()
	first := startPD(t, nil)
	second := startPD(t, func(c *Config) { c.Name, c.Join = "pd2", first.ClientURL() })
	if second.ClusterID() != first.ClusterID() || second.IsLeader() || len(second.members()) != 2 {
		t.Fatal("the second member is not part of the cluster")
	}
	until(t, "the first member notes that it is not alone", func() bool {
		f, err := openFormat(first.cfg.DataDir, 1)
		return err == nil && f.Members == 2
	})
}

func TestThreeMembers(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	ctx := testContext(t)
	bootstrap(t, members[0], 1)
	follower := members[1]
	c := pdpb.NewPDClient(rpc(t, follower))
	_, err := c.AllocID(ctx, &pdpb.AllocIDRequest{Header: header(follower)})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not leader") {
		t.Fatalf("a follower answered: %v", err)
	}
	got, err := c.GetMembers(ctx, &pdpb.GetMembersRequest{})
	if err != nil || len(got.Members) != 3 || got.Leader.GetName() != members[0].cfg.Name {
		t.Fatal(got, err)
	}
	last := grant(t, members[0])
	members[0].Stop()
	until(t, "another member leads", func() bool { return members[1].IsLeader() || members[2].IsLeader() })
	leader := members[1]
	if !leader.IsLeader() {
		leader = members[2]
	}
	if ts := grant(t, leader); ts <= last {
		t.Fatalf("timestamp %d after %d", ts, last)
	}
	if leader.ClusterID() != members[0].ClusterID() || leader.term.Load().cluster.bootstrapped() != nil {
		t.Fatal("the new leader does not know the cluster")
	}
}

func TestTwoMembersOfOneNameAreRefused(t *testing.T) {
	s := startPD(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := Start(ctx, Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Join: s.ClientURL()})
	if err == nil || !strings.Contains(err.Error(), "named pd1 exists") {
		t.Fatalf("want a refusal, got %v", err)
	}
}

func TestStores(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 2)
	ctx := testContext(t)
	_, err := c.GetStore(ctx, &pdpb.GetStoreRequest{Header: header(s), StoreId: 77})
	if err == nil || !strings.Contains(err.Error(), "invalid store ID 77, not found") {
		t.Fatalf("GetStore of a missing one: %v", err)
	}
	put := func(m *metapb.Store) *pdpb.Error {
		t.Helper()
		resp, err := c.PutStore(ctx, &pdpb.PutStoreRequest{Header: header(s), Store: m})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetHeader().GetError()
	}
	if e := put(&metapb.Store{Id: 50, Address: "127.0.0.1:1"}); e == nil || !strings.Contains(e.Message, "duplicated store address") {
		t.Fatalf("a taken address: %v", e)
	}
	if e := put(&metapb.Store{Id: 4, Address: "127.0.0.1:99"}); e != nil {
		t.Fatalf("a store that moved: %v", e)
	}
	got, err := c.GetStore(ctx, &pdpb.GetStoreRequest{Header: header(s), StoreId: 4})
	if err != nil || got.Store.Address != "127.0.0.1:99" {
		t.Fatal(got, err)
	}
	hb, err := c.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: header(s), Stats: &pdpb.StoreStats{StoreId: 4, Capacity: 100, Available: 50}})
	if err != nil || hb.GetHeader().GetError() != nil || hb.State != metapb.NodeState_Serving {
		t.Fatal(hb, err)
	}
	cl := s.term.Load().cluster
	if err := cl.setStoreState(ctx, 4, metapb.StoreState_Tombstone); err == nil {
		t.Fatal("a store went from Up to Tombstone")
	}
	for _, state := range []metapb.StoreState{metapb.StoreState_Offline, metapb.StoreState_Up, metapb.StoreState_Offline, metapb.StoreState_Tombstone} {
		if err := cl.setStoreState(ctx, 4, state); err != nil {
			t.Fatal(err)
		}
	}
	if e := put(&metapb.Store{Id: 4, Address: "127.0.0.1:99"}); e.GetType() != pdpb.ErrorType_STORE_TOMBSTONE {
		t.Fatalf("a tombstone came back: %v", e)
	}
	all, err := c.GetAllStores(ctx, &pdpb.GetAllStoresRequest{Header: header(s), ExcludeTombstoneStores: true})
	if err != nil || len(all.Stores) != 1 {
		t.Fatal(all, err)
	}
}

func TestAskSplitIDs(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 1)
	ctx := testContext(t)
	seen := map[uint64]bool{1: true, 2: true, 3: true}
	for range 3 {
		resp, err := c.AskBatchSplit(ctx, &pdpb.AskBatchSplitRequest{Header: header(s), Region: firstRegion(), SplitCount: 700})
		if err != nil || len(resp.Ids) != 700 {
			t.Fatal(err)
		}
		for _, id := range resp.Ids {
			for _, n := range append(id.NewPeerIds, id.NewRegionId) {
				if seen[n] && n > 3 {
					t.Fatalf("id %d was given twice", n)
				}
				seen[n] = true
			}
		}
	}
	if _, err := c.AskBatchSplit(ctx, &pdpb.AskBatchSplitRequest{Header: header(s), Region: firstRegion()}); err == nil {
		t.Fatal("a split into 0 was taken")
	}
	// What a split leaves is found before its leaders report.
	left, right := firstRegion(), firstRegion()
	left.RegionEpoch.Version, right.RegionEpoch.Version = 2, 2
	left.EndKey, right.StartKey = []byte("k"), []byte("k")
	right.Id, right.Peers[0].Id = 500, 501
	if _, err := c.ReportBatchSplit(ctx, &pdpb.ReportBatchSplitRequest{Header: header(s), Regions: []*metapb.Region{left, right}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetRegion(ctx, &pdpb.GetRegionRequest{Header: header(s), RegionKey: []byte("z")})
	if err != nil || got.GetRegion().GetId() != 500 {
		t.Fatal(got, err)
	}
}

func TestEtcdOnTheSamePort(t *testing.T) {
	s := startPD(t, nil)
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{s.ClientURL()}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cli.Close() }()
	ctx := testContext(t)
	list, err := cli.MemberList(ctx)
	if err != nil || len(list.Members) != 1 || list.Members[0].ClientURLs[0] != s.ClientURL() {
		t.Fatal(list, err)
	}
	if _, err := cli.Put(ctx, "/x", "1"); err != nil {
		t.Fatal(err)
	}
}

// TestForceNewCluster goes on with one of three members when the others are lost.
func TestForceNewCluster(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	bootstrap(t, members[0], 1)
	last := grant(t, members[0])
	lead, err := members[0].leading()
	if err != nil {
		t.Fatal(err)
	}
	id, err := lead.ids.Alloc(testContext(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range members {
		s.Stop()
	}
	cfg := members[2].cfg
	cfg.ForceNewCluster, cfg.Registerer = true, nil
	alone, err := Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(alone.Stop)
	until(t, "it leads", alone.IsLeader)
	if ts := grant(t, alone); ts <= last {
		t.Fatalf("timestamp %d after %d", ts, last)
	}
	if lead, err = alone.leading(); err != nil {
		t.Fatal(err)
	}
	if next, err := lead.ids.Alloc(testContext(t), 1); err != nil || next < id+recoverySkipIDs {
		t.Fatalf("id %d after %d: %v", next, id, err)
	}
	if alone.ClusterID() != members[0].ClusterID() || len(alone.members()) != 1 || lead.cluster.bootstrapped() != nil {
		t.Fatal("it is another cluster")
	}
	alone.Stop()
	if _, err := Start(testContext(t), cfg); err == nil || !strings.Contains(err.Error(), "already") {
		t.Fatalf("forced again: %v", err)
	}
	cfg.ForceNewCluster = false
	again, err := Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
}

// TestMembersOverHTTP moves the leader and refuses what makes no sense.
func TestMembersOverHTTP(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	leader := members[0]
	call := func(s *Server, method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(testContext(t), method, s.ClientURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(raw)
	}
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{"DELETE", "/pd/api/v1/members/name/nobody", "", 404},
		{"DELETE", "/pd/api/v1/members/id/x", "", 400},
		{"POST", "/pd/api/v1/members", `{"peer-url": "nowhere"}`, 400},
		{"POST", "/pd/api/v1/members", `{`, 400},
		{"POST", "/pd/api/v1/members/name/pd1", `{"leader-priority": 1.5}`, 400},
		{"POST", "/pd/api/v1/members/name/pd1", `{"leader-priority": 1e9}`, 400},
		{"POST", "/pd/api/v1/members/name/pd1", `{}`, 400},
		{"POST", "/pd/api/v1/leader/transfer/nobody", "", 404},
	} {
		if code, body := call(members[1], c.method, c.path, c.body); code != c.code {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, code, body, c.code)
		}
	}
	until(t, "the second member knows the leader", func() bool { return members[1].leader.Load() != nil })
	last := grant(t, leader)
	// A follower passes it on.
	if code, body := call(members[1], "POST", "/pd/api/v1/leader/transfer/"+members[2].cfg.Name, ""); code != 200 {
		t.Fatal(code, body)
	}
	until(t, "the third member leads", members[2].IsLeader)
	if ts := grant(t, members[2]); ts <= last {
		t.Fatalf("timestamp %d after %d", ts, last)
	}
	until(t, "the second member knows the leader", func() bool { return members[1].leader.Load() != nil })
	until(t, "the third member takes a priority", func() bool { // 503 while the second still names the leader before
		code, _ := call(members[1], "POST", "/pd/api/v1/members/name/"+leader.cfg.Name, `{"leader-priority": 7}`)
		return code == 200
	})
	until(t, "the member of the highest priority leads", leader.IsLeader)
	if _, body := call(members[1], "GET", "/pd/api/v1/members", ""); !strings.Contains(body, `"leader_priority": 7`) {
		t.Fatal(body)
	}
}

// TestAloneCannotGiveUp: there is nobody to take over.
func TestAloneCannotGiveUp(t *testing.T) {
	s := startPD(t, nil)
	for _, c := range [][2]string{{"POST", "/pd/api/v1/leader/resign"}, {"DELETE", "/pd/api/v1/members/name/pd1"}} {
		req, err := http.NewRequestWithContext(testContext(t), c[0], s.ClientURL()+c[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !s.IsLeader() {
			t.Errorf("%v: %s", c, resp.Status)
		}
	}
}

// TestForeignPagesChangeNothing: a browser says where a request comes from.
func TestForeignPagesChangeNothing(t *testing.T) {
	s := startPD(t, nil)
	for header, value := range map[string]string{"Origin": "http://example.com", "Sec-Fetch-Site": "cross-site"} {
		req, err := http.NewRequestWithContext(testContext(t), http.MethodDelete, s.ClientURL()+"/pd/api/v1/store/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(header, value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("with %s: %s", header, resp.Status)
		}
	}
}
