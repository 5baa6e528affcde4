// Package keyspace keeps the keyspaces of API V2: named key ranges of their
// own within one cluster. Two exist always: DEFAULT (id 0) and copra_sql (id
// 1), in which the SQL layer keeps its data.
//
// It does not split regions at keyspaces' bounds. State is in etcd, one key a
// keyspace; the leader holds all in memory. A keyspace's id and name never
// change, and neither is given again.
package keyspace

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/keyspacepb"

	"github.com/copradb/copra/pd/etcdkv"
)

// The keyspaces that always exist.
const (
	DefaultName = "DEFAULT"
	DefaultID   = uint32(0)
	SQLName     = "copra_sql"
	SQLID       = uint32(1)
)

const (
	// IDMax is the largest id: three bytes of a key.
	IDMax = uint32(1<<24 - 1)
	// CountMax is how many keyspaces there may be.
	CountMax = 100_000
	// watchQueueMax is how many changes a watcher may be behind.
	watchQueueMax = 1024
	// gcManagement is the setting that gives a keyspace safe points of its
	// own, as in PD.
	gcManagement, gcOwn = "gc_management_type", "keyspace_level"
)

// ErrNotFound is wrapped by answers about a keyspace that does not exist.
var ErrNotFound = errors.New("keyspace does not exist")

var nameRule = regexp.MustCompile(`^[-A-Za-z0-9_]{1,64}$`)

// Manager holds all keyspaces for one term of one leader. Safe for concurrent
// use; what it returns is read-only.
type Manager struct {
	fence  *etcdkv.Fence
	prefix string

	// writeMu is held over a change, from check to memory.
	writeMu sync.Mutex

	mu       sync.RWMutex
	byID     map[uint32]*keyspacepb.KeyspaceMeta
	byName   map[string]uint32
	watchers map[chan *keyspacepb.KeyspaceMeta]struct{}
}

// Load reads all keyspaces and makes those that must exist.
func Load(ctx context.Context, fence *etcdkv.Fence, prefix string) (*Manager, error) {
	m := &Manager{
		fence: fence, prefix: prefix + "/meta/",
		byID: make(map[uint32]*keyspacepb.KeyspaceMeta), byName: make(map[string]uint32),
		watchers: make(map[chan *keyspacepb.KeyspaceMeta]struct{}),
	}
	err := fence.Scan(ctx, m.prefix, func(key string, value []byte) error {
		ks := &keyspacepb.KeyspaceMeta{}
		if err := ks.Unmarshal(value); err != nil {
			return fmt.Errorf("pd: %s in etcd is damaged: %w", key, err)
		}
		m.byID[ks.Id], m.byName[ks.Name] = ks, ks.Id
		return nil
	})
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	for id, name := range map[uint32]string{DefaultID: DefaultName, SQLID: SQLName} {
		if _, ok := m.byID[id]; ok {
			continue
		}
		ks := &keyspacepb.KeyspaceMeta{Id: id, Name: name, CreatedAt: now, StateChangedAt: now}
		if err := m.save(ctx, ks); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Manager) save(ctx context.Context, ks *keyspacepb.KeyspaceMeta) error {
	raw, err := ks.Marshal()
	if err != nil {
		return err
	}
	if err := m.fence.Put(ctx, fmt.Sprintf("%s%08d", m.prefix, ks.Id), raw); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byID[ks.Id], m.byName[ks.Name] = ks, ks.Id
	for w := range m.watchers {
		select {
		case w <- ks:
		default:
			// Too slow: closing tells it to start over.
			delete(m.watchers, w)
			close(w)
		}
	}
	return nil
}

// ByName returns a keyspace.
func (m *Manager) ByName(name string) (*keyspacepb.KeyspaceMeta, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	id, ok := m.byName[name]
	if !ok {
		return nil, fmt.Errorf("keyspace %q: %w", name, ErrNotFound)
	}
	return m.byID[id], nil
}

// ByID returns a keyspace.
func (m *Manager) ByID(id uint32) (*keyspacepb.KeyspaceMeta, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	ks, ok := m.byID[id]
	if !ok {
		return nil, fmt.Errorf("keyspace %d: %w", id, ErrNotFound)
	}
	return ks, nil
}

// List returns the keyspaces from id start on, by id, at most limit where that
// is positive.
func (m *Manager) List(start uint32, limit int) []*keyspacepb.KeyspaceMeta {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []*keyspacepb.KeyspaceMeta
	for id, ks := range m.byID {
		if id >= start {
			out = append(out, ks)
		}
	}
	slices.SortFunc(out, func(a, b *keyspacepb.KeyspaceMeta) int { return int(a.Id) - int(b.Id) })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

// UsesOwnGC reports whether the keyspace has safe points of its own.
func (m *Manager) UsesOwnGC(id uint32) bool {
	ks, err := m.ByID(id)
	return err == nil && ks.Config[gcManagement] == gcOwn
}

// Create makes a keyspace.
func (m *Manager) Create(ctx context.Context, name string, config map[string]string) (*keyspacepb.KeyspaceMeta, error) {
	if !nameRule.MatchString(name) {
		return nil, fmt.Errorf("keyspace %q: a name is 1 to 64 letters, digits, - or _", name)
	}
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	if _, err := m.ByName(name); err == nil {
		return nil, fmt.Errorf("keyspace %q exists already", name)
	}
	all := m.List(0, 0)
	next := all[len(all)-1].Id + 1
	if next > IDMax || len(all) >= CountMax {
		return nil, fmt.Errorf("keyspace %q: the cluster has %d keyspaces, the most it can have", name, len(all))
	}
	now := time.Now().Unix()
	ks := &keyspacepb.KeyspaceMeta{Id: next, Name: name, CreatedAt: now, StateChangedAt: now, Config: config}
	return ks, m.save(ctx, ks)
}

// transitions are the changes of state that PD allows.
var transitions = map[keyspacepb.KeyspaceState][]keyspacepb.KeyspaceState{
	keyspacepb.KeyspaceState_ENABLED:  {keyspacepb.KeyspaceState_DISABLED},
	keyspacepb.KeyspaceState_DISABLED: {keyspacepb.KeyspaceState_ENABLED, keyspacepb.KeyspaceState_ARCHIVED},
	keyspacepb.KeyspaceState_ARCHIVED: {keyspacepb.KeyspaceState_TOMBSTONE},
}

// SetState changes a keyspace's state.
func (m *Manager) SetState(ctx context.Context, id uint32, to keyspacepb.KeyspaceState) (*keyspacepb.KeyspaceMeta, error) {
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	old, err := m.ByID(id)
	if err != nil {
		return nil, err
	}
	if old.State == to {
		return old, nil
	}
	if id == DefaultID || id == SQLID {
		return nil, fmt.Errorf("keyspace %s: its state cannot be changed", old.Name)
	}
	if !slices.Contains(transitions[old.State], to) {
		return nil, fmt.Errorf("keyspace %s: it cannot go from %v to %v", old.Name, old.State, to)
	}
	ks := &keyspacepb.KeyspaceMeta{
		Id: old.Id, Name: old.Name, State: to, CreatedAt: old.CreatedAt,
		StateChangedAt: time.Now().Unix(), Config: old.Config,
	}
	return ks, m.save(ctx, ks)
}

// Watch returns all keyspaces and a channel of later changes. The channel is
// closed when its reader falls too far behind. cancel must be called.
func (m *Manager) Watch() (all []*keyspacepb.KeyspaceMeta, changes <-chan *keyspacepb.KeyspaceMeta, cancel func()) {
	w := make(chan *keyspacepb.KeyspaceMeta, watchQueueMax)
	m.writeMu.Lock() // no change between the list and the watch
	defer m.writeMu.Unlock()
	all = m.List(0, math.MaxInt)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[w] = struct{}{}
	return all, w, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, w)
	}
}
