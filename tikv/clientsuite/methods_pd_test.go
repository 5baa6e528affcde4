package clientsuite

import (
	"errors"
	"testing"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/tikv/client-go/v2/oracle"
	pd "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/clients/router"
	"github.com/tikv/pd/client/pkg/caller"
)

func asErr[E error](err error, to *E) bool { return errors.As(err, to) }

func physicalTime(ts uint64) time.Time { return oracle.GetTimeFromTS(ts) }

var pdMethods = []method{
	{name: "pd-timestamps", run: (*session).pdTimestamps},
	{name: "pd-regions", run: (*session).pdRegions, calm: true},
	{name: "pd-stores", run: (*session).pdStores},
	{name: "pd-splits", run: (*session).pdSplits, calm: true},
	{name: "pd-keyspaces", run: (*session).pdKeyspaces},
	{name: "pd-meta", run: (*session).pdMeta},
}

// pdClient is PD's own client, which sees keys as they are.
func (s *session) pdClient() pd.Client {
	s.Helper()
	c, err := pd.NewClientWithContext(s.ctx, caller.TestComponent, []string{s.url}, pd.SecurityOption{})
	s.must(err)
	s.Cleanup(c.Close)
	return c
}

func (s *session) pdTimestamps() {
	c := s.pdClient()
	last := uint64(0)
	for range 50 {
		p, l, err := c.GetTS(s.ctx)
		s.must(err)
		if ts := oracle.ComposeTS(p, l); ts <= last {
			s.Fatalf("timestamp %d after %d", ts, last)
		} else {
			last = ts
		}
	}
	p, l, err := c.GetMinTS(s.ctx)
	s.must(err)
	if oracle.ComposeTS(p, l) == 0 {
		s.Error("the least timestamp is 0")
	}
	future := c.GetTSAsync(s.ctx)
	p, l, err = future.Wait()
	s.must(err)
	if oracle.ComposeTS(p, l) <= last {
		s.Error("an asynchronous timestamp went back")
	}
	if ts, err := s.cl.CurrentAllTSOKeyspaceGroupMinTs(); err != nil || ts == 0 {
		s.Errorf("timestamp %d (%v)", ts, err)
	}
	ext := oracle.ComposeTS(p, l)
	old, err := c.GetExternalTimestamp(s.ctx)
	s.must(err)
	if old > ext {
		s.Fatalf("external timestamp %d", old)
	}
}

// pdRegions finds regions by key, by id and in ranges. Splits elsewhere go on.
func (s *session) pdRegions() {
	keys := s.keys(3)
	s.split(keys...)
	c := s.pdClient()
	enc := func(k []byte) []byte { return codec.EncodeBytes(nil, k) }
	var r *router.Region
	eventually(s, "the split in PD", func() (ok bool) {
		var err error
		r, err = c.GetRegion(s.ctx, enc(keys[1]))
		s.must(err)
		return r != nil && r.Leader != nil && string(r.Meta.StartKey) == string(enc(keys[1])) && string(r.Meta.EndKey) == string(enc(keys[2]))
	})
	prev, err := c.GetPrevRegion(s.ctx, enc(keys[1]))
	s.must(err)
	if string(prev.Meta.EndKey) != string(enc(keys[1])) {
		s.Errorf("the region before ends at %q", prev.Meta.EndKey)
	}
	byID, err := c.GetRegionByID(s.ctx, r.Meta.Id)
	if err != nil || byID.Meta.Id != r.Meta.Id {
		s.Errorf("%v (%v)", byID, err)
	}
	many, err := c.BatchScanRegions(s.ctx, []router.KeyRange{{StartKey: enc(keys[0]), EndKey: enc(keys[1])}, {StartKey: enc(keys[1]), EndKey: enc(keys[2])}}, 10)
	if err != nil || len(many) != 2 {
		s.Errorf("%d regions (%v)", len(many), err)
	}
	all, err := c.ScanRegions(s.ctx, nil, nil, 10_000) //nolint:staticcheck // older clients call it
	s.must(err)
	for i, r := range all {
		if i > 0 && string(r.Meta.StartKey) != string(all[i-1].Meta.EndKey) {
			s.Fatalf("a gap between %q and %q", all[i-1].Meta.EndKey, r.Meta.StartKey)
		}
	}
	if _, err := c.GetRegionByID(s.ctx, 1<<40); err != nil {
		s.Errorf("a region that does not exist: %v", err)
	}
}

func (s *session) pdStores() {
	c := s.pdClient()
	stores, err := c.GetAllStores(s.ctx)
	s.must(err)
	if len(stores) != len(s.nodes) {
		s.Fatalf("%d stores", len(stores))
	}
	for _, st := range stores {
		one, err := c.GetStore(s.ctx, st.Id)
		if err != nil || one.Address != st.Address || one.State != metapb.StoreState_Up || one.Version == "" {
			s.Errorf("store %v (%v)", one, err)
		}
	}
	if _, err := c.GetStore(s.ctx, 1<<40); err == nil {
		s.Error("a store that does not exist")
	}
	members, err := c.GetAllMembers(s.ctx)
	if err != nil || len(members.Members) != 1 || c.GetClusterID(s.ctx) != s.pd.ClusterID() {
		s.Errorf("%v (%v)", members, err)
	}
}

func (s *session) pdSplits() {
	s.fill(30, 1)
	keys := s.keys(30)
	c := s.pdClient()
	var enc [][]byte
	for _, k := range [][]byte{keys[10], keys[20]} {
		enc = append(enc, codec.EncodeBytes(nil, k))
	}
	split, err := c.SplitRegions(s.ctx, enc)
	s.must(err)
	if split.FinishedPercentage != 100 || len(split.RegionsId) == 0 {
		s.Errorf("split %v", split)
	}
	both, err := c.SplitAndScatterRegions(s.ctx, [][]byte{codec.EncodeBytes(nil, keys[25])})
	s.must(err)
	if both.SplitFinishedPercentage != 100 {
		s.Errorf("split and scattered %v", both)
	}
	scattered, err := c.ScatterRegions(s.ctx, split.RegionsId)
	s.must(err)
	if scattered.GetHeader().GetError() != nil {
		s.Errorf("scattered %v", scattered)
	}
	for _, id := range split.RegionsId {
		_, err := c.GetOperator(s.ctx, id)
		s.must(err)
	}
	if got := s.drain(s.begin().Iter([]byte(s.prefix), s.end())); len(got) != 30 {
		s.Errorf("%d keys", len(got))
	}
}

func (s *session) pdKeyspaces() {
	c := s.pdClient()
	ks, err := c.LoadKeyspace(s.ctx, "DEFAULT")
	if err != nil || ks.Id != 0 {
		s.Fatal(ks, err)
	}
	all, err := c.GetAllKeyspaces(s.ctx, 0, 100)
	if err != nil || len(all) < 2 {
		s.Fatal(all, err)
	}
}

func (s *session) pdMeta() {
	c := s.pdClient()
	resp, err := c.Get(s.ctx, s.key("nobody"))
	s.must(err)
	if len(resp.Kvs) != 0 {
		s.Errorf("%v", resp.Kvs)
	}
}

// TestAlone has what a cluster that others use would not bear: GC, which moves
// the safe point of all, and the loss of a quorum.
func TestAlone(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, 3, nil)
	t.Run("examples", func(t *testing.T) { runExamples(t, c) })
	t.Run("gc", func(t *testing.T) { newSession(t, c, "gc/").gc() })
	t.Run("gc-states", func(t *testing.T) { newSession(t, c, "gc/states/").gcStates() })
	t.Run("lost-quorum", func(t *testing.T) { lostQuorum(t, c) })
}

// gcStates are the safe points and barriers of PD's client, new and old.
func (s *session) gcStates() {
	c := s.pdClient()
	const null = 0xFFFFFFFF
	ctl, states := c.GetGCInternalController(null), c.GetGCStatesClient(null)
	before, err := states.GetGCState(s.ctx)
	s.must(err)
	base := max(before.TxnSafePoint, 1)
	barrier, err := states.SetGCBarrier(s.ctx, "backup", base+100, time.Hour)
	s.must(err)
	if barrier.BarrierTS != base+100 {
		s.Errorf("barrier %v", barrier)
	}
	moved, err := ctl.AdvanceTxnSafePoint(s.ctx, base+200)
	s.must(err)
	if moved.NewTxnSafePoint != base+100 || moved.BlockerDescription == "" {
		s.Errorf("advanced past a barrier: %+v", moved)
	}
	if _, err := ctl.AdvanceGCSafePoint(s.ctx, base+150); err == nil {
		s.Error("the GC safe point passed the transactions'")
	}
	gc, err := ctl.AdvanceGCSafePoint(s.ctx, base+100)
	if err != nil || gc.NewGCSafePoint != base+100 {
		s.Errorf("%+v (%v)", gc, err)
	}
	_, err = states.DeleteGCBarrier(s.ctx, "backup")
	s.must(err)
	global, err := states.SetGlobalGCBarrier(s.ctx, "all", base+300, time.Hour)
	if err != nil || global.BarrierTS != base+300 {
		s.Errorf("%+v (%v)", global, err)
	}
	if moved, err = ctl.AdvanceTxnSafePoint(s.ctx, base+400); err != nil || moved.NewTxnSafePoint != base+300 {
		s.Errorf("%+v (%v)", moved, err)
	}
	all, err := states.GetAllKeyspacesGCStates(s.ctx)
	if err != nil || len(all.GlobalGCBarriers) != 1 {
		s.Errorf("%+v (%v)", all, err)
	}
	_, err = states.DeleteGlobalGCBarrier(s.ctx, "all")
	s.must(err)
	if ts, err := c.UpdateServiceGCSafePoint(s.ctx, "cdc", 3600, base+500); err != nil || ts > base+500 { //nolint:staticcheck // older clients call it
		s.Errorf("%d (%v)", ts, err)
	}
	if ts, err := c.UpdateGCSafePoint(s.ctx, base+900); err != nil || ts > base+500 { //nolint:staticcheck // older clients call it
		s.Errorf("past a service's safe point: %d (%v)", ts, err)
	}
	after, err := states.GetGCState(s.ctx)
	s.must(err)
	if after.TxnSafePoint < base+300 || after.GCSafePoint < base+100 {
		s.Errorf("%+v", after)
	}
}
