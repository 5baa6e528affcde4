package schedule

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
)

// wanted is how many voters the rules ask for in the region's range; 1 where
// the region crosses their ends.
func (s *sim) wanted(m *metapb.Region) int {
	rules, ok := s.rules.RulesFor(m.StartKey, m.EndKey)
	if !ok {
		return 1
	}
	n := 0
	for _, r := range rules {
		if r.Role != placement.Learner {
			n += r.Count
		}
	}
	return n
}

// checkSafety fails when PD has left a region without a living quorum of peers
// that have caught up.
func (s *sim) checkSafety(m *metapb.Region, what string) {
	voters, well := 0, 0
	for _, p := range m.Peers {
		if p.Role == metapb.PeerRole_Voter || p.Role == metapb.PeerRole_IncomingVoter {
			voters++
			if !s.dead[p.StoreId] && !s.pending[p.Id] {
				well++
			}
		}
	}
	if well < voters/2+1 {
		s.t.Fatalf("region %d has %d of %d voters left that are well after %q", m.Id, well, voters, what)
	}
}

// elect finds a leader among the living.
func (s *sim) elect(m *metapb.Region) bool {
	if !s.quorum(m) {
		return false
	}
	for _, p := range m.Peers {
		if p.Role == metapb.PeerRole_Voter && !s.dead[p.StoreId] && !s.pending[p.Id] {
			s.leaders[m.Id] = p.StoreId
			return true
		}
	}
	return false
}

// split makes a region of each part; the last keeps the id, as in the store.
func (s *sim) split(m *metapb.Region, op *pdpb.SplitRegion) string {
	start := m.StartKey
	m.RegionEpoch.Version += uint64(len(op.Keys))
	for _, key := range op.Keys {
		s.nextID++
		left := clone(m)
		left.Id, left.StartKey, left.EndKey = s.nextID, start, key
		for _, p := range left.Peers {
			s.nextID++
			p.Id = s.nextID
		}
		s.truth[left.Id], s.leaders[left.Id] = left, s.leaders[m.Id]
		s.ctl.NoteSplit(left.Id)
		start = key
	}
	m.StartKey = start
	s.ctl.NoteSplit(m.Id)
	return fmt.Sprintf("split at %s", plain(op.Keys...))
}

func plain(keys ...[]byte) string {
	var out []string
	for _, k := range keys {
		_, key, _ := decode(k)
		out = append(out, string(key))
	}
	return strings.Join(out, ", ")
}

func decode(k []byte) ([]byte, []byte, error) {
	key, rest, err := codec.DecodeBytes(nil, k)
	return rest, key, err
}

// merge does it all at once, if the store would.
func (s *sim) merge(m, target *metapb.Region) string {
	to := s.truth[target.Id]
	if to == nil || to.RegionEpoch.Version != target.RegionEpoch.Version || to.RegionEpoch.ConfVer != target.RegionEpoch.ConfVer {
		return ""
	}
	for _, p := range to.Peers {
		if q := (&core.Region{Meta: m}).StorePeer(p.StoreId); q == nil || q.Role != p.Role {
			s.t.Fatalf("merge of region %d into %d: they have their peers on different stores", m.Id, to.Id)
		}
	}
	next := clone(to)
	if bytes.Equal(m.EndKey, to.StartKey) {
		next.StartKey = m.StartKey
	} else {
		next.EndKey = m.EndKey
	}
	next.RegionEpoch.Version = max(to.RegionEpoch.Version, m.RegionEpoch.Version+1) + 1
	s.truth[to.Id] = next
	s.sizes[to.Id] += s.sizes[m.Id]
	delete(s.truth, m.Id)
	return fmt.Sprintf("merged into region %d", to.Id)
}

// ruleCommand runs the commands about rules, labels and operators.
func (s *sim) ruleCommand(t *testing.T, d *datadriven.TestData) {
	ctx := context.Background()
	var err error
	switch d.Cmd {
	case "label": // store=1 zone=a rack=b
		var store uint64
		d.ScanArgs(t, "store", &store)
		next := *s.stores.Get(store)
		meta := *next.Meta
		meta.Labels = nil
		for _, a := range d.CmdArgs {
			if a.Key != "store" {
				meta.Labels = append(meta.Labels, &metapb.StoreLabel{Key: a.Key, Value: a.Vals[0]})
			}
		}
		next.Meta = &meta
		s.stores.Put(&next)
	case "rule":
		err = s.rules.SetRules(ctx, parseRule(t, d))
	case "group":
		g := placement.Group{ID: text(d, "id"), Override: d.HasArg("override")}
		if d.HasArg("index") {
			d.ScanArgs(t, "index", &g.Index)
		}
		err = s.rules.SetGroup(ctx, g)
	case "delete-rule":
		var group, id string
		d.ScanArgs(t, "group", &group)
		d.ScanArgs(t, "id", &id)
		err = s.rules.DeleteRule(ctx, group, id)
	case "region-label": // id=x start=.. end=.. key=.. value=..
		r := &labeler.Rule{ID: "x", Type: labeler.KeyRange, Labels: []labeler.Label{{Key: text(d, "key"), Value: text(d, "value")}},
			Data: []labeler.Range{{StartKeyHex: fmt.Sprintf("%x", keyArg(d, "start")), EndKeyHex: fmt.Sprintf("%x", keyArg(d, "end"))}}}
		err = s.labels.SetRule(ctx, r)
	case "size":
		var region, mib uint64
		d.ScanArgs(t, "region", &region)
		d.ScanArgs(t, "mib", &mib)
		s.sizes[region] = mib
	case "peer": // region=1 store=3 role=Learner|gone
		s.setPeer(t, d)
	case "fit":
		s.showFit(t, d)
	case "admin":
		err = s.admin(t, d)
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	if err != nil {
		fmt.Fprintf(&s.out, "error: %v\n", err)
	}
}

func text(d *datadriven.TestData, name string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return ""
}

func keyArg(d *datadriven.TestData, name string) []byte {
	if v := text(d, name); v != "" {
		return codec.EncodeBytes(nil, []byte(v))
	}
	return nil
}

// parseRule reads group=g id=i role=voter count=3 [index=1] [override]
// [start=k] [end=k] [in=label:a+b] [notIn=label:a] [location=zone+host]
// [isolation=zone].
func parseRule(t *testing.T, d *datadriven.TestData) *placement.Rule {
	r := &placement.Rule{GroupID: text(d, "group"), ID: text(d, "id"), Role: placement.Role(text(d, "role")),
		StartKey: keyArg(d, "start"), EndKey: keyArg(d, "end"), Override: d.HasArg("override"), IsolationLevel: text(d, "isolation")}
	d.ScanArgs(t, "count", &r.Count)
	if d.HasArg("index") {
		d.ScanArgs(t, "index", &r.Index)
	}
	if l := text(d, "location"); l != "" {
		r.LocationLabels = strings.Split(l, "+")
	}
	for _, op := range []placement.Op{placement.In, placement.NotIn, placement.Exists, placement.NotExists} {
		if v := text(d, string(op)); v != "" {
			key, values, _ := strings.Cut(v, ":")
			c := placement.LabelConstraint{Key: key, Op: op}
			if values != "" {
				c.Values = strings.Split(values, "+")
			}
			r.LabelConstraints = append(r.LabelConstraints, c)
		}
	}
	return r
}

func (s *sim) setPeer(t *testing.T, d *datadriven.TestData) {
	var region, store uint64
	d.ScanArgs(t, "region", &region)
	d.ScanArgs(t, "store", &store)
	m := clone(s.truth[region])
	m.RegionEpoch.ConfVer++
	p := (&core.Region{Meta: m}).StorePeer(store)
	if text(d, "role") == "gone" {
		m.Peers = without(m.Peers, p.Id)
	} else {
		if p == nil {
			s.nextID++
			p = &metapb.Peer{Id: s.nextID, StoreId: store}
			m.Peers = append(m.Peers, p)
		}
		p.Role = metapb.PeerRole(metapb.PeerRole_value[text(d, "role")])
	}
	s.truth[region] = m
}

func (s *sim) showFit(t *testing.T, d *datadriven.TestData) {
	var region uint64
	d.ScanArgs(t, "region", &region)
	fit := s.ctl.Fit(s.regions.ByID(region))
	stores := func(peers []*metapb.Peer) string {
		var ids []int
		for _, p := range peers {
			ids = append(ids, int(p.StoreId))
		}
		sort.Ints(ids)
		return fmt.Sprint(ids)
	}
	for _, rf := range fit.Rules {
		fmt.Fprintf(&s.out, "%s: stores %s", rf.Rule.Name(), stores(rf.Peers))
		if len(rf.WrongRole) > 0 {
			fmt.Fprintf(&s.out, ", wrong role %s", stores(rf.WrongRole))
		}
		if rf.Isolation > 0 {
			fmt.Fprintf(&s.out, ", isolation %v", rf.Isolation)
		}
		s.out.WriteByte('\n')
	}
	fmt.Fprintf(&s.out, "orphans %s, satisfied %v\n", stores(fit.Orphans), fit.Satisfied())
}

// admin runs what an administrator asks for.
func (s *sim) admin(t *testing.T, d *datadriven.TestData) error {
	ctx := context.Background()
	num := func(name string) (n uint64) { d.ScanArgs(t, name, &n); return n }
	r := s.regions.ByID(num("region"))
	switch what := d.CmdArgs[0].Key; what {
	case "add-peer":
		return s.ctl.AddAdmin(ctx, s.ctl.Admin("admin-add-peer", r).AddPeer(num("store"), metapb.PeerRole_Voter))
	case "remove-peer":
		return s.ctl.AddAdmin(ctx, s.ctl.Admin("admin-remove-peer", r).RemovePeer(num("store")))
	case "transfer-leader":
		return s.ctl.AddAdmin(ctx, s.ctl.Admin("admin-transfer-leader", r).SetLeader(num("store")))
	case "transfer-region":
		target := map[uint64]metapb.PeerRole{}
		for _, f := range strings.Split(text(d, "to"), "+") {
			var id uint64
			if _, err := fmt.Sscan(f, &id); err != nil {
				t.Fatal(err)
			}
			target[id] = metapb.PeerRole_Voter
		}
		return s.ctl.AddAdmin(ctx, s.ctl.Admin("admin-move-region", r).SetPeers(target))
	case "merge":
		return s.ctl.AddMerge(ctx, r, s.regions.ByID(num("into")))
	case "split":
		return s.ctl.AddSplit(r, pdpb.CheckPolicy_USEKEY, [][]byte{keyArg(d, "at")})
	default:
		t.Fatalf("admin %s", what)
	}
	return nil
}

func enc(key string) []byte { return codec.EncodeBytes(nil, []byte(key)) }

// TestRegionStates looks at regions with one thing the matter each.
func TestRegionStates(t *testing.T) {
	s := newSim(t)
	for id := uint64(1); id <= 4; id++ {
		s.addStore(id)
	}
	s.addRegion(1, "", "", []uint64{1, 2, 3})
	s.sizes[1] = 100
	s.report(1)
	for want, change := range map[string]func(*core.Region){
		"[]":                               func(*core.Region) {},
		"[miss-peer]":                      func(r *core.Region) { r.Meta.Peers = r.Meta.Peers[:2] },
		"[extra-peer]":                     func(r *core.Region) { r.Meta.Peers = append(r.Meta.Peers, &metapb.Peer{Id: 9, StoreId: 4}) },
		"[down-peer]":                      func(r *core.Region) { r.Down = []*pdpb.PeerStats{{Peer: r.Meta.Peers[1], DownSeconds: 9}} },
		"[pending-peer]":                   func(r *core.Region) { r.Pending = r.Meta.Peers[1:2] },
		"[miss-peer offline-peer]":         func(r *core.Region) { r.Meta.Peers[2].StoreId = 77 },
		"[learner-peer]":                   func(r *core.Region) { r.Meta.Peers[2].Role = metapb.PeerRole_Learner },
		"[empty-region undersized-region]": func(r *core.Region) { r.SizeBytes = 1000 },
		"[undersized-region]":              func(r *core.Region) { r.SizeBytes = 50 << 20 },
		"[oversized-region]":               func(r *core.Region) { r.SizeBytes = 200 << 20 },
	} {
		r := *s.regions.ByID(1)
		r.Meta = clone(r.Meta)
		change(&r)
		if got := fmt.Sprint(s.ctl.StatesOf(&r)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
