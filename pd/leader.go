package pd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/copradb/copra/pd/election"
	"github.com/copradb/copra/pd/etcdkv"
)

// coLeaderCheck is how often PD's leader checks that it is etcd's, too: apart
// they work, but every write takes one hop more.
const coLeaderCheck = 100 * time.Millisecond

// leaderStore is etcd's side of the election.
type leaderStore struct {
	cli        *clientv3.Client
	key        string // holds the leading pdpb.Member
	renewalKey string // holds the lease's length in milliseconds
	value      string // of key, while this member leads
}

var _ election.Store = (*leaderStore)(nil)

// Read implements election.Store.
func (ls *leaderStore) Read(ctx context.Context) (election.Record, error) {
	resp, err := ls.cli.Txn(ctx).Then(clientv3.OpGet(ls.key), clientv3.OpGet(ls.renewalKey)).Commit()
	if err != nil {
		return election.Record{}, err
	}
	var r election.Record
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
		r.Leader, r.CreateRev = kvs[0].Value, kvs[0].CreateRevision
		if r.Leader == nil {
			r.Leader = []byte{}
		}
		if kvs[0].Lease != 0 {
			return r, nil // an older copra's: etcd's lease takes the key away
		}
	}
	if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) == 1 {
		ms, err := strconv.ParseInt(string(kvs[0].Value), 10, 64)
		if err != nil || ms <= 0 {
			return r, fmt.Errorf("%s in etcd holds no time: %q", ls.renewalKey, kvs[0].Value)
		}
		r.RenewRev, r.TTL = kvs[0].ModRevision, time.Duration(ms)*time.Millisecond
	}
	return r, nil
}

func (ls *leaderStore) renewal(ttl time.Duration) clientv3.Op {
	return clientv3.OpPut(ls.renewalKey, strconv.FormatInt(ttl.Milliseconds(), 10))
}

// Create implements election.Store.
func (ls *leaderStore) Create(ctx context.Context, ttl time.Duration) (int64, error) {
	resp, err := ls.cli.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(ls.key), "=", 0)).
		Then(clientv3.OpPut(ls.key, ls.value), ls.renewal(ttl)).Commit()
	if err != nil || !resp.Succeeded {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// Renew implements election.Store.
func (ls *leaderStore) Renew(ctx context.Context, rev int64, ttl time.Duration) error {
	return ls.fenced(ctx, rev, ls.renewal(ttl))
}

// Resign implements election.Store.
func (ls *leaderStore) Resign(ctx context.Context, rev int64) error {
	if err := ls.fenced(ctx, rev, clientv3.OpDelete(ls.key)); !errors.Is(err, election.ErrLost) {
		return err
	}
	return nil
}

func (ls *leaderStore) fenced(ctx context.Context, rev int64, op clientv3.Op) error {
	resp, err := ls.cli.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(ls.key), "=", rev)).Then(op).Commit()
	if err == nil && !resp.Succeeded {
		err = election.ErrLost
	}
	return err
}

// Depose implements election.Store.
func (ls *leaderStore) Depose(ctx context.Context, r election.Record) error {
	_, err := ls.cli.Txn(ctx).If(
		clientv3.Compare(clientv3.CreateRevision(ls.key), "=", r.CreateRev),
		clientv3.Compare(clientv3.ModRevision(ls.renewalKey), "=", r.RenewRev),
	).Then(clientv3.OpDelete(ls.key)).Commit()
	return err
}

// changed tells of writes to both keys.
func (ls *leaderStore) changed(ctx context.Context, from election.Record) <-chan struct{} {
	out := make(chan struct{}, 1)
	events := ls.cli.Watch(ctx, ls.key, clientv3.WithPrefix(), clientv3.WithRev(max(from.CreateRev, from.RenewRev)+1))
	go func() {
		defer close(out)
		for range events {
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// newElector makes this member's part in the election.
func (s *Server) newElector() (*election.Elector, error) {
	value, err := s.self().Marshal()
	if err != nil {
		return nil, err
	}
	store := &leaderStore{cli: s.cli, key: s.leaderKey, renewalKey: s.leaderKey + "/renewal", value: string(value)}
	return &election.Elector{
		Store: store, Clock: s.cfg.Clock, TTL: time.Duration(s.cfg.LeaderLeaseSeconds) * time.Second, Log: s.log,
		// The data directory is locked, so it is no other process's.
		IsMine: func(leader []byte) bool { m := s.decodeLeader(leader); return m != nil && m.MemberId == s.memberID() },
		// etcd's leader leads; the others wait for it to.
		Eligible: func() bool { return s.etcd.Server.Leader() == s.etcd.Server.MemberID() },
		Changed:  store.changed,
		Follow:   s.followLeader,
		Lead:     s.lead,
	}, nil
}

func (s *Server) decodeLeader(value []byte) *pdpb.Member {
	m := &pdpb.Member{}
	if err := m.Unmarshal(value); err != nil {
		s.log.Error("pd: the leader key holds no member", "err", err)
		return nil
	}
	return m
}

func (s *Server) followLeader(value []byte) {
	if value == nil {
		s.leader.Store(nil)
		return
	}
	if m := s.decodeLeader(value); m != nil {
		s.leader.Store(m)
		s.log.Info("pd: following", "leader", m.Name)
	}
}

// lead loads the state, serves as leader, and returns when the lease, the key
// or etcd's leadership is lost.
func (s *Server) lead(ctx context.Context, l *election.Lease, rev int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fence := etcdkv.NewFence(ctx, s.cli, s.leaderKey, rev, func(err error) {
		if ctx.Err() == nil {
			s.log.Warn("pd: giving up leading: a write has an unknown outcome", "err", err)
		}
		l.Revoke()
	})
	t, err := s.newTerm(ctx, l, fence)
	if err != nil {
		return fmt.Errorf("load the cluster's state: %w", err)
	}
	t.start()
	t.wg.Go(func() { s.preferPriority(t.ctx) })
	s.leader.Store(s.self())
	s.term.Store(t)
	s.log.Info("pd: leading", "cluster_id", s.clusterID, "regions", t.cluster.regions.Len())
	s.metrics.leads.Set(1)
	defer func() {
		s.term.Store(nil)
		s.leader.Store(nil)
		l.Revoke()
		s.metrics.leads.Set(0)
		cancel()
		t.stop()
		s.log.Info("pd: no longer leading")
	}()
	s.watchLeadership(ctx, l, rev)
	return nil
}

// watchLeadership returns when this member should not lead any more.
func (s *Server) watchLeadership(ctx context.Context, l *election.Lease, rev int64) {
	tick := time.NewTicker(coLeaderCheck)
	defer tick.Stop()
	key := s.cli.Watch(ctx, s.leaderKey, clientv3.WithRev(rev+1))
	for {
		select {
		case <-ctx.Done():
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
			if !l.Valid() {
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
	if t == nil || !t.lease.Valid() {
		return nil, errNoTerm
	}
	return t, nil
}
