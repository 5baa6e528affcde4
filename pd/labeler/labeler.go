package labeler

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
	"github.com/copradb/copra/pd/rangelist"
)

var (
	// ErrNotFound is wrapped where a rule does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is wrapped where a rule is refused.
	ErrInvalid = errors.New("invalid region label rule")
)

// keyPrefix is in front of the hexadecimal id in Storage.
const keyPrefix = "region_label/"

type config struct {
	rules map[string]*Rule
	list  rangelist.List[*Rule]
}

// Labeler keeps the label rules. Safe for concurrent use; reading takes no lock.
type Labeler struct {
	storage placement.Storage
	now     func() time.Time
	cfg     atomic.Pointer[config]
	mu      sync.Mutex // of writers
}

// New returns a labeler of the rules that were saved: all that was once given
// to storage.
func New(storage placement.Storage, saved map[string][]byte, now func() time.Time) (*Labeler, error) {
	l := &Labeler{storage: storage, now: now}
	rules := make(map[string]*Rule, len(saved))
	for key, raw := range saved {
		r := &Rule{}
		if err := json.Unmarshal(raw, r); err != nil {
			return nil, fmt.Errorf("pd: region label rule %s in etcd is damaged: %w", key, err)
		}
		r, err := r.prepared(now())
		if err != nil {
			return nil, fmt.Errorf("pd: region label rule %s in etcd is damaged: %w", key, err)
		}
		rules[r.ID] = r
	}
	l.cfg.Store(build(rules))
	return l, nil
}

func build(rules map[string]*Rule) *config {
	sorted := sortedRules(rules)
	var items []rangelist.Item[*Rule]
	for _, r := range sorted {
		for _, d := range r.Data {
			items = append(items, rangelist.Item[*Rule]{Start: d.start, End: d.end, Value: r})
		}
	}
	return &config{rules: rules, list: rangelist.Build(items)}
}

// sortedRules returns the rules with the strongest last.
func sortedRules(rules map[string]*Rule) []*Rule {
	out := make([]*Rule, 0, len(rules))
	for _, r := range rules {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Index < out[j].Index || out[i].Index == out[j].Index && out[i].ID < out[j].ID
	})
	return out
}

// Label is the value of the region's label, "" where it has none.
func (l *Labeler) Label(r *core.Region, key string) string {
	rules, _ := l.cfg.Load().list.Get(r.Meta.StartKey, r.Meta.EndKey)
	if len(rules) == 0 {
		return ""
	}
	now := l.now()
	for i := len(rules) - 1; i >= 0; i-- {
		for j := range rules[i].Labels {
			if lb := &rules[i].Labels[j]; lb.Key == key && !lb.expired(now) {
				return lb.Value
			}
		}
	}
	return ""
}

// Labels returns all labels of a region, by key.
func (l *Labeler) Labels(r *core.Region) []Label {
	rules, _ := l.cfg.Load().list.Get(r.Meta.StartKey, r.Meta.EndKey)
	byKey := make(map[string]Label)
	for _, rule := range rules {
		for _, lb := range rule.live(l.now()) {
			byKey[lb.Key] = lb
		}
	}
	out := make([]Label, 0, len(byKey))
	for _, lb := range byKey {
		out = append(out, lb)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

// ScheduleDenied reports whether schedulers must leave the region alone.
func (l *Labeler) ScheduleDenied(r *core.Region) bool {
	return l.Label(r, scheduleLabel) == denyLabelValue
}

// MergeDenied reports whether the region must not be merged.
func (l *Labeler) MergeDenied(r *core.Region) bool { return l.Label(r, mergeLabel) == denyLabelValue }

// SplitKeys returns the ends of labelled ranges inside of (start, end).
func (l *Labeler) SplitKeys(start, end []byte) [][]byte {
	return l.cfg.Load().list.SplitKeys(start, end)
}

// Rules returns all rules, or those with the ids given.
func (l *Labeler) Rules(ids ...string) []*Rule {
	all := sortedRules(l.cfg.Load().rules)
	if len(ids) == 0 {
		return all
	}
	var out []*Rule
	for _, r := range all {
		for _, id := range ids {
			if r.ID == id {
				out = append(out, r)
				break
			}
		}
	}
	return out
}

// Rule returns a rule, or nil.
func (l *Labeler) Rule(id string) *Rule { return l.cfg.Load().rules[id] }

// SetRule adds or replaces a rule.
func (l *Labeler) SetRule(ctx context.Context, r *Rule) error {
	return l.Patch(ctx, []*Rule{r}, nil)
}

// DeleteRule removes a rule.
func (l *Labeler) DeleteRule(ctx context.Context, id string) error {
	if l.Rule(id) == nil {
		return fmt.Errorf("pd: label rule %q: %w", id, ErrNotFound)
	}
	return l.Patch(ctx, nil, []string{id})
}

// Patch removes and then sets rules, all or none.
func (l *Labeler) Patch(ctx context.Context, set []*Rule, remove []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.patch(ctx, set, remove)
}

// patch is called with the lock held.
func (l *Labeler) patch(ctx context.Context, set []*Rule, remove []string) error {
	next := make(map[string]*Rule)
	for id, r := range l.cfg.Load().rules {
		next[id] = r
	}
	changes := make(map[string][]byte)
	for _, id := range remove {
		delete(next, id)
		changes[storageKey(id)] = nil
	}
	for _, r := range set {
		p, err := r.prepared(l.now())
		if err != nil {
			return err
		}
		raw, err := json.Marshal(p)
		if err != nil {
			return err
		}
		next[p.ID] = p
		changes[storageKey(p.ID)] = raw
	}
	if len(next) > labelRulesMax {
		return fmt.Errorf("%w: %d label rules are more than %d", ErrInvalid, len(next), labelRulesMax)
	}
	if len(changes) == 0 {
		return nil
	}
	if err := l.storage.Save(ctx, changes); err != nil {
		return err
	}
	l.cfg.Store(build(next))
	return nil
}

func storageKey(id string) string { return keyPrefix + hex.EncodeToString([]byte(id)) }

// Expire removes the labels that have run out, and rules without any.
func (l *Labeler) Expire(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var set []*Rule
	var remove []string
	now := l.now()
	for id, r := range l.cfg.Load().rules {
		live := r.live(now)
		switch {
		case len(live) == len(r.Labels):
		case len(live) == 0:
			remove = append(remove, id)
		default:
			c := *r
			c.Labels = live
			set = append(set, &c)
		}
	}
	if len(set)+len(remove) == 0 {
		return nil
	}
	return l.patch(ctx, set, remove)
}
