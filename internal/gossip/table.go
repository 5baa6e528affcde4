package gossip

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// membersMax is how many nodes are remembered, dead ones among them: the one
// that died first is forgotten first.
const membersMax = 4096

// EventType says what changed about a member.
type EventType int

// The types of events.
const (
	// EventAlive: the node is there; its Status tells how it is.
	EventAlive EventType = iota + 1
	// EventDead: the node does not answer, or has said that it stops. A node
	// that restarted in a moment is dead and then alive.
	EventDead
	// EventSlow: a living node has become slow.
	EventSlow
	// EventUpdated: anything else about a living node changed: its address, or
	// its status.
	EventUpdated
)

// String is the event as people write it.
func (e EventType) String() string {
	switch e {
	case EventAlive:
		return "alive"
	case EventDead:
		return "dead"
	case EventSlow:
		return "slow"
	case EventUpdated:
		return "updated"
	}
	return fmt.Sprintf("event %d", int(e))
}

// Event is one change.
type Event struct {
	Type   EventType
	Member Member
}

// table has the members as memberlist tells of them, and remembers which
// changes OnChange has not seen.
type table struct {
	n      *Node
	routes *routes
	wake   chan struct{}

	mu      sync.RWMutex // guards the fields below
	members map[string]*Member
	changed map[string]bool // names

	told map[string]Member // what OnChange has seen; of deliver
}

var (
	_ memberlist.EventDelegate = (*table)(nil)
	_ memberlist.AliveDelegate = (*table)(nil)
	_ memberlist.MergeDelegate = (*table)(nil)
)

func newTable(n *Node, r *routes) *table {
	return &table{
		n: n, routes: r, wake: make(chan struct{}, 1),
		members: make(map[string]*Member), changed: make(map[string]bool), told: make(map[string]Member),
	}
}

// NotifyAlive implements memberlist.AliveDelegate: it refuses nodes of other
// clusters and those that make no sense. What it accepts may still be old.
func (t *table) NotifyAlive(node *memberlist.Node) error {
	m, err := decodeMeta(t.n.o.ClusterID, node.Name, node.Meta)
	if err != nil {
		t.n.metrics.refused.Inc()
		return err
	}
	if !t.hasRoom(m.Name) {
		t.n.metrics.refused.Inc()
		return fmt.Errorf("gossip: %q is one more than the %d living nodes that are taken in", m.Name, membersMax)
	}
	if self := &t.n.self; m.Name == self.Name && m.Address != self.Address && m.Started.After(self.Started) {
		t.n.log.Error("gossip: another process says that it is this node; was a data directory copied?",
			"name", m.Name, "its_address", m.Address, "its_start", m.Started)
	}
	t.routes.learn(m.Name, m.Address)
	return nil
}

// hasRoom reports whether a node that lives can be taken in: it is known, or a
// place is free, or that of a dead one.
func (t *table) hasRoom(name string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.members[name] != nil || len(t.members) < membersMax {
		return true
	}
	for _, m := range t.members {
		if !m.Alive {
			return true
		}
	}
	return false
}

// NotifyMerge implements memberlist.MergeDelegate.
func (t *table) NotifyMerge(nodes []*memberlist.Node) error {
	for _, node := range nodes {
		if len(node.Meta) == 0 {
			continue // a dead node that its teller knows only by name
		}
		if _, err := decodeMeta(t.n.o.ClusterID, node.Name, node.Meta); err != nil {
			t.n.metrics.refused.Inc()
			return err
		}
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (t *table) NotifyJoin(node *memberlist.Node) { t.heard(node, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (t *table) NotifyUpdate(node *memberlist.Node) { t.heard(node, true) }

// NotifyLeave implements memberlist.EventDelegate.
func (t *table) NotifyLeave(node *memberlist.Node) { t.heard(node, false) }

func (t *table) heard(node *memberlist.Node, alive bool) {
	m, err := decodeMeta(t.n.o.ClusterID, node.Name, node.Meta)
	if err != nil {
		t.n.log.Warn("gossip: a node cannot be used", "err", err)
		return
	}
	m.Alive, m.Since = alive, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.members[m.Name]; old != nil && old.Alive == alive && (!alive || old.Started.Equal(m.Started)) {
		m.Since = old.Since
	}
	t.members[m.Name] = &m
	t.changed[m.Name] = true
	if alive {
		t.routes.set(m.Name, m.Address)
	}
	t.forgetOldest()
	t.count()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// forgetOldest keeps the table below its limit.
func (t *table) forgetOldest() {
	if len(t.members) <= membersMax {
		return
	}
	var oldest *Member
	for _, m := range t.members {
		if !m.Alive && (oldest == nil || m.Since.Before(oldest.Since)) {
			oldest = m
		}
	}
	if oldest != nil {
		delete(t.members, oldest.Name)
		t.routes.forget(oldest.Name)
		t.changed[oldest.Name] = true // deliver forgets it, too
	}
}

func (t *table) count() {
	alive := 0
	for _, m := range t.members {
		if m.Alive {
			alive++
		}
	}
	t.n.metrics.members.WithLabelValues("alive").Set(float64(alive))
	t.n.metrics.members.WithLabelValues("dead").Set(float64(len(t.members) - alive))
}

// deliver passes changes on until ctx ends. It compares what it has told with
// what is, so that changes never pile up.
func (t *table) deliver(ctx context.Context, fn func(Event)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		for _, name := range t.takeChanged() {
			m, known := t.get(name)
			if !known {
				delete(t.told, name)
				continue
			}
			if name == t.n.self.Name {
				continue
			}
			old, before := t.told[name]
			t.told[name] = m
			for _, e := range diff(old, before, m) {
				t.note(e)
				if fn != nil && ctx.Err() == nil {
					fn(e)
				}
			}
		}
	}
}

func (t *table) takeChanged() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := slices.Sorted(maps.Keys(t.changed))
	clear(t.changed)
	return names
}

func (t *table) note(e Event) {
	m := e.Member
	switch e.Type {
	case EventDead:
		t.n.metrics.deaths.Inc()
		t.n.log.Warn("gossip: a node is dead", "node", m.Name, "addr", m.Address)
	case EventAlive:
		t.n.log.Info("gossip: a node is alive", "node", m.Name, "addr", m.Address)
	case EventSlow:
		t.n.log.Warn("gossip: a node is slow", "node", m.Name, "slow_score", m.Status.SlowScore)
	}
}

// diff lists what happened from old (if there was one) to now.
func diff(old Member, known bool, now Member) []Event {
	event := func(t EventType) Event { return Event{t, now} }
	switch {
	case !now.Alive:
		if known && !old.Alive && old.Started.Equal(now.Started) {
			return nil
		}
		return []Event{event(EventDead)}
	case !known || !old.Alive:
		return []Event{event(EventAlive)}
	case !old.Started.Equal(now.Started):
		old.Alive, old.Since = false, now.Since
		return []Event{{EventDead, old}, event(EventAlive)}
	case !old.Since.Equal(now.Since):
		// Dead and alive again since the last look.
		old.Alive = false
		return []Event{{EventDead, old}, event(EventAlive)}
	case now.Status.Slow() && !old.Status.Slow():
		return []Event{event(EventSlow)}
	case now.Status != old.Status || now.Address != old.Address:
		return []Event{event(EventUpdated)}
	}
	return nil
}

func (t *table) get(name string) (Member, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m := t.members[name]
	if m == nil {
		return Member{}, false
	}
	return *m, true
}

func (t *table) list() []Member {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]Member, 0, len(t.members))
	for _, m := range t.members {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Member) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (t *table) livingAddresses() map[string]bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make(map[string]bool)
	for _, m := range t.members {
		if m.Alive {
			out[m.Address] = true
		}
	}
	return out
}

// deadKeep is how long the addresses of dead nodes are tried.
const deadKeep = time.Hour

func (t *table) deadAddresses() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []string
	for _, m := range t.members {
		if !m.Alive && time.Since(m.Since) < deadKeep {
			out = append(out, m.Address)
		}
	}
	return out
}
