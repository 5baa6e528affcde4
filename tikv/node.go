package tikv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/gossip"
	"github.com/copradb/copra/internal/pdclient"
	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/tikv/deadlock"
	"github.com/copradb/copra/tikv/gc"
	"github.com/copradb/copra/tikv/raw"
	"github.com/copradb/copra/tikv/resolvedts"
	"github.com/copradb/copra/txn"
	deadlockpb "github.com/pingcap/kvproto/pkg/deadlock"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// Node is one running storage node.
type Node struct {
	cfg       Config
	log       *slog.Logger
	clusterID uint64
	storeID   uint64
	started   time.Time

	fs        vfs.FS
	space     *disk.Space
	data      *engine.Engine
	raftLog   *raftlog.Log
	pd        *pdclient.Client
	transport raftstore.Transport
	regions   *raftstore.Store
	txn       *txn.Store
	detector  *deadlock.Detector
	service   *Service
	slow      *slowlog.Log
	observer  *observer
	resolved  *resolvedts.Manager
	ttl       *raw.TTLChecker
	collector *gc.Collector
	health    *health.Server
	gossip    atomic.Pointer[gossip.Node]
	reporter  atomic.Pointer[raftstore.Store] // regions, once it is there
	stopping  atomic.Bool                     // as told to PD
	seeds     atomic.Pointer[[]string]        // addresses at which gossip may find others
	listener  net.Listener
	addr      string // as told to others
	status    *http.Server
	statusLis net.Listener
	gatherer  prometheus.Gatherer

	ctx    context.Context // ends when Stop begins
	cancel context.CancelFunc
	wg     sync.WaitGroup
	calls  <-chan struct{} // closed when the last gRPC handler has ended; set by Stop

	stopOnce sync.Once
	// closers undo Start, last first.
	closers []func()
}

// Start opens the node's data, joins the cluster and serves. ctx bounds the
// start, not the node.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger, fs: cfg.FS, gatherer: cfg.Gatherer, started: time.Now()}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	for _, step := range []func(context.Context) error{
		n.openData, n.connectPD, n.listen, n.buildStore, n.join, n.serve,
	} {
		if err := step(ctx); err != nil {
			n.Stop()
			return nil, fmt.Errorf("tikv: start store in %s: %w", cfg.DataDir, err)
		}
	}
	n.log.Info("store is up", "store", n.storeID, "cluster", n.clusterID, "addr", n.addr, "took", time.Since(n.started))
	return n, nil
}

// Stop ends the node. It may be called more than once.
func (n *Node) Stop() {
	n.stopOnce.Do(func() {
		n.cancel()
		for i := len(n.closers) - 1; i >= 0; i-- {
			n.closers[i]()
		}
	})
}

func (n *Node) onStop(fn func()) { n.closers = append(n.closers, fn) }

// closeAtStop closes c at the right place of Stop and logs a failure.
func (n *Node) closeAtStop(what string, c io.Closer) {
	n.onStop(func() {
		if err := c.Close(); err != nil {
			n.log.Error("not closed cleanly", "what", what, "err", err)
		}
	})
}

// StoreID is the store's id in the cluster.
func (n *Node) StoreID() uint64 { return n.storeID }

// ClusterID is the cluster's id.
func (n *Node) ClusterID() uint64 { return n.clusterID }

// Addr is the address that PD tells clients.
func (n *Node) Addr() string { return n.addr }

// StatusAddr is where the status pages are, or empty.
func (n *Node) StatusAddr() string {
	if n.statusLis == nil {
		return ""
	}
	return n.statusLis.Addr().String()
}

// Service is the Tikv service, for clients in this process.
func (n *Node) Service() tikvpb.TikvServer { return n.service }

// SlowLog takes the requests of clients that took too long.
func (n *Node) SlowLog() *slowlog.Log { return n.slow }

// Txn is the transactional store.
func (n *Node) Txn() *txn.Store { return n.txn }

// Raftstore is the replicated store.
func (n *Node) Raftstore() *raftstore.Store { return n.regions }

// NewCache returns a block cache for that many stores; the caller unrefs it.
// Pebble takes the room of memtables out of the cache, so that with a small one
// they would leave nothing for blocks, and every read would decompress its
// block again: the room for them is added here.
func NewCache(blockBytes int64, stores int) *pebble.Cache {
	return pebble.NewCache(blockBytes + int64(stores)*memTablesBytes)
}

// openData locks the directory and opens the databases.
func (n *Node) openData(context.Context) error {
	if _, err := disk.CheckFormat(n.fs, n.cfg.DataDir, "copra-store", formatVersion); err != nil {
		return err
	}
	lock, err := n.fs.Lock(n.fs.PathJoin(n.cfg.DataDir, "LOCK"))
	if err != nil {
		return fmt.Errorf("lock the directory: %w; does another copra use it?", err)
	}
	n.closeAtStop("directory lock", lock)
	n.space, err = disk.NewSpace(disk.SpaceOptions{
		FS: n.fs, Dir: n.cfg.DataDir, ReserveBytes: n.cfg.ReserveBytes, CapacityBytes: n.cfg.CapacityBytes, Logger: n.log, Registerer: n.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	n.onStop(n.space.Close)
	cache := n.cfg.Cache
	if cache == nil {
		cache = NewCache(n.cfg.CacheBytes, 1)
		defer cache.Unref()
	}
	n.data, err = engine.Open(engine.Options{
		Dir: n.fs.PathJoin(n.cfg.DataDir, "kv"), FS: n.space.FS(), Cache: cache, MemTableBytes: n.cfg.MemTableBytes,
		Logger: n.log, Registerer: n.cfg.Registerer, OnFatal: n.cfg.OnFatal,
	})
	if err != nil {
		return err
	}
	n.closeAtStop("data engine", n.data)
	n.raftLog, err = raftlog.Open(raftlog.Options{
		Dir: n.fs.PathJoin(n.cfg.DataDir, "raft"), FS: n.space.FS(), Cache: cache,
		MemTableBytes: logMemTableBytes(int64(n.space.Usage().ReserveBytes)),
		Logger:        n.log, Registerer: n.cfg.Registerer, OnFatal: n.cfg.OnFatal,
	})
	if err != nil {
		return err
	}
	n.closeAtStop("raft log", n.raftLog)
	return nil
}

// connectPD finds PD and settles who this store is.
func (n *Node) connectPD(ctx context.Context) (err error) {
	n.pd, err = pdclient.New(ctx, n.cfg.PDEndpoints, pdclient.Options{
		Logger: n.log, Registerer: n.cfg.Registerer, DialOptions: n.cfg.DialOptions, OnHeartbeatStream: n.reportAll,
	})
	if err != nil {
		return err
	}
	n.onStop(n.pd.Close)
	n.clusterID = n.pd.ClusterID()
	id, err := n.identity(ctx)
	if err != nil {
		return err
	}
	n.storeID = id.StoreID
	n.log = n.log.With("store", n.storeID)
	n.slow = slowlog.New(n.log, n.cfg.SlowLogThreshold)
	n.slow.SetRedact(n.cfg.RedactInfoLog)
	return nil
}

func (n *Node) listen(context.Context) (err error) {
	if n.listener, err = net.Listen("tcp", n.cfg.Addr); err != nil {
		return fmt.Errorf("listen for clients and stores: %w", err)
	}
	n.onStop(func() { _ = n.listener.Close() }) // the gRPC server has closed it already, if it came so far
	if n.addr, err = advertised(n.cfg.AdvertiseAddr, n.listener.Addr().String()); err != nil {
		return err
	}
	if n.cfg.StatusAddr == "" {
		return nil
	}
	if n.statusLis, err = net.Listen("tcp", n.cfg.StatusAddr); err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	n.onStop(func() { _ = n.statusLis.Close() })
	return nil
}

// advertised is the address told to others.
func advertised(configured, listening string) (string, error) {
	if configured == "" {
		host, _, err := net.SplitHostPort(listening)
		if err != nil {
			return "", err
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			return "", fmt.Errorf("the store listens on %s, which others cannot dial; set the advertised address", listening)
		}
		return listening, nil
	}
	host, port, err := net.SplitHostPort(configured)
	if err != nil {
		return "", fmt.Errorf("advertised address: %w", err)
	}
	if port == "0" {
		_, port, err = net.SplitHostPort(listening)
	}
	return net.JoinHostPort(host, port), err
}

// buildStore makes everything between the disks and the services. Nothing runs
// yet but the transport.
func (n *Node) buildStore(context.Context) error {
	dial := append([]grpc.DialOption{transport.KeepaliveOption()}, n.cfg.DialOptions...)
	n.detector = deadlock.New(deadlock.Options{StoreID: n.storeID, Leader: n.firstLeader, DialOptions: dial, Logger: n.log})
	n.onStop(n.detector.Close)
	var remote *transport.Transport
	if local := n.cfg.LocalTransport; local != nil {
		n.transport = local.Node(n.storeID)
	} else {
		var err error
		remote, err = transport.New(transport.Options{
			SnapshotBytesPerSecond: n.cfg.SnapshotBytesPerSecond,
			ClusterID:              n.clusterID, StoreID: n.storeID, Resolve: n.resolve, DialOptions: dial,
			Logger: n.log, Registerer: n.cfg.Registerer,
		})
		if err != nil {
			return err
		}
		n.onStop(remote.Close)
		n.transport = remote
	}
	n.observer = newObserver(n)
	applied := &gc.Applied{SafePoints: &txn.SafePoints{}}
	var err error
	n.regions, err = raftstore.New(raftstore.Options{
		StoreID: n.storeID, Engine: n.data, Log: n.raftLog, Transport: n.transport, PD: placement{n.pd},
		SnapDir: n.fs.PathJoin(n.cfg.DataDir, "snap"), FS: n.fs, Space: n.space, Config: n.cfg.raftConfig(),
		Observer: n.observer, LockChecker: n.observer, Collected: applied.Note, SafePoints: applied.SafePoints.In, Logger: n.log, Registerer: n.cfg.Registerer, Fatal: n.cfg.OnFatal,
	})
	if err != nil {
		return err
	}
	n.onStop(n.waitCalls)
	n.reporter.Store(n.regions)
	n.onStop(n.regions.Stop)
	front := steered{n.regions, n}
	flight := newInFlight()
	flight.quotas = newQuotas(n.cfg.Quota)
	n.txn = txn.NewStore(front, txn.Options{Logger: n.log, Registerer: n.cfg.Registerer, Detector: n.detector, SafePoints: applied.SafePoints, Answers: &flight.answers})
	n.onStop(n.txn.Close)
	if err := n.buildResolved(dial); err != nil {
		return err
	}
	if err := n.buildCollector(applied); err != nil {
		return err
	}
	n.observer.ready(n.regions, n.txn, n.resolved)
	if remote != nil {
		remote.SetHandler(n.regions)
	} else {
		n.cfg.LocalTransport.Attach(n.storeID, n.regions)
		n.onStop(func() { n.cfg.LocalTransport.Detach(n.storeID) })
	}
	if err := n.buildTTL(); err != nil {
		return err
	}
	m, err := newMetrics(n.cfg.Registerer, flight)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	n.onStop(m.unregister)
	n.service = &Service{
		clusterID: n.clusterID, storeID: n.storeID, engine: front, data: n.data,
		txn: n.txn, raw: raw.New(front, nil).WithAnswers(&flight.answers), detector: n.detector, regions: n.regions, slowScore: n.regions.SlowScore, safe: n.regions, reset: n.resolved.Reset, destroyRange: n.destroyRange,
		log: n.log, metrics: m, inFlight: flight, slow: n.slow, batchSlots: make(chan struct{}, batchRequestsMax),
	}
	// Above those of an earlier run, as long as they are fewer than one a second.
	n.service.feedbackSeq.Store(uint64(n.started.Unix()))
	return nil
}

// buildResolved makes what advances the resolved timestamps.
func (n *Node) buildResolved(dial []grpc.DialOption) (err error) {
	conns := &storeConns{clusterID: n.clusterID, storeID: n.storeID, resolve: n.resolve, dial: dial, conns: map[uint64]*grpc.ClientConn{}}
	n.onStop(conns.close)
	n.resolved, err = resolvedts.New(resolvedts.Options{
		StoreID: n.storeID, Regions: n.regions, Txn: n.txn, Timestamp: n.pd.GetTS, CheckLeader: conns.checkLeader,
		Report: n.reportMinResolvedTS, Interval: n.cfg.ResolvedTSInterval, Logger: n.log, Registerer: n.cfg.Registerer,
	})
	if err == nil {
		n.onStop(n.resolved.Close)
	}
	return err
}

// buildCollector makes what drops garbage. A store that serves knows the safe
// points of PD's: it may have been away for long.
func (n *Node) buildCollector(applied *gc.Applied) (err error) {
	o := n.cfg.GC
	o.Regions, o.Txn, o.Data, o.Applied, o.Fetch = n.regions, n.txn, n.data, applied, n.pd.GCSafePoints
	o.Logger, o.Registerer = n.log, n.cfg.Registerer
	if n.collector, err = gc.New(o); err != nil {
		return err
	}
	n.onStop(n.collector.Close)
	if err := n.collector.FetchOnce(n.ctx); err != nil {
		return fmt.Errorf("ask PD for the GC safe points: %w", err)
	}
	return nil
}

// destroyRange drops what was kept of the range, behind it.
func (n *Node) destroyRange(ctx context.Context, start, end []byte) error {
	err := n.collector.DestroyRange(ctx, start, end)
	if n.cfg.Columns != nil {
		n.cfg.Columns.DropRange(start, end)
	}
	return err
}

// waitCalls waits for the handlers of the calls that were cut off: they use the
// databases.
func (n *Node) waitCalls() {
	if n.calls != nil {
		<-n.calls
	}
}

// stopGrace is how long calls under way may go on when the node stops.
const stopGrace = 500 * time.Millisecond

// serve starts the servers and the talk with PD.
func (n *Node) serve(context.Context) error {
	n.onStop(n.wg.Wait) // the last user of what is closed after it
	forward := newForwarder(n.addr, n.pd.GetAllStores, append([]grpc.DialOption{transport.KeepaliveOption()}, n.cfg.DialOptions...), n.service.metrics, &n.service.inFlight.answers)
	n.onStop(forward.close)
	server := newGRPCServer(&n.service.inFlight.answers, append(forward.serverOptions(), n.cfg.ServerOptions...)...)
	tikvpb.RegisterTikvServer(server, n.service)
	deadlockpb.RegisterDeadlockServer(server, n.detector.Server())
	n.health = health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, n.health)
	if t, ok := n.transport.(*transport.Transport); ok {
		t.Register(server)
	}
	gossiping := gossip.NewService()
	gossiping.Register(server)
	if n.cfg.ExtraServices != nil {
		n.cfg.ExtraServices(server, n)
	}
	n.wg.Go(func() {
		if err := server.Serve(n.listener); err != nil && n.ctx.Err() == nil {
			n.fatal(fmt.Errorf("gRPC server of store %d: %w", n.storeID, err))
		}
	})
	n.onStop(func() {
		n.health.Shutdown()
		done := make(chan struct{})
		n.calls = done
		go func() {
			server.GracefulStop()
			close(done)
		}()
		timer := time.NewTimer(stopGrace)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			// Not waiting for done: a write without a quorum is answered when
			// the store stops, and not before.
			server.Stop()
		}
	})
	if err := n.startGossip(gossiping); err != nil {
		return err
	}
	n.serveStatus()
	n.wg.Go(n.observer.run)
	n.wg.Go(n.heartbeats)
	n.resolved.Start()
	n.ttl.Start()
	n.collector.Start()
	n.onStop(n.cancel)
	return nil
}

// fatal ends the process by the configured hook.
func (n *Node) fatal(err error) {
	n.log.Error("the store cannot go on", "err", err)
	if n.cfg.OnFatal == nil {
		panic(err)
	}
	n.cfg.OnFatal(err)
}

// resolve finds a store's address for the transport.
func (n *Node) resolve(ctx context.Context, storeID uint64) (string, error) {
	s, err := n.pd.GetStore(ctx, storeID)
	if err != nil {
		return "", err
	}
	if s.GetAddress() == "" {
		return "", fmt.Errorf("PD knows no address of store %d", storeID)
	}
	return s.GetAddress(), nil
}

// firstLeader finds the store that has the deadlock graph.
func (n *Node) firstLeader(ctx context.Context) (uint64, string, error) {
	r, err := n.pd.GetRegion(ctx, nil)
	if err != nil {
		return 0, "", err
	}
	if r.Leader == nil {
		return 0, "", errors.New("PD knows no leader of the first region")
	}
	addr, err := n.resolve(ctx, r.Leader.GetStoreId())
	return r.Leader.GetStoreId(), addr, err
}
