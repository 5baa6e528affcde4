package columnar_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/sqltypes"
)

// panics counts what is logged of tasks that panicked.
type panics struct {
	slog.Handler
	t *testing.T
	n atomic.Int64
}

func (p *panics) Enabled(context.Context, slog.Level) bool { return true }

func (p *panics) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "panicked") && p.n.Add(1) < 4 {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
		p.t.Error(text)
	}
	return nil
}

// hostilePlans are what tickets are mutated from: filters of joins in all their
// forms, lists, arithmetic, and aggregations that are divided, merged and kept.
func hostilePlans(t *testing.T) (out []*plan.Plan) {
	id, v := &expr.Column{Index: 0, Typ: sqltypes.Int8}, &expr.Column{Index: 1, Typ: sqltypes.Int8}
	many := func(n int, step int64) (keys []int64) {
		for i := range int64(n) {
			keys = append(keys, i*step)
		}
		return keys
	}
	op := func(name string, l, r expr.Expr) expr.Expr {
		e, err := expr.NewOperator(name, l, r)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	two := &expr.Const{Value: sqltypes.NewInt(2), Typ: sqltypes.Int8}
	for _, cond := range []expr.Expr{
		expr.NewKeyFilter(id, many(9, 3)), expr.NewKeyFilter(id, many(600, 2)), expr.NewKeyFilter(v, many(600, 1<<40)),
		&expr.In{X: v, Values: []sqltypes.Datum{sqltypes.NewInt(1), sqltypes.NewInt(4)}}, op("<", id, two),
	} {
		for _, last := range []plan.Node{
			&plan.Aggregation{GroupBy: []expr.Expr{v}, Aggs: []plan.AggCall{
				{Name: "sum", Args: []expr.Expr{op("/", id, v)}, Type: sqltypes.Numeric}, {Name: "max", Args: []expr.Expr{id}, Type: sqltypes.Int8},
			}},
			&plan.Aggregation{Aggs: []plan.AggCall{{Name: "count", Type: sqltypes.Int8}, {Name: "avg", Args: []expr.Expr{op("*", id, two)}, Type: sqltypes.Numeric}}},
			&plan.TopN{Keys: []plan.SortKey{{Expr: v, Desc: true}}, N: 3}, &plan.TopN{N: 3}, &plan.TopN{Keys: []plan.SortKey{{Expr: v}}},
			&plan.Limit{N: 7},
		} {
			out = append(out, &plan.Plan{Nodes: []plan.Node{numbers.Nodes[0], &plan.Selection{Conds: []expr.Expr{cond}}, last}})
		}
	}
	return out
}

// TestHostileTickets: whatever a ticket holds that is accepted, the store answers
// or says why not, and keeps no memory of it.
func TestHostileTickets(t *testing.T) {
	const runs = 20000
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	reg := prometheus.NewRegistry()
	log := &panics{Handler: slog.DiscardHandler, t: t}
	s := server.New(server.Options{
		Source: server.TxnSource(w.store), Columns: w.cache, CPU: cpusched.New(3), MemBytesMax: 8 << 20, RequestMemBytesMax: 4 << 20, Logger: slog.New(log), Registerer: reg,
	})
	defer s.Close()
	var all []mutation
	for i := range int64(400) {
		all = append(all, number(i, i%9))
	}
	w.put(10, 11, all...)
	regions := request(numbers, w.e.Context(all[0].key), 20, true, tableRange(tableID)).Regions
	var tickets [][]byte
	for _, p := range hostilePlans(t) {
		r := &plan.Request{Plan: p, ReadTS: 20, Columnar: true, ResultCache: true, Regions: regions}
		if err := s.Run(context.Background(), r, func(*plan.Event) error { return nil }); err != nil {
			t.Fatal(err)
		}
		pb, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.EncodeTicket(pb)
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, data)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	ran, failed := 0, 0
	for range runs {
		data := slices.Clone(tickets[rnd.IntN(len(tickets))])
		for range 1 + rnd.IntN(4) {
			switch i := rnd.IntN(min(len(data), 400)); rnd.IntN(4) {
			case 0:
				data[i] = byte(rnd.IntN(256))
			case 1:
				data[i] ^= 1 << rnd.IntN(8)
			case 2:
				data[i] += byte(1 - 2*rnd.IntN(2))
			case 3:
				from := tickets[rnd.IntN(len(tickets))]
				j := rnd.IntN(len(from))
				copy(data[i:], from[j:min(len(from), j+1+rnd.IntN(12))])
			}
		}
		r, err := plan.DecodeTicket(data)
		if err != nil {
			continue
		}
		r.Regions, r.ReadTS, r.ClusterID, r.Timeout = regions, 20, 0, 0
		if err := s.Run(context.Background(), r, func(e *plan.Event) error {
			if e.Err != nil {
				failed++
			}
			return nil
		}); err == nil {
			ran++
		}
	}
	t.Logf("%d tickets ran, %d ended with an error", ran, failed)
	if ran == 0 || failed == 0 {
		t.Errorf("%d tickets ran, %d ended with an error: the test reaches nothing", ran, failed)
	}
	for _, p := range hostilePlans(t) { // as well as before
		ends := 0
		if err := s.Run(context.Background(), &plan.Request{Plan: p, ReadTS: 20, Columnar: true, Regions: regions}, func(e *plan.Event) error {
			if e.Done {
				ends++
			}
			return nil
		}); err != nil || ends != 1 {
			t.Errorf("behind all: %d ends, %v", ends, err)
		}
	}
	gathered, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range gathered {
		if f.GetName() == "copra_copr_memory_bytes" && f.GetMetric()[0].GetGauge().GetValue() != 0 {
			t.Errorf("%v bytes are charged when nothing runs", f.GetMetric()[0].GetGauge().GetValue())
		}
	}
}
