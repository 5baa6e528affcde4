// Package oneregion is a kv.Engine for tests of the services above it: one
// region on a real data engine, without Raft, that can be told to fail.
package oneregion

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// Engine implements kv.Engine. Its one region is always led from here, in term
// Term.
type Engine struct {
	Data *engine.Engine

	mu     sync.Mutex
	region *metapb.Region
	fail   error
	lose   error
	index  uint64
}

// Term is the Raft term of all snapshots.
const Term = 7

// New returns an engine in memory, with one region over the whole key space.
func New() (*Engine, error) {
	e, err := engine.Open(engine.Options{Dir: "data", FS: vfs.NewMem(), CacheBytes: 1 << 20})
	if err != nil {
		return nil, err
	}
	return &Engine{Data: e, region: &metapb.Region{Id: 1, RegionEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: 1}}}, nil
}

// Close closes the data.
func (e *Engine) Close() error { return e.Data.Close() }

// SetRange changes the region's range.
func (e *Engine) SetRange(start, end []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.region = &metapb.Region{Id: 1, RegionEpoch: e.region.RegionEpoch, StartKey: start, EndKey: end}
}

// Fail makes all calls from now on return err; nil ends that.
func (e *Engine) Fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail = err
}

// FailWrites makes writes from now on return err; nil ends that.
func (e *Engine) FailWrites(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lose = err
}

// Snapshot implements kv.Engine.
func (e *Engine) Snapshot(ctx context.Context, _ *kvrpcpb.Context, _ kv.SnapshotOptions) (kv.Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return nil, e.fail
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &snapshot{e.Data.NewSnapshot(), e.region, e.index}, nil
}

// Write implements kv.Engine.
func (e *Engine) Write(_ context.Context, _ *kvrpcpb.Context, b *kv.Batch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := cmp.Or(e.fail, e.lose); err != nil {
		return err
	}
	eb := e.Data.NewBatch()
	defer eb.Close()
	if kv.Conditional(b.Bytes()) {
		var err error
		if b, err = e.resolve(b); err != nil {
			return err
		}
	}
	if err := eb.ApplyEncoded(b.Bytes()); err != nil {
		return err
	}
	e.index++
	return e.Data.Apply(eb)
}

// resolve looks which conditional deletes take effect.
func (e *Engine) resolve(b *kv.Batch) (*kv.Batch, error) {
	snap, out := e.Data.NewSnapshot(), &kv.Batch{}
	r := kv.ReadBatch(b.Bytes())
	for {
		_, cf, key, prefix, ok, err := r.Next()
		if err != nil || !ok {
			return out, errors.Join(err, snap.Close())
		}
		value, closer, err := snap.Get(cf, key)
		if errors.Is(err, kv.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, snap.Close())
		}
		if bytes.HasPrefix(value, prefix) {
			out.Delete(cf, key)
		}
		if err := closer.Close(); err != nil {
			return nil, errors.Join(err, snap.Close())
		}
	}
}

type snapshot struct {
	*engine.Snapshot
	region *metapb.Region
	index  uint64
}

func (s *snapshot) Region() *metapb.Region { return s.region }
func (s *snapshot) Term() uint64           { return Term }
func (s *snapshot) AppliedIndex() uint64   { return s.index }
func (s *snapshot) MaxTSSynced() bool      { return true }

// NewIter clamps the bounds to the region, as raftstore does.
func (s *snapshot) NewIter(cf kv.CF, o kv.IterOptions) (kv.Iterator, error) {
	if bytes.Compare(o.Lower, s.region.StartKey) < 0 {
		o.Lower = s.region.StartKey
	}
	if end := s.region.EndKey; len(end) > 0 && (len(o.Upper) == 0 || bytes.Compare(end, o.Upper) < 0) {
		o.Upper = end
	}
	return s.Snapshot.NewIter(cf, o)
}
