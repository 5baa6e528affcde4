package pd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/etcdkv"
	"github.com/copradb/copra/pd/tso"
)

const (
	// electionRetry is the pause after a failed attempt to lead or to read who
	// does.
	electionRetry = 50 * time.Millisecond
	// coLeaderCheck is how often PD's leader checks that it is etcd's, too:
	// apart they work, but every write takes one hop more.
	coLeaderCheck = 100 * time.Millisecond
	// leaseRenewalsPerTTL is how many times within its life a lease is renewed.
	leaseRenewalsPerTTL = 4
)

// lease is the leader's lease as the leader may believe in it: from the moment
// before the request that renewed it was sent, on the monotonic clock. etcd
// counts from when it applied the request, so it ends later.
type lease struct {
	id       clientv3.LeaseID
	ttl      time.Duration
	clock    tso.Clock
	expiryNS atomic.Int64
}

func (l *lease) renewedAt(sent time.Duration) { l.expiryNS.Store(int64(sent + l.ttl)) }

// revoke ends the belief at once.
func (l *lease) revoke() { l.expiryNS.Store(0) }

func (l *lease) valid() bool { return int64(l.clock.Mono()) < l.expiryNS.Load() }

// electionLoop stands for election whenever nobody leads, until ctx ends.
func (s *Server) electionLoop(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.electionRound(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("pd: election round failed", "err", err)
			s.pause(ctx, electionRetry)
		}
	}
}

// electionRound follows the present leader until it is gone, or leads until the
// lease is lost.
func (s *Server) electionRound(ctx context.Context) error {
	resp, err := s.cli.Get(ctx, s.leaderKey)
	if err != nil {
		return fmt.Errorf("read the leader key: %w", err)
	}
	if len(resp.Kvs) > 0 {
		return s.follow(ctx, resp.Kvs[0], resp.Header.Revision)
	}
	s.leader.Store(nil)
	if s.etcd.Server.Leader() != s.etcd.Server.MemberID() {
		// etcd's leader stands; the others wait for the key.
		s.pause(ctx, electionRetry)
		return nil
	}
	return s.campaign(ctx)
}

// follow watches the leader key until it is deleted.
func (s *Server) follow(ctx context.Context, kv *mvccpb.KeyValue, rev int64) error {
	leader := &pdpb.Member{}
	if err := leader.Unmarshal(kv.Value); err != nil {
		return fmt.Errorf("the leader key holds no member: %w", err)
	}
	if leader.MemberId == s.memberID() {
		// Left by an earlier life of this very member (the data directory is
		// locked, so there is no other): no need to wait for its lease.
		_, err := s.cli.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(s.leaderKey), "=", kv.ModRevision)).
			Then(clientv3.OpDelete(s.leaderKey)).Commit()
		return err
	}
	s.leader.Store(leader)
	defer s.leader.Store(nil)
	s.log.Info("pd: following", "leader", leader.Name)
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The watch sees a put, too: a leader key that was deleted and written by
	// another within one batch of events.
	for w := range s.cli.Watch(wctx, s.leaderKey, clientv3.WithRev(rev+1)) {
		if w.Err() != nil || len(w.Events) > 0 {
			return w.Err()
		}
	}
	return nil
}

// campaign tries to create the leader key, and leads while it has it.
func (s *Server) campaign(ctx context.Context) error {
	l := &lease{ttl: time.Duration(s.cfg.LeaderLeaseSeconds) * time.Second, clock: s.cfg.Clock}
	sent := s.cfg.Clock.Mono()
	granted, err := s.cli.Grant(ctx, s.cfg.LeaderLeaseSeconds)
	if err != nil {
		return fmt.Errorf("get a lease: %w", err)
	}
	l.id = granted.ID
	l.renewedAt(sent)
	defer s.endLease(ctx, l)

	me := s.self()
	value, err := me.Marshal()
	if err != nil {
		return err
	}
	resp, err := s.cli.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(s.leaderKey), "=", 0)).
		Then(clientv3.OpPut(s.leaderKey, string(value), clientv3.WithLease(l.id))).
		Commit()
	if err != nil {
		return fmt.Errorf("write the leader key: %w", err)
	}
	if !resp.Succeeded {
		return nil // another member was faster
	}
	return s.lead(ctx, l, etcdkv.NewFence(s.cli, s.leaderKey, resp.Header.Revision), me)
}

// endLease gives the lease back, so that the next leader need not wait for it.
func (s *Server) endLease(ctx context.Context, l *lease) {
	l.revoke()
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := s.cli.Revoke(rctx, l.id); err != nil {
		s.log.Warn("pd: the leader lease was not given back; it runs out by itself", "err", err)
	}
}

// lead loads the state, serves as leader, and returns when the lease, the key
// or etcd's leadership is lost.
func (s *Server) lead(ctx context.Context, l *lease, fence *etcdkv.Fence, me *pdpb.Member) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		defer cancel()
		s.renewLease(ctx, l)
	}()
	defer func() { cancel(); <-renewed }()

	t, err := s.newTerm(ctx, l, fence)
	if err != nil {
		return fmt.Errorf("load the cluster's state: %w", err)
	}
	t.start()
	s.leader.Store(me)
	s.term.Store(t)
	s.log.Info("pd: leading", "cluster_id", s.clusterID, "regions", t.cluster.regions.Len())
	s.metrics.leads.Set(1)
	defer func() {
		s.term.Store(nil)
		s.leader.Store(nil)
		l.revoke()
		s.metrics.leads.Set(0)
		cancel()
		t.stop()
		s.log.Info("pd: no longer leading")
	}()
	s.watchLeadership(ctx, l, fence.Rev())
	return nil
}

// watchLeadership returns when this member should not lead any more.
func (s *Server) watchLeadership(ctx context.Context, l *lease, rev int64) {
	tick := time.NewTicker(coLeaderCheck)
	defer tick.Stop()
	key := s.cli.Watch(ctx, s.leaderKey, clientv3.WithRev(rev+1))
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.resign:
			s.log.Info("pd: resigning as asked")
			return
		case w, ok := <-key:
			if !ok {
				return
			}
			for _, e := range w.Events {
				if e.Type == clientv3.EventTypeDelete {
					s.log.Warn("pd: the leader key was deleted")
					return
				}
			}
		case <-tick.C:
			if !l.valid() {
				s.log.Warn("pd: the leader lease ran out")
				return
			}
			if lead := s.etcd.Server.Leader(); lead != 0 && lead != s.etcd.Server.MemberID() {
				s.log.Info("pd: etcd has another leader, following it")
				return
			}
			s.noteMembers()
		}
	}
}

// renewLease keeps the lease alive until ctx ends or etcd says it is gone.
func (s *Server) renewLease(ctx context.Context, l *lease) {
	every := l.ttl / leaseRenewalsPerTTL
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := s.cfg.Clock.Mono()
		rctx, cancel := context.WithTimeout(ctx, l.ttl)
		resp, err := s.cli.KeepAliveOnce(rctx, l.id)
		cancel()
		switch {
		case err == nil && resp.TTL > 0:
			l.renewedAt(sent)
		case ctx.Err() != nil:
			return
		case !l.valid():
			s.log.Warn("pd: the leader lease could not be renewed", "err", err)
			return
		}
	}
}

func (s *Server) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// errNoTerm is what callers get while this member does not lead.
var errNoTerm = errors.New("pd: not leader")

// leading returns the term, or an error when this member does not lead or can
// not be sure to.
func (s *Server) leading() (*term, error) {
	t := s.term.Load()
	if t == nil || !t.lease.valid() {
		return nil, errNoTerm
	}
	return t, nil
}
