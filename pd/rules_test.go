package pd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/etcdkv"
	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
	"github.com/copradb/copra/pd/schedule"
)

// TestRulesSurviveRestart changes rules, labels, weights and settings, and finds
// them again after a restart.
func TestRulesSurviveRestart(t *testing.T) {
	dir, client, peer := t.TempDir(), freeAddr(t), freeAddr(t)
	start := func() *Server {
		return startPD(t, func(c *Config) { c.DataDir, c.ClientAddr, c.PeerAddr = dir, client, peer })
	}
	s, ctx := start(), testContext(t)
	bootstrap(t, s, 3)
	cl := s.term.Load().cluster
	if def := cl.rules.Default(); def == nil || def.Count != 3 {
		t.Fatal("there is no default rule for three replicas:", def)
	}
	rule := &placement.Rule{GroupID: "g", ID: "i", Role: placement.Learner, Count: 1, StartKey: codec.EncodeBytes(nil, []byte("m"))}
	if err := cl.changeRules(func(m *placement.Manager) error { return m.SetRules(ctx, rule) }); err != nil {
		t.Fatal(err)
	}
	// The settings and the default rule say the same, whichever is changed.
	if err := cl.setOptions(ctx, map[string]any{"max-replicas": 5.0, "location-labels": "zone,host", "isolation-level": "zone",
		"store-limit": map[string]any{"4": map[string]any{"add-peer": 7, "remove-peer": 8}}}); err != nil {
		t.Fatal(err)
	}
	if def := cl.rules.Default(); def.Count != 5 || def.IsolationLevel != "zone" || len(def.LocationLabels) != 2 {
		t.Fatal("the default rule does not follow the settings:", def)
	}
	if err := cl.changeRules(func(m *placement.Manager) error {
		return m.SetRules(ctx, placement.DefaultRule(1, []string{"host"}, ""))
	}); err != nil {
		t.Fatal(err)
	}
	if o := cl.Options(); o.Replicas != 1 || !slices.Equal(o.LocationLabels, []string{"host"}) || o.IsolationLevel != "" {
		t.Fatal("the settings do not follow the default rule:", o)
	}
	if err := cl.labels.SetRule(ctx, &labeler.Rule{ID: "l", Type: labeler.KeyRange, Labels: []labeler.Label{{Key: "schedule", Value: "deny"}},
		Data: []labeler.Range{{}}}); err != nil {
		t.Fatal(err)
	}
	if err := cl.setStoreWeight(ctx, 4, 2, 0.5); err != nil {
		t.Fatal(err)
	}
	if err := cl.setStoreLabels(ctx, 4, []*metapb.StoreLabel{{Key: "zone", Value: "a"}, {Key: "host", Value: "h"}}, false); err != nil {
		t.Fatal(err)
	}
	if err := cl.setStoreLabels(ctx, 4, []*metapb.StoreLabel{{Key: "ZONE", Value: "b"}, {Key: "host"}}, false); err != nil {
		t.Fatal(err)
	}
	s.Stop()

	s = start()
	cl = s.term.Load().cluster
	if r := cl.rules.Rule("g", "i"); r == nil || r.Role != placement.Learner || string(r.StartKey) != string(rule.StartKey) {
		t.Error("the rule is gone:", r)
	}
	if o := cl.Options(); o.Replicas != 1 || cl.rules.Default().Count != 1 || o.RateOf(4) != (schedule.StoreRate{AddPeer: 7, RemovePeer: 8}) {
		t.Error("the settings are others:", o)
	}
	if r := cl.regions.ByID(2); !cl.labels.ScheduleDenied(r) {
		t.Error("the region's label is gone")
	}
	st := cl.stores.Get(4)
	if st.LeaderWeight != 2 || st.RegionWeight != 0.5 || st.Label("zone") != "b" || len(st.Meta.Labels) != 1 {
		t.Error("the store is another:", st)
	}
	// A store that comes back without labels keeps those it was given.
	if err := cl.putStore(ctx, &metapb.Store{Id: 4, Address: st.Meta.Address}); err != nil || cl.stores.Get(4).Label("zone") != "b" {
		t.Error("a restarted store lost its labels:", err, cl.stores.Get(4).Meta.Labels)
	}
}

func TestRulesRefused(t *testing.T) {
	s, ctx := startPD(t, nil), testContext(t)
	bootstrap(t, s, 1)
	cl := s.term.Load().cluster
	if err := cl.setOptions(ctx, map[string]any{"isolation-level": "zone"}); err == nil {
		t.Error("an isolation level that is no location label")
	}
	for name, v := range map[string]any{"low-space-ratio": 2.0, "split-merge-interval": "soon", "enable-placement-rules": "maybe",
		"merge-schedule-limit": -1.0, "max-replicas": "three", "location-labels": 3.0, "store-limit": "all",
		"default-store-limit": map[string]any{"add-peer": -1}, "no-such-setting": 1.0} {
		if err := cl.setOptions(ctx, map[string]any{name: v}); err == nil {
			t.Errorf("%s: %v was taken", name, v)
		}
	}
	if err := cl.setOptions(ctx, map[string]any{"enable-placement-rules": false, "max-replicas": "2"}); err != nil {
		t.Fatal(err)
	}
	err := cl.changeRules(func(m *placement.Manager) error { return m.DeleteRule(ctx, "pd", "default") })
	if !errors.Is(err, placement.ErrInvalid) {
		t.Error("rules are changed while they are disabled:", err)
	}
}

// TestHazard17_RulesOfADeposedLeader: a term that is over can't change rules.
func TestHazard17_RulesOfADeposedLeader(t *testing.T) {
	s, ctx := startPD(t, nil), testContext(t)
	bootstrap(t, s, 1)
	old := s.term.Load()
	if _, err := s.cli.Delete(ctx, s.leaderKey); err != nil {
		t.Fatal(err)
	}
	err := old.cluster.changeRules(func(m *placement.Manager) error { return m.SetDefault(ctx, 5, nil, "") })
	// The term's end, which the deposed leader may have seen first, is as good.
	if !errors.Is(err, etcdkv.ErrNotLeader) && !errors.Is(err, context.Canceled) {
		t.Fatal("a deposed leader's change:", err)
	}
	if old.cluster.rules.Default().Count != 3 || old.cluster.Options().Replicas != 3 {
		t.Error("a change that was not saved is in force")
	}
}

// TestDrainNeedsStores: a store is not emptied where its peers could go nowhere,
// unless its data is gone anyway.
func TestDrainNeedsStores(t *testing.T) {
	s, ctx := startPD(t, nil), testContext(t)
	c := bootstrap(t, s, 3)
	cl := s.term.Load().cluster
	heartbeat := func(ids ...uint64) {
		for _, id := range ids {
			if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: header(s), Stats: &pdpb.StoreStats{StoreId: id}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	heartbeat(1, 4, 5)
	if err := cl.removeStore(ctx, 1, false); !errors.Is(err, errStoresNotEnough) {
		t.Fatal("the third store of three:", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.ClientURL()+"/pd/api/v1/store/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	if err := json.NewDecoder(resp.Body).Decode(&text); err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(text, "would be 2 while need 3") {
		t.Error(resp.StatusCode, text, err)
	}
	_ = resp.Body.Close()
	// A store without peers may always go, and comes back while it is there.
	if err := cl.setOptions(ctx, map[string]any{"max-replicas": 2.0}); err != nil {
		t.Fatal(err)
	}
	if err := cl.removeStore(ctx, 1, false); err != nil {
		t.Fatal(err)
	}
	if st := cl.stores.Get(1); !st.IsOffline() || st.Meta.NodeState != metapb.NodeState_Removing {
		t.Fatal("the store is not being removed:", st.Meta)
	}
	if err := cl.upStore(ctx, 1); err != nil || !cl.stores.Get(1).IsUp() {
		t.Fatal(err)
	}
	if err := cl.removeStore(ctx, 1, true); err != nil {
		t.Fatal(err)
	}
	if err := cl.upStore(ctx, 1); err == nil {
		t.Error("a store whose data is gone came back")
	}
	// Its address is free for another.
	if err := cl.putStore(ctx, &metapb.Store{Id: 9, Address: cl.stores.Get(1).Meta.Address}); err != nil {
		t.Error(err)
	}
}
