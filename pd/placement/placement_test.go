package placement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
)

// memory is a Storage, which can fail.
type memory struct {
	kv   map[string][]byte
	fail error
}

func (m *memory) Save(_ context.Context, changes map[string][]byte) error {
	if m.fail != nil {
		return m.fail
	}
	for k, v := range changes {
		if v == nil {
			delete(m.kv, k)
		} else {
			m.kv[k] = v
		}
	}
	return nil
}

func newManager(t *testing.T, st *memory) *Manager {
	t.Helper()
	m, err := NewManager(st, st.kv, DefaultRule(3, nil, ""))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func key(s string) []byte { return codec.EncodeBytes(nil, []byte(s)) }

// names says which rules hold in [start, end).
func namesIn(m *Manager, start, end []byte) string {
	rules, ok := m.RulesFor(start, end)
	if !ok {
		return "crosses"
	}
	var out []string
	for _, r := range rules {
		out = append(out, r.Name())
	}
	return strings.Join(out, " ")
}

func rule(group, id string, index int, override bool, start, end string) *Rule {
	r := &Rule{GroupID: group, ID: id, Index: index, Override: override, Role: Voter, Count: 1}
	if start != "" {
		r.StartKey = key(start)
	}
	if end != "" {
		r.EndKey = key(end)
	}
	return r
}

func TestWhichRulesHold(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		rules  []*Rule
		groups []Group
		want   string // in [c, d)
	}{
		{"only the default", nil, nil, "pd/default"},
		{"both", []*Rule{rule("t", "1", 0, false, "a", "m")}, nil, "pd/default t/1"},
		{"by group's id, index, id", []*Rule{rule("b", "2", 1, false, "", ""), rule("b", "1", 1, false, "", ""), rule("b", "3", 0, false, "", "")}, nil,
			"b/3 b/1 b/2 pd/default"},
		{"override in a group", []*Rule{rule("t", "1", 1, false, "", ""), rule("t", "2", 2, true, "a", "m"), rule("t", "3", 3, false, "", "")}, nil,
			"pd/default t/2 t/3"},
		{"override of groups", []*Rule{rule("t", "1", 0, false, "a", "m")}, []Group{{ID: "t", Index: 1, Override: true}}, "t/1"},
		{"a group that comes first overrides nothing behind", []*Rule{rule("t", "1", 0, false, "a", "m")}, []Group{{ID: "t", Index: -1, Override: true}},
			"t/1 pd/default"},
		{"elsewhere", []*Rule{rule("t", "1", 0, false, "m", "")}, []Group{{ID: "t", Index: 1, Override: true}}, "pd/default"},
		{"crosses", []*Rule{rule("t", "1", 0, false, "c1", "")}, nil, "crosses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newManager(t, &memory{kv: map[string][]byte{}})
			for _, g := range c.groups {
				if err := m.SetGroup(ctx, g); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.SetRules(ctx, c.rules...); err != nil {
				t.Fatal(err)
			}
			if got := namesIn(m, key("c"), key("d")); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestSavedAndLoaded makes changes, some of which fail, and loads what was
// saved: it is what is in force.
func TestSavedAndLoaded(t *testing.T) {
	ctx := context.Background()
	st := &memory{kv: map[string][]byte{}}
	m := newManager(t, st)
	if len(st.kv) > 0 {
		t.Fatal("the default rule was saved before anybody changed a rule")
	}
	check := func(step string) {
		t.Helper()
		loaded := newManager(t, &memory{kv: st.kv})
		a, _ := json.Marshal(m.Bundles())
		b, _ := json.Marshal(loaded.Bundles())
		if string(a) != string(b) {
			t.Fatalf("%s: in force %s, saved %s", step, a, b)
		}
	}
	if err := m.SetRules(ctx, rule("t", "1", 0, false, "a", "m")); err != nil {
		t.Fatal(err)
	}
	check("set")
	if err := m.SetGroup(ctx, Group{ID: "t", Index: 3, Override: true}); err != nil {
		t.Fatal(err)
	}
	check("group")
	if err := m.SetDefault(ctx, 5, []string{"zone"}, "zone"); err != nil || m.Default().Count != 5 {
		t.Fatal(err, m.Default())
	}
	check("default")
	st.fail = errors.New("no etcd")
	if err := m.DeleteRule(ctx, "t", "1"); !errors.Is(err, st.fail) || m.Rule("t", "1") == nil {
		t.Fatal("a change that was not saved is in force", err)
	}
	st.fail = nil
	if err := m.Batch(ctx, []RuleOp{{Rule: rule("t", "2", 0, false, "", ""), Action: ActionAdd},
		{Rule: &Rule{GroupID: "t", ID: "1"}, Action: ActionDelete, DeleteByIDPrefix: true}}); err != nil {
		t.Fatal(err)
	}
	if m.Rule("t", "1") != nil || m.Rule("t", "2") == nil {
		t.Fatal("the batch did something else", m.GroupRules("t"))
	}
	check("batch")
	if err := m.SetBundles(ctx, []Bundle{{ID: "only", Rules: []*Rule{rule("", "a", 0, false, "", "")}}}, false); err != nil {
		t.Fatal(err)
	}
	if len(m.Rules()) != 1 || m.Default() != nil {
		t.Fatal("SetBundles left other groups", m.Rules())
	}
	check("bundles")
	if err := m.DeleteBundles(ctx, "on.*", true); !errors.Is(err, ErrInvalid) {
		t.Fatal("all rules were removed", err)
	}
	if err := m.SetDefault(ctx, 3, nil, ""); err == nil {
		t.Fatal("the default rule is gone, but could be set")
	}
}

func TestRuleJSON(t *testing.T) {
	const in = `{"group_id":"g","id":"i","index":2,"override":true,"start_key":"6100000000000000F8","end_key":"","role":"follower","is_witness":false,"count":2,` +
		`"label_constraints":[{"key":"zone","op":"notIn","values":["a","b"]}],"location_labels":["zone","host"],"isolation_level":"host"}`
	var r Rule
	if err := json.Unmarshal([]byte(in), &r); err != nil {
		t.Fatal(err)
	}
	if err := r.check(); err != nil || string(r.StartKey) != string(key("a")) {
		t.Fatal(err, r)
	}
	if out, err := json.Marshal(&r); err != nil || string(out) != in {
		t.Errorf("got %s, %v", out, err)
	}
	for _, bad := range []string{`{"start_key":"xx"}`, `{"end_key":"1"}`, `{"is_witness":true}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), &r); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	r.StartKey = []byte("plain")
	if r.check() == nil {
		t.Error("a start key that no region can have was taken")
	}
}

func TestConstraints(t *testing.T) {
	store := func(labels ...string) *core.Store {
		m := &metapb.Store{Id: 1}
		for i := 0; i < len(labels); i += 2 {
			m.Labels = append(m.Labels, &metapb.StoreLabel{Key: labels[i], Value: labels[i+1]})
		}
		return &core.Store{Meta: m}
	}
	one := func(key string, op Op, values ...string) []LabelConstraint {
		return []LabelConstraint{{key, op, values}}
	}
	for i, c := range []struct {
		store *core.Store
		cs    []LabelConstraint
		want  bool
	}{
		{store(), nil, true},
		{nil, nil, false},
		{store("zone", "a"), one("zone", In, "a", "b"), true},
		{store("Zone", "a"), one("zone", In, "a"), true},
		{store("zone", "A"), one("zone", In, "a"), false},
		{store("zone", "c"), one("zone", In, "a", "b"), false},
		{store(), one("zone", In, "a"), false},
		{store(), one("zone", NotIn, "a"), true},
		{store("zone", "a"), one("zone", NotIn, "a"), false},
		{store("zone", "a"), one("zone", Exists), true},
		{store(), one("zone", Exists), false},
		{store(), one("zone", NotExists), true},
		{store("zone", "a"), one("zone", NotExists), false},
		// Engines of their own and labels with a dollar sign keep others off.
		{store("engine", "tiflash"), nil, false},
		{store("engine", "tikv"), nil, true},
		{store("engine", "tiflash"), one("engine", In, "tiflash"), true},
		{store("$mode", "readonly"), nil, false},
		{store("$mode", "readonly"), one("$mode", Exists), true},
	} {
		if got := MatchStore(c.store, c.cs); got != c.want {
			t.Errorf("%d: %v on %v: %v", i, c.cs, c.store, got)
		}
	}
}

var now = time.Unix(1_700_000_000, 0)

// cluster has stores 1 to 9; store i is in zone (i-1)/3, alone on its host.
func cluster() *core.Stores {
	ss := core.NewStores()
	for id := uint64(1); id <= 9; id++ {
		ss.Put(&core.Store{Meta: &metapb.Store{Id: id, Labels: []*metapb.StoreLabel{
			{Key: "zone", Value: fmt.Sprint((id - 1) / 3)}, {Key: "host", Value: fmt.Sprint(id)}}}, HeardAt: now, Reported: true})
	}
	return ss
}

// region reads "1* 2 3L 4p 5d": a leader, a learner, a pending peer, one that is
// down for an hour. Peer ids are the stores' and 100.
func region(text string) *core.Region {
	r := &core.Region{Meta: &metapb.Region{Id: 1, RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1}}, ReportedAt: now}
	for _, f := range strings.Fields(text) {
		id := uint64(f[0] - '0')
		p := &metapb.Peer{Id: 100 + id, StoreId: id}
		for _, mark := range f[1:] {
			switch mark {
			case '*':
				r.Leader = p
			case 'L':
				p.Role = metapb.PeerRole_Learner
			case 'p':
				r.Pending = append(r.Pending, p)
			case 'd':
				r.Down = append(r.Down, &pdpb.PeerStats{Peer: p, DownSeconds: 3600})
			}
		}
		r.Meta.Peers = append(r.Meta.Peers, p)
	}
	return r
}

func showFit(f *Fit) string {
	list := func(ps []*metapb.Peer) string {
		var b strings.Builder
		for _, p := range ps {
			fmt.Fprint(&b, p.StoreId)
		}
		return b.String()
	}
	var parts []string
	for _, rf := range f.Rules {
		s := rf.Rule.ID + ":" + list(rf.Peers)
		if len(rf.WrongRole) > 0 {
			s += " not " + list(rf.WrongRole)
		}
		parts = append(parts, s)
	}
	if len(f.Orphans) > 0 {
		parts = append(parts, "orphans "+list(f.Orphans))
	}
	return strings.Join(parts, ", ")
}

func TestFit(t *testing.T) {
	def := DefaultRule(3, nil, "")
	isolated := DefaultRule(3, []string{"zone", "host"}, "")
	zone := func(id string, role Role, count int, zones ...string) *Rule {
		r := &Rule{GroupID: "g", ID: id, Role: role, Count: count}
		if len(zones) > 0 {
			r.LabelConstraints = []LabelConstraint{{"zone", In, zones}}
		}
		return r
	}
	for _, c := range []struct {
		region string
		rules  []*Rule
		want   string
		ok     bool
	}{
		{"1* 2 3", []*Rule{def}, "default:123", true},
		{"1* 2", []*Rule{def}, "default:12", false},
		{"1* 2 3L", []*Rule{def}, "default:123 not 3", false},
		{"1* 2 3 4", []*Rule{def}, "default:123, orphans 4", false},
		// The healthy ones first.
		{"1* 2p 3 4", []*Rule{def}, "default:134, orphans 2", false},
		{"1* 2d 3 4", []*Rule{def}, "default:134, orphans 2", false},
		// A learner takes the place of a voter that is given up.
		{"1* 2d 3 4L", []*Rule{def}, "default:134 not 4, orphans 2", false},
		{"1* 2p 3 4L", []*Rule{def}, "default:132, orphans 4", false},
		// Isolation decides among the healthy.
		{"1* 2 4 7", []*Rule{isolated}, "default:147, orphans 2", false},
		{"1* 4 7", []*Rule{isolated}, "default:147", true},
		// Roles and zones.
		{"1* 4 7", []*Rule{zone("l", Leader, 1, "0"), zone("f", Follower, 2)}, "l:1, f:47", true},
		{"1 4* 7", []*Rule{zone("l", Leader, 1, "0"), zone("f", Follower, 2)}, "l:1 not 1, f:47 not 4", false},
		{"1* 4 7", []*Rule{zone("v", Voter, 2, "0", "1"), zone("r", Learner, 1, "2")}, "v:14, r:7 not 7", false},
		{"1* 4 7L", []*Rule{zone("v", Voter, 2, "0", "1"), zone("r", Learner, 1, "2")}, "v:14, r:7", true},
		{"1* 2 3", []*Rule{zone("v", Voter, 1, "0"), zone("w", Voter, 2, "1")}, "v:1, w:, orphans 23", false},
		// An earlier rule takes what a later one needs only where it has to.
		{"1* 4 5", []*Rule{zone("v", Voter, 1), zone("w", Voter, 2, "1")}, "v:1, w:45", true},
		{"4* 1 5", []*Rule{zone("v", Voter, 1), zone("w", Voter, 2, "1")}, "v:1, w:45", true},
		{"1* 2 3", nil, "orphans 123", false},
	} {
		f := FitRules(cluster(), region(c.region), c.rules, When{Now: now, MaxDown: 30 * time.Minute})
		if got := showFit(f); got != c.want || f.Satisfied() != c.ok {
			t.Errorf("%s: got %q, satisfied %v; want %q", c.region, got, f.Satisfied(), c.want)
		}
	}
}

// TestFitOfManyPeers: what is beyond the limit is left over, nothing else.
func TestFitOfManyPeers(t *testing.T) {
	ss, r := core.NewStores(), region("1*")
	r.Meta.Peers = nil
	for id := uint64(1); id <= 40; id++ {
		ss.Put(&core.Store{Meta: &metapb.Store{Id: id}, HeardAt: now})
		r.Meta.Peers = append(r.Meta.Peers, &metapb.Peer{Id: 100 + id, StoreId: id})
	}
	r.Pending = r.Meta.Peers[:30]
	f := FitRules(ss, r, []*Rule{DefaultRule(5, []string{"zone"}, "")}, When{Now: now, MaxDown: time.Hour})
	if len(f.Rules[0].Peers) != 5 || len(f.Orphans) != 35 {
		t.Fatalf("%d peers and %d orphans", len(f.Rules[0].Peers), len(f.Orphans))
	}
	for _, p := range f.Rules[0].Peers {
		if r.IsPending(p.Id) {
			t.Errorf("peer %d is pending, though ten are well", p.Id)
		}
	}
}

// FuzzRuleJSON takes any text for a rule: what is taken survives a round trip.
func FuzzRuleJSON(f *testing.F) {
	f.Add(`{"group_id":"g","id":"i","role":"voter","count":3,"start_key":"","end_key":""}`)
	f.Add(`{"group_id":"g","id":"i","start_key":"zz"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var r, back Rule
		if json.Unmarshal([]byte(text), &r) != nil || r.check() != nil {
			return
		}
		raw, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(&back)
		if err != nil || string(again) != string(raw) {
			t.Fatalf("%s became %s, %v", raw, again, err)
		}
	})
}
