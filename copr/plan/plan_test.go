package plan_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"google.golang.org/protobuf/proto"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/proto/coprpb"
)

var (
	num   = sqltypes.NumericOf(15, 2)
	types = []sqltypes.Type{sqltypes.Int4, num, sqltypes.Text, sqltypes.Bool, sqltypes.Date}
)

func col(i int) expr.Expr { return &expr.Column{Index: i, Typ: types[i]} }

func op(t testing.TB, name string, l, r expr.Expr) expr.Expr {
	t.Helper()
	e, err := expr.NewOperator(name, l, r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func scanNode() *plan.TableScan {
	s := &plan.TableScan{TableID: 5, KeyColumns: []plan.Column{{ID: 1, Type: sqltypes.Int4}}, Desc: true}
	for i, typ := range types {
		s.Columns = append(s.Columns, plan.Column{ID: uint32(i + 1), Type: typ})
	}
	s.Columns[2].Default = sqltypes.NewString("none")
	return s
}

// everything is a plan with every kind of node and expression.
func everything(t testing.TB) *plan.Plan {
	one := &expr.Const{Value: sqltypes.NewInt(1), Typ: sqltypes.Int4}
	d, err := sqltypes.ParseNumeric("1.50")
	if err != nil {
		t.Fatal(err)
	}
	dec := &expr.Const{Value: sqltypes.NewDecimal(d), Typ: num}
	cond := &expr.Logic{Or: true, Args: []expr.Expr{col(3), op(t, ">", col(0), one)}}
	return &plan.Plan{TimeZone: "Europe/Berlin", Now: time.UnixMicro(1700000000123456), Nodes: []plan.Node{
		scanNode(),
		&plan.Selection{Conds: []expr.Expr{
			expr.NewKeyFilter(&expr.Column{Index: 1, Typ: num}, []int64{3, 70}), expr.NewKeyFilter(&expr.Column{Index: 4, Typ: types[4]}, append(count(6000), 1<<30)),
			expr.NewKeyFilter(&expr.Column{Index: 0, Typ: types[0]}, count(6000)),
		}},
		&plan.Selection{Conds: []expr.Expr{cond, &expr.In{X: col(2), Values: []sqltypes.Datum{sqltypes.NewString("a"), sqltypes.Null}, Not: true}}},
		&plan.Projection{Exprs: []expr.Expr{
			&expr.Case{Conds: []expr.Expr{col(3)}, Results: []expr.Expr{col(1)}, Else: dec, Typ: num},
			&expr.Coalesce{Args: []expr.Expr{col(0), one}, Typ: sqltypes.Int4},
			op(t, "*", col(1), dec),
		}},
		&plan.Aggregation{
			GroupBy: []expr.Expr{&expr.Column{Index: 1, Typ: sqltypes.Int4}},
			Aggs: []plan.AggCall{
				{Name: "count", Type: sqltypes.Int8},
				{Name: "avg", Args: []expr.Expr{&expr.Column{Index: 0, Typ: num}}, Type: sqltypes.Numeric,
					Filter: op(t, ">", &expr.Column{Index: 1, Typ: sqltypes.Int4}, one)},
			},
		},
		&plan.TopN{Keys: []plan.SortKey{{Expr: &expr.Column{Index: 1, Typ: sqltypes.Int8}, Desc: true, NullsFirst: true}}, N: 10},
		&plan.Limit{N: 3},
	}}
}

func TestRoundTrip(t *testing.T) {
	index := &plan.IndexScan{
		TableID: 5, IndexID: 2, Unique: true, Handle: true, KeyColumns: []plan.Column{{ID: 1, Type: sqltypes.Int4}},
		IndexColumns: []plan.IndexColumn{{Column: plan.Column{ID: 3, Type: sqltypes.Text}, Desc: true}},
		Columns:      []plan.Column{{ID: 1, Type: sqltypes.Int4}, {ID: 3, Type: sqltypes.Text}},
	}
	for _, p := range []*plan.Plan{everything(t), {Nodes: []plan.Node{index}}} {
		pb, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := proto.Marshal(pb)
		if err != nil {
			t.Fatal(err)
		}
		again := &coprpb.Plan{}
		if err := proto.Unmarshal(b, again); err != nil {
			t.Fatal(err)
		}
		got, err := plan.Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		pb2, err := got.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(pb, pb2) {
			t.Errorf("a plan changed on its way:\n%v\n%v", pb, pb2)
		}
		a, _ := p.OutputTypes()
		b2, _ := got.OutputTypes()
		if !reflect.DeepEqual(a, b2) {
			t.Errorf("types %v became %v", a, b2)
		}
	}
}

func TestRefused(t *testing.T) {
	one := &expr.Const{Value: sqltypes.NewInt(1), Typ: sqltypes.Int4}
	with := func(nodes ...plan.Node) *plan.Plan {
		return &plan.Plan{Nodes: append([]plan.Node{scanNode()}, nodes...)}
	}
	deep := expr.Expr(&expr.Logic{Args: []expr.Expr{col(3)}})
	for range plan.ExprDepthMax + 1 {
		deep = &expr.Logic{Args: []expr.Expr{deep}}
	}
	plus := op(t, "+", col(0), one).(*expr.Call)
	for name, p := range map[string]*plan.Plan{
		"no nodes":                 {},
		"no scan":                  {Nodes: []plan.Node{&plan.Limit{N: 1}}},
		"two scans":                with(scanNode()),
		"column out of range":      with(&plan.Projection{Exprs: []expr.Expr{&expr.Column{Index: 9, Typ: sqltypes.Int4}}}),
		"column of another type":   with(&plan.Projection{Exprs: []expr.Expr{&expr.Column{Index: 0, Typ: sqltypes.Text}}}),
		"condition not boolean":    with(&plan.Selection{Conds: []expr.Expr{col(0)}}),
		"parameter":                with(&plan.Projection{Exprs: []expr.Expr{&expr.Param{Typ: sqltypes.Int4}}}),
		"too deep":                 with(&plan.Selection{Conds: []expr.Expr{deep}}),
		"argument of another type": with(&plan.Projection{Exprs: []expr.Expr{&expr.Call{Fn: plus.Fn, Args: []expr.Expr{col(0), col(2)}, Typ: sqltypes.Int4}}}),
		"result of another type":   with(&plan.Projection{Exprs: []expr.Expr{&expr.Call{Fn: plus.Fn, Args: plus.Args, Typ: sqltypes.Text}}}),
		"too few arguments":        with(&plan.Projection{Exprs: []expr.Expr{&expr.Call{Fn: plus.Fn, Args: plus.Args[:1], Typ: sqltypes.Int4}}}),
		"constant of another kind": with(&plan.Projection{Exprs: []expr.Expr{&expr.Const{Value: sqltypes.NewString("x"), Typ: sqltypes.Int4}}}),
		"unknown aggregate":        with(&plan.Aggregation{Aggs: []plan.AggCall{{Name: "median", Args: []expr.Expr{col(0)}}}}),
		"distinct aggregate":       with(&plan.Aggregation{Aggs: []plan.AggCall{{Name: "count", Args: []expr.Expr{col(0)}, Distinct: true}}}),
		"time zone":                {TimeZone: "../../etc/passwd", Nodes: []plan.Node{scanNode()}},
		"type":                     {Nodes: []plan.Node{&plan.TableScan{KeyColumns: []plan.Column{{Type: sqltypes.Type{OID: 1}}}}}},
		"numeric(2000,5)":          {Nodes: []plan.Node{&plan.TableScan{KeyColumns: []plan.Column{{Type: sqltypes.NumericOf(2000, 5)}}}}},
	} {
		if _, err := p.Encode(); !errors.Is(err, plan.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func ticket(t testing.TB, change func(*plan.Request)) []byte {
	t.Helper()
	p := everything(t)
	pb, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := &plan.Request{Plan: p, ReadTS: 99, Timeout: time.Second, ResolvedLocks: []uint64{7}, Regions: []plan.RegionTask{{
		ID: 3, Epoch: &metapb.RegionEpoch{ConfVer: 1, Version: 2}, Peer: &metapb.Peer{Id: 4, StoreId: 5},
		Ranges: []kv.KeyRange{{Start: []byte("a"), End: []byte("c")}, {Start: []byte("c")}},
	}}}
	change(r)
	b, err := r.EncodeTicket(pb)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTicket(t *testing.T) {
	r, err := plan.DecodeTicket(ticket(t, func(*plan.Request) {}))
	if err != nil {
		t.Fatal(err)
	}
	rc := r.Context(0)
	if rc.RegionId != 3 || rc.RegionEpoch.Version != 2 || rc.Peer.StoreId != 5 || rc.ResolvedLocks[0] != 7 || r.ReadTS != 99 || r.Timeout != time.Second {
		t.Errorf("the ticket became %+v", r)
	}
	for name, change := range map[string]func(*plan.Request){
		"no regions":          func(r *plan.Request) { r.Regions = nil },
		"no ranges":           func(r *plan.Request) { r.Regions[0].Ranges = nil },
		"ranges out of order": func(r *plan.Request) { g := r.Regions[0].Ranges; g[0], g[1] = g[1], g[0] },
		"range upside down":   func(r *plan.Request) { r.Regions[0].Ranges[0].End = []byte("A") },
		"another keyspace":    func(r *plan.Request) { r.APIVersion, r.KeyspaceID = 2, 1 },
		"keyspace id":         func(r *plan.Request) { r.APIVersion, r.KeyspaceID = 2, 1<<24 },
		"API version":         func(r *plan.Request) { r.APIVersion = 9 },
	} {
		if _, err := plan.DecodeTicket(ticket(t, change)); !errors.Is(err, plan.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBehind(t *testing.T) {
	ranges := []kv.KeyRange{{Start: []byte("a"), End: []byte("c")}, {Start: []byte("e"), End: []byte("g")}, {Start: []byte("k")}}
	show := func(rs []kv.KeyRange) string {
		var s []string
		for _, r := range rs {
			s = append(s, strings.ReplaceAll(string(r.Start)+"-"+string(r.End), "\x00", "0"))
		}
		return strings.Join(s, " ")
	}
	for _, c := range []struct {
		key  string
		desc bool
		want string
	}{
		{"b", false, "b0-c e-g k-"}, {"f", false, "f0-g k-"}, {"z", false, "z0-"}, {"d", false, "e-g k-"},
		{"f", true, "a-c e-f"}, {"z", true, "a-c e-g k-z"}, {"a", true, ""}, {"e", true, "a-c"},
	} {
		if got := show(plan.Behind(ranges, []byte(c.key), c.desc)); got != c.want {
			t.Errorf("behind %s (desc %v): %s, want %s", c.key, c.desc, got, c.want)
		}
	}
}

// Whatever a ticket holds, it is refused or makes sense. (The fuzzing engine is
// slow on a binary of this size; TestMutatedTickets goes through many more.)
func FuzzDecodeTicket(f *testing.F) {
	f.Add(ticket(f, func(*plan.Request) {}))
	f.Fuzz(func(t *testing.T, data []byte) { checkTicket(t, data) })
}

func TestMutatedTickets(t *testing.T) {
	base := ticket(t, func(*plan.Request) {})
	rnd := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 50_000 {
		data := slices.Clone(base)
		for range 1 + rnd.IntN(3) {
			switch i := rnd.IntN(len(data)); rnd.IntN(3) {
			case 0:
				data[i] = byte(rnd.IntN(256))
			case 1:
				data = slices.Delete(data, i, min(i+rnd.IntN(4), len(data)))
			case 2:
				data[i] += byte(1 - 2*rnd.IntN(2))
			}
		}
		if checkTicket(t, data) {
			accepted++
		}
	}
	if accepted == 0 {
		t.Error("no mutated ticket was accepted: the test reaches nothing")
	}
}

// checkTicket reports whether the ticket was accepted; then its plan must have
// types, compile and travel on.
func checkTicket(t *testing.T, data []byte) bool {
	r, err := plan.DecodeTicket(data)
	if err != nil {
		if !errors.Is(err, plan.ErrInvalid) {
			t.Fatalf("error %v", err)
		}
		return false
	}
	if _, err := r.Plan.OutputTypes(); err != nil {
		t.Fatalf("a checked plan has no types: %v", err)
	}
	if _, err := r.Plan.Encode(); err != nil {
		t.Fatalf("a checked plan cannot be encoded: %v", err)
	}
	return true
}

func count(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

// A hostile filter of keys is refused.
func TestBadKeyFilters(t *testing.T) {
	date := &expr.Column{Index: 4, Typ: sqltypes.Date}
	text := &expr.Column{Index: 2, Typ: sqltypes.Text}
	for name, f := range map[string]*expr.KeyFilter{
		"a list unsorted":   {X: date, Lo: 1, Hi: 2, Keys: []int64{1, 3, 2}},
		"a list off range":  {X: date, Lo: 1, Hi: 2, Keys: []int64{1, 3}},
		"a list too long":   {X: date, Lo: 0, Hi: expr.KeyFilterListMax, Keys: count(expr.KeyFilterListMax + 1)},
		"a list of strings": {X: text, Lo: 1, Hi: 2, Keys: []int64{1, 2}},
		"a list and bits":   {X: date, Lo: 1, Hi: 2, Keys: []int64{1, 2}, Bits: []byte{3}},
		"no column":         {Lo: 1, Hi: 2, Bits: []byte{3}},
		"no set":            {X: date, Lo: 1, Hi: 2},
		"a long range":      {X: date, Lo: -1 << 63, Hi: 1<<63 - 1, Bits: make([]byte, 8)},
		"no spare bit":      {X: date, Lo: 0, Hi: 7, Bits: []byte{1}},
		"a bit for no key":  {X: date, Lo: 0, Hi: 6, Bits: []byte{0x80}},
		"an empty range":    {X: date, Lo: 5, Hi: 4, Bits: make([]byte, 8)},
		"too many bits":     {X: date, Lo: 0, Hi: 4, Bits: make([]byte, expr.KeyFilterBytesMax+1)},
		"too many blocks":   {X: date, Lo: 0, Hi: 4, Bloom: make([]byte, 2*expr.KeyFilterBytesMax)},
		"half a block":      {X: date, Lo: 0, Hi: 4, Bloom: make([]byte, 4)},
		"three blocks":      {X: date, Lo: 0, Hi: 4, Bloom: make([]byte, 24)},
		"both":              {X: date, Lo: 0, Hi: 4, Bits: make([]byte, 8), Bloom: make([]byte, 8)},
		"bits of strings":   {X: text, Lo: 0, Hi: 4, Bits: make([]byte, 8)},
		"booleans":          {X: &expr.Column{Index: 3, Typ: sqltypes.Bool}, Bloom: make([]byte, 8)},
		"another type":      {X: &expr.Column{Index: 4, Typ: sqltypes.Int8}, Bloom: make([]byte, 8)},
		"a column too many": {X: &expr.Column{Index: 9, Typ: sqltypes.Int8}, Bloom: make([]byte, 8)},
	} {
		p := &plan.Plan{Nodes: []plan.Node{scanNode(), &plan.Selection{Conds: []expr.Expr{f}}}}
		if err := p.Check(); !errors.Is(err, plan.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, m := range []*coprpb.KeyFilter{nil, {}, {Bits: []byte{1}}} {
		p, err := everything(t).Encode()
		if err != nil {
			t.Fatal(err)
		}
		p.Nodes[1].GetSelection().Conds[0] = &coprpb.Expr{Node: &coprpb.Expr_KeyFilter{KeyFilter: m}}
		if _, err := plan.Decode(p); !errors.Is(err, plan.ErrInvalid) {
			t.Errorf("%v: %v", m, err)
		}
	}
}
