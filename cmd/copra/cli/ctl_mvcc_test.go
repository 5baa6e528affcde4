package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/cmd/copra/cluster"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/pd"
	"github.com/copradb/copra/tikv"
)

// mvccStore is a placement driver and a store to ask.
type mvccStore struct {
	t    *testing.T
	node *cluster.Store
	pd   string
	rc   *kvrpcpb.Context
}

func newMvccStore(t *testing.T) *mvccStore {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p, err := pd.Start(ctx, pd.Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	n, err := cluster.StartStore(ctx, tikv.Config{DataDir: t.TempDir(), Addr: "127.0.0.1:0", PDEndpoints: []string{p.ClientURL()}, CacheBytes: 8 << 20, MemTableBytes: 4 << 20, ReserveBytes: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	s := &mvccStore{t: t, node: n, pd: strings.TrimPrefix(p.ClientURL(), "http://")}
	for { // until the first region has elected its leader and PD was told
		regions := n.Raftstore().Regions()
		if len(regions) == 1 && regions[0].Leader {
			r := regions[0].Region
			s.rc = &kvrpcpb.Context{RegionId: r.Id, RegionEpoch: r.RegionEpoch, Peer: r.Peers[0], ApiVersion: kvrpcpb.APIVersion_V2}
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatal("no leader")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *mvccStore) ok(re *errorpb.Error, err error) {
	s.t.Helper()
	if err != nil || re != nil {
		s.t.Fatal(re, err)
	}
}

func (s *mvccStore) prewrite(ts uint64, value string, keys ...string) {
	s.t.Helper()
	q := &kvrpcpb.PrewriteRequest{Context: s.rc, StartVersion: ts, PrimaryLock: []byte(keys[0]), LockTtl: 3000, TxnSize: uint64(len(keys))}
	for _, k := range keys {
		q.Mutations = append(q.Mutations, &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: []byte(k), Value: []byte(value)})
	}
	resp, err := s.node.Service().KvPrewrite(s.t.Context(), q)
	s.ok(resp.GetRegionError(), err)
	if len(resp.Errors) > 0 {
		s.t.Fatal(resp.Errors)
	}
}

func (s *mvccStore) commit(ts uint64, keys ...string) {
	s.t.Helper()
	q := &kvrpcpb.CommitRequest{Context: s.rc, StartVersion: ts, CommitVersion: ts + 1}
	for _, k := range keys {
		q.Keys = append(q.Keys, []byte(k))
	}
	resp, err := s.node.Service().KvCommit(s.t.Context(), q)
	s.ok(resp.GetRegionError(), err)
}

func (s *mvccStore) ctl(args ...string) (out string, code int) {
	s.t.Helper()
	var buf bytes.Buffer
	code = Main("test", append([]string{"ctl", "mvcc", "--pd", s.pd}, args...), &buf, &buf)
	return buf.String(), code
}

// shows checks that a command prints all of the words.
func (s *mvccStore) shows(args []string, words ...string) {
	s.t.Helper()
	out, code := s.ctl(args...)
	if code != 0 {
		s.t.Fatalf("%v: exit code %d: %s", args, code, out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.t.Errorf("%v does not show %q:\n%s", args, w, out)
		}
	}
}

func TestCtlMvcc(t *testing.T) {
	s := newMvccStore(t)
	const first, second = 10 << 18, 20 << 18
	long := strings.Repeat("v", 1000)
	s.prewrite(first, long, "k", "l")
	s.commit(first, "k", "l")
	s.prewrite(second, "locked", "p", "k")
	row := sqlPrefix + string(tablecodec.AppendRowKey(nil, 104, []byte{1, 2}))
	s.prewrite(first+5, "row", row)
	raw, err := s.node.Service().RawPut(t.Context(), &kvrpcpb.RawPutRequest{
		Context: &kvrpcpb.Context{RegionId: s.rc.RegionId, RegionEpoch: s.rc.RegionEpoch, Peer: s.rc.Peer}, Key: []byte("k"), Value: []byte("raw\xff"), Ttl: 1000})
	s.ok(raw.GetRegionError(), err)

	shared, err := s.node.Service().KvPessimisticLock(t.Context(), &kvrpcpb.PessimisticLockRequest{
		Context: s.rc, StartVersion: second, ForUpdateTs: second, PrimaryLock: []byte("p"), LockTtl: 5000,
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_SharedPessimisticLock, Key: []byte("s")}}})
	s.ok(shared.GetRegionError(), err)
	if shared.GetErrors() != nil {
		t.Fatal(shared)
	}
	other, err := s.node.Service().KvPessimisticLock(t.Context(), &kvrpcpb.PessimisticLockRequest{
		Context: s.rc, StartVersion: second + 7, ForUpdateTs: second + 7, PrimaryLock: []byte("q"), LockTtl: 6000,
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_SharedPessimisticLock, Key: []byte("s")}}})
	s.ok(other.GetRegionError(), err)
	back, err := s.node.Service().KvBatchRollback(t.Context(), &kvrpcpb.BatchRollbackRequest{Context: s.rc, StartVersion: first + 9, Keys: [][]byte{[]byte("r")}})
	s.ok(back.GetRegionError(), err)

	s.shows([]string{"--key", "s"}, "holder", "lives 5000 ms", "lives 6000 ms", "primary p", "primary q")
	s.shows([]string{"--key", "r"}, "version", "Rollback", fmt.Sprintf("start_ts %d", first+9))
	s.shows([]string{"--key", "k"}, "hexadecimal", "6B", "lock", fmt.Sprintf("start_ts %d (1970-01-01 00:00:00.020)", second), "primary", "lives 3000 ms",
		`"locked"`, "version", "Put", fmt.Sprintf("commit_ts %d", first+1), "value", "(1000 bytes)")
	s.shows([]string{"--key", "6b", "--format", "hex"}, "lock")
	s.shows([]string{"--key", `no\x00thing`}, "nothing is stored")
	s.shows([]string{"--key", escaped([]byte(row))}, "row", "table 104, primary key 0102", `"row"`)
	s.shows([]string{"--start-ts", fmt.Sprint(second)}, "KEY", "lock", "locked")
	s.shows([]string{"--start-ts", fmt.Sprint(first), "--key", "a"}, "KEY", "version")
	s.shows([]string{"--start-ts", "77"}, "no region has a lock or a version")
	s.shows([]string{"--key", "k", "--raw"}, `"raw\xff"`, "expires")

	out, _ := s.ctl("--key", "k", "--json")
	var replies []mvccReply
	if err := json.Unmarshal([]byte(out), &replies); err != nil || len(replies) != 1 {
		t.Fatal(err, out)
	}
	r := replies[0]
	if r.Key != "6b" || r.Shown == nil || r.Shown.StartTS != second || r.Shown.Primary != "70" || len(r.Writes) != 1 || len(r.Values) != 1 || r.Store != s.node.StoreID() {
		t.Errorf("%+v", r)
	}
	for _, bad := range [][]string{{}, {"--raw", "--start-ts", "1"}, {"--key", "zz", "--format", "hex"}, {"--key", `\x`}, {"--key", "k", "--format", "x"}} {
		if out, code := s.ctl(bad...); code == 0 {
			t.Errorf("%v is accepted: %s", bad, out)
		}
	}
}
