package pd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/copradb/copra/pd/etcdkv"
)

const (
	// etcdTickMS is the interval of heartbeats between members, in every
	// cluster the same, so that a member that started alone and one that joined
	// it later fit together.
	etcdTickMS = 20
	// electionAloneMS is the election timeout of a member that is alone: it
	// wins whenever it stands, so it need not wait for anybody. electionMS is
	// everybody else's.
	electionAloneMS = 100
	electionMS      = 1000
	// recvMessageBytesMax is the largest message that the client port takes.
	recvMessageBytesMax = 64 << 20
	// etcdQuotaBytes is the size of etcd's database at which it refuses writes.
	etcdQuotaBytes = 8 << 30
	// keepaliveMinTime is how often clients may ping; TiKV's do every 10 s, and
	// etcd's own default is 5 s.
	keepaliveMinTime = time.Second
	// freePortTriesMax is how often a free port is looked for: another process
	// may take it between the look and the listen.
	freePortTriesMax = 8
	joinRetryEvery   = 100 * time.Millisecond
	joinDialTimeout  = 3 * time.Second
)

// startEtcd starts the member and waits until it serves.
func (s *Server) startEtcd(ctx context.Context) error {
	var err error
	for range freePortTriesMax {
		var ec *embed.Config
		if ec, err = s.etcdConfig(ctx); err != nil {
			return err
		}
		s.etcd, err = startEmbedded(ec)
		if err == nil {
			return s.waitEtcd(ctx)
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("pd: start etcd in %s: %w", s.cfg.DataDir, err)
		}
		if !hasPortZero(s.cfg.ClientAddr) && !hasPortZero(s.cfg.PeerAddr) {
			break
		}
	}
	return fmt.Errorf("pd: %w (client address %s, peer address %s): is another PD running there?",
		err, s.clientAddr, s.peerAddr)
}

func (s *Server) waitEtcd(ctx context.Context) error {
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case err := <-s.etcd.Err():
		s.etcd.Close()
		return fmt.Errorf("pd: etcd stopped while it started: %w", err)
	case <-s.etcd.Server.StopNotify():
		s.etcd.Close()
		return errors.New("pd: etcd stopped while it started: this member was removed from the cluster, or its data is damaged")
	case <-ctx.Done():
		s.etcd.Close()
		return fmt.Errorf("pd: waited for a quorum of members: %w", ctx.Err())
	}
}

func (s *Server) etcdConfig(ctx context.Context) (*embed.Config, error) {
	cfg := s.cfg
	var err error
	if s.clientAddr, err = pickPort(cfg.ClientAddr); err != nil {
		return nil, err
	}
	if s.peerAddr, err = pickPort(cfg.PeerAddr); err != nil {
		return nil, err
	}
	advClient, advPeer := orDefault(cfg.AdvertiseClientAddr, s.clientAddr), orDefault(cfg.AdvertisePeerAddr, s.peerAddr)
	s.clientURL = "http://" + advClient

	ec := embed.NewConfig()
	ec.Name = cfg.Name
	ec.Dir = filepath.Join(cfg.DataDir, "etcd")
	ec.ListenClientUrls = []url.URL{httpURL(s.clientAddr)}
	ec.ListenPeerUrls = []url.URL{httpURL(s.peerAddr)}
	ec.AdvertiseClientUrls = []url.URL{httpURL(advClient)}
	ec.AdvertisePeerUrls = []url.URL{httpURL(advPeer)}
	ec.InitialClusterToken = "copra-pd"
	ec.TickMs, ec.ElectionMs = etcdTickMS, electionMS
	if s.format.Members <= 1 && cfg.alone() {
		ec.ElectionMs = electionAloneMS
	}
	ec.PreVote = true
	ec.ForceNewCluster = cfg.ForceNewCluster
	ec.EnableGRPCGateway = false
	ec.MaxTxnOps = etcdkv.TxnOpsMax
	ec.MaxRequestBytes = etcdkv.RequestBytesMax
	ec.QuotaBackendBytes = etcdQuotaBytes
	ec.AutoCompactionMode, ec.AutoCompactionRetention = "periodic", "1h"
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(s.etcdLog()))
	ec.ServiceRegister = s.registerGRPC
	ec.UserHandlers = map[string]http.Handler{"/pd/": s.http, "/metrics": s.http, "/health": s.http, "/ping": s.http}
	ec.GRPCAdditionalServerOptions = []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(recvMessageBytesMax),
		grpc.WaitForHandlers(true),
		grpc.Creds(newConnCredentials()),
		grpc.ChainUnaryInterceptor(s.forwarder.unary),
		grpc.ChainStreamInterceptor(s.forwarder.stream),
	}
	return ec, s.initialCluster(ctx, ec, advPeer)
}

// initialCluster says which members the cluster starts with, and asks a running
// one to take this member in where it joins. With a data directory that has
// been set up, etcd ignores all of it.
func (s *Server) initialCluster(ctx context.Context, ec *embed.Config, advPeer string) error {
	ec.InitialCluster = s.cfg.Name + "=http://" + advPeer
	if s.cfg.InitialCluster != "" {
		ec.InitialCluster = s.cfg.InitialCluster
	}
	if s.cfg.Join == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(ec.Dir, "member", "wal")); err == nil {
		return nil
	}
	cluster, err := s.join(ctx, "http://"+advPeer)
	if err != nil {
		return fmt.Errorf("pd: join %s: %w", s.cfg.Join, err)
	}
	ec.InitialCluster, ec.ClusterState = cluster, embed.ClusterStateFlagExisting
	return nil
}

// join makes this member part of the running cluster and returns its members in
// etcd's notation. It is done again until the cluster agrees: etcd takes one
// new member at a time.
func (s *Server) join(ctx context.Context, peerURL string) (string, error) {
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(s.cfg.Join, ","), DialTimeout: joinDialTimeout, Logger: zap.NewNop(), Context: ctx,
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = cli.Close() }()
	for {
		cluster, err := s.joinOnce(ctx, cli, peerURL)
		if err == nil {
			return cluster, nil
		}
		s.log.Info("pd: the cluster did not take this member in yet", "err", err)
		if s.pause(ctx, joinRetryEvery); ctx.Err() != nil {
			return "", fmt.Errorf("%w; last answer: %w", ctx.Err(), err)
		}
	}
}

// promote makes this member vote, if it is still a learner: it has just joined,
// or was stopped in the middle of that. The others refuse until it has caught
// up.
func (s *Server) promote(ctx context.Context) error {
	if !s.etcd.Server.IsLearner() {
		return nil
	}
	var others []string
	for _, m := range s.etcd.Server.Cluster().Members() {
		if m.ID != s.etcd.Server.MemberID() {
			others = append(others, m.ClientURLs...)
		}
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: others, DialTimeout: joinDialTimeout, Logger: zap.NewNop(), Context: ctx,
	})
	if err != nil {
		return fmt.Errorf("pd: reach the cluster at %v: %w", others, err)
	}
	defer func() { _ = cli.Close() }()
	for s.etcd.Server.IsLearner() {
		pctx, cancel := context.WithTimeout(ctx, joinDialTimeout)
		_, err := cli.MemberPromote(pctx, s.memberID())
		cancel()
		if err == nil {
			return nil
		}
		if s.pause(ctx, joinRetryEvery); ctx.Err() != nil {
			return fmt.Errorf("pd: become a voting member: %w; last answer: %w", ctx.Err(), err)
		}
	}
	return nil
}

func (s *Server) joinOnce(ctx context.Context, cli *clientv3.Client, peerURL string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, joinDialTimeout)
	defer cancel()
	list, err := cli.MemberList(ctx)
	if err != nil {
		return "", err
	}
	members, id := list.Members, uint64(0)
	for _, m := range members {
		if m.Name == s.cfg.Name {
			return "", fmt.Errorf("a member named %s exists already", s.cfg.Name)
		}
		if len(m.PeerURLs) == 1 && m.PeerURLs[0] == peerURL {
			id = m.ID // an earlier try got this far
		}
	}
	if id == 0 {
		// As a learner first: a new voter that has not started yet would count
		// for the quorum, and the first to join a member that is alone would
		// stop it.
		added, err := cli.MemberAddAsLearner(ctx, []string{peerURL})
		if err != nil {
			return "", err
		}
		members, id = added.Members, added.Member.ID
	}
	var parts []string
	for _, m := range members {
		name := m.Name
		if m.ID == id {
			name = s.cfg.Name
		} else if name == "" {
			return "", fmt.Errorf("member %x has not started yet", m.ID)
		}
		for _, u := range m.PeerURLs {
			parts = append(parts, name+"="+u)
		}
	}
	return strings.Join(parts, ","), nil
}

func httpURL(addr string) url.URL { return url.URL{Scheme: "http", Host: addr} }

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func hasPortZero(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	return port == "0"
}

// pickPort replaces port 0 by one that is free now.
func pickPort(addr string) (string, error) {
	if !hasPortZero(addr) {
		return addr, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("pd: find a free port on %s: %w", addr, err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}
