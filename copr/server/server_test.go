package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/copradb/copra/copr/client"
	"github.com/copradb/copra/copr/coprtest"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/proto/coprpb"
)

const addr = "store1"

// answer is what came back, by task.
type answer struct {
	rows    map[int][]string
	ends    map[int]*plan.Event
	batches []int // rows of each batch
	resume  map[int][]byte
}

func collect(t *testing.T, p *plan.Plan, run func(emit func(*plan.Event) error) error) (*answer, error) {
	t.Helper()
	types, err := p.OutputTypes()
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{rows: map[int][]string{}, ends: map[int]*plan.Event{}, resume: map[int][]byte{}}
	err = run(func(e *plan.Event) error {
		if e.Batch != nil {
			a.batches = append(a.batches, e.Batch.N)
			a.resume[e.Task] = e.ResumeKey
			vecs := colvec.OpenAll(e.Batch.Cols, types)
			for i := range e.Batch.N {
				s := ""
				for c := range vecs {
					s += coltest.Text(types[c], vecs[c].At(i, types[c])) + " "
				}
				a.rows[e.Task] = append(a.rows[e.Task], strings.TrimSpace(s))
			}
		}
		if e.Done {
			if a.ends[e.Task] != nil {
				t.Errorf("task %d ended twice", e.Task)
			}
			a.ends[e.Task] = e
		}
		return nil
	})
	return a, err
}

// request reads all regions of c.
func request(c *coprtest.Cluster, p *plan.Plan) *plan.Request {
	r := &plan.Request{Plan: p, ReadTS: 100}
	for _, g := range c.Regions() {
		r.Regions = append(r.Regions, c.Task(g))
	}
	return r
}

func newService(t *testing.T, c *coprtest.Cluster, o server.Options) *server.Service {
	o.Source = c.Source(addr)
	s := server.New(o)
	t.Cleanup(func() {
		s.Close()
		if n := c.Open(); n != 0 {
			t.Errorf("%d readers were not closed", n)
		}
	})
	return s
}

func cluster(rows int, splits ...int64) *coprtest.Cluster {
	c := coprtest.New(addr)
	c.Fill(rows)
	for _, id := range splits {
		c.Split(c.Key(id), addr)
	}
	return c
}

// transports run a request in process and over a socket.
func transports(t *testing.T, s *server.Service) map[string]func(*plan.Request) func(func(*plan.Event) error) error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	s.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(lis) }()
	fl := client.NewFlight(client.FlightOptions{})
	t.Cleanup(func() {
		if err := fl.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	return map[string]func(*plan.Request) func(func(*plan.Event) error) error{
		"in process": func(r *plan.Request) func(func(*plan.Event) error) error {
			return func(emit func(*plan.Event) error) error { return s.Run(ctx, r, emit) }
		},
		"Flight": func(r *plan.Request) func(func(*plan.Event) error) error {
			return func(emit func(*plan.Event) error) error { return fl.Run(ctx, lis.Addr().String(), r, emit) }
		},
	}
}

func TestScanAndAggregate(t *testing.T) {
	c := cluster(20, 5, 12)
	for name, tr := range transports(t, newService(t, c, server.Options{})) {
		for _, compression := range []coprpb.Compression{0, 1, 2} {
			p := coprtest.Plan()
			r := request(c, p)
			r.Compression = compression
			a, err := collect(t, p, tr(r))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var all []string
			for i := range 3 {
				if e := a.ends[i]; e == nil || e.Err != nil || e.RegionError != nil {
					t.Fatalf("%s: task %d ended with %+v", name, i, e)
				}
				all = append(all, a.rows[i]...)
			}
			if len(all) != 20 || all[0] != "0 NULL row 0" || all[19] != "19 5 row 19" {
				t.Errorf("%s: %q", name, all)
			}
			if st := a.ends[0].Stats; st.RowsScanned != 5 || st.RowsReturned != 5 || st.BytesScanned == 0 {
				t.Errorf("%s: statistics %+v", name, st)
			}
			if string(a.resume[0]) != string(c.Key(4)) {
				t.Errorf("%s: resume key %x", name, a.resume[0])
			}
		}
		p := coprtest.Plan(coprtest.CountByGroup())
		a, err := collect(t, p, tr(request(c, p)))
		if err != nil {
			t.Fatal(err)
		}
		lead := slices.Collect(maps.Keys(a.ends))
		if len(lead) != 1 || !slices.Equal(slices.Sorted(slices.Values(append(lead, a.ends[lead[0]].Also...))), []int{0, 1, 2}) {
			t.Fatalf("%s: ends %+v", name, a.ends)
		}
		slices.Sort(a.rows[lead[0]])
		if got := a.rows[lead[0]]; !slices.Equal(got, []string{"1 3", "2 3", "3 3", "4 3", "5 3", "6 2", "NULL 3"}) || a.resume[lead[0]] != nil {
			t.Errorf("%s: groups %q, resume key %x", name, got, a.resume[lead[0]])
		}
		if st := a.ends[lead[0]].Stats; st.RowsScanned != 20 {
			t.Errorf("%s: statistics %+v", name, st)
		}
		// count(*) reads no column at all.
		p = &plan.Plan{Nodes: []plan.Node{&plan.TableScan{TableID: coprtest.TableID, KeyColumns: coprtest.Scan(false).KeyColumns}}}
		if a, err = collect(t, p, tr(request(c, p))); err != nil || !slices.Equal(slices.Sorted(slices.Values(a.batches)), []int{5, 7, 8}) {
			t.Errorf("%s: no columns: %v, %v", name, a.batches, err)
		}
	}
}

func TestDescendingRanges(t *testing.T) {
	c := cluster(20)
	s := newService(t, c, server.Options{})
	p := &plan.Plan{Nodes: []plan.Node{coprtest.Scan(true)}}
	r := &plan.Request{Plan: p, Regions: []plan.RegionTask{coprtest.TaskOf(c.Regions()[0],
		kv.KeyRange{Start: c.Key(2), End: c.Key(4)}, tablecodec.PointRange(c.Key(9)))}}
	a, err := collect(t, p, func(emit func(*plan.Event) error) error { return s.Run(context.Background(), r, emit) })
	if err != nil || !slices.Equal(a.rows[0], []string{"9 2 row 9", "3 3 row 3", "2 2 row 2"}) {
		t.Errorf("%q, %v", a.rows[0], err)
	}
	if string(a.resume[0]) != string(c.Key(2)) {
		t.Errorf("resume key %x", a.resume[0])
	}
}

func TestBatchesGrow(t *testing.T) {
	c := cluster(1000)
	s := newService(t, c, server.Options{})
	p := coprtest.Plan()
	a, err := collect(t, p, func(emit func(*plan.Event) error) error {
		return s.Run(context.Background(), request(c, p), emit)
	})
	if err != nil || !slices.Equal(a.batches, []int{64, 128, 256, 512, 40}) {
		t.Errorf("batches of %v rows, %v", a.batches, err)
	}
}

func TestRegionsFailAlone(t *testing.T) {
	c := cluster(20, 5, 12)
	s := newService(t, c, server.Options{})
	c.Lock(c.Key(6), 55)
	c.Fail(func(r coprtest.Region, rows int) error {
		if r.ID == 1 && rows == 3 {
			return coprtest.NotLeader(1)
		}
		return nil
	})
	for name, tr := range transports(t, s) {
		p := coprtest.Plan()
		r := request(c, p)
		stale := r.Regions[2]
		stale.ID = 99
		r.Regions = append(r.Regions, stale)
		a, err := collect(t, p, tr(r))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e := a.ends[0]; e.RegionError.GetNotLeader() == nil {
			t.Errorf("%s: region 1 ended with %+v", name, e)
		}
		if e := a.ends[1]; len(e.Locks) != 1 || e.Locks[0].LockVersion != 55 {
			t.Errorf("%s: region 2 ended with %+v", name, e)
		}
		if e := a.ends[2]; e.RegionError != nil || len(a.rows[2]) != 8 {
			t.Errorf("%s: region 3 ended with %+v after %d rows", name, e, len(a.rows[2]))
		}
		if e := a.ends[3]; e.RegionError.GetRegionNotFound() == nil {
			t.Errorf("%s: a missing region ended with %+v", name, e)
		}
		r.ResolvedLocks = []uint64{55}
		if a, err = collect(t, p, tr(r)); err != nil || len(a.rows[1]) != 7 {
			t.Errorf("%s: past a resolved lock: %d rows, %v", name, len(a.rows[1]), err)
		}
	}
}

func TestStatementErrors(t *testing.T) {
	c := cluster(20)
	for name, tr := range transports(t, newService(t, c, server.Options{RequestMemBytesMax: 1 << 20})) {
		div, err := expr.NewOperator("/", coprtest.Col(0), coprtest.Col(0))
		if err != nil {
			t.Fatal(err)
		}
		p := coprtest.Plan(&plan.Projection{Exprs: []expr.Expr{div}})
		a, err := collect(t, p, tr(request(c, p)))
		if err != nil || pgerror.Code(a.ends[0].Err) != pgerror.DivisionByZero {
			t.Errorf("%s: division by zero: %+v, %v", name, a.ends[0], err)
		}
		p = coprtest.Plan(coprtest.CountByGroup())
		r := request(c, p)
		r.MemBytesMax = 100
		a, err = collect(t, p, tr(r))
		if err != nil || pgerror.Code(a.ends[0].Err) != pgerror.OutOfMemory {
			t.Errorf("%s: over the memory limit: %+v, %v", name, a.ends[0], err)
		}
		// A plan for one table cannot read another's rows.
		p = coprtest.Plan()
		p.Nodes[0].(*plan.TableScan).TableID++
		a, err = collect(t, p, tr(request(c, p)))
		if err != nil || pgerror.Code(a.ends[0].Err) != pgerror.InvalidParameterValue || len(a.rows[0]) != 0 {
			t.Errorf("%s: another table: %+v, %v", name, a.ends[0], err)
		}
		r = request(c, coprtest.Plan())
		r.Regions[0].Ranges = nil
		if _, err = collect(t, r.Plan, tr(r)); !errors.Is(err, plan.ErrInvalid) {
			t.Errorf("%s: no ranges: %v", name, err)
		}
	}
}

func TestClusterIDIsChecked(t *testing.T) {
	c := cluster(1)
	s := newService(t, c, server.Options{ClusterID: 7})
	r := request(c, coprtest.Plan())
	if err := s.Run(context.Background(), r, func(*plan.Event) error { return nil }); !errors.Is(err, plan.ErrInvalid) {
		t.Errorf("another cluster's request: %v", err)
	}
}

func TestTooManyRequests(t *testing.T) {
	c := cluster(20, 5)
	s := newService(t, c, server.Options{RequestsMax: 1})
	inside := make(chan struct{})
	release := make(chan struct{})
	var once atomic.Bool
	first := make(chan error, 1)
	go func() {
		first <- s.Run(context.Background(), request(c, coprtest.Plan()), func(*plan.Event) error {
			if once.CompareAndSwap(false, true) {
				close(inside)
				<-release
			}
			return nil
		})
	}()
	<-inside
	p := coprtest.Plan()
	a, err := collect(t, p, func(emit func(*plan.Event) error) error {
		return s.Run(context.Background(), request(c, p), emit)
	})
	if err != nil || a.ends[0].RegionError.GetServerIsBusy() == nil || a.ends[1].RegionError.GetServerIsBusy() == nil {
		t.Errorf("a second request: %+v, %v", a.ends, err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// A reader that does not read keeps no worker from others.
func TestSlowReaderHoldsNoWorker(t *testing.T) {
	c := cluster(20)
	s := newService(t, c, server.Options{CPU: cpusched.New(1)})
	inside, release := make(chan struct{}), make(chan struct{})
	slow := make(chan error, 1)
	go func() {
		slow <- s.Run(context.Background(), request(c, coprtest.Plan()), func(e *plan.Event) error {
			if e.Batch != nil {
				close(inside)
				<-release
			}
			return nil
		})
	}()
	<-inside
	p := coprtest.Plan()
	a, err := collect(t, p, func(emit func(*plan.Event) error) error {
		return s.Run(context.Background(), request(c, p), emit)
	})
	if err != nil || len(a.rows[0]) != 20 {
		t.Errorf("%d rows, %v", len(a.rows[0]), err)
	}
	close(release)
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

func TestCancelAndClose(t *testing.T) {
	c := cluster(20, 5)
	s := newService(t, c, server.Options{})
	stop := fmt.Errorf("enough")
	err := s.Run(context.Background(), request(c, coprtest.Plan()), func(*plan.Event) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("emit's error became %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = s.Run(ctx, request(c, coprtest.Plan()), func(*plan.Event) error { cancel(); return nil })
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
	s.Close()
	if err := s.Run(context.Background(), request(c, coprtest.Plan()), func(*plan.Event) error { return nil }); !errors.Is(err, server.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A panic below fails the statement, not the store.
func TestPanicIsContained(t *testing.T) {
	c := cluster(20)
	s := newService(t, c, server.Options{CPU: cpusched.New(1)})
	c.Fail(func(coprtest.Region, int) error { panic("boom") })
	p := coprtest.Plan()
	run := func(emit func(*plan.Event) error) error { return s.Run(context.Background(), request(c, p), emit) }
	a, err := collect(t, p, run)
	if err != nil || pgerror.Code(a.ends[0].Err) != pgerror.InternalError {
		t.Fatalf("%+v, %v", a.ends[0], err)
	}
	c.Fail(nil)
	if a, err = collect(t, p, run); err != nil || len(a.rows[0]) != 20 {
		t.Errorf("after a panic: %d rows, %v", len(a.rows[0]), err)
	}
}

func TestSlowRequestsAreLogged(t *testing.T) {
	c := cluster(20, 5, 12)
	var out bytes.Buffer
	slow := slowlog.New(slog.New(slog.NewTextHandler(&out, nil)), 0)
	s := newService(t, c, server.Options{Slow: slow})
	p := coprtest.Plan(coprtest.CountByGroup())
	run := func() {
		t.Helper()
		if err := s.Run(context.Background(), request(c, p), func(*plan.Event) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	run()
	for _, want := range []string{"method=coprocessor", "plan=tablescan>aggregation", "regions=3", "rows_scanned=20", "rows_returned=", "slowest_region=", "process_ms=", "send_ms=", "start_ts=100", "client=local"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, out.String())
		}
	}
	out.Reset()
	slow.SetThreshold(-1)
	if run(); out.Len() > 0 {
		t.Errorf("logged in spite of the threshold: %s", out.String())
	}
}
