package pd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"

	"github.com/copradb/copra/internal/gossip"
)

const (
	// memberChangeTimeout bounds a change of the members: etcd takes none before
	// a majority has been connected for 5 s. leaderChangeTimeout bounds a change
	// of the leader.
	memberChangeTimeout = 8 * time.Second
	memberChangeRetry   = 200 * time.Millisecond
	leaderChangeTimeout = 5 * time.Second
	leaderPoll          = 10 * time.Millisecond
	// priorityCheck is how often the leader looks for a member that should lead
	// in its place.
	priorityCheck = time.Second
	// priorityMax bounds priorities, either way.
	priorityMax = 1000
)

func (s *Server) httpMembers(r *http.Request) (any, error) {
	members := s.members()
	// Priorities are for show; the leader reads them again.
	if priorities, err := s.priorities(r.Context(), clientv3.WithSerializable()); err == nil {
		for _, m := range members {
			m.LeaderPriority = priorities[m.MemberId]
		}
	}
	var etcdLeader *pdpb.Member
	for _, m := range members {
		if m.MemberId == uint64(s.etcd.Server.Leader()) {
			etcdLeader = m
		}
	}
	return map[string]any{
		"header": s.header(), "members": members, "leader": s.leader.Load(), "etcd_leader": etcdLeader,
	}, nil
}

// memberByName finds a member, by name or by its id in hexadecimal.
func (s *Server) memberByName(name string) (*pdpb.Member, error) {
	for _, m := range s.members() {
		if m.Name == name && name != "" || strconv.FormatUint(m.MemberId, 16) == name {
			return m, nil
		}
	}
	return nil, notFound(fmt.Errorf("pd: there is no member %q", name))
}

// httpAddMember announces a member that will join.
func (s *Server) httpAddMember(_ *term, r *http.Request) (any, error) {
	var req struct {
		PeerURL string `json:"peer-url"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, badRequest(fmt.Errorf("pd: the request is no JSON object: %w", err))
	}
	u, err := url.Parse(req.PeerURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" {
		return nil, badRequest(fmt.Errorf("pd: peer-url %q is not http://host:port", req.PeerURL))
	}
	ctx, cancel := context.WithTimeout(r.Context(), memberChangeTimeout)
	defer cancel()
	var added *clientv3.MemberAddResponse
	err = s.whenHealthy(ctx, func() error {
		added, err = s.cli.MemberAddAsLearner(ctx, []string{req.PeerURL})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pd: add the member at %s: %w", req.PeerURL, err)
	}
	return map[string]any{"member_id": added.Member.ID, "peer_urls": added.Member.PeerURLs}, nil
}

// httpRemoveMember removes a member for good. A leader first hands over.
func (s *Server) httpRemoveMember(_ *term, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if id := r.PathValue("id"); id != "" {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return nil, badRequest(fmt.Errorf("pd: %q is no id", id))
		}
		name = strconv.FormatUint(n, 16)
	}
	m, err := s.memberByName(name)
	if err != nil {
		return nil, err
	}
	if len(s.members()) < 2 {
		return nil, badRequest(errors.New("pd: the last member cannot be removed"))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), memberChangeTimeout)
	defer cancel()
	if m.MemberId == s.memberID() {
		if err := s.giveUpLeading(); err != nil {
			return nil, err
		}
		// Removed now, it could not give the leader key back.
		for l := s.leader.Load(); l == nil || l.MemberId == s.memberID(); l = s.leader.Load() {
			if s.pause(ctx, leaderPoll); ctx.Err() != nil {
				return nil, fmt.Errorf("pd: member %s leads, and no other took over: %w", m.Name, ctx.Err())
			}
		}
	}
	if err := s.whenHealthy(ctx, func() error {
		_, err := s.cli.MemberRemove(ctx, m.MemberId)
		if m.MemberId == s.memberID() && (errors.Is(err, etcderrors.ErrStopped) || errors.Is(err, rpctypes.ErrStopped)) {
			err = nil // etcd stops when it has applied its own removal, at times before it answers
		}
		return err
	}); err != nil {
		return nil, fmt.Errorf("pd: remove member %s: %w", m.Name, err)
	}
	if _, err := s.cli.Delete(ctx, s.priorityKey(m.MemberId)); err != nil {
		s.log.Info("pd: the priority of a removed member stays", "member", m.Name, "err", err)
	}
	s.log.Info("pd: member removed", "member", m.Name)
	return fmt.Sprintf("removed, pd: %s", m.Name), nil
}

// whenHealthy does fn again while etcd finds the cluster not well enough
// connected for a change of its members.
func (s *Server) whenHealthy(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if !errors.Is(err, rpctypes.ErrUnhealthy) {
			return err
		}
		if s.pause(ctx, memberChangeRetry); ctx.Err() != nil {
			return fmt.Errorf("%w: not all members are, and have been for some seconds, connected", err)
		}
	}
}

// httpSetPriority says how much a member should lead: the living member with the
// highest priority does.
func (s *Server) httpSetPriority(t *term, r *http.Request) (any, error) {
	m, err := s.memberByName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	var req struct {
		Priority *float64 `json:"leader-priority"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || req.Priority == nil {
		return nil, badRequest(errors.New(`pd: want {"leader-priority": number}`))
	}
	p := int64(*req.Priority)
	if float64(p) != *req.Priority || p < -priorityMax || p > priorityMax {
		return nil, badRequest(fmt.Errorf("pd: a priority of %v is not a whole number from %d to %d", *req.Priority, -priorityMax, priorityMax))
	}
	if err := t.put(r.Context(), s.priorityKey(m.MemberId), strconv.AppendInt(nil, p, 10)); err != nil {
		return nil, err
	}
	return "success", nil
}

// httpTransfer makes another member lead.
func (s *Server) httpTransfer(_ *term, r *http.Request) (any, error) {
	m, err := s.memberByName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if err := s.transferTo(r.Context(), m.MemberId); err != nil {
		return nil, fmt.Errorf("pd: make %s lead: %w", m.Name, err)
	}
	return "The transfer command is submitted.", nil
}

// httpResign makes some other member lead.
func (s *Server) httpResign(*term, *http.Request) (any, error) {
	if err := s.giveUpLeading(); err != nil {
		return nil, err
	}
	return "The resign command is submitted.", nil
}

// transferTo makes a member etcd's leader; PD's leader follows.
func (s *Server) transferTo(ctx context.Context, id uint64) error {
	if id == s.memberID() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderChangeTimeout)
	defer cancel()
	return s.etcd.Server.MoveLeader(ctx, s.memberID(), id)
}

// giveUpLeading makes any other member lead.
func (s *Server) giveUpLeading() error {
	if len(s.members()) < 2 {
		return badRequest(errors.New("pd: there is no other member to lead"))
	}
	if err := s.etcd.Server.TryTransferLeadershipOnShutdown(); err != nil {
		return fmt.Errorf("pd: no other member could be made to lead: %w", err)
	}
	return nil
}

func (s *Server) priorityPrefix() string { return s.root + "/member/" }

func (s *Server) priorityKey(id uint64) string {
	return s.priorityPrefix() + strconv.FormatUint(id, 10) + "/leader_priority"
}

// priorities are those that were set, by member id.
func (s *Server) priorities(ctx context.Context, o ...clientv3.OpOption) (map[uint64]int32, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderChangeTimeout)
	defer cancel()
	resp, err := s.cli.Get(ctx, s.priorityPrefix(), append(o, clientv3.WithPrefix())...)
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]string, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		byKey[string(kv.Key)] = string(kv.Value)
	}
	out := make(map[uint64]int32)
	for _, m := range s.etcd.Server.Cluster().Members() {
		if v, ok := byKey[s.priorityKey(uint64(m.ID))]; ok {
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("pd: the priority of member %s in etcd is %q", m.Name, v)
			}
			out[uint64(m.ID)] = int32(n)
		}
	}
	return out, nil
}

// preferPriority hands over to a living member of higher priority, whenever
// there is one, until ctx ends.
func (s *Server) preferPriority(ctx context.Context) {
	tick := time.NewTicker(priorityCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		target, err := s.preferred(ctx)
		if err == nil && target != s.memberID() {
			s.log.Info("pd: a member of higher priority should lead", "member", strconv.FormatUint(target, 16))
			err = s.transferTo(ctx, target)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("pd: leading was not handed to the member of the highest priority", "err", err)
		}
	}
}

// preferred is the member that should lead: this one, unless a living one has a
// higher priority.
func (s *Server) preferred(ctx context.Context) (uint64, error) {
	priorities, err := s.priorities(ctx)
	if err != nil {
		return 0, err
	}
	living := make(map[uint64]bool)
	if g := s.gossip.Load(); g != nil {
		for _, m := range g.Members() {
			living[m.ID] = living[m.ID] || m.Kind == gossip.KindPD && m.Alive
		}
	}
	best := s.memberID()
	for _, m := range s.etcd.Server.Cluster().Members() {
		if id := uint64(m.ID); !m.IsLearner && living[id] && priorities[id] > priorities[best] {
			best = id
		}
	}
	return best, nil
}
