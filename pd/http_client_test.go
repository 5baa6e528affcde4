package pd

import (
	"testing"

	pdhttp "github.com/tikv/pd/client/http"
)

// TestHTTPClientChanges lets PD's own client change rules, labels, operators and
// schedulers, and read the answers.
func TestHTTPClientChanges(t *testing.T) {
	s := scriptCluster(t)
	c := pdhttp.NewClient("test", []string{s.ClientURL()})
	defer c.Close()
	ctx := testContext(t)
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(what, err)
		}
	}
	all := pdhttp.NewKeyRange(nil, nil)
	state, err := c.GetRegionsReplicatedStateByKeyRange(ctx, all)
	if must("replicated:", err); state != "REPLICATED" && state != "\"REPLICATED\"\n" {
		t.Fatalf("the regions are %q", state)
	}
	stats, err := c.GetRegionStatusByKeyRange(ctx, all, false)
	if must("stats:", err); stats.Count != 2 || stats.StorageSize != 116 || stats.StorePeerCount[4] != 2 {
		t.Fatal(stats)
	}
	siblings, err := c.GetRegionSiblingsByID(ctx, 2)
	if must("siblings:", err); siblings.Count != 1 || siblings.Regions[0].ID != 10 {
		t.Fatal(siblings)
	}
	if _, err := c.GetHistoryHotRegions(ctx, &pdhttp.HistoryHotRegionsRequest{HotRegionTypes: []string{"write"}}); err != nil {
		t.Fatal(err)
	}
	must("labels:", c.SetStoreLabels(ctx, 4, map[string]string{"zone": "z1"}))
	must("accelerate:", c.AccelerateSchedule(ctx, all))
	must("accelerate:", c.AccelerateScheduleInBatch(ctx, []*pdhttp.KeyRange{all}))

	// Rules.
	rule := &pdhttp.Rule{GroupID: "g", ID: "a b", Role: pdhttp.Learner, Count: 1}
	must("rule:", c.SetPlacementRule(ctx, &pdhttp.Rule{GroupID: "g", ID: "r", Role: pdhttp.Learner, Count: 1}))
	must("batch:", c.SetPlacementRuleInBatch(ctx, []*pdhttp.RuleOp{{Rule: rule, Action: pdhttp.RuleOpAdd}}))
	rules, err := c.GetPlacementRulesByGroup(ctx, "g")
	if must("rules:", err); len(rules) != 2 || rules[0].ID != "a b" || rules[0].Role != pdhttp.Learner {
		t.Fatal(rules)
	}
	must("group:", c.SetPlacementRuleGroup(ctx, &pdhttp.RuleGroup{ID: "g", Index: 3}))
	group, err := c.GetPlacementRuleGroupByID(ctx, "g")
	if must("group:", err); group.Index != 3 {
		t.Fatal(group)
	}
	bundles, err := c.GetAllPlacementRuleBundles(ctx)
	if must("bundles:", err); len(bundles) != 2 {
		t.Fatal(bundles)
	}
	must("bundles:", c.SetPlacementRuleBundles(ctx, bundles[:1], false)) // all others go
	if bundles, err = c.GetAllPlacementRuleBundles(ctx); err != nil || len(bundles) != 1 || len(bundles[0].Rules) != 1 {
		t.Fatal(bundles, err)
	}

	// Labels of key ranges.
	label := &pdhttp.LabelRule{ID: "l/1", Labels: []pdhttp.RegionLabel{{Key: "schedule", Value: "deny"}}, RuleType: "key-range",
		Data: []any{map[string]any{"start_key": "", "end_key": ""}}}
	must("label:", c.SetRegionLabelRule(ctx, label))
	labels, err := c.GetRegionLabelRulesByIDs(ctx, []string{"l/1"})
	if must("labels:", err); len(labels) != 1 || labels[0].Labels[0].Value != "deny" {
		t.Fatal(labels)
	}
	must("labels:", c.PatchRegionLabelRules(ctx, &pdhttp.LabelRulePatch{DeleteRules: []string{"l/1"}}))

	// Schedulers and operators.
	must("scheduler:", c.CreateScheduler(ctx, "evict-leader-scheduler", 4))
	must("pause:", c.SetSchedulerDelay(ctx, "evict-leader-scheduler", 60))
	must("scheduler:", c.DeleteScheduler(ctx, "evict-leader-scheduler"))
	must("operator:", c.CreateOperators(ctx, map[string]any{"name": "transfer-leader", "region_id": 2, "to_store_id": 5}))
	must("operators:", c.DeleteOperators(ctx))
	if err := c.SetConfig(ctx, map[string]any{"merge-schedule-limit": 0}, 60); err == nil {
		t.Fatal("a setting for a while was taken for good")
	}
}
