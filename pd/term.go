package pd

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/election"
	"github.com/copradb/copra/pd/etcdkv"
	"github.com/copradb/copra/pd/gcstate"
	"github.com/copradb/copra/pd/gcworker"
	"github.com/copradb/copra/pd/idalloc"
	"github.com/copradb/copra/pd/keyspace"
	"github.com/copradb/copra/pd/tso"
)

// What a member skips that goes on alone after the others were lost: they may
// have given out more than it has heard of.
const (
	recoverySkipIDs = 1_000_000
	recoverySkip    = time.Minute
)

// term is everything that exists only while this member leads. It is loaded
// from etcd when the election is won.
type term struct {
	ctx       context.Context
	cancel    context.CancelFunc
	lease     *election.Lease
	fence     *etcdkv.Fence
	tso       *tso.Oracle
	ids       *idalloc.Allocator
	cluster   *cluster
	gc        *gcstate.Manager
	keyspaces *keyspace.Manager
	collector *gcworker.Worker

	wg sync.WaitGroup
}

func (s *Server) newTerm(ctx context.Context, l *election.Lease, fence *etcdkv.Fence) (*term, error) {
	t := &term{lease: l, fence: fence}
	t.ctx, t.cancel = context.WithCancel(ctx)
	if err := s.loadTerm(t); err != nil {
		t.cancel()
		return nil, err
	}
	return t, nil
}

func (s *Server) loadTerm(t *term) error {
	var err error
	if t.tso, err = s.newOracle(t); err != nil {
		return err
	}
	if t.ids, err = idalloc.New(t.ctx, t.fence, s.root+"/alloc_id"); err != nil {
		return err
	}
	if s.cfg.ForceNewCluster {
		// The lost members may have known of more.
		if _, err := t.ids.Alloc(t.ctx, recoverySkipIDs); err != nil {
			return err
		}
	}
	t.gc = gcstate.New(t.fence, s.root+"/gc")
	if t.keyspaces, err = keyspace.Load(t.ctx, t.fence, s.root+"/keyspaces"); err != nil {
		return err
	}
	t.gc.SetKeyspaceLevel(t.keyspaces.UsesOwnGC)
	if t.cluster, err = loadCluster(s, t); err != nil {
		return err
	}
	t.collector, err = s.newGCWorker(t)
	return err
}

func (s *Server) newOracle(t *term) (*tso.Oracle, error) {
	key := s.root + "/timestamp"
	raw, ok, err := t.fence.Get(t.ctx, key)
	if err != nil {
		return nil, err
	}
	var saved int64
	if ok {
		if saved, err = strconv.ParseInt(string(raw), 10, 64); err != nil {
			return nil, fmt.Errorf("pd: %s in etcd holds no timestamp window: %w", key, err)
		}
	}
	if s.cfg.ForceNewCluster {
		saved = max(saved, s.cfg.Clock.WallMS()) + recoverySkip.Milliseconds()
	}
	first := true // saves come one after the other
	save := func(ctx context.Context, endMS int64) error {
		value := fmt.Appendf(nil, "%019d", endMS)
		if first {
			// Of this term there is no other that could still arrive; and what
			// is stored may have another width.
			first = false
			return t.fence.Put(ctx, key, value)
		}
		return t.fence.PutLarger(ctx, key, value)
	}
	return tso.New(t.ctx, s.cfg.Clock, saved, t.lease.Valid, save)
}

func (t *term) start() {
	t.wg.Go(func() {
		t.tso.Run(t.ctx, func(err error) { t.cluster.log.Warn("pd: timestamp window", "err", err) })
	})
	t.cluster.start()
	if t.cluster.s.cfg.GCResolver != nil {
		t.wg.Go(func() { t.collector.Run(t.ctx) })
	}
}

// stop waits for all that the term started.
func (t *term) stop() {
	t.cancel()
	t.wg.Wait()
}

// put is a write that callers outside of the fence's packages use.
func (t *term) put(ctx context.Context, key string, value []byte) error {
	return t.fence.Txn(ctx, clientv3.OpPut(key, string(value)))
}
