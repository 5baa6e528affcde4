package pd

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/etcdkv"
)

const (
	// saveBatchRegionsMax is how many regions one write to etcd takes.
	saveBatchRegionsMax = 256
	// saveBatchBytesMax is how large one write to etcd gets (a region with
	// megabyte keys still goes through, alone).
	saveBatchBytesMax = etcdkv.RequestBytesMax / 4
)

// regionSaver writes changed regions to etcd in batches, so that a restarted PD
// knows them before the first heartbeats. What it has not written yet is lost
// with the leader, and learnt again from heartbeats.
//
// It notes only which regions changed. What is written is the region as it is
// known at the time of the write, or its absence: two reports that come at the
// same time may mark in either order, and what is saved last is the truth all
// the same.
type regionSaver struct {
	regions       *core.Regions
	key           func(region uint64) string
	txn           func(ctx context.Context, ops ...clientv3.Op) error
	log           *slog.Logger
	saved, failed prometheus.Counter

	mu    sync.Mutex
	dirty map[uint64]struct{}
}

func newRegionSaver(regions *core.Regions, key func(uint64) string,
	txn func(context.Context, ...clientv3.Op) error) *regionSaver {
	return &regionSaver{regions: regions, key: key, txn: txn, dirty: make(map[uint64]struct{})}
}

// mark says that regions changed or are gone, after they did.
func (w *regionSaver) mark(ids ...uint64) {
	if len(ids) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.dirty[id] = struct{}{}
	}
}

// run flushes every interval, and once more when the term ends: a stopping
// leader still has its key then.
func (w *regionSaver) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), every)
			defer cancel()
			if err := w.flush(fctx); err != nil && !errors.Is(err, etcdkv.ErrNotLeader) {
				w.log.Warn("pd: the last regions were not saved; heartbeats will tell them", "err", err)
			}
			return
		case <-tick.C:
		}
		if err := w.flush(ctx); err != nil && ctx.Err() == nil {
			w.failed.Inc()
			w.log.Warn("pd: save regions", "err", err)
		}
	}
}

// flush writes all that is marked. What fails stays marked. One flush at a time.
func (w *regionSaver) flush(ctx context.Context) error {
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = make(map[uint64]struct{})
	w.mu.Unlock()
	err := w.write(ctx, dirty)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		for id := range dirty {
			w.dirty[id] = struct{}{}
		}
	}
	return err
}

// write writes the regions in batches and takes those that are written out of
// the set.
func (w *regionSaver) write(ctx context.Context, dirty map[uint64]struct{}) error {
	var ops []clientv3.Op
	var ids []uint64
	bytes := 0
	commit := func() error {
		if err := w.txn(ctx, ops...); err != nil {
			return err
		}
		for _, id := range ids {
			delete(dirty, id)
		}
		if w.saved != nil {
			w.saved.Add(float64(len(ids)))
		}
		ops, ids, bytes = ops[:0], ids[:0], 0
		return nil
	}
	for id := range dirty {
		op, n, err := w.op(id)
		if err != nil {
			return err
		}
		if len(ops) > 0 && (len(ops) >= saveBatchRegionsMax || bytes+n > saveBatchBytesMax) {
			if err := commit(); err != nil {
				return err
			}
		}
		ops, ids, bytes = append(ops, op), append(ids, id), bytes+n
	}
	return commit()
}

func (w *regionSaver) op(id uint64) (clientv3.Op, int, error) {
	key, r := w.key(id), w.regions.ByID(id)
	if r == nil {
		return clientv3.OpDelete(key), len(key), nil
	}
	raw, err := r.Meta.Marshal()
	if err != nil {
		return clientv3.Op{}, 0, err
	}
	return clientv3.OpPut(key, string(raw)), len(key) + len(raw), nil
}
