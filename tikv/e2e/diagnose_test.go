package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// slowLines keeps the lines of the slow log.
type slowLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *slowLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// of returns the last slow line of a method.
func (l *slowLines) of(t *testing.T, method string) (found map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == "slow request" && m["method"] == method {
			found = m
		}
	}
	return found
}

// direct is a connection to the store that leads the only region.
func (c *cluster) direct() (tikvpb.TikvClient, *kvrpcpb.Context) {
	c.t.Helper()
	at, info, _ := c.regionOf("k")
	conn, err := grpc.NewClient(c.nodes[at].Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	c.must(err)
	c.t.Cleanup(func() { _ = conn.Close() })
	return tikvpb.NewTikvClient(conn), &kvrpcpb.Context{
		RegionId: info.Region.Id, RegionEpoch: info.Region.RegionEpoch, Peer: info.LeaderPeer, RequestSource: "external_test"}
}

func (c *cluster) postConfig(body string) (code int, answer string) {
	c.t.Helper()
	resp, err := http.Post("http://"+c.nodes[0].StatusAddr()+"/config", "application/json", strings.NewReader(body))
	c.must(err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	c.must(err)
	return resp.StatusCode, string(b)
}

// foreignPost is what a browser sends for a web page of somebody else's.
func (c *cluster) foreignPost() (code int) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, "http://"+c.nodes[0].StatusAddr()+"/config", strings.NewReader(`{"slow-log-threshold": "1h"}`))
	c.must(err)
	req.Header.Set("Origin", "http://example.com")
	resp, err := http.DefaultClient.Do(req)
	c.must(err)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestSlowRequests: a slow request leaves a line with its stages, and its answer
// says where the time went.
func TestSlowRequests(t *testing.T) {
	var lines slowLines
	c := start(t, 1, func(cfg *tikv.Config) {
		cfg.Logger = slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
		cfg.SlowLogThreshold = time.Nanosecond
	})
	c.eventually("a leader", func() bool { _, info, ok := c.regionOf("k"); return ok && info.LeaderPeer != nil })
	if code := c.foreignPost(); code != http.StatusForbidden {
		t.Errorf("a page of another origin may change settings: %d", code)
	}
	kv, rc := c.direct()
	ts, err := c.txnClient().CurrentTimestamp("global")
	c.must(err)

	prewrite, err := kv.KvPrewrite(c.ctx, &kvrpcpb.PrewriteRequest{
		Context: rc, StartVersion: ts, PrimaryLock: []byte("k"), LockTtl: 3000,
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte("k"), Value: []byte("value")}, {Op: kvrpcpb.Op_Put, Key: []byte("l"), Value: []byte("value")}},
	})
	c.must(err)
	commit, err := kv.KvCommit(c.ctx, &kvrpcpb.CommitRequest{Context: rc, StartVersion: ts, CommitVersion: ts + 1, Keys: [][]byte{[]byte("k"), []byte("l")}})
	c.must(err)
	get, err := kv.KvGet(c.ctx, &kvrpcpb.GetRequest{Context: rc, Key: []byte("k"), Version: ts + 2})
	c.must(err)
	if prewrite.RegionError != nil || len(prewrite.Errors) > 0 || commit.RegionError != nil || commit.Error != nil || string(get.Value) != "value" {
		t.Fatal(prewrite, commit, get)
	}

	for method, d := range map[string]*kvrpcpb.ExecDetailsV2{"kv_prewrite": prewrite.ExecDetailsV2, "kv_commit": commit.ExecDetailsV2} {
		w, tv := d.GetWriteDetail(), d.GetTimeDetailV2()
		if w.GetPersistLogNanos() == 0 || w.GetCommitLogNanos() == 0 || w.GetApplyLogNanos() == 0 || w.GetLatchWaitNanos() == 0 || w.GetProposeSendWaitNanos() == 0 {
			t.Errorf("%s: parts of the write are missing: %v", method, w)
		}
		if sum := w.GetProposeSendWaitNanos() + w.GetCommitLogNanos() + w.GetApplyBatchWaitNanos() + w.GetApplyLogNanos(); sum > tv.GetTotalRpcWallTimeNs() {
			t.Errorf("%s: the parts of the write, %d ns, are more than the whole: %v", method, sum, tv)
		}
		line := lines.of(t, method)
		for _, key := range []string{"total_ms", "process_ms", "latch_ms", "write_ms", "propose_ms", "persist_ms", "commit_ms", "apply_ms", "write_bytes", "region", "peer", "store", "client"} {
			if _, ok := line[key]; !ok {
				t.Errorf("%s: the slow log has no %s: %v", method, key, line)
			}
		}
		if line["start_ts"] != float64(ts) || line["keys"] != 2.0 || line["first_key"] != "6B" || line["source"] != "external_test" || line["client"] == "local" {
			t.Errorf("%s: the slow log does not describe the request: %v", method, line)
		}
	}
	scan, tv := get.ExecDetailsV2.GetScanDetailV2(), get.ExecDetailsV2.GetTimeDetailV2()
	if scan.GetProcessedVersions() != 1 || scan.GetProcessedVersionsSize() != 6 || scan.GetTotalVersions() == 0 || scan.GetGetSnapshotNanos() == 0 {
		t.Errorf("the read's costs are wrong: %v", scan)
	}
	if tv.GetTotalRpcWallTimeNs() != tv.GetWaitWallTimeNs()+tv.GetProcessWallTimeNs() || tv.GetKvReadWallTimeNs() == 0 {
		t.Errorf("the read's times do not add up: %v", tv)
	}

	t.Run("settings", func(t *testing.T) { c.slowSettings(t, kv, rc, &lines) })
}

// slowSettings changes the slow log's settings while the store runs.
func (c *cluster) slowSettings(t *testing.T, kv tikvpb.TikvClient, rc *kvrpcpb.Context, lines *slowLines) {
	put := func(key string) {
		t.Helper()
		if r, err := kv.RawPut(c.ctx, &kvrpcpb.RawPutRequest{Context: rc, Key: []byte(key), Value: []byte("v")}); err != nil || r.RegionError != nil {
			t.Fatal(r, err)
		}
	}
	if code, answer := c.postConfig(`{"security.redact-info-log": true}`); code != http.StatusOK {
		t.Fatal(code, answer)
	}
	put("secret")
	if line := lines.of(t, "raw_put"); line["first_key"] != "?" {
		t.Errorf("a key is shown in spite of redaction: %v", line)
	}
	if code, answer := c.postConfig(`{"security.redact-info-log": false, "slow-log-threshold": "1h"}`); code != http.StatusOK {
		t.Fatal(code, answer)
	}
	put("quick")
	if line := lines.of(t, "raw_put"); line["first_key"] != "?" {
		t.Errorf("a request below the threshold is logged: %v", line)
	}
	for _, bad := range []string{`{"slow-log-threshold": 5}`, `{"slow-log-threshold": "1ms", "no-such": 1}`, `[]`} {
		if code, _ := c.postConfig(bad); code != http.StatusBadRequest {
			t.Errorf("%s is answered %d", bad, code)
		}
	}
	if d := c.nodes[0].SlowLog().Threshold(); d != time.Hour {
		t.Errorf("a refused change has set the threshold to %s", d)
	}
}

// TestBatchedRequestsSayHowLongTheyWaited: the queue is part of the details of
// requests on a BatchCommands stream.
func TestBatchedRequestsSayHowLongTheyWaited(t *testing.T) {
	c := start(t, 1, nil)
	c.eventually("a leader", func() bool { _, info, ok := c.regionOf("k"); return ok && info.LeaderPeer != nil })
	kv, rc := c.direct()
	stream, err := kv.BatchCommands(c.ctx)
	c.must(err)
	c.must(stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{7}, Requests: []*tikvpb.BatchCommandsRequest_Request{
		{Cmd: &tikvpb.BatchCommandsRequest_Request_Get{Get: &kvrpcpb.GetRequest{Context: rc, Key: []byte("k"), Version: 1}}}}}))
	resp, err := stream.Recv()
	c.must(err)
	tv := resp.GetResponses()[0].GetGet().GetExecDetailsV2().GetTimeDetailV2()
	if tv.GetKvGrpcWaitTimeNs() == 0 || tv.GetTotalRpcWallTimeNs() <= tv.GetKvGrpcWaitTimeNs() {
		t.Errorf("the wait is not in the details: %v", resp)
	}
}

// TestAskedHealthRidesAlong: client-go asks for a store's health on a stream and
// takes it from where the stream's own feedback is, at most once a second.
func TestAskedHealthRidesAlong(t *testing.T) {
	c := start(t, 1, nil)
	c.eventually("a leader", func() bool { _, info, ok := c.regionOf("k"); return ok && info.LeaderPeer != nil })
	kv, _ := c.direct()
	stream, err := kv.BatchCommands(c.ctx)
	c.must(err)
	last := uint64(time.Now().Add(-time.Hour).Unix()) // those of an earlier run were less
	for range 3 {
		c.must(stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{1}, Requests: []*tikvpb.BatchCommandsRequest_Request{
			{Cmd: &tikvpb.BatchCommandsRequest_Request_GetHealthFeedback{GetHealthFeedback: &kvrpcpb.GetHealthFeedbackRequest{}}}}}))
		msg, err := stream.Recv()
		c.must(err)
		h := msg.GetHealthFeedback()
		if h == nil || h.GetStoreId() != c.nodes[0].StoreID() || h.GetSlowScore() != 1 || h.GetFeedbackSeqNo() <= last {
			t.Fatalf("behind %d the health is %v", last, h)
		}
		last = h.GetFeedbackSeqNo()
	}
}

// scraped is a sample of /metrics without labels.
func (c *cluster) scraped(name string) float64 {
	c.t.Helper()
	resp, err := http.Get("http://" + c.nodes[0].StatusAddr() + "/metrics")
	c.must(err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	c.must(err)
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			c.must(err)
			return v
		}
	}
	c.t.Fatalf("/metrics has no %s", name)
	return 0
}

// TestGroupCommitCounters: how many writes one sync of the Raft log carries can
// be read off the metrics, and so can the stages of writes.
func TestGroupCommitCounters(t *testing.T) {
	c := start(t, 1, nil)
	c.eventually("a leader", func() bool { _, info, ok := c.regionOf("k"); return ok && info.LeaderPeer != nil })
	kv, rc := c.direct()
	const clients, writes = 16, 8
	before := map[string]float64{}
	names := []string{"tikv_raftstore_log_sync_entries_sum", "tikv_raftstore_log_sync_entries_count", "tikv_raftstore_log_sync_total", "tikv_raftstore_commit_log_duration_seconds_count",
		"tikv_raftstore_apply_log_duration_seconds_count", "tikv_raftstore_propose_log_size_count"}
	for _, n := range names {
		before[n] = c.scraped(n)
	}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for range writes {
				if r, err := kv.RawPut(c.ctx, &kvrpcpb.RawPutRequest{Context: rc, Key: []byte{byte(i)}, Value: []byte("v")}); err != nil || r.RegionError != nil {
					t.Error(r, err)
				}
			}
		})
	}
	wg.Wait()
	grown := map[string]float64{}
	for _, n := range names {
		grown[n] = c.scraped(n) - before[n]
	}
	for n, v := range grown {
		if v < clients*writes && n != "tikv_raftstore_log_sync_entries_count" && n != "tikv_raftstore_log_sync_total" {
			t.Errorf("%s grew by %v for %d writes", n, v, clients*writes)
		}
	}
	syncs := grown["tikv_raftstore_log_sync_entries_count"]
	if syncs == 0 || syncs > grown["tikv_raftstore_log_sync_entries_sum"]+5 {
		t.Errorf("%v syncs carried %v entries", syncs, grown["tikv_raftstore_log_sync_entries_sum"])
	}
}
