package resolvedts

import (
	"fmt"
	"sync"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/txn/mvcc"
	"go.etcd.io/raft/v3/raftpb"
)

type trackerState int

const (
	stateWaiting trackerState = iota // for a scan; changes are kept
	stateScanning
	stateReady
	stateEnded // replaced; it takes no memory
)

// tracker follows the locks of one region under one leadership, and in one
// range. A change of either makes a new tracker.
type tracker struct {
	region  uint64
	term    uint64
	version uint64 // of the region's epoch
	q       *quota

	mu    sync.Mutex
	state trackerState
	// changes came while the locks were being scanned; bytes is their size.
	changes []change
	bytes   int64
	locks   *locks // when ready
	index   uint64 // of the last entry seen
	// restart says that a new tracker is wanted, not before retryAt.
	restart bool
	retryAt time.Time
	// last is what was resolved last.
	last raftstore.ReadState
}

// change is one operation on the lock family.
type change struct {
	index      uint64
	op         kv.Op
	key, value []byte
}

func newTracker(l *raftstore.LeaderState, q *quota) *tracker {
	return &tracker{region: l.Region.GetId(), term: l.Term, version: l.Region.GetRegionEpoch().GetVersion(), q: q}
}

// matches reports whether the tracker is still the one for the leadership.
func (t *tracker) matches(l *raftstore.LeaderState) bool {
	return t.term == l.Term && t.version == l.Region.GetRegionEpoch().GetVersion()
}

// applied takes in entries that took effect. It is called by one apply worker
// at a time.
func (t *tracker) applied(entries []*raftpb.Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		data, ok := raftstore.DecodeWrite(e)
		if !ok {
			continue
		}
		if err := t.entry(e.GetIndex(), data); err != nil {
			return fmt.Errorf("resolvedts: region %d, entry %d: %w", t.region, e.GetIndex(), err)
		}
	}
	return nil
}

// entry takes in one write.
func (t *tracker) entry(index uint64, data []byte) error {
	if t.state == stateEnded || index <= t.index { // the scan has seen it
		return nil
	}
	if err := t.write(index, data); err != nil {
		return err
	}
	if t.state == stateReady {
		t.index = index
	}
	return nil
}

func (t *tracker) write(index uint64, data []byte) error {
	for b := kv.ReadBatch(data); ; {
		op, cf, key, value, ok, err := b.Next()
		if err != nil || !ok {
			return err
		}
		if cf != kv.CFLock {
			continue
		}
		if t.state == stateReady {
			if err := t.change(op, key, value); err != nil || t.state == stateEnded {
				return err
			}
			continue
		}
		n := int64(len(key) + len(value) + lockOverheadBytes)
		if !t.q.take(n) {
			t.overflow()
			return nil
		}
		t.bytes += n
		t.changes = append(t.changes, change{index, op, append([]byte(nil), key...), append([]byte(nil), value...)})
	}
}

func (t *tracker) change(op kv.Op, key, value []byte) error {
	rescan, ok := false, true
	var err error
	switch op {
	case kv.OpPut:
		rescan, ok, err = t.locks.put(key, value)
	case kv.OpDelete:
		rescan = t.locks.unlock(key)
	case kv.OpDeleteRange:
		rescan = t.locks.unlockRange(key, value)
	}
	if rescan {
		t.restart = true
	}
	if !ok {
		t.overflow()
	}
	return err
}

// overflowRetry is when a region that had no room for its locks is looked at
// again.
const overflowRetry = 10 * time.Second

// overflow gives up for now: the region's resolved timestamp stays.
func (t *tracker) overflow() {
	t.end()
	t.restart, t.retryAt = true, time.Now().Add(overflowRetry)
}

// end frees the memory.
func (t *tracker) end() {
	t.q.give(t.bytes)
	t.bytes, t.changes = 0, nil
	if t.locks != nil {
		t.locks.release()
		t.locks = nil
	}
	t.state = stateEnded
}

func (t *tracker) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// begin claims the tracker for a scan.
func (t *tracker) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != stateWaiting {
		return false
	}
	t.state = stateScanning
	return true
}

// scanned ends a scan: found are the locks as of the applied index, and what
// has changed since is applied to them.
func (t *tracker) scanned(found *locks, index uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != stateScanning {
		found.release()
		return nil
	}
	t.locks, t.index, t.state = found, index, stateReady
	for _, c := range t.changes {
		if c.index <= index {
			continue
		}
		if err := t.change(c.op, c.key, c.value); err != nil || t.state == stateEnded {
			return err
		}
		t.index = max(t.index, c.index)
	}
	t.q.give(t.bytes)
	t.bytes, t.changes = 0, nil
	return nil
}

// scanFailed makes the next pass begin anew.
func (t *tracker) scanFailed(full bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if full {
		t.overflow()
		return
	}
	t.end()
	t.restart = true
}

// wantsRestart reports whether the tracker should be replaced now.
func (t *tracker) wantsRestart(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.restart && !now.Before(t.retryAt)
}

// askRestart makes the next pass replace the tracker.
func (t *tracker) askRestart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restart = true
}

// resolved returns the last read state, for the version of the tracker.
func (t *tracker) resolved() (last raftstore.ReadState, ready bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.state == stateReady
}

// resolve computes the read state of a tracker whose leadership was confirmed
// after ts was fixed. held says that a lock in the log held it back.
func (t *tracker) resolve(ts uint64, status func(uint64) (mvcc.TxnStatus, bool)) (st raftstore.ReadState, held, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != stateReady {
		return st, false, false
	}
	if floor := t.locks.floor(status); floor < ts {
		ts, held = floor, true
	}
	if ts > t.last.SafeTS { // an older one stays true
		t.last = raftstore.ReadState{Version: t.version, Index: t.index, SafeTS: ts}
	}
	return t.last, held, t.last.SafeTS != 0
}
