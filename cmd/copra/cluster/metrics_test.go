package cluster

import (
	"context"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/pd"
	"github.com/copradb/copra/tikv"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata/metrics.txt")

// recorder notes what is registered, used or not.
type recorder struct {
	*prometheus.Registry
	mu    sync.Mutex
	names map[string]bool
}

var descPattern = regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: \{(.*)\}\}`)

func (r *recorder) Register(c prometheus.Collector) error {
	ch := make(chan *prometheus.Desc, 64)
	go func() {
		c.Describe(ch)
		close(ch)
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	for d := range ch {
		m := descPattern.FindStringSubmatch(d.String())
		name := m[1]
		if m[2] != "" {
			name += "{" + m[2] + "}"
		}
		r.names[name] = true
	}
	return r.Registry.Register(c)
}

func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// TestMetricNames: dashboards and alerts know metrics by their names, so one
// that is renamed or gone is a change that users see. After a wanted one, and to
// put new ones under the test's eye, run
//
//	go test ./cmd/copra/cluster -run TestMetricNames -rewrite
func TestMetricNames(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := pd.Start(ctx, pd.Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	rec := &recorder{Registry: prometheus.NewRegistry(), names: map[string]bool{}}
	s, err := StartStore(ctx, tikv.Config{
		DataDir: t.TempDir(), Addr: "127.0.0.1:0", PDEndpoints: []string{p.ClientURL()}, CacheBytes: 8 << 20, MemTableBytes: 4 << 20, ReserveBytes: -1,
		Registerer: rec, Gatherer: rec.Registry,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	var names []string
	for n := range rec.names {
		names = append(names, n)
	}
	slices.Sort(names)
	got := strings.Join(names, "\n") + "\n"
	const golden = "testdata/metrics.txt"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Split(strings.TrimSpace(string(want)), "\n")
	for _, n := range names {
		if !slices.Contains(known, n) {
			t.Logf("new: %s", n)
		}
	}
	for _, n := range known {
		if !rec.names[n] {
			t.Errorf("gone: %s", n)
		}
	}
	if t.Failed() {
		t.Log("after a wanted change: go test ./cmd/copra/cluster -run TestMetricNames -rewrite, and look at docs/operations.md")
	}
}
