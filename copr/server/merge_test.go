package server_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copradb/copra/copr/coprtest"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/sqltypes"
)

// TestMergedAnswerLeavesOutWhatFailed: a region with a lock and one that has
// moved say so by themselves; the others answer together.
func TestMergedAnswerLeavesOutWhatFailed(t *testing.T) {
	c := cluster(70, 10, 20, 30, 40, 50, 60)
	for name, tr := range transports(t, newService(t, c, server.Options{})) {
		p := coprtest.Plan(coprtest.CountByGroup())
		r := request(c, p)
		c.Lock(c.Key(25), 7) // task 2
		r.Regions[4].Epoch.Version = 99
		a, err := collect(t, p, tr(r))
		if err != nil {
			t.Fatal(err)
		}
		if e := a.ends[2]; e == nil || len(e.Locks) != 1 || len(e.Also) > 0 || len(a.rows[2]) > 0 {
			t.Errorf("%s: the locked region ended with %+v", name, e)
		}
		if e := a.ends[4]; e == nil || e.RegionError.GetEpochNotMatch() == nil || len(e.Also) > 0 || len(a.rows[4]) > 0 {
			t.Errorf("%s: the region that moved ended with %+v", name, e)
		}
		delete(a.ends, 2)
		delete(a.ends, 4)
		for lead, e := range a.ends {
			if done := slices.Sorted(slices.Values(append([]int{lead}, e.Also...))); !slices.Equal(done, []int{0, 1, 3, 5, 6}) || len(a.ends) != 1 {
				t.Errorf("%s: %v are done", name, done)
			}
			if n := count(t, a.rows[lead]); n != 50 || len(a.rows[lead]) != 7 || e.Stats.RowsScanned != 50 {
				t.Errorf("%s: %d rows in %q, statistics %+v", name, n, a.rows[lead], e.Stats)
			}
		}
		c.Unlock(c.Key(25))
	}
}

// count sums up the second of two columns.
func count(t *testing.T, rows []string) int {
	n := 0
	for _, r := range rows {
		i, err := strconv.Atoi(r[strings.IndexByte(r, ' ')+1:])
		if err != nil {
			t.Fatal(err)
		}
		n += i
	}
	return n
}

// TestManyGroupsAreNotMerged: they leave as they come.
func TestManyGroupsAreNotMerged(t *testing.T) {
	const rows = server.MergeRowsMax + 5000
	c := cluster(rows, 1000, 12000, 25000)
	s := newService(t, c, server.Options{})
	agg := coprtest.CountByGroup()
	agg.GroupBy = []expr.Expr{coprtest.Col(0)}
	p := coprtest.Plan(agg)
	a, err := collect(t, p, func(emit func(*plan.Event) error) error { return s.Run(context.Background(), request(c, p), emit) })
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for i := range 4 {
		if e := a.ends[i]; e == nil || e.Err != nil || len(e.Also) > 0 {
			t.Fatalf("task %d ended with %+v", i, e)
		}
		total += count(t, a.rows[i])
	}
	if total != rows || len(a.rows[0]) != 1000 {
		t.Errorf("%d rows counted, %d groups of the first region", total, len(a.rows[0]))
	}
}

// TestFloatsAreNotMerged: their sums depend on the order.
func TestFloatsAreNotMerged(t *testing.T) {
	c := cluster(20, 5, 12)
	s := newService(t, c, server.Options{})
	p := coprtest.Plan(
		&plan.Projection{Exprs: []expr.Expr{&expr.Const{Value: sqltypes.NewFloat(0.1), Typ: sqltypes.Float8}}},
		&plan.Aggregation{Aggs: []plan.AggCall{{Name: "sum", Args: []expr.Expr{&expr.Column{Index: 0, Typ: sqltypes.Float8}}, Type: sqltypes.Float8}}})
	a, err := collect(t, p, func(emit func(*plan.Event) error) error { return s.Run(context.Background(), request(c, p), emit) })
	if err != nil || len(a.ends) != 3 || len(a.rows[1]) != 1 {
		t.Errorf("ends %v, rows %v, %v", a.ends, a.rows, err)
	}
}

// TestCancelStopsWorkers: all of them, within the rows between two looks.
func TestCancelStopsWorkers(t *testing.T) {
	const rowsMax = 256 // server.yieldRows
	for _, nodes := range [][]plan.Node{nil, {coprtest.CountByGroup()}, {&plan.TopN{Keys: []plan.SortKey{{Expr: coprtest.Col(2)}}, N: 3}}} {
		c := cluster(20000, 5000, 10000, 15000)
		s := newService(t, c, server.Options{CPU: cpusched.New(4)})
		ctx, cancel := context.WithCancel(context.Background())
		var read, behind atomic.Int64
		c.Fail(func(coprtest.Region, int) error {
			if read.Add(1) == 6000 {
				cancel()
			}
			if ctx.Err() != nil {
				behind.Add(1)
			}
			return nil
		})
		err := s.Run(ctx, request(c, coprtest.Plan(nodes...)), func(*plan.Event) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if n := behind.Load(); n > 4*rowsMax {
			t.Errorf("%d rows were read after cancel", n)
		}
	}
}
