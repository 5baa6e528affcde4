package pd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/schedule"
)

// scriptCluster has stores 1, 4, 5, 6, a region up to m on 1, 4, 5 and one from
// m on on 4, 5, 6; nothing is scheduled by itself.
func scriptCluster(t *testing.T) *Server {
	s := startPD(t, func(c *Config) {
		c.Name = "pd1"
		c.Schedule = schedule.Options{PatrolInterval: time.Hour, BalanceInterval: time.Hour}
	})
	c, ctx := bootstrap(t, s, 4), testContext(t)
	for _, id := range []uint64{1, 4, 5, 6} {
		if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: header(s), Stats: &pdpb.StoreStats{
			StoreId: id, Capacity: 100 << 30, Available: 60 << 30, UsedSize: 40 << 30, BytesWritten: 10 << 20 * id, KeysRead: 100,
			Interval: &pdpb.TimeInterval{StartTimestamp: 1000, EndTimestamp: 1010},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	m := codec.EncodeBytes(nil, []byte("m"))
	for _, hb := range []*pdpb.RegionHeartbeatRequest{
		{Region: &metapb.Region{Id: 2, EndKey: m, RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 5},
			Peers: []*metapb.Peer{{Id: 21, StoreId: 1}, {Id: 22, StoreId: 4}, {Id: 23, StoreId: 5}}},
			ApproximateSize: 96 << 20, ApproximateKeys: 960_000, BytesWritten: 60 << 20, KeysWritten: 60_000,
			QueryStats: &pdpb.QueryStats{Put: 6000}},
		{Region: &metapb.Region{Id: 10, StartKey: m, RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 4},
			Peers: []*metapb.Peer{{Id: 31, StoreId: 4}, {Id: 32, StoreId: 5}, {Id: 33, StoreId: 6}}},
			ApproximateSize: 20 << 20, ApproximateKeys: 1000, BytesRead: 1 << 20},
	} {
		hb.Leader, hb.Interval = hb.Region.Peers[0], &pdpb.TimeInterval{StartTimestamp: 1000, EndTimestamp: 1060}
		if err := s.term.Load().cluster.regionHeartbeat(hb); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

var (
	timeText   = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)
	timeInside = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]*Z?(\+\d\d:\d\d)?`)
	heartbeat  = regexp.MustCompile(`"last_heartbeat":\d+`)
	passed     = regexp.MustCompile(`duration:[^,]*,`)
)

// TestHTTPScript asks what the scripts ask, and looks that they and the refusals
// leave out no route.
func TestHTTPScript(t *testing.T) {
	asked := make(map[string]bool)
	var routes *http.ServeMux
	ask := func(s *Server, request string) (code int, body []byte) {
		t.Helper()
		line, content, _ := strings.Cut(request, "\n")
		method, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		req, err := http.NewRequest(method, s.ClientURL()+path, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		_, pattern := routes.Handler(req)
		asked[pattern] = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if body, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	var s *Server
	datadriven.Walk(t, "testdata/http", func(t *testing.T, path string) {
		s = scriptCluster(t)
		if routes == nil {
			routes = http.NewServeMux()
			for pattern := range s.localRoutes() {
				routes.Handle(pattern, http.NotFoundHandler())
			}
			for pattern := range s.leaderRoutes() {
				routes.Handle(pattern, http.NotFoundHandler())
			}
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "ask": // status and body
				code, body := ask(s, d.Input)
				var compact bytes.Buffer
				if len(body) > 0 {
					if err := json.Compact(&compact, body); err != nil {
						d.Fatalf(t, "no JSON: %s", body)
					}
				}
				text := heartbeat.ReplaceAllString(compact.String(), `"last_heartbeat":0`)
				text = timeText.ReplaceAllString(text, "TIME")
				text = passed.ReplaceAllString(timeInside.ReplaceAllString(text, "TIME"), "duration:D,")
				return fmt.Sprintf("%d %s\n", code, strings.ReplaceAll(text, `},{`, "},\n{"))
			case "status": // status alone, of answers that differ from run to run
				code, _ := ask(s, d.Input)
				return fmt.Sprintf("%d\n", code)
			case "await": // asks until the answer has a text
				var want string
				d.ScanArgs(t, "for", &want)
				until(t, want, func() bool { _, body := ask(s, d.Input); return bytes.Contains(body, []byte(want)) })
				return ""
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
	s = scriptCluster(t)
	for pattern, why := range missingRoutes {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			method, path = http.MethodGet, pattern
		}
		code, body := ask(s, method+" "+strings.ReplaceAll(path, "{name}", "x"))
		if code != http.StatusNotImplemented || !bytes.Contains(body, []byte(why)) {
			t.Errorf("%s: %d %s", pattern, code, body)
		}
	}
	for pattern := range s.localRoutes() {
		if !asked[pattern] {
			t.Errorf("no script asks %s", pattern)
		}
	}
	for pattern := range s.leaderRoutes() {
		if !asked[pattern] {
			t.Errorf("no script asks %s", pattern)
		}
	}
}

// TestHTTPBodyLimit sends more than is read.
func TestHTTPBodyLimit(t *testing.T) {
	s := startPD(t, nil)
	resp, err := http.Post(s.ClientURL()+"/pd/api/v1/config", "application/json",
		strings.NewReader(`{"x": "`+strings.Repeat("x", requestBodyBytesMax)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatal(resp.Status)
	}
}

// TestDropRegion forgets a region, which its next report brings back.
func TestDropRegion(t *testing.T) {
	rs := core.NewRegions()
	r := &core.Region{Meta: firstRegion(), ReportedAt: time.Now()}
	if _, err := rs.Put(r); err != nil {
		t.Fatal(err)
	}
	if !rs.Drop(2) || rs.Drop(2) || rs.Len() != 0 || rs.ByKey(nil) != nil || rs.StoreCounts(1).Peers != 0 {
		t.Fatal("the region is still there")
	}
	if ch, err := rs.Put(r); err != nil || !ch.Meta || rs.ByID(2) == nil {
		t.Fatal(ch, err)
	}
}
