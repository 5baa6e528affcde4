package schedule

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
)

// noStorage keeps no rules.
type noStorage struct{}

func (noStorage) Save(context.Context, map[string][]byte) error { return nil }

// sim is a cluster of stores that do what PD tells them, at once, and report
// when they are asked to. It checks on every change that a region keeps its
// voters.
type sim struct {
	t       testing.TB
	now     time.Time
	options Options
	nextID  uint64
	regions *core.Regions
	stores  *core.Stores
	dead    map[uint64]bool
	truth   map[uint64]*metapb.Region
	leaders map[uint64]uint64 // region → store
	sizes   map[uint64]uint64 // region → MiB
	pending map[uint64]bool   // peers that have not caught up
	slow    bool              // peers do not catch up by themselves
	auto    bool              // stores make all changes of voters jointly, and leave by themselves
	rules   *placement.Manager
	labels  *labeler.Labeler
	ctl     *Controller
	out     strings.Builder
}

func newSim(t testing.TB) *sim {
	s := &sim{
		t: t, now: time.Unix(1_700_000_000, 0), options: Options{}.WithDefaults(), nextID: 1000,
		regions: core.NewRegions(), stores: core.NewStores(), dead: map[uint64]bool{},
		truth: map[uint64]*metapb.Region{}, leaders: map[uint64]uint64{}, sizes: map[uint64]uint64{}, pending: map[uint64]bool{},
	}
	var err error
	if s.rules, err = placement.NewManager(noStorage{}, nil, placement.DefaultRule(3, nil, "")); err != nil {
		t.Fatal(err)
	}
	if s.labels, err = labeler.New(noStorage{}, nil, func() time.Time { return s.now }); err != nil {
		t.Fatal(err)
	}
	s.ctl = newController(s, slog.New(slog.NewTextHandler(io.Discard, nil)), nil, func() time.Time { return s.now })
	return s
}

func (s *sim) Regions() *core.Regions    { return s.regions }
func (s *sim) Stores() *core.Stores      { return s.stores }
func (s *sim) Options() Options          { return s.options }
func (s *sim) Rules() *placement.Manager { return s.rules }
func (s *sim) Labels() *labeler.Labeler  { return s.labels }
func (s *sim) AllocID(context.Context) (uint64, error) {
	s.nextID++
	return s.nextID, nil
}

// Send implements Cluster: the leader does what it is told.
func (s *sim) Send(r *core.Region, m *pdpb.RegionHeartbeatResponse) {
	meta := s.truth[r.ID()]
	if r.Leader.StoreId != s.leaders[r.ID()] || s.dead[r.Leader.StoreId] {
		return
	}
	voters := len((&core.Region{Meta: meta}).Voters())
	if !s.quorum(meta) {
		return // it cannot commit anything
	}
	next := clone(meta)
	what := ""
	switch {
	case m.TransferLeader != nil:
		s.leaders[r.ID()] = m.TransferLeader.Peer.StoreId
		what = fmt.Sprintf("transfer leader to store %d", m.TransferLeader.Peer.StoreId)
	case m.ChangePeer != nil:
		what = s.changePeer(next, m.ChangePeer)
	case m.ChangePeerV2 != nil:
		what = s.changePeerV2(next, m.ChangePeerV2)
	case m.SplitRegion != nil:
		what = s.split(next, m.SplitRegion)
	case m.Merge != nil:
		if what = s.merge(next, m.Merge.Target); what != "" {
			fmt.Fprintf(&s.out, "region %d: %s\n", r.ID(), what)
			return
		}
	}
	s.truth[r.ID()] = next
	s.checkSafety(next, what)
	after := (&core.Region{Meta: next}).Voters()
	if len(after) < voters && len(after) < s.wanted(next) {
		s.t.Fatalf("region %d went from %d voters to %d by %q", r.ID(), voters, len(after), what)
	}
	if what != "" {
		fmt.Fprintf(&s.out, "region %d: %s\n", r.ID(), what)
	}
}

// quorum reports whether majorities of both peer sets are alive.
func (s *sim) quorum(m *metapb.Region) bool {
	for _, without := range []metapb.PeerRole{metapb.PeerRole_IncomingVoter, metapb.PeerRole_DemotingVoter} {
		voters, alive := 0, 0
		for _, p := range m.Peers {
			if p.Role == metapb.PeerRole_Learner || p.Role == without {
				continue
			}
			voters++
			if !s.dead[p.StoreId] {
				alive++
			}
		}
		if alive < voters/2+1 {
			return false
		}
	}
	return true
}

func clone(m *metapb.Region) *metapb.Region {
	c := &metapb.Region{Id: m.Id, StartKey: m.StartKey, EndKey: m.EndKey,
		RegionEpoch: &metapb.RegionEpoch{Version: m.RegionEpoch.Version, ConfVer: m.RegionEpoch.ConfVer}}
	for _, p := range m.Peers {
		cp := *p
		c.Peers = append(c.Peers, &cp)
	}
	return c
}

func peerOf(m *metapb.Region, id uint64) *metapb.Peer {
	return (&core.Region{Meta: m}).Peer(id)
}

func (s *sim) changePeer(m *metapb.Region, c *pdpb.ChangePeer) string {
	p := peerOf(m, c.Peer.Id)
	if s.auto && (&core.Region{Meta: m}).InJoint() {
		return ""
	}
	if s.auto && p != nil && c.ChangeType == eraftpb.ConfChangeType_AddNode && p.Role == metapb.PeerRole_Learner {
		p.Role = metapb.PeerRole_IncomingVoter
		m.RegionEpoch.ConfVer++
		return fmt.Sprintf("store %d becomes %v", p.StoreId, p.Role)
	}
	if s.auto && p != nil && c.ChangeType == eraftpb.ConfChangeType_RemoveNode && p.Role == metapb.PeerRole_Voter {
		p.Role = metapb.PeerRole_DemotingVoter
		m.RegionEpoch.ConfVer++
		return fmt.Sprintf("store %d becomes %v", p.StoreId, p.Role)
	}
	switch c.ChangeType {
	case eraftpb.ConfChangeType_AddLearnerNode:
		if p != nil {
			return ""
		}
		s.pending[c.Peer.Id] = true
		m.Peers = append(m.Peers, &metapb.Peer{Id: c.Peer.Id, StoreId: c.Peer.StoreId, Role: metapb.PeerRole_Learner})
	case eraftpb.ConfChangeType_AddNode:
		if p != nil && s.pending[p.Id] {
			s.t.Fatalf("region %d: peer %d votes before it has caught up", m.Id, p.Id)
		}
		if p == nil || p.Role == metapb.PeerRole_Voter {
			return ""
		}
		p.Role = metapb.PeerRole_Voter
	case eraftpb.ConfChangeType_RemoveNode:
		if p == nil {
			return ""
		}
		m.Peers = without(m.Peers, p.Id)
	}
	m.RegionEpoch.ConfVer++
	return fmt.Sprintf("%v store %d", c.ChangeType, c.Peer.StoreId)
}

func without(ps []*metapb.Peer, id uint64) []*metapb.Peer {
	var out []*metapb.Peer
	for _, p := range ps {
		if p.Id != id {
			out = append(out, p)
		}
	}
	return out
}

func (s *sim) changePeerV2(m *metapb.Region, c *pdpb.ChangePeerV2) string {
	joint := (&core.Region{Meta: m}).InJoint()
	if len(c.Changes) == 0 {
		if !joint {
			return ""
		}
		for _, p := range m.Peers {
			switch p.Role {
			case metapb.PeerRole_IncomingVoter:
				p.Role = metapb.PeerRole_Voter
				m.RegionEpoch.ConfVer++
			case metapb.PeerRole_DemotingVoter:
				p.Role = metapb.PeerRole_Learner
				m.RegionEpoch.ConfVer++
			}
		}
		return "leave joint"
	}
	if joint {
		return ""
	}
	var what []string
	for _, ch := range c.Changes {
		p := peerOf(m, ch.Peer.Id)
		if s.pending[p.Id] && ch.ChangeType == eraftpb.ConfChangeType_AddNode || p.StoreId == s.leaders[m.Id] {
			s.t.Fatalf("region %d: peer %d may not change: it is behind, or leads", m.Id, p.Id)
		}
		if ch.ChangeType == eraftpb.ConfChangeType_AddNode {
			p.Role = metapb.PeerRole_IncomingVoter
		} else {
			p.Role = metapb.PeerRole_DemotingVoter
		}
		m.RegionEpoch.ConfVer++
		what = append(what, fmt.Sprintf("store %d becomes %v", p.StoreId, p.Role))
	}
	return "joint: " + strings.Join(what, ", ")
}

// report is one region's heartbeat.
func (s *sim) report(id uint64) {
	m, leader := s.truth[id], s.leaders[id]
	if m == nil {
		return // merged since
	}
	if s.dead[leader] && !s.elect(m) {
		return
	}
	leader = s.leaders[id]
	hb := &pdpb.RegionHeartbeatRequest{Region: clone(m), ApproximateSize: s.sizes[id] << 20}
	for _, p := range hb.Region.Peers {
		if p.StoreId == leader {
			hb.Leader = p
		}
		if s.dead[p.StoreId] {
			silent := s.stores.Get(p.StoreId).SilentFor(s.now)
			hb.DownPeers = append(hb.DownPeers, &pdpb.PeerStats{Peer: p, DownSeconds: uint64(silent.Seconds())})
			hb.PendingPeers = append(hb.PendingPeers, p)
		} else if s.pending[p.Id] {
			hb.PendingPeers = append(hb.PendingPeers, p)
			if !s.slow {
				delete(s.pending, p.Id)
			}
		}
	}
	if hb.Leader == nil {
		s.t.Fatalf("region %d has no peer on its leader's store %d", id, leader)
	}
	if s.auto { // seen once in between, then left
		s.truth[id] = clone(m)
		s.changePeerV2(s.truth[id], &pdpb.ChangePeerV2{})
	}
	r := core.FromHeartbeat(hb, s.now)
	if _, err := s.regions.Put(r); err != nil {
		s.t.Fatalf("report of region %d: %v", id, err)
	}
	s.ctl.Observe(r)
	s.ctl.Dispatch(r)
}

// round lets a second pass, in which everybody reports and PD looks around.
func (s *sim) round() {
	s.now = s.now.Add(time.Second)
	for _, st := range s.stores.All() {
		if !s.dead[st.ID()] {
			next := *st
			next.HeardAt, next.Reported = s.now, true
			s.stores.Put(&next)
		}
	}
	ids := make([]uint64, 0, len(s.truth))
	for id := range s.truth {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	for _, id := range ids {
		s.report(id)
	}
	s.ctl.Patrol(context.Background())
	s.ctl.Balance(context.Background())
	s.ctl.Sweep()
}

func (s *sim) addStore(id uint64) {
	s.stores.Put(&core.Store{Meta: &metapb.Store{Id: id, Address: fmt.Sprintf("s%d", id)}, HeardAt: s.now, Reported: true,
		Stats: &pdpb.StoreStats{}})
}

func (s *sim) addRegion(id uint64, start, end string, stores []uint64) {
	m := &metapb.Region{Id: id, StartKey: []byte(start), EndKey: []byte(end), RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1}}
	for _, st := range stores {
		s.nextID++
		m.Peers = append(m.Peers, &metapb.Peer{Id: s.nextID, StoreId: st})
	}
	if len(start) > 0 {
		m.StartKey = codec.EncodeBytes(nil, []byte(start))
	}
	if len(end) > 0 {
		m.EndKey = codec.EncodeBytes(nil, []byte(end))
	}
	s.truth[id], s.leaders[id] = m, stores[0]
}

func (s *sim) show() {
	if len(s.truth) > 3 {
		s.showSpread()
		return
	}
	for _, st := range s.stores.All() {
		n := s.regions.StoreCounts(st.ID())
		fmt.Fprintf(&s.out, "store %d: %d peers, %d leaders\n", st.ID(), n.Peers, n.Leaders)
	}
	for _, r := range s.regions.Scan(nil, nil, 0) {
		fmt.Fprintf(&s.out, "region %d:", r.ID())
		for _, p := range r.Meta.Peers {
			mark := ""
			if p.StoreId == r.Leader.StoreId {
				mark = "*"
			}
			fmt.Fprintf(&s.out, " %d%s/%v", p.StoreId, mark, p.Role)
		}
		s.out.WriteByte('\n')
	}
}

// showSpread is show for many regions: which region moves is picked at random,
// how evenly they end up is not.
func (s *sim) showSpread() {
	var peers, leaders []int
	for _, st := range s.stores.All() {
		n := s.regions.StoreCounts(st.ID())
		peers, leaders = append(peers, n.Peers), append(leaders, n.Leaders)
	}
	fmt.Fprintf(&s.out, "%d stores with %d to %d peers and %d to %d leaders each\n", len(peers),
		slices.Min(peers), slices.Max(peers), slices.Min(leaders), slices.Max(leaders))
}

func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newSim(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t = t
			s.out.Reset()
			s.command(t, d)
			if s.out.Len() == 0 {
				return "ok\n"
			}
			return s.out.String()
		})
	})
}

func (s *sim) command(t *testing.T, d *datadriven.TestData) {
	arg := func(name string, def int) int {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &def)
		}
		return def
	}
	switch d.Cmd {
	case "stores":
		for i := 1; i <= arg("n", 1); i++ {
			s.addStore(uint64(i))
		}
	case "add-store":
		s.addStore(uint64(arg("id", 0)))
	case "options":
		s.options.DisableBalance = arg("balance", 1) == 0
		s.options.Replicas = arg("replicas", s.options.Replicas)
		s.options.SplitMergeInterval = time.Duration(arg("merge-minutes", int(s.options.SplitMergeInterval/time.Minute))) * time.Minute
		s.options.MergeLimit = arg("merge-limit", s.options.MergeLimit)
		s.options.StoreRate.AddPeer = float64(arg("rate", int(s.options.StoreRate.AddPeer)))
		if def := s.rules.Default(); def != nil && def.Count != s.options.Replicas {
			if err := s.rules.SetDefault(context.Background(), s.options.Replicas, def.LocationLabels, def.IsolationLevel); err != nil {
				t.Fatal(err)
			}
		}
		s.slow, s.auto = arg("slow", 0) == 1, arg("auto", 0) == 1
	case "regions":
		var on []uint64
		var list string
		d.ScanArgs(t, "on", &list)
		for _, f := range strings.Split(list, "+") {
			var id uint64
			if _, err := fmt.Sscan(f, &id); err != nil {
				t.Fatal(err)
			}
			on = append(on, id)
		}
		n := arg("n", 1)
		for i := range n {
			start, end := fmt.Sprintf("%04d", i), fmt.Sprintf("%04d", i+1)
			if i == 0 {
				start = ""
			}
			if i == n-1 {
				end = ""
			}
			s.addRegion(uint64(i+1), start, end, on)
		}
	case "run":
		quiet := d.HasArg("quiet")
		for range arg("rounds", 1) {
			s.round()
		}
		if quiet {
			s.out.Reset()
		}
	case "store":
		id := uint64(arg("id", 0))
		next := *s.stores.Get(id)
		meta := *next.Meta
		next.Meta = &meta
		switch {
		case d.HasArg("offline"):
			meta.State = metapb.StoreState_Offline
		case d.HasArg("dead"):
			s.dead[id] = true
		case d.HasArg("alive"):
			delete(s.dead, id)
		}
		s.stores.Put(&next)
	case "advance":
		s.now = s.now.Add(time.Duration(arg("minutes", 0)) * time.Minute)
	case "split": // the region's version moves under PD's feet
		m := clone(s.truth[uint64(arg("region", 1))])
		m.RegionEpoch.Version++
		s.truth[m.Id] = m
	case "scatter":
		for _, r := range s.regions.Scan(nil, nil, 0) {
			if err := s.ctl.Scatter(context.Background(), r, "group"); err != nil {
				fmt.Fprintf(&s.out, "region %d: %v\n", r.ID(), err)
			}
		}
		if d.HasArg("quiet") {
			s.out.Reset()
		}
	case "operators":
		for _, op := range s.ctl.List() {
			s.out.WriteString(op + "\n")
		}
	case "status":
		rec, ok := s.ctl.Status(uint64(arg("region", 1)))
		if ok {
			fmt.Fprintf(&s.out, "%s %v %s\n", rec.Op.Desc, rec.Status, rec.Reason)
		}
	case "show":
		s.show()
	default:
		s.ruleCommand(t, d)
	}
}
