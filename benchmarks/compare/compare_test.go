package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestCounterSumsSamples(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "# HELP syncs of the log\n# TYPE syncs counter\nsyncs{node=\"1\"} 3\nsyncs{node=\"2\"} 4.5e1\nsyncs_other 100\n")
	}))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	if n, err := counter(context.Background(), addr, "syncs"); err != nil || n != 48 {
		t.Errorf("counter is %v, %v; want 48", n, err)
	}
	if _, err := counter(context.Background(), addr, "sync"); err == nil {
		t.Error("a metric that is not there has a value")
	}
}

func TestAwaitTellsWhoEnded(t *testing.T) {
	p, err := start(t.TempDir(), "broken", "sh", "-c", "echo out of luck; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	err = await(context.Background(), "the system", []*process{p}, func() error { return io.EOF })
	if err == nil || !strings.Contains(err.Error(), "broken ended") || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("await says %v", err)
	}
}

func TestProcessTimeIsCounted(t *testing.T) {
	p, err := start(t.TempDir(), "busy", "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; exec sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	err = await(context.Background(), "the loop", []*process{p}, func() error {
		if !strings.Contains(p.tail(), "done") {
			return io.EOF
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if used := p.cpu(); used < clockTick || used > time.Minute {
		t.Errorf("a busy loop has used %s", used)
	}
}

func TestTables(t *testing.T) {
	o, err := parse([]string{"-workloads", "load,c", "-threads", "1", "-systems", "copra1,etcd1"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(o, []*system{{name: "copra 1"}, {name: "etcd 1"}})
	add := func(system, workload string, perSecond, perSync float64) {
		c := cell{system, workload, 1}
		r.results[c] = append(r.results[c], figures{perSecond, time.Millisecond, 2 * time.Millisecond, 0, 0, perSync})
	}
	for _, v := range []float64{30, 10, 20} { // the median is 20
		add("copra 1", "load", v, 1.5)
	}
	add("etcd 1", "load", 16, 1)
	add("copra 1", "c", 50, 0)
	add("etcd 1", "c", 100, 0)
	add("copra 1", pointGet, 5, 0)
	add("etcd 1", pointGet, 6, 0)
	add("etcd 1"+serializable, pointGet, 7, 0)
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| load | 1 | 20 (1.00 / 2.00) | 1.25 | 16 (1.00 / 2.00) |",
		"| C | 1 | 50 (1.00 / 2.00) | 0.50 | 100 (1.00 / 2.00) |",
		"copra is ahead in 1 of 2 cells.",
		"| load | 1 | 1.50 | 1.00 |\n\n", // no line for C, which writes nothing
		"| etcd 1, serializable | 7 (1.00 / 2.00) |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{{"-systems", "mongo"}, {"-workloads", "x"}, {"-threads", "0"}, {"-parts", "sql"}, {"-repeat", "0"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
