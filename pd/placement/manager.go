package placement

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/rangelist"
)

// Storage is where rules are kept: one value a key, a nil value deletes. A call
// is applied whole or not at all.
type Storage interface {
	Save(ctx context.Context, changes map[string][]byte) error
}

// The keys in Storage, names in hexadecimal.
const (
	rulePrefix  = "rules/"
	groupPrefix = "rule_group/"
)

var (
	// ErrNotFound is wrapped where a rule or group does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is wrapped where rules are refused.
	ErrInvalid = errors.New("invalid placement rules")
)

type ruleKey struct{ group, id string }

// config is a set of rules in force. It is not changed any more.
type config struct {
	rules  map[ruleKey]*Rule
	groups map[string]*Group
	list   rangelist.List[*Rule]
}

// Manager keeps the rules. Safe for concurrent use; reading takes no lock.
type Manager struct {
	storage Storage
	cfg     atomic.Pointer[config]

	mu    sync.Mutex // of writers
	saved map[string]string
}

// NewManager returns a manager of the rules that were saved: all that was once
// given to storage. Where that is nothing there is the default rule.
func NewManager(storage Storage, saved map[string][]byte, def *Rule) (*Manager, error) {
	m := &Manager{storage: storage, saved: make(map[string]string, len(saved))}
	cfg := &config{rules: make(map[ruleKey]*Rule), groups: make(map[string]*Group)}
	for key, raw := range saved {
		if err := cfg.load(key, raw); err != nil {
			return nil, err
		}
		m.saved[key] = string(raw)
	}
	if len(cfg.rules) == 0 {
		cfg.rules[ruleKey{def.GroupID, def.ID}] = def
	}
	if err := cfg.build(); err != nil {
		return nil, err
	}
	m.cfg.Store(cfg)
	return m, nil
}

func (cfg *config) load(key string, raw []byte) error {
	switch {
	case strings.HasPrefix(key, rulePrefix):
		r := &Rule{}
		if err := json.Unmarshal(raw, r); err != nil {
			return fmt.Errorf("pd: placement rule %s in etcd is damaged: %w", key, err)
		}
		cfg.rules[ruleKey{r.GroupID, r.ID}] = r
	case strings.HasPrefix(key, groupPrefix):
		g := &Group{}
		if err := json.Unmarshal(raw, g); err != nil {
			return fmt.Errorf("pd: rule group %s in etcd is damaged: %w", key, err)
		}
		cfg.groups[g.ID] = g
	}
	return nil
}

// DefaultRule asks for replicas voters everywhere.
func DefaultRule(replicas int, labels []string, isolation string) *Rule {
	return &Rule{GroupID: DefaultGroup, ID: DefaultID, Role: Voter, Count: replicas,
		LocationLabels: labels, IsolationLevel: isolation}
}

// Default returns pd/default, or nil where it was removed.
func (m *Manager) Default() *Rule { return m.cfg.Load().rules[ruleKey{DefaultGroup, DefaultID}] }

// RulesFor returns the rules of [start, end); ok is false where the range
// crosses the end of a segment.
func (m *Manager) RulesFor(start, end []byte) (rules []*Rule, ok bool) {
	return m.cfg.Load().list.Get(start, end)
}

// SplitKeys returns the ends of segments inside of (start, end).
func (m *Manager) SplitKeys(start, end []byte) [][]byte {
	return m.cfg.Load().list.SplitKeys(start, end)
}

// Fit fits a region to the rules of its range.
func (m *Manager) Fit(stores Stores, r *core.Region, when When) *Fit {
	rules, ok := m.RulesFor(r.Meta.StartKey, r.Meta.EndKey)
	if !ok {
		return &Fit{}
	}
	return FitRules(stores, r, rules, when)
}

// patch is a change under way.
type patch struct{ cfg *config }

func (m *Manager) begin() *patch {
	old := m.cfg.Load()
	next := &config{rules: make(map[ruleKey]*Rule, len(old.rules)), groups: make(map[string]*Group, len(old.groups))}
	for k, r := range old.rules {
		next.rules[k] = r
	}
	for k, g := range old.groups {
		next.groups[k] = g
	}
	return &patch{next}
}

func (p *patch) setGroup(g *Group) {
	if g.isDefault() {
		delete(p.cfg.groups, g.ID)
		return
	}
	p.cfg.groups[g.ID] = g
}

// commit checks the patched rules, saves them and puts them in force. Called
// with the lock held.
func (m *Manager) commit(ctx context.Context, p *patch) error {
	if err := p.cfg.build(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	all, err := p.cfg.encode()
	if err != nil {
		return err
	}
	changes := make(map[string][]byte)
	for key, raw := range all {
		if m.saved[key] != raw {
			changes[key] = []byte(raw)
		}
	}
	for key := range m.saved {
		if _, ok := all[key]; !ok {
			changes[key] = nil
		}
	}
	if len(changes) > 0 {
		if err := m.storage.Save(ctx, changes); err != nil {
			return err
		}
	}
	m.saved = all
	m.cfg.Store(p.cfg)
	return nil
}

func (cfg *config) encode() (map[string]string, error) {
	out := make(map[string]string, len(cfg.rules)+len(cfg.groups))
	for k, r := range cfg.rules {
		raw, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		out[rulePrefix+hex.EncodeToString([]byte(k.group))+"-"+hex.EncodeToString([]byte(k.id))] = string(raw)
	}
	for id, g := range cfg.groups {
		raw, err := json.Marshal(g)
		if err != nil {
			return nil, err
		}
		out[groupPrefix+hex.EncodeToString([]byte(id))] = string(raw)
	}
	return out, nil
}

// build makes the segments, or says why the rules can't be in force together.
func (cfg *config) build() error {
	if len(cfg.rules) > rulesMax {
		return fmt.Errorf("pd: %d placement rules are more than %d", len(cfg.rules), rulesMax)
	}
	sorted := make([]*Rule, 0, len(cfg.rules))
	for k, r := range cfg.rules {
		if err := r.check(); err != nil {
			return err
		}
		if g := cfg.groups[k.group]; r.group != g {
			c := *r // another snapshot may use the old one
			c.group = g
			r = &c
			cfg.rules[k] = r
		}
		sorted = append(sorted, r)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].less(sorted[j]) })
	items := make([]rangelist.Item[*Rule], len(sorted))
	for i, r := range sorted {
		items[i] = rangelist.Item[*Rule]{Start: r.StartKey, End: r.EndKey, Value: r}
	}
	cfg.list = rangelist.Build(items).Map(applying)
	return cfg.list.Each(checkSegment)
}

// applying leaves out what is overridden.
func applying(rules []*Rule) []*Rule {
	var out []*Rule
	groupStart := 0
	for i, r := range rules {
		if i == 0 || rules[i-1].GroupID != r.GroupID {
			if r.group != nil && r.group.Override {
				out = out[:0]
			}
			groupStart = len(out)
		}
		if r.Override {
			out = out[:groupStart]
		}
		out = append(out, r)
	}
	return out
}

func checkSegment(start, end []byte, rules []*Rule) error {
	leaders, voters, peers := 0, 0, 0
	for _, r := range rules {
		peers += r.Count
		switch r.Role {
		case Leader:
			leaders += r.Count
		case Voter:
			voters += r.Count
		}
	}
	where := fmt.Sprintf("pd: the rules for keys from %X to %X", start, end)
	switch {
	case len(rules) == 0:
		return fmt.Errorf("pd: no rule is left for keys from %X to %X", start, end)
	case leaders > 1:
		return fmt.Errorf("%s ask for %d leaders", where, leaders)
	case leaders+voters == 0:
		return fmt.Errorf("%s need at least one leader or voter", where)
	case peers > RulePeersMax:
		return fmt.Errorf("%s ask for %d peers, more than %d", where, peers, RulePeersMax)
	case len(rules) > segmentRulesMax:
		return fmt.Errorf("%s are %d, more than %d", where, len(rules), segmentRulesMax)
	}
	return nil
}

// change runs fn on a copy of the rules and puts the result in force.
func (m *Manager) change(ctx context.Context, fn func(p *patch) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.begin()
	if err := fn(p); err != nil {
		return err
	}
	return m.commit(ctx, p)
}

// SetDefault makes pd/default ask for so many replicas.
func (m *Manager) SetDefault(ctx context.Context, replicas int, labels []string, isolation string) error {
	return m.change(ctx, func(p *patch) error {
		old := p.cfg.rules[ruleKey{DefaultGroup, DefaultID}]
		if old == nil {
			return fmt.Errorf("pd: the rule %s/%s was removed: change the placement rules instead of max-replicas and location-labels",
				DefaultGroup, DefaultID)
		}
		next := *old
		next.Count, next.LocationLabels, next.IsolationLevel = replicas, labels, isolation
		p.set(&next)
		return nil
	})
}

func (p *patch) set(r *Rule) { p.cfg.rules[ruleKey{r.GroupID, r.ID}] = r }

// matcher is how bundles are picked by group id.
func matcher(pattern string, isRegexp bool) (func(id string) bool, error) {
	if !isRegexp {
		return func(id string) bool { return id == pattern }, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no regular expression: %w", ErrInvalid, pattern, err)
	}
	return re.MatchString, nil
}
