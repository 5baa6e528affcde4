package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"

	"github.com/copradb/copra/copr/coprtest"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/proto/coprpb"
)

// fakeRouter knows a coprtest.Cluster through a cache that goes stale as
// client-go's does. It never sleeps.
type fakeRouter struct {
	c  *coprtest.Cluster
	mu sync.Mutex
	// cache is what it believes; regionError and sendFailed refresh it.
	cache  []coprtest.Region
	errors []string
	fixed  map[uint64]string // resolve: "ignore" or "access" by start timestamp
}

func (f *fakeRouter) refresh() {
	f.cache = f.c.Regions()
}

func (f *fakeRouter) encode(ranges []kv.KeyRange) []kv.KeyRange {
	out := make([]kv.KeyRange, len(ranges))
	for i, r := range ranges {
		out[i] = kv.KeyRange{Start: append(bytes.Clone(f.c.Prefix), r.Start...), End: append(bytes.Clone(f.c.Prefix), r.End...)}
	}
	return out
}

func (f *fakeRouter) header(r *plan.Request) {
	if len(f.c.Prefix) > 0 {
		r.APIVersion, r.KeyspaceID = kvrpcpb.APIVersion_V2, 1
	}
}

func (f *fakeRouter) locate(_ *tikv.Backoffer, ranges []kv.KeyRange, _ coprpb.ReplicaRead) ([]*route, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cache == nil {
		f.refresh()
	}
	var out []*route
	for _, g := range f.cache {
		var parts []kv.KeyRange
		for _, r := range ranges {
			if bytes.Compare(g.Start, r.Start) > 0 {
				r.Start = g.Start
			}
			if len(g.End) > 0 && bytes.Compare(g.End, r.End) < 0 {
				r.End = g.End
			}
			if bytes.Compare(r.Start, r.End) < 0 {
				parts = append(parts, r)
			}
		}
		if len(parts) > 0 {
			out = append(out, &route{addr: g.Addr, task: coprtest.TaskOf(g, parts...)})
		}
	}
	return out, nil
}

func (f *fakeRouter) note(s string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, s)
	f.refresh()
	if len(f.errors) > 1000 {
		return errors.New("the client tries for ever")
	}
	return nil
}

func (f *fakeRouter) regionError(_ *tikv.Backoffer, _ *route, e *errorpb.Error) error {
	return f.note(e.Message)
}

func (f *fakeRouter) sendFailed(_ *tikv.Backoffer, _ *route, cause error) { _ = f.note(cause.Error()) }

func (f *fakeRouter) resolve(_ *tikv.Backoffer, _ uint64, locks []*kvrpcpb.LockInfo) (ttl int64, ignore, access []uint64, err error) {
	for _, l := range locks {
		switch f.fixed[l.LockVersion] {
		case "ignore":
			ignore = append(ignore, l.LockVersion)
		case "access":
			access = append(access, l.LockVersion)
		default:
			f.c.Unlock(l.Key)
		}
	}
	return 0, ignore, access, f.note("locked")
}

// env is a cluster with two stores in this process.
type env struct {
	*coprtest.Cluster
	r     *fakeRouter
	c     *Client
	local *Local
}

func newEnv(t *testing.T, rows int, splits ...int64) *env {
	c := coprtest.New("s1")
	c.Prefix = []byte{'x', 0, 0, 1}
	c.Fill(rows)
	for i, id := range splits {
		c.Split(c.Key(id), fmt.Sprintf("s%d", 1+(i+1)%2))
	}
	local := NewLocal(nil)
	for _, addr := range []string{"s1", "s2"} {
		s := server.New(server.Options{Source: c.Source(addr)})
		local.Set(addr, s)
		t.Cleanup(s.Close)
	}
	r := &fakeRouter{c: c}
	return &env{Cluster: c, r: r, c: newClient(r, Options{Transport: local}), local: local}
}

func (e *env) request(p *plan.Plan) *Request {
	return &Request{Plan: p, ReadTS: 100, Ranges: []kv.KeyRange{tablecodec.RecordRange(coprtest.TableID)}}
}

func (e *env) read(t *testing.T, r *Request) []string {
	t.Helper()
	s, err := e.c.Send(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := drain(s)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func drain(s *Stream) (rows []string, err error) {
	defer func() { err = errors.Join(err, s.Close()) }()
	for {
		b, err := s.Next(context.Background())
		if err != nil || b == nil {
			return rows, err
		}
		vecs := colvec.OpenAll(b.Cols, s.Types())
		for i := range b.N {
			rows = append(rows, coltest.Text(s.Types()[0], vecs[0].At(i, s.Types()[0])))
		}
	}
}

// ids are the texts of ids in [lo, hi).
func ids(lo, hi int) (out []string) {
	for i := lo; i < hi; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func byNumber(rows []string) []string {
	slices.SortFunc(rows, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return bytes.Compare([]byte(a), []byte(b))
	})
	return rows
}

func TestReadsAllRegions(t *testing.T) {
	e := newEnv(t, 1000, 100, 150, 700, 701)
	if got := byNumber(e.read(t, e.request(coprtest.Plan()))); !slices.Equal(got, ids(0, 1000)) {
		t.Errorf("%d rows", len(got))
	}
	r := e.request(coprtest.Plan())
	r.KeepOrder, r.Concurrency = true, 2
	if got := e.read(t, r); !slices.Equal(got, ids(0, 1000)) {
		t.Errorf("in order: %d rows", len(got))
	}
	r.Plan = &plan.Plan{Nodes: []plan.Node{coprtest.Scan(true)}}
	want := ids(0, 1000)
	slices.Reverse(want)
	if got := e.read(t, r); !slices.Equal(got, want) {
		t.Errorf("backwards: %d rows, the first %q", len(got), got[:min(3, len(got))])
	}
	r.Ranges = nil
	if got := e.read(t, r); got != nil {
		t.Errorf("no ranges: %q", got)
	}
}

// Whatever fails on the way, no row is lost and none comes twice.
func TestHazard_FailuresLoseNoRows(t *testing.T) {
	for _, keepOrder := range []bool{false, true} {
		for _, desc := range []bool{false, true} {
			for _, fail := range []string{"not leader", "split", "lost connection", "lock"} {
				t.Run(fmt.Sprintf("%s, order %v, desc %v", fail, keepOrder, desc), func(t *testing.T) {
					e := newEnv(t, 2000, 500, 1200)
					e.breakOnce(fail)
					r := e.request(&plan.Plan{Nodes: []plan.Node{coprtest.Scan(desc)}})
					r.KeepOrder = keepOrder
					got := e.read(t, r)
					want := ids(0, 2000)
					if desc {
						slices.Reverse(want)
					}
					if !keepOrder {
						got, want = byNumber(got), byNumber(want)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%d rows", len(got))
					}
					if len(e.r.errors) == 0 {
						t.Error("nothing failed: the test tests nothing")
					}
				})
			}
		}
	}
}

// breakOnce makes the cluster fail once behind some rows of each region.
func (e *env) breakOnce(how string) {
	var mu sync.Mutex
	failed := map[uint64]int{}
	once := func(r coprtest.Region, times int) bool {
		mu.Lock()
		defer mu.Unlock()
		failed[r.ID]++
		return failed[r.ID] <= times
	}
	switch how {
	case "lock":
		e.Lock(e.Key(3), 41)
		e.Lock(e.Key(600), 42)
		e.Lock(e.Key(1999), 43)
		e.r.fixed = map[uint64]string{41: "ignore", 42: "access"}
	case "split":
		e.Fail(func(r coprtest.Region, rows int) error {
			at, ok := map[uint64]int64{1: 50, 2: 800, 3: 1500}[r.ID]
			if rows == 300 && ok && once(r, 1) {
				e.Split(e.Key(at), "s1")
				return coprtest.NotLeader(r.ID)
			}
			return nil
		})
	case "lost connection":
		broken := &breaking{Transport: e.local}
		broken.left.Store(5)
		e.c.tr = broken
	default:
		e.Fail(func(r coprtest.Region, rows int) error {
			if rows == 200 && once(r, 3) {
				return coprtest.NotLeader(r.ID)
			}
			return nil
		})
	}
}

// breaking loses the connection behind the first batches.
type breaking struct {
	Transport
	left atomic.Int32
}

func (b *breaking) Run(ctx context.Context, addr string, r *plan.Request, emit func(*plan.Event) error) error {
	lost := errors.New("connection lost")
	n := 0
	err := b.Transport.Run(ctx, addr, r, func(e *plan.Event) error {
		if n++; n > 2 && b.left.Add(-1) >= 0 {
			return lost
		}
		return emit(e)
	})
	return err
}

// The states of a region that failed are not merged with those of its retry.
func TestHazard_PartialAggregatesCountOnce(t *testing.T) {
	for _, how := range []string{"not leader", "split", "lock"} {
		e := newEnv(t, 2000, 500, 1200)
		e.breakOnce(how)
		s, err := e.c.Send(context.Background(), e.request(coprtest.Plan(coprtest.CountByGroup())))
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int64{}
		for {
			b, err := s.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				break
			}
			g, n := colvec.Open(b.Cols[0], sqltypes.Int4), colvec.Open(b.Cols[1], sqltypes.Int8)
			for i := range b.N {
				counts[coltest.Text(sqltypes.Int4, g.At(i, sqltypes.Int4))] += n.I64[i]
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if len(counts) != 7 || counts["NULL"] != 286 || counts["1"] != 286 || counts["6"] != 285 || len(e.r.errors) == 0 {
			t.Errorf("%s: %v after %q", how, counts, e.r.errors)
		}
	}
}

func TestStatementErrorEndsStream(t *testing.T) {
	e := newEnv(t, 100, 50)
	e.Fail(func(coprtest.Region, int) error { return pgerror.New(pgerror.DivisionByZero, "division by zero") })
	s, err := e.c.Send(context.Background(), e.request(coprtest.Plan()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(s); pgerror.Code(err) != pgerror.DivisionByZero {
		t.Errorf("error %v", err)
	}
	if len(e.r.errors) != 0 {
		t.Errorf("it was tried again: %q", e.r.errors)
	}
}

func TestUnreachableForever(t *testing.T) {
	e := newEnv(t, 100)
	e.Fail(func(r coprtest.Region, _ int) error { return coprtest.NotLeader(r.ID) })
	s, err := e.c.Send(context.Background(), e.request(coprtest.Plan()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(s); pgerror.Code(err) != pgerror.IOError {
		t.Errorf("error %v", err)
	}
}

func TestCloseEarlyAndCancel(t *testing.T) {
	for _, keepOrder := range []bool{false, true} {
		e := newEnv(t, 5000, 100, 200, 300, 400, 500)
		r := e.request(coprtest.Plan())
		r.KeepOrder, r.RowsHint = keepOrder, 10
		s, err := e.c.Send(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := s.Next(context.Background()); err != nil || b.N > 16 {
			t.Errorf("a first batch of %d rows for a hint of 10, %v", b.N, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := drain(s); err != nil && pgerror.Code(err) != pgerror.QueryCanceled {
			t.Errorf("after Close: %v", err)
		}
		if n := e.Open(); n != 0 {
			t.Errorf("%d readers are open after Close", n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		if s, err = e.c.Send(ctx, r); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := drain(s); err != nil && pgerror.Code(err) != pgerror.QueryCanceled {
			t.Errorf("after cancel: %v", err)
		}
	}
}

func TestHeldBackBatchesAreLimited(t *testing.T) {
	e := newEnv(t, 100)
	r := e.request(coprtest.Plan(&plan.Limit{N: 50}))
	r.MemBytesMax = 64
	s, err := e.c.Send(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(s); pgerror.Code(err) != pgerror.OutOfMemory {
		t.Errorf("error %v", err)
	}
}

func TestStats(t *testing.T) {
	e := newEnv(t, 100, 50)
	s, err := e.c.Send(context.Background(), e.request(coprtest.Plan()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(s); err != nil {
		t.Fatal(err)
	}
	rows, regions := uint64(0), 0
	for _, st := range s.Stats() {
		rows, regions = rows+st.RowsScanned, regions+st.Regions
	}
	if rows != 100 || regions != 2 {
		t.Errorf("%+v", s.Stats())
	}
}
