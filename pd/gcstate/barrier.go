package gcstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// gcWorkerID is the service that moves the transaction safe point in the older
// protocol.
const gcWorkerID = "gc_worker"

// SetBarrier makes or moves a barrier that lives for ttlSeconds.
func (m *Manager) SetBarrier(ctx context.Context, ks uint32, id string, ts uint64, ttlSeconds int64) (Barrier, error) {
	ks = m.shared(ks)
	return m.setBarrier(ctx, m.barrierPrefix(ks), []uint32{ks}, id, ts, ttlSeconds)
}

// SetGlobalBarrier makes or moves a barrier for all keyspaces, of which those
// in own have safe points of their own.
func (m *Manager) SetGlobalBarrier(ctx context.Context, own []uint32, id string, ts uint64, ttlSeconds int64) (Barrier, error) {
	return m.setBarrier(ctx, m.globalPrefix(), append([]uint32{NullKeyspace}, own...), id, ts, ttlSeconds)
}

func (m *Manager) setBarrier(ctx context.Context, prefix string, over []uint32, id string, ts uint64, ttlSeconds int64) (Barrier, error) {
	if id == "" || id == gcWorkerID || ttlSeconds <= 0 {
		return Barrier{}, fmt.Errorf("pd: GC barrier %q with %d s to live: it needs a name of its own and a positive time", id, ttlSeconds)
	}
	b := Barrier{ID: id, TS: ts}
	if now := m.now().Unix(); ttlSeconds < TTLForever-now {
		b.Expires = now + ttlSeconds
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ks := range over {
		txn, err := m.number(ctx, txnKey(ks))
		if err != nil {
			return Barrier{}, err
		}
		if ts < txn {
			return Barrier{}, fmt.Errorf("GC barrier %q at %d, the transaction safe point is %d: %w", id, ts, txn, ErrBehindTxn)
		}
	}
	live, _, err := m.barriers(ctx, prefix)
	if err != nil {
		return Barrier{}, err
	}
	if len(live) >= barriersMax {
		return Barrier{}, errTooManyBarrier
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return Barrier{}, err
	}
	return b, m.fence.Put(ctx, prefix+id, raw)
}

// DeleteBarrier deletes a barrier and returns what it was; ok is false where
// there was none.
func (m *Manager) DeleteBarrier(ctx context.Context, ks uint32, id string) (b Barrier, ok bool, err error) {
	return m.deleteBarrier(ctx, m.barrierPrefix(m.shared(ks)), id)
}

// DeleteGlobalBarrier deletes a barrier for all keyspaces.
func (m *Manager) DeleteGlobalBarrier(ctx context.Context, id string) (b Barrier, ok bool, err error) {
	return m.deleteBarrier(ctx, m.globalPrefix(), id)
}

func (m *Manager) deleteBarrier(ctx context.Context, prefix, id string) (Barrier, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := Barrier{ID: id}
	raw, ok, err := m.fence.Get(ctx, prefix+id)
	if err != nil || !ok {
		return b, false, err
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return b, false, fmt.Errorf("pd: %s in etcd is damaged: %w", prefix+id, err)
	}
	return b, true, m.fence.Delete(ctx, prefix+id)
}

// UpdateService is the older form of barriers: a service keeps GC behind its
// safe point for ttlSeconds, or leaves with ttlSeconds ≤ 0; the service
// gc_worker moves the transaction safe point. It returns the smallest safe
// point of all and whose it is.
func (m *Manager) UpdateService(ctx context.Context, service string, ts uint64, ttlSeconds int64) (minService string, minTS uint64, err error) {
	switch {
	case service == gcWorkerID:
		_, after, _, err := m.AdvanceTxn(ctx, NullKeyspace, ts)
		if errors.Is(err, ErrDecreasing) {
			err = nil // it learns the present one
		}
		return gcWorkerID, after, err
	case ttlSeconds <= 0:
		_, _, err = m.DeleteBarrier(ctx, NullKeyspace, service)
	default:
		_, err = m.SetBarrier(ctx, NullKeyspace, service, ts, ttlSeconds)
		if errors.Is(err, ErrBehindTxn) {
			err = nil // it sees so from the answer
		}
	}
	if err != nil {
		return "", 0, err
	}
	// No barrier is below the transaction safe point, so this is the smallest.
	minTS, err = m.number(ctx, txnKey(NullKeyspace))
	return gcWorkerID, minTS, err
}
