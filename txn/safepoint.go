package txn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// SafePoints are the GC safe points that a store knows: below them versions may
// be gone. A keyspace of API V2 may have one of its own, all other keys share
// one. They only grow. Safe for concurrent use.
type SafePoints struct {
	shared atomic.Uint64
	own    atomic.Pointer[map[uint32]uint64] // by keyspace; replaced, never changed
	mu     sync.Mutex                        // serialises changes of own
}

// Raise takes in what PD says: the shared safe point, and those of the
// keyspaces that have their own.
func (p *SafePoints) Raise(shared uint64, own map[uint32]uint64) {
	for old := p.shared.Load(); old < shared && !p.shared.CompareAndSwap(old, shared); old = p.shared.Load() {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := map[uint32]uint64{}
	old := p.loadOwn()
	for ks, ts := range own {
		next[ks] = max(ts, old[ks])
	}
	for ks, ts := range old {
		if _, ok := next[ks]; !ok && ts > p.shared.Load() {
			next[ks] = ts // PD was asked before what came with data said so
		}
	}
	if !maps.Equal(old, next) {
		p.own.Store(&next)
	}
}

// RaiseAt takes in that garbage was dropped at ts around a key, encoded or not.
// That of a keyspace says nothing about others: whether it has a safe point of
// its own only PD knows, which may not have been asked since that is so.
func (p *SafePoints) RaiseAt(key []byte, ts uint64) {
	ks, ok := keyspaceOf(key)
	if !ok {
		for old := p.shared.Load(); old < ts && !p.shared.CompareAndSwap(old, ts); old = p.shared.Load() {
		}
		return
	}
	if p.At(key) >= ts {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.loadOwn(); old[ks] < ts {
		next := map[uint32]uint64{ks: ts}
		for other, ts := range old {
			if other != ks {
				next[other] = ts
			}
		}
		p.own.Store(&next)
	}
}

// In are the safe points of the encoded range [start, end), each with a key that
// RaiseAt understands.
func (p *SafePoints) In(start, end []byte) []kv.CollectedAt {
	var out []kv.CollectedAt
	if ts := p.Shared(); ts != 0 {
		out = append(out, kv.CollectedAt{TS: ts})
	}
	for ks, ts := range p.loadOwn() {
		first, after := binary.BigEndian.AppendUint32(nil, 'x'<<24|ks), binary.BigEndian.AppendUint32(nil, 'x'<<24+ks+1)
		if bytes.Compare(after, start) > 0 && (len(end) == 0 || bytes.Compare(first, end) < 0) {
			out = append(out, kv.CollectedAt{Key: first, TS: ts})
		}
	}
	slices.SortFunc(out, func(a, b kv.CollectedAt) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

func (p *SafePoints) loadOwn() map[uint32]uint64 {
	if own := p.own.Load(); own != nil {
		return *own
	}
	return nil
}

// Shared is the safe point of all keys without one of their keyspace's own.
func (p *SafePoints) Shared() uint64 { return p.shared.Load() }

// Own are the safe points of keyspaces that have one. Not to be changed.
func (p *SafePoints) Own() map[uint32]uint64 { return p.loadOwn() }

// At is the safe point of a key, encoded or not.
func (p *SafePoints) At(key []byte) uint64 {
	if own := p.loadOwn(); len(own) > 0 {
		if ks, ok := keyspaceOf(key); ok {
			if ts, ok := own[ks]; ok {
				return ts
			}
		}
	}
	return p.shared.Load()
}

// keyspaceOf is the transactional keyspace of a key: 'x' and three bytes, which
// are the same at the start of the key's encoding.
func keyspaceOf(key []byte) (uint32, bool) {
	if len(key) < 4 || key[0] != 'x' {
		return 0, false
	}
	return binary.BigEndian.Uint32(key) & 0xFFFFFF, true
}

// SafePointError says that a transaction is too old: what it would read, or what
// would decide about its writes, may have been collected.
type SafePointError struct{ TS, SafePoint uint64 }

// Error has the words by which clients of TiKV know this error.
func (e *SafePointError) Error() string {
	return fmt.Sprintf("GC life time is shorter than transaction duration: the transaction started or reads at %d, %d ms before the GC safe point %d; begin a new one",
		e.TS, int64(mvcc.PhysicalMs(e.SafePoint))-int64(mvcc.PhysicalMs(e.TS)), e.SafePoint)
}

// checkSafePoint refuses a timestamp that was collected. It must be called with a
// snapshot in hand: what that lacks was dropped at a safe point that is known.
func (s *Store) checkSafePoint(key []byte, ts uint64) error {
	if safe := s.safePoints.At(key); ts < safe {
		s.metrics.tooOld.Inc()
		return &SafePointError{TS: ts, SafePoint: safe}
	}
	return nil
}

// takesLocks reports whether the command begins something: below the safe point
// a conflict might not be seen any more, nor that the transaction was rolled back.
func takesLocks(name cmd) bool {
	return name == cmdPrewrite || name == cmdPessimisticLock || name == cmdFlush
}

// SafePoints are the store's.
func (s *Store) SafePoints() *SafePoints { return s.safePoints }
