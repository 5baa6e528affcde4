package resolvedts

import (
	"bytes"
	"math"
	"sync/atomic"

	"github.com/copradb/copra/txn/mvcc"
)

// lockOverheadBytes is what a tracked lock costs beside its key.
const lockOverheadBytes = 64

// quota bounds the bytes of all trackers of a store.
type quota struct {
	used atomic.Int64
	max  int64
}

// take accounts n bytes; false: there is no room.
func (q *quota) take(n int64) bool {
	if q.used.Add(n) > q.max {
		q.used.Add(-n)
		return false
	}
	return true
}

func (q *quota) give(n int64) { q.used.Add(-n) }

// locks are those of one region that will become data: key → transaction.
//
// A large transaction may have a lock on every key of the region. All that is
// kept of it is the greatest of its keys, as its owner commits them in order;
// when that one goes, others may be left, which only a scan can tell.
type locks struct {
	quota *quota
	bytes int64
	keys  map[string]uint64 // encoded key → start_ts
	txns  map[uint64]int    // start_ts → locks of a normal transaction
	large map[uint64]string // start_ts → key, of a large one
}

func newLocks(q *quota) *locks {
	return &locks{quota: q, keys: map[string]uint64{}, txns: map[uint64]int{}, large: map[uint64]string{}}
}

// tracked reports whether a lock holds the resolved timestamp back.
func tracked(t mvcc.LockType) bool { return t == mvcc.LockPut || t == mvcc.LockDelete }

// put tracks a lock record on the encoded key. ok is false if there is no room.
// rescan is unlock's.
func (l *locks) put(key, record []byte) (rescan, ok bool, err error) {
	typ, startTS, generation, err := mvcc.LockHead(record)
	if err != nil {
		return false, false, err
	}
	if old, found := l.keys[string(key)]; found {
		if old == startTS && tracked(typ) {
			return false, true, nil
		}
		rescan = l.unlock(key)
	}
	if !tracked(typ) {
		return rescan, true, nil
	}
	if generation > 0 {
		if greatest, found := l.large[startTS]; found {
			if bytes.Compare(key, []byte(greatest)) < 0 {
				return rescan, true, nil
			}
			l.forget(greatest)
		}
	}
	n := int64(len(key) + lockOverheadBytes)
	if !l.quota.take(n) {
		return rescan, false, nil
	}
	l.bytes += n
	k := string(key)
	l.keys[k] = startTS
	if generation > 0 {
		l.large[startTS] = k
	} else {
		l.txns[startTS]++
	}
	return rescan, true, nil
}

// forget takes a key out, not its transaction.
func (l *locks) forget(key string) {
	delete(l.keys, key)
	n := int64(len(key) + lockOverheadBytes)
	l.bytes -= n
	l.quota.give(n)
}

// unlock notes that the key's lock is gone. rescan says that the transaction may
// have other locks that are not known.
func (l *locks) unlock(key []byte) (rescan bool) {
	startTS, found := l.keys[string(key)]
	if !found {
		return false
	}
	l.forget(string(key))
	if _, large := l.large[startTS]; large {
		delete(l.large, startTS)
		return true
	}
	if l.txns[startTS]--; l.txns[startTS] == 0 {
		delete(l.txns, startTS)
	}
	return false
}

// unlockRange is unlock for all keys in [start, end).
func (l *locks) unlockRange(start, end []byte) (rescan bool) {
	for k := range l.keys {
		if key := []byte(k); bytes.Compare(key, start) >= 0 && bytes.Compare(key, end) < 0 {
			rescan = l.unlock(key) || rescan
		}
	}
	return rescan
}

// floor is a timestamp that none of the transactions commits at or below, and
// at which reads don't meet their locks: MaxUint64 without any. status knows of
// large transactions.
func (l *locks) floor(status func(startTS uint64) (mvcc.TxnStatus, bool)) uint64 {
	floor := uint64(math.MaxUint64)
	for startTS := range l.txns {
		floor = min(floor, startTS-1)
	}
	for startTS := range l.large {
		least := startTS - 1
		if st, ok := status(startTS); ok {
			if st.RolledBack {
				continue
			}
			least = max(least, max(st.CommitTS, st.MinCommitTS, 1)-1)
		}
		floor = min(floor, least)
	}
	return floor
}

// release gives back the memory; the locks are not to be used any more.
func (l *locks) release() {
	l.quota.give(l.bytes)
	l.bytes, l.keys, l.txns, l.large = 0, nil, nil, nil
}
