package pd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pingcap/kvproto/pkg/pdpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"google.golang.org/grpc"

	"github.com/copradb/copra/internal/gossip"
)

const clusterIDKey = "/pd/cluster_id"

// Server is one member of PD.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	http    http.Handler
	lock    io.Closer // of the data directory

	formatMu sync.Mutex
	format   dataFormat

	clientAddr, peerAddr string
	clientURL            string
	etcd                 *embed.Etcd
	cli                  *clientv3.Client // in process
	clusterID            uint64
	root                 string // etcd prefix of this cluster
	leaderKey            string

	grpc      atomic.Pointer[grpc.Server]
	forwarder *forwarder
	// gossiping is registered with grpc; gossip is this member's part in it,
	// nil until it knows its cluster.
	gossiping *gossip.Service
	gossip    atomic.Pointer[gossip.Node]
	term      atomic.Pointer[term]        // nil while another leads
	leader    atomic.Pointer[pdpb.Member] // nil while nobody is known to lead
	// ready is closed when the fields above are all set; calls may come in
	// before.
	ready chan struct{}

	failed   chan error  // why etcd ended by itself
	told     atomic.Bool // by another member, that this one was removed
	stopping atomic.Bool
	stopOnce sync.Once
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	startMS  int64
}

// Start runs a member until Stop. It returns once this member serves and, where
// it is to lead, leads: a client may call it at once. ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger.With("pd", cfg.Name), metrics: newMetrics(cfg.Registerer, cfg.Name),
		gossiping: gossip.NewService(), failed: make(chan error, 1), ready: make(chan struct{}), startMS: time.Now().UnixMilli(),
	}
	s.http, s.forwarder = s.newHTTP(), newForwarder(s)
	if err := s.open(ctx); err != nil {
		s.unlock()
		s.metrics.close()
		return nil, err
	}
	s.cli = v3client.New(s.etcd.Server)
	rctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	if err := s.run(ctx, rctx); err != nil {
		s.Stop()
		return nil, err
	}
	s.log.Info("pd: serving", "client_url", s.clientURL, "cluster_id", s.clusterID)
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	members := 2
	if s.cfg.alone() {
		members = 1
	}
	if s.format, err = openFormat(s.cfg.DataDir, members); err != nil {
		return err
	}
	if s.format.Removed {
		return removedError(s.cfg.Name, s.cfg.DataDir)
	}
	// etcd has a lock of its own, and waits for it without end.
	if s.lock, err = vfs.Default.Lock(filepath.Join(s.cfg.DataDir, "LOCK")); err != nil {
		return fmt.Errorf("pd: lock the data directory %s: %w; is another copra using it?", s.cfg.DataDir, err)
	}
	if s.cfg.ForceNewCluster && s.format.Forced {
		// Left in a script, the flag would cut off whoever has joined since.
		return fmt.Errorf("pd: %s has been made a cluster of one already: start it without --force-new-cluster", s.cfg.DataDir)
	}
	if err := s.startEtcd(ctx); err != nil {
		return err
	}
	if err := s.updateFormat(func(f *dataFormat) { f.Forced = s.cfg.ForceNewCluster }); err != nil {
		s.etcd.Close()
		return err
	}
	return nil
}

func (s *Server) unlock() {
	if s.lock == nil {
		return
	}
	if err := s.lock.Close(); err != nil {
		s.log.Warn("pd: the data directory was not unlocked", "err", err)
	}
}

func (s *Server) run(ctx, rctx context.Context) error {
	if err := s.promote(ctx); err != nil {
		return err
	}
	if err := s.initClusterID(ctx); err != nil {
		return err
	}
	s.root = fmt.Sprintf("/pd/%d", s.clusterID)
	s.leaderKey = s.root + "/leader"
	elector, err := s.newElector()
	if err != nil {
		return err
	}
	close(s.ready)
	s.wg.Go(func() { elector.Run(rctx) })
	s.wg.Go(func() { s.watchEtcd(rctx) })
	if err := s.startGossip(); err != nil {
		return err
	}
	return s.waitLeader(ctx)
}

// waitLeader returns when somebody leads.
func (s *Server) waitLeader(ctx context.Context) error {
	const poll = time.Millisecond
	t := time.NewTicker(poll)
	defer t.Stop()
	for s.leader.Load() == nil {
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("pd: waited for a leader: %w", ctx.Err())
		case <-s.etcd.Server.StopNotify():
			return errors.New("pd: etcd stopped while it started")
		}
	}
	return nil
}

// initClusterID reads the cluster's id; the first member to come by makes it.
func (s *Server) initClusterID(ctx context.Context) error {
	// Time in the upper half keeps ids of clusters apart for people, too.
	id := uint64(time.Now().Unix())<<32 | uint64(rand.Uint32())
	resp, err := s.cli.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(clusterIDKey), "=", 0)).
		Then(clientv3.OpPut(clusterIDKey, string(binary.BigEndian.AppendUint64(nil, id)))).
		Else(clientv3.OpGet(clusterIDKey)).
		Commit()
	if err != nil {
		return fmt.Errorf("pd: make the cluster id: %w", err)
	}
	if resp.Succeeded {
		s.clusterID = id
		return nil
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) != 1 || len(kvs[0].Value) != 8 {
		return fmt.Errorf("pd: %s in etcd holds no cluster id", clusterIDKey)
	}
	s.clusterID = binary.BigEndian.Uint64(kvs[0].Value)
	return nil
}

// Stop gives up leading, ends all calls and closes etcd. It may be called more
// than once.
func (s *Server) Stop() {
	s.stopOnce.Do(func() {
		s.stopping.Store(true)
		s.cancel()
		if g := s.gossip.Load(); g != nil {
			g.Close()
		}
		s.wg.Wait() // the leader key is given back here, while etcd still runs
		s.handOver()
		if g := s.grpc.Load(); g != nil {
			// Streams never end by themselves; a graceful stop would wait for
			// its time-out.
			g.Stop()
		}
		s.forwarder.close()
		_ = s.cli.Close()
		s.etcd.Close()
		s.unlock()
		s.metrics.close()
		close(s.failed)
	})
}

// ClientURL is where clients reach this member, http://host:port.
func (s *Server) ClientURL() string { return s.clientURL }

// ClusterID identifies the cluster.
func (s *Server) ClusterID() uint64 { return s.clusterID }

// IsLeader reports whether this member leads now.
func (s *Server) IsLeader() bool {
	_, err := s.leading()
	return err == nil
}

func (s *Server) memberID() uint64 { return uint64(s.etcd.Server.MemberID()) }

// self is this member as others see it.
func (s *Server) self() *pdpb.Member {
	return &pdpb.Member{
		Name: s.cfg.Name, MemberId: s.memberID(), BinaryVersion: Version,
		ClientUrls: []string{s.clientURL},
		PeerUrls:   []string{"http://" + orDefault(s.cfg.AdvertisePeerAddr, s.peerAddr)},
	}
}

// members lists the cluster's members from etcd's membership.
func (s *Server) members() []*pdpb.Member {
	var out []*pdpb.Member
	for _, m := range s.etcd.Server.Cluster().Members() {
		out = append(out, &pdpb.Member{
			Name: m.Name, MemberId: uint64(m.ID), ClientUrls: m.ClientURLs, PeerUrls: m.PeerURLs,
			BinaryVersion: Version,
		})
	}
	return out
}

// noteMembers remembers for the next start whether this member is alone.
func (s *Server) noteMembers() {
	n := len(s.etcd.Server.Cluster().Members())
	if err := s.updateFormat(func(f *dataFormat) { f.Members = n }); err != nil {
		s.log.Warn("pd: the number of members was not saved", "err", err)
	}
}

// updateFormat changes the format file, if that changes anything.
func (s *Server) updateFormat(change func(*dataFormat)) error {
	s.formatMu.Lock()
	defer s.formatMu.Unlock()
	f := s.format
	if change(&f); f == s.format {
		return nil
	}
	if err := writeFormat(s.cfg.DataDir, f); err != nil {
		return err
	}
	s.format = f
	return nil
}
