package gcstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/etcdkv"
)

// NullKeyspace stands for all keyspaces without safe points of their own.
const NullKeyspace = uint32(0xFFFFFFFF)

const (
	// SavedSafePointKey is where clients without GetGCState read the
	// transaction safe point.
	SavedSafePointKey = "/tidb/store/gcworker/saved_safe_point"
	// minStartTSPrefix is where TiDB servers write the start of their oldest
	// transaction; these block like barriers.
	minStartTSPrefix = "/tidb/server/minstartts/"
	// barriersMax is how many barriers a keyspace may have.
	barriersMax = 1024
	// TTLForever is the time to live of a barrier that does not end.
	TTLForever = int64(math.MaxInt64)
)

// Errors that answers wrap.
var (
	ErrDecreasing     = errors.New("safe points do not go back")
	ErrBeyondTxn      = errors.New("the GC safe point would pass the transaction safe point")
	ErrBehindTxn      = errors.New("the barrier is behind the transaction safe point")
	ErrNotOwnGC       = errors.New("the keyspace has no GC of its own; use the null keyspace")
	errTooManyBarrier = fmt.Errorf("there are %d GC barriers already", barriersMax)
)

// Barrier keeps the transaction safe point at or below TS.
type Barrier struct {
	ID string `json:"-"`
	TS uint64 `json:"ts"`
	// Expires is the Unix time in seconds, 0 for never.
	Expires int64 `json:"expires,omitempty"`
}

// TTLSeconds is what is left of the barrier's life.
func (b Barrier) TTLSeconds(now time.Time) int64 {
	if b.Expires == 0 {
		return TTLForever
	}
	return max(0, b.Expires-now.Unix())
}

// State is one keyspace's safe points.
type State struct {
	Keyspace         uint32
	OwnGC            bool
	TxnSafePoint     uint64
	GCSafePoint      uint64
	Barriers, Global []Barrier
}

// Manager reads and writes safe points for one term of one leader. Safe for
// concurrent use.
type Manager struct {
	fence  *etcdkv.Fence
	prefix string
	ownGC  func(keyspace uint32) bool
	now    func() time.Time

	// mu serialises changes, from reading to writing.
	mu sync.Mutex
}

// New returns a manager of the state under prefix.
func New(fence *etcdkv.Fence, prefix string) *Manager {
	return &Manager{fence: fence, prefix: prefix, now: time.Now, ownGC: func(uint32) bool { return false }}
}

// SetKeyspaceLevel says which keyspaces have safe points of their own. It is
// called before the first use.
func (m *Manager) SetKeyspaceLevel(own func(keyspace uint32) bool) { m.ownGC = own }

// shared maps a keyspace to the one whose safe points it uses.
func (m *Manager) shared(ks uint32) uint32 {
	if ks == NullKeyspace || m.ownGC(ks) {
		return ks
	}
	return NullKeyspace
}

func (m *Manager) owned(ks uint32) error {
	if ks != NullKeyspace && !m.ownGC(ks) {
		return fmt.Errorf("keyspace %d: %w", ks, ErrNotOwnGC)
	}
	return nil
}

func (m *Manager) gcKey(ks uint32) string { return fmt.Sprintf("%s/%d/safe_point", m.prefix, ks) }
func (m *Manager) barrierPrefix(ks uint32) string {
	return fmt.Sprintf("%s/%d/barrier/", m.prefix, ks)
}
func (m *Manager) globalPrefix() string { return m.prefix + "/global_barrier/" }

func txnKey(ks uint32) string {
	if ks == NullKeyspace {
		return SavedSafePointKey
	}
	return fmt.Sprintf("/keyspaces/tidb/%d%s", ks, SavedSafePointKey)
}

// Get returns the keyspace's state: that of NullKeyspace where it has no GC of
// its own.
func (m *Manager) Get(ctx context.Context, ks uint32) (State, error) {
	ks = m.shared(ks)
	st := State{Keyspace: ks, OwnGC: ks != NullKeyspace}
	var err error
	if st.TxnSafePoint, err = m.number(ctx, txnKey(ks)); err != nil {
		return st, err
	}
	if st.GCSafePoint, err = m.number(ctx, m.gcKey(ks)); err != nil {
		return st, err
	}
	if st.Barriers, _, err = m.barriers(ctx, m.barrierPrefix(ks)); err != nil {
		return st, err
	}
	st.Global, _, err = m.barriers(ctx, m.globalPrefix())
	return st, err
}

func (m *Manager) number(ctx context.Context, key string) (uint64, error) {
	raw, ok, err := m.fence.Get(ctx, key)
	if err != nil || !ok || len(raw) == 0 {
		return 0, err
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("pd: %s in etcd holds no timestamp: %w", key, err)
	}
	return n, nil
}

// barriers returns the living ones by id, and the keys of those that are over.
func (m *Manager) barriers(ctx context.Context, prefix string) (live []Barrier, over []string, err error) {
	now := m.now().Unix()
	err = m.fence.Scan(ctx, prefix, func(key string, value []byte) error {
		b := Barrier{ID: strings.TrimPrefix(key, prefix)}
		if err := json.Unmarshal(value, &b); err != nil {
			return fmt.Errorf("pd: %s in etcd is damaged: %w", key, err)
		}
		if b.Expires != 0 && b.Expires <= now {
			over = append(over, key)
			return nil
		}
		live = append(live, b)
		return nil
	})
	sort.Slice(live, func(i, j int) bool { return live[i].ID < live[j].ID })
	return live, over, err
}

func put(key string, n uint64) clientv3.Op {
	return clientv3.OpPut(key, strconv.FormatUint(n, 10))
}

// AdvanceTxn moves the transaction safe point to target, or as near as the
// barriers let it; blocker then names the one in the way.
func (m *Manager) AdvanceTxn(ctx context.Context, ks uint32, target uint64) (before, after uint64, blocker string, err error) {
	if err := m.owned(ks); err != nil {
		return 0, 0, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.advanceTxn(ctx, ks, target)
}

func (m *Manager) advanceTxn(ctx context.Context, ks uint32, target uint64) (before, after uint64, blocker string, err error) {
	if before, err = m.number(ctx, txnKey(ks)); err != nil {
		return 0, 0, "", err
	}
	if target < before {
		return before, before, "", fmt.Errorf("the transaction safe point is %d, asked for is %d: %w", before, target, ErrDecreasing)
	}
	after = target
	var ops []clientv3.Op
	for _, prefix := range []string{m.barrierPrefix(ks), m.globalPrefix()} {
		live, over, err := m.barriers(ctx, prefix)
		if err != nil {
			return 0, 0, "", err
		}
		for _, key := range over {
			ops = append(ops, clientv3.OpDelete(key))
		}
		for _, b := range live {
			if b.TS < after {
				after, blocker = b.TS, fmt.Sprintf("GC barrier %q at %d", b.ID, b.TS)
			}
		}
	}
	ts, key, err := m.minStartTS(ctx, ks)
	if err != nil {
		return 0, 0, "", err
	}
	if ts < after {
		after, blocker = ts, fmt.Sprintf("a transaction that started at %d (%s)", ts, key)
	}
	after = max(after, before)
	if after > before {
		ops = append(ops, put(txnKey(ks), after))
	}
	return before, after, blocker, m.fence.Txn(ctx, ops...)
}

// minStartTS is the oldest transaction that TiDB servers have written down.
func (m *Manager) minStartTS(ctx context.Context, ks uint32) (ts uint64, at string, err error) {
	prefix := minStartTSPrefix
	if ks != NullKeyspace {
		prefix = fmt.Sprintf("/keyspaces/tidb/%d%s", ks, minStartTSPrefix)
	}
	ts = math.MaxUint64
	err = m.fence.Scan(ctx, prefix, func(key string, value []byte) error {
		// A server without transactions writes 0 or the largest number.
		if n, err := strconv.ParseUint(string(value), 10, 64); err == nil && n != 0 && n < ts {
			ts, at = n, key
		}
		return nil
	})
	return ts, at, err
}

// AdvanceGC moves the GC safe point to target, which must not pass the
// transaction safe point.
func (m *Manager) AdvanceGC(ctx context.Context, ks uint32, target uint64) (before, after uint64, err error) {
	if err := m.owned(ks); err != nil {
		return 0, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if before, err = m.number(ctx, m.gcKey(ks)); err != nil {
		return 0, 0, err
	}
	txn, err := m.number(ctx, txnKey(ks))
	switch {
	case err != nil:
		return 0, 0, err
	case target < before:
		return before, before, fmt.Errorf("the GC safe point is %d, asked for is %d: %w", before, target, ErrDecreasing)
	case target > txn:
		return before, before, fmt.Errorf("asked for is %d, the transaction safe point is %d: %w", target, txn, ErrBeyondTxn)
	case target == before:
		return before, before, nil
	}
	return before, target, m.fence.Txn(ctx, put(m.gcKey(ks), target))
}

// Update is for clients that know one safe point only: it moves the transaction
// safe point, as far as barriers let it, and the GC safe point up to that. It
// returns the GC safe point and never goes back.
func (m *Manager) Update(ctx context.Context, target uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gc, err := m.number(ctx, m.gcKey(NullKeyspace))
	if err != nil || target <= gc {
		return gc, err
	}
	txn, err := m.number(ctx, txnKey(NullKeyspace))
	if err != nil {
		return gc, err
	}
	if target > txn {
		if _, txn, _, err = m.advanceTxn(ctx, NullKeyspace, target); err != nil {
			return gc, err
		}
	}
	next := max(gc, min(target, txn))
	if next == gc {
		return gc, nil
	}
	return next, m.fence.Txn(ctx, put(m.gcKey(NullKeyspace), next))
}

// SetClock replaces the clock that barriers expire by. It is called before the
// first use.
func (m *Manager) SetClock(now func() time.Time) { m.now = now }
