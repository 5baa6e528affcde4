package server_test

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/copr/coprtest"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/cpusched"
)

// gauge is the value of a metric without labels.
func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestHazard16_MemoryOfUnreadAnswers: what was kept of answers that nobody reads to
// the end is not charged to the store for ever.
func TestHazard16_MemoryOfUnreadAnswers(t *testing.T) {
	const rows = server.MergeRowsMax + 8000
	errGone := errors.New("the reader has gone")
	c := cluster(rows, 9000, 18000, 27000, 36000)
	reg := prometheus.NewRegistry()
	s := newService(t, c, server.Options{CPU: cpusched.New(3), Registerer: reg})
	agg := coprtest.CountByGroup()
	agg.GroupBy = []expr.Expr{coprtest.Col(0)}
	p := coprtest.Plan(agg)
	for _, last := range []int{1, 2, 3, 8} {
		events := 0
		err := s.Run(context.Background(), request(c, p), func(*plan.Event) error {
			if events++; events >= last {
				return errGone
			}
			return nil
		})
		if !errors.Is(err, errGone) || events < last {
			t.Errorf("%d events: %v", events, err)
		}
		if n := gauge(t, reg, "copra_copr_memory_bytes"); n != 0 {
			t.Fatalf("gone at event %d: %v bytes are charged", last, n)
		}
	}
}
