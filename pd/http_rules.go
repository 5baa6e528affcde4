package pd

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/copradb/copra/pd/labeler"
	"github.com/copradb/copra/pd/placement"
)

func (s *Server) ruleRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/config/rules":                     rules(allRules),
		"POST /pd/api/v1/config/rules":                    rules(setRules),
		"POST /pd/api/v1/config/rules/batch":              rules(batchRules),
		"GET /pd/api/v1/config/rules/group/{group}":       rules(groupRules),
		"GET /pd/api/v1/config/rules/region/{id}":         rules(s.regionRules),
		"GET /pd/api/v1/config/rules/region/{id}/detail":  rules(s.regionFit),
		"GET /pd/api/v1/config/rules/key/{key}":           rules(keyRules),
		"POST /pd/api/v1/config/rule":                     rules(setRule),
		"GET /pd/api/v1/config/rule/{group}/{id}":         rules(oneRule),
		"DELETE /pd/api/v1/config/rule/{group}/{id}":      rules(deleteRule),
		"GET /pd/api/v1/config/rule_groups":               rules(ruleGroups),
		"POST /pd/api/v1/config/rule_group":               rules(setRuleGroup),
		"GET /pd/api/v1/config/rule_group/{group}":        rules(oneRuleGroup),
		"DELETE /pd/api/v1/config/rule_group/{group}":     rules(deleteRuleGroup),
		"GET /pd/api/v1/config/placement-rule":            rules(bundles),
		"POST /pd/api/v1/config/placement-rule":           rules(setBundles),
		"GET /pd/api/v1/config/placement-rule/{group}":    rules(oneBundle),
		"POST /pd/api/v1/config/placement-rule/{group}":   rules(setBundle),
		"DELETE /pd/api/v1/config/placement-rule/{group}": rules(deleteBundle),
	}
}

// rules serves placement rules while they are in use; PD says 412 while they
// are not.
func rules(h termHandler) termHandler {
	return func(t *term, r *http.Request) (any, error) {
		if err := t.cluster.bootstrapped(); err != nil {
			return nil, err
		}
		if t.cluster.Options().DisablePlacementRules {
			return nil, &httpError{http.StatusPreconditionFailed, errRulesDisabled}
		}
		return h(t, r)
	}
}

func ruleList(list []*placement.Rule) any {
	if list == nil {
		return []*placement.Rule{}
	}
	return list
}

func allRules(t *term, _ *http.Request) (any, error) { return ruleList(t.cluster.rules.Rules()), nil }

func groupRules(t *term, r *http.Request) (any, error) {
	return ruleList(t.cluster.rules.GroupRules(r.PathValue("group"))), nil
}

func (s *Server) regionRules(t *term, r *http.Request) (any, error) {
	region, err := s.pathRegion(t, r)
	if err != nil {
		return nil, err
	}
	list, _ := t.cluster.rules.RulesFor(region.Meta.StartKey, region.Meta.EndKey)
	return ruleList(list), nil
}

// regionFit tells how the region's peers meet their rules.
func (s *Server) regionFit(t *term, r *http.Request) (any, error) {
	region, err := s.pathRegion(t, r)
	if err != nil {
		return nil, err
	}
	return t.cluster.sched.Fit(region), nil
}

func keyRules(t *term, r *http.Request) (any, error) {
	key, err := keyParam(r.PathValue("key"), "hex")
	if err != nil {
		return nil, err
	}
	return ruleList(t.cluster.rules.RulesAt(key)), nil
}

func setRules(t *term, r *http.Request) (any, error) {
	var list []*placement.Rule
	if err := readJSON(r, &list, "the list of rules"); err != nil {
		return nil, err
	}
	for i, rule := range list {
		if rule == nil {
			return nil, badRequest(fmt.Errorf("pd: rule %d of the list is empty", i))
		}
	}
	return done("Update rules successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.SetRules(r.Context(), list...)
	}))
}

func setRule(t *term, r *http.Request) (any, error) {
	var rule placement.Rule
	if err := readJSON(r, &rule, "the rule"); err != nil {
		return nil, err
	}
	return done("Update rule successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.SetRules(r.Context(), &rule)
	}))
}

func batchRules(t *term, r *http.Request) (any, error) {
	var ops []placement.RuleOp
	if err := readJSON(r, &ops, "the list of changes"); err != nil {
		return nil, err
	}
	return done("Batch operations successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.Batch(r.Context(), ops)
	}))
}

func oneRule(t *term, r *http.Request) (any, error) {
	group, id := r.PathValue("group"), r.PathValue("id")
	rule := t.cluster.rules.Rule(group, id)
	if rule == nil {
		return nil, notFound(fmt.Errorf("pd: rule %s/%s is not found", group, id))
	}
	return rule, nil
}

func deleteRule(t *term, r *http.Request) (any, error) {
	return done("Delete rule successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.DeleteRule(r.Context(), r.PathValue("group"), r.PathValue("id"))
	}))
}

func ruleGroups(t *term, _ *http.Request) (any, error) { return t.cluster.rules.Groups(), nil }

func oneRuleGroup(t *term, r *http.Request) (any, error) {
	for _, g := range t.cluster.rules.Groups() {
		if g.ID == r.PathValue("group") {
			return g, nil
		}
	}
	return nil, notFound(fmt.Errorf("pd: there is no rule group %q", r.PathValue("group")))
}

func setRuleGroup(t *term, r *http.Request) (any, error) {
	var g placement.Group
	if err := readJSON(r, &g, "the rule group"); err != nil {
		return nil, err
	}
	return done("Update rule group successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.SetGroup(r.Context(), g)
	}))
}

func deleteRuleGroup(t *term, r *http.Request) (any, error) {
	return done("Delete rule group successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.DeleteGroup(r.Context(), r.PathValue("group"))
	}))
}

func bundles(t *term, _ *http.Request) (any, error) { return t.cluster.rules.Bundles(), nil }

// setBundles replaces all groups; with partial only those that are named.
func setBundles(t *term, r *http.Request) (any, error) {
	var list []placement.Bundle
	if err := readJSON(r, &list, "the list of groups"); err != nil {
		return nil, err
	}
	return done("Update rules and groups successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.SetBundles(r.Context(), list, flagParam(r, "partial"))
	}))
}

func oneBundle(t *term, r *http.Request) (any, error) {
	b := t.cluster.rules.Bundle(r.PathValue("group"))
	if b.Rules == nil {
		b.Rules = []*placement.Rule{}
	}
	return b, nil
}

func setBundle(t *term, r *http.Request) (any, error) {
	var b placement.Bundle
	if err := readJSON(r, &b, "the group"); err != nil {
		return nil, err
	}
	if b.ID == "" {
		b.ID = r.PathValue("group")
	}
	if b.ID != r.PathValue("group") {
		return nil, badRequest(fmt.Errorf("pd: group_id %q is not the group %q of the path", b.ID, r.PathValue("group")))
	}
	return done("Update group and rules successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.SetBundles(r.Context(), []placement.Bundle{b}, true)
	}))
}

// deleteBundle removes a group with its rules; with regexp all that match.
func deleteBundle(t *term, r *http.Request) (any, error) {
	return done("Delete group and rules successfully.", t.cluster.changeRules(func(m *placement.Manager) error {
		return m.DeleteBundles(r.Context(), r.PathValue("group"), flagParam(r, "regexp"))
	}))
}

func (s *Server) labelRoutes() map[string]termHandler {
	return map[string]termHandler{
		"GET /pd/api/v1/config/region-label/rules":        labelRules,
		"PATCH /pd/api/v1/config/region-label/rules":      patchLabelRules,
		"GET /pd/api/v1/config/region-label/rules/ids":    labelRulesByID,
		"POST /pd/api/v1/config/region-label/rule":        setLabelRule,
		"GET /pd/api/v1/config/region-label/rule/{id}":    oneLabelRule,
		"DELETE /pd/api/v1/config/region-label/rule/{id}": deleteLabelRule,
		"GET /pd/api/v1/region/id/{id}/labels":            s.regionLabels,
		"GET /pd/api/v1/region/id/{id}/label/{key}":       s.regionLabel,
	}
}

func labelRuleList(list []*labeler.Rule) any {
	if list == nil {
		return []*labeler.Rule{}
	}
	return list
}

func labelRules(t *term, _ *http.Request) (any, error) {
	return labelRuleList(t.cluster.labels.Rules()), nil
}

// labelRulesByID takes a list of ids as its body.
func labelRulesByID(t *term, r *http.Request) (any, error) {
	var ids []string
	if err := readJSON(r, &ids, "the list of ids"); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return labelRuleList(nil), nil
	}
	return labelRuleList(t.cluster.labels.Rules(ids...)), nil
}

func patchLabelRules(t *term, r *http.Request) (any, error) {
	var in struct {
		Set    []*labeler.Rule `json:"sets"`
		Delete []string        `json:"deletes"`
	}
	if err := readJSON(r, &in, "the patch"); err != nil {
		return nil, err
	}
	for i, rule := range in.Set {
		if rule == nil {
			return nil, badRequest(fmt.Errorf("pd: rule %d of sets is empty", i))
		}
	}
	return done("Update region label rules successfully.", t.cluster.labels.Patch(r.Context(), in.Set, in.Delete))
}

func setLabelRule(t *term, r *http.Request) (any, error) {
	var rule labeler.Rule
	if err := readJSON(r, &rule, "the label rule"); err != nil {
		return nil, err
	}
	return done("Update region label rule successfully.", t.cluster.labels.SetRule(r.Context(), &rule))
}

func oneLabelRule(t *term, r *http.Request) (any, error) {
	rule := t.cluster.labels.Rule(r.PathValue("id"))
	if rule == nil {
		return nil, notFound(fmt.Errorf("pd: there is no region label rule %q", r.PathValue("id")))
	}
	return rule, nil
}

func deleteLabelRule(t *term, r *http.Request) (any, error) {
	return done("Delete region label rule successfully.", t.cluster.labels.DeleteRule(r.Context(), r.PathValue("id")))
}

// regionLabels lists the labels that a region has.
func (s *Server) regionLabels(t *term, r *http.Request) (any, error) {
	region, err := s.pathRegion(t, r)
	if err != nil {
		return nil, err
	}
	return t.cluster.labels.Labels(region), nil
}

func (s *Server) regionLabel(t *term, r *http.Request) (any, error) {
	region, err := s.pathRegion(t, r)
	if err != nil {
		return nil, err
	}
	value := t.cluster.labels.Label(region, r.PathValue("key"))
	if value == "" {
		return nil, notFound(errors.New("pd: the region has no label " + r.PathValue("key")))
	}
	return value, nil
}
