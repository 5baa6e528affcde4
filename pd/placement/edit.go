package placement

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Action is what a RuleOp does.
type Action string

// The actions.
const (
	ActionAdd    Action = "add"
	ActionDelete Action = "del"
)

// RuleOp is one change among several that are made together.
type RuleOp struct {
	*Rule
	Action Action `json:"action"`
	// DeleteByIDPrefix makes a deletion take all rules of the group whose ids
	// start with the rule's.
	DeleteByIDPrefix bool `json:"delete_by_id_prefix"`
}

// UnmarshalJSON implements json.Unmarshaler: that of Rule, which would be taken
// for the whole otherwise, decodes the rule alone, into nil.
func (o *RuleOp) UnmarshalJSON(raw []byte) error {
	o.Rule = &Rule{}
	if err := o.Rule.UnmarshalJSON(raw); err != nil {
		return err
	}
	var how struct {
		Action           Action `json:"action"`
		DeleteByIDPrefix bool   `json:"delete_by_id_prefix"`
	}
	if err := json.Unmarshal(raw, &how); err != nil {
		return err
	}
	o.Action, o.DeleteByIDPrefix = how.Action, how.DeleteByIDPrefix
	return nil
}

// Rule returns a rule, or nil.
func (m *Manager) Rule(group, id string) *Rule { return m.cfg.Load().rules[ruleKey{group, id}] }

// Rules returns all rules in the order in which they apply.
func (m *Manager) Rules() []*Rule { return m.pick(func(*Rule) bool { return true }) }

// GroupRules returns the rules of a group.
func (m *Manager) GroupRules(group string) []*Rule {
	return m.pick(func(r *Rule) bool { return r.GroupID == group })
}

// RulesAt returns the rules that are in force at a key.
func (m *Manager) RulesAt(key []byte) []*Rule {
	rules, _ := m.RulesFor(key, append(append([]byte(nil), key...), 0))
	return rules
}

func (m *Manager) pick(want func(*Rule) bool) []*Rule {
	var out []*Rule
	for _, r := range m.cfg.Load().rules {
		if want(r) {
			out = append(out, r)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].less(out[j]) })
	return out
}

// SetRules adds or replaces rules, all or none.
func (m *Manager) SetRules(ctx context.Context, rules ...*Rule) error {
	return m.change(ctx, func(p *patch) error {
		for _, r := range rules {
			p.set(r)
		}
		return nil
	})
}

// DeleteRule removes a rule.
func (m *Manager) DeleteRule(ctx context.Context, group, id string) error {
	return m.change(ctx, func(p *patch) error {
		k := ruleKey{group, id}
		if p.cfg.rules[k] == nil {
			return fmt.Errorf("pd: rule %s/%s: %w", group, id, ErrNotFound)
		}
		delete(p.cfg.rules, k)
		return nil
	})
}

// Batch makes several changes, all or none.
func (m *Manager) Batch(ctx context.Context, ops []RuleOp) error {
	return m.change(ctx, func(p *patch) error {
		for i, op := range ops {
			switch {
			case op.Rule == nil:
				return fmt.Errorf("%w: operation %d has no rule", ErrInvalid, i)
			case op.Action == ActionAdd:
				p.set(op.Rule)
			case op.Action != ActionDelete:
				return fmt.Errorf("%w: operation %d: %q is neither add nor del", ErrInvalid, i, op.Action)
			case op.DeleteByIDPrefix:
				for k := range p.cfg.rules {
					if k.group == op.GroupID && strings.HasPrefix(k.id, op.ID) {
						delete(p.cfg.rules, k)
					}
				}
			default:
				delete(p.cfg.rules, ruleKey{op.GroupID, op.ID})
			}
		}
		return nil
	})
}

// Group returns the settings of a group, or nil where it has none of its own.
func (m *Manager) Group(id string) *Group { return m.cfg.Load().groups[id] }

// Groups returns the settings of all groups that have rules or settings.
func (m *Manager) Groups() []Group {
	cfg := m.cfg.Load()
	all := make(map[string]Group)
	for k := range cfg.rules {
		all[k.group] = Group{ID: k.group}
	}
	for id, g := range cfg.groups {
		all[id] = *g
	}
	out := make([]Group, 0, len(all))
	for _, g := range all {
		out = append(out, g)
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Index < out[j].Index || out[i].Index == out[j].Index && out[i].ID < out[j].ID
	})
	return out
}

// SetGroup changes the settings of a group.
func (m *Manager) SetGroup(ctx context.Context, g Group) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return m.change(ctx, func(p *patch) error { p.setGroup(&g); return nil })
}

// DeleteGroup makes a group have the default settings; its rules stay.
func (m *Manager) DeleteGroup(ctx context.Context, id string) error {
	return m.change(ctx, func(p *patch) error {
		if p.cfg.groups[id] == nil {
			return fmt.Errorf("pd: rule group %s: %w", id, ErrNotFound)
		}
		delete(p.cfg.groups, id)
		return nil
	})
}

// Bundles returns all groups with their rules.
func (m *Manager) Bundles() []Bundle {
	groups := m.Groups()
	out := make([]Bundle, len(groups))
	for i, g := range groups {
		out[i] = Bundle{ID: g.ID, Index: g.Index, Override: g.Override, Rules: m.GroupRules(g.ID)}
	}
	return out
}

// Bundle returns a group with its rules; it may have none.
func (m *Manager) Bundle(id string) Bundle {
	b := Bundle{ID: id, Rules: m.GroupRules(id)}
	if g := m.Group(id); g != nil {
		b.Index, b.Override = g.Index, g.Override
	}
	return b
}

// SetBundles replaces the groups named, and removes all others unless partial.
func (m *Manager) SetBundles(ctx context.Context, bundles []Bundle, partial bool) error {
	return m.change(ctx, func(p *patch) error {
		if !partial {
			p.cfg.rules, p.cfg.groups = make(map[ruleKey]*Rule), make(map[string]*Group)
		}
		for _, b := range bundles {
			g := &Group{ID: b.ID, Index: b.Index, Override: b.Override}
			if err := g.check(); err != nil {
				return fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			p.dropGroup(b.ID)
			p.setGroup(g)
			for _, r := range b.Rules {
				if r == nil {
					return fmt.Errorf("%w: group %s has an empty rule", ErrInvalid, b.ID)
				}
				if r.GroupID == "" {
					c := *r
					c.GroupID = b.ID
					r = &c
				}
				if r.GroupID != b.ID {
					return fmt.Errorf("%w: rule %s is in the bundle of group %s", ErrInvalid, r.Name(), b.ID)
				}
				p.set(r)
			}
		}
		return nil
	})
}

func (p *patch) dropGroup(id string) {
	delete(p.cfg.groups, id)
	for k := range p.cfg.rules {
		if k.group == id {
			delete(p.cfg.rules, k)
		}
	}
}

// DeleteBundles removes a group with its rules, or all groups whose ids match a
// regular expression.
func (m *Manager) DeleteBundles(ctx context.Context, pattern string, isRegexp bool) error {
	match, err := matcher(pattern, isRegexp)
	if err != nil {
		return err
	}
	return m.change(ctx, func(p *patch) error {
		for id := range p.cfg.groups {
			if match(id) {
				p.dropGroup(id)
			}
		}
		for k := range p.cfg.rules {
			if match(k.group) {
				delete(p.cfg.rules, k)
			}
		}
		return nil
	})
}
