// Package rafttest runs clusters of stores in one process for tests: in memory
// file systems that lose unsynced data in a crash, a network with filters, and a
// PD that gives out ids and remembers heartbeats.
//
// It is made for testing/synctest: time passes when everybody waits.
package rafttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/copradb/copra/raftstore/local"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"
)

// FirstRegion is the id of the region that Bootstrap makes; its peer on store s
// has the id FirstPeer + s.
const (
	FirstRegion = 1
	FirstPeer   = 100
)

// consistencyCheckInterval is how often replicas are compared, unless a test
// says otherwise.
const consistencyCheckInterval = 3 * time.Second

// Cluster is some stores and their network.
type Cluster struct {
	TB  testing.TB
	Net *local.Network
	PD  *PD
	// Config is for stores started from here on.
	Config      raftstore.Config
	LockChecker raftstore.LockChecker
	// WrapLogFS puts a file system between the Raft log and its disk; Fatal
	// takes fatal errors.
	WrapLogFS func(vfs.FS) vfs.FS
	Fatal     func(error)
	// WrapFS puts a file system between a store and its disk; FatalOf takes the
	// fatal errors of one store, in the place of Fatal; Customize changes the
	// options of a store before it is made.
	WrapFS    func(storeID uint64, fs vfs.FS) vfs.FS
	FatalOf   func(storeID uint64, err error)
	Customize func(o *raftstore.Options)
	// Attach is called with a store that was made and not started yet, Detach
	// before it is taken apart, however it ended. For what is built on stores.
	Attach, Detach func(n *Node)
	// DiskBytes, if not 0, is the size of every store's disk, and DiskReserve
	// what clients don't get of it.
	DiskBytes, DiskReserve int64
	LogMemTableBytes       int // 0: the Raft log's default

	mu    sync.RWMutex
	nodes map[uint64]*Node
}

// Node is one store with its disks, from one start to the next.
type Node struct {
	ID       uint64
	FS       *vfs.MemFS
	Engine   *engine.Engine
	Log      *raftlog.Log
	Store    *raftstore.Store
	Registry *prometheus.Registry
	Events   *Recorder
	Disk     *Disk       // nil: endless
	Space    *disk.Space // likewise
	Up       atomic.Bool

	after atomic.Pointer[vfs.MemFS] // the disk behind a crash
	using sync.RWMutex              // held by reads: a snapshot must not outlive its engine
}

// NewCluster starts n stores, the first region on the first voters of them.
// prepare is called before the first one starts.
func NewCluster(tb testing.TB, n, voters int, config raftstore.Config, prepare ...func(*Cluster)) *Cluster {
	c := &Cluster{TB: tb, Net: local.NewNetwork(), Config: config, nodes: map[uint64]*Node{}}
	c.PD = newPD(c)
	if c.Config.ConsistencyCheckInterval == 0 {
		c.Config.ConsistencyCheckInterval = consistencyCheckInterval
	}
	for _, f := range prepare {
		f(c)
	}
	region := &metapb.Region{Id: FirstRegion, RegionEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: 1}}
	for id := uint64(1); id <= uint64(voters); id++ {
		region.Peers = append(region.Peers, &metapb.Peer{Id: FirstPeer + id, StoreId: id})
	}
	for id := uint64(1); id <= uint64(n); id++ {
		c.start(id, vfs.NewCrashableMem())
		if id <= uint64(voters) {
			if err := c.Node(id).Store.Bootstrap(region); err != nil {
				tb.Fatal(err)
			}
		}
	}
	tb.Cleanup(c.Close)
	return c
}

func logger(id uint64) *slog.Logger {
	if os.Getenv("RAFTTEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug - 4})).With(slog.Uint64("node", id))
}

// Node returns a store as it was last started.
func (c *Cluster) Node(id uint64) *Node {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.nodes[id]
}

// IDs lists the stores.
func (c *Cluster) IDs() (ids []uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Sorted(maps.Keys(c.nodes))
}

// start opens a store's disks and starts it.
func (c *Cluster) start(id uint64, fs *vfs.MemFS) {
	c.TB.Helper()
	n := &Node{ID: id, FS: fs, Registry: prometheus.NewRegistry(), Events: &Recorder{}}
	fatal := c.Fatal
	if c.FatalOf != nil {
		fatal = func(err error) { c.FatalOf(id, err) }
	}
	diskFS := vfs.FS(n.FS)
	if c.WrapFS != nil {
		diskFS = c.WrapFS(id, diskFS)
	}
	storeFS, dataFS, logFS := n.openDisk(c, diskFS)
	var err error
	if n.Engine, err = engine.Open(engine.Options{Dir: "data", FS: dataFS, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, OnFatal: fatal}); err != nil {
		c.TB.Fatal(err)
	}
	if c.WrapLogFS != nil {
		logFS = c.WrapLogFS(logFS)
	}
	if n.Log, err = raftlog.Open(raftlog.Options{Dir: "raft", FS: logFS, CacheBytes: 1 << 20, MemTableBytes: c.LogMemTableBytes, OnFatal: fatal}); err != nil {
		c.TB.Fatal(err)
	}
	options := raftstore.Options{
		StoreID: id, Engine: n.Engine, Log: n.Log, Transport: c.Net.Transport(id), PD: c.PD, SnapDir: "snap", FS: storeFS, Space: n.Space,
		Config: c.Config, Observer: n.Events, LockChecker: c.LockChecker, Logger: logger(id), Registerer: n.Registry, Fatal: fatal,
		Inconsistent: func(i raftstore.Inconsistency) {
			c.TB.Errorf("store %d: peer %d of region %d differs from its leader at index %d", id, i.PeerID, i.Region.Id, i.Index)
		},
	}
	if c.Customize != nil {
		c.Customize(&options)
	}
	n.Store, err = raftstore.New(options)
	if err != nil {
		c.TB.Fatal(err)
	}
	if c.Attach != nil {
		c.Attach(n)
	}
	if err := n.Store.Start(); err != nil {
		c.TB.Fatal(err)
	}
	n.Up.Store(true)
	c.mu.Lock()
	c.nodes[id] = n
	c.mu.Unlock()
	c.Net.Register(id, n.Store)
}

// openDisk returns the store's file system, and those of its databases.
func (n *Node) openDisk(c *Cluster, fs vfs.FS) (store, data, log vfs.FS) {
	if c.DiskBytes == 0 {
		return fs, fs, fs
	}
	n.Disk = NewDisk(fs, c.DiskBytes)
	var err error
	if n.Space, err = disk.NewSpace(disk.SpaceOptions{FS: n.Disk, Dir: "/", ReserveBytes: c.DiskReserve, Logger: logger(n.ID), Registerer: n.Registry}); err != nil {
		c.TB.Fatal(err)
	}
	return n.Disk, n.Space.FS(), n.Space.FS()
}

// Stop ends a store in order.
func (c *Cluster) Stop(id uint64) {
	c.TB.Helper()
	n := c.Node(id)
	if n.Up.CompareAndSwap(true, false) {
		c.stop(n)
	}
}

func (c *Cluster) stop(n *Node) {
	c.TB.Helper()
	id := n.ID
	c.Net.Unregister(id)
	c.detach(n)
	n.Store.Stop()
	n.using.Lock()
	defer n.using.Unlock()
	if err := errors.Join(n.Engine.Close(), n.Log.Close()); err != nil {
		c.TB.Error(err)
	}
}

func (c *Cluster) detach(n *Node) {
	if c.Detach != nil {
		c.Detach(n)
	}
}

// Abandon ends a store whose Raft log has failed; what its disks hold is lost.
func (c *Cluster) Abandon(id uint64) {
	c.TB.Helper()
	n := c.Node(id)
	n.Up.Store(false)
	c.Net.Unregister(id)
	c.detach(n)
	n.Store.Stop()
	if err := n.Engine.Close(); err != nil {
		c.TB.Error(err)
	}
	if err := n.Log.Close(); err == nil {
		c.TB.Error("the raft log closed as if it had not failed")
	}
}

// Crash ends a store as a power cut does: what was not synced is lost, or, by
// percent, half written.
func (c *Cluster) Crash(id uint64, unsyncedPercent int) {
	c.TB.Helper()
	if c.Kill(id, unsyncedPercent, rand.New(rand.NewPCG(1, id))) {
		c.Bury(id)
	}
}

// Kill is the instant of a crash: nobody hears from the store any more, and its
// disk is what it will be at the next start. It may be called from inside of the
// store. Bury must follow; what the store does until then has no effect. False
// means that the store was not up.
func (c *Cluster) Kill(id uint64, unsyncedPercent int, rng *rand.Rand) bool {
	n := c.Node(id)
	// First of all, so that it can't promise what the clone lacks.
	if !n.Up.CompareAndSwap(true, false) {
		return false
	}
	c.Net.Unregister(id)
	n.after.Store(n.FS.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: rng}))
	return true
}

// Bury takes a killed store apart, whatever state it is in. Errors of its
// databases are those that it was killed for.
func (c *Cluster) Bury(id uint64) {
	c.TB.Helper()
	n := c.Node(id)
	c.detach(n)
	n.Store.Stop()
	n.using.Lock()
	defer n.using.Unlock()
	_ = n.Engine.Close()
	n.Log.Abandon()
	n.FS = n.after.Load()
}

// Restart starts a store again.
func (c *Cluster) Restart(id uint64) { c.start(id, c.Node(id).FS) }

// Close stops all stores.
func (c *Cluster) Close() {
	c.Net.SetFilter(nil)
	for _, id := range c.IDs() {
		c.Stop(id)
	}
}

// Partition cuts the stores ids off from the others, in both directions.
func (c *Cluster) Partition(ids ...uint64) {
	cut := map[uint64]bool{}
	for _, id := range ids {
		cut[id] = true
	}
	c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return cut[m.From.StoreId] == cut[m.To.StoreId] })
}

// Heal removes all filters.
func (c *Cluster) Heal() { c.Net.SetFilter(nil) }

// Eventually waits until cond holds, at most a minute of the test's time.
func (c *Cluster) Eventually(what string, cond func() bool) {
	c.TB.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			c.TB.Fatalf("did not happen: %s\n%s", what, c.Dump())
		}
	}
}

// Dump shows the regions of all stores.
func (c *Cluster) Dump() string {
	out := ""
	for _, id := range c.IDs() {
		if !c.Node(id).Up.Load() {
			out += fmt.Sprintf("store %d: down\n", id)
			continue
		}
		for _, r := range c.Node(id).Store.Regions() {
			out += fmt.Sprintf("store %d: peer %d leader=%v lead=%v term=%d applied=%d %v\n",
				id, r.PeerID, r.Leader, r.LeaderPeer.GetId(), r.Term, r.AppliedIndex, r.Region)
		}
	}
	return out
}

// LeaderOf returns the store that leads a region in the highest term, or 0.
func (c *Cluster) LeaderOf(regionID uint64) uint64 {
	var lead, term uint64
	for _, id := range c.IDs() {
		n := c.Node(id)
		if !n.Up.Load() {
			continue
		}
		if r, ok := n.Store.Region(regionID); ok && r.Leader && r.Term > term {
			lead, term = id, r.Term
		}
	}
	return lead
}

// WaitLeader waits for a leader of the region and returns its store.
func (c *Cluster) WaitLeader(regionID uint64) (lead uint64) {
	c.TB.Helper()
	c.Eventually(fmt.Sprintf("leader of region %d", regionID), func() bool {
		lead = c.LeaderOf(regionID)
		return lead != 0
	})
	return lead
}

// Context returns the request context for a region as a store knows it.
func (c *Cluster) Context(store, regionID uint64) *kvrpcpb.Context {
	r, ok := c.Node(store).Store.Region(regionID)
	if !ok {
		return &kvrpcpb.Context{RegionId: regionID, Peer: &metapb.Peer{StoreId: store}}
	}
	return &kvrpcpb.Context{
		RegionId: regionID, RegionEpoch: r.Region.RegionEpoch,
		Peer: &metapb.Peer{Id: r.PeerID, StoreId: store},
	}
}

// RegionAt returns the region that holds key, as the newest leader tells it.
func (c *Cluster) RegionAt(key string) (region *metapb.Region) {
	for _, id := range c.IDs() {
		n := c.Node(id)
		if !n.Up.Load() {
			continue
		}
		for _, r := range n.Store.Regions() {
			if len(r.Region.Peers) == 0 || !r.Leader || key < string(r.Region.StartKey) || (len(r.Region.EndKey) > 0 && key >= string(r.Region.EndKey)) {
				continue
			}
			if region == nil || r.Region.RegionEpoch.Version > region.RegionEpoch.Version {
				region = r.Region
			}
		}
	}
	return region
}

// TryPut writes once, through the leader of the key's region if there is one.
func (c *Cluster) TryPut(ctx context.Context, key, value string) error {
	region := c.RegionAt(key)
	if region == nil {
		return errors.New("no region")
	}
	lead := c.LeaderOf(region.Id)
	if lead == 0 {
		return errors.New("no leader")
	}
	return c.PutAt(ctx, lead, c.Context(lead, region.Id), key, value)
}

// PutAt writes through one store.
func (c *Cluster) PutAt(ctx context.Context, store uint64, rc *kvrpcpb.Context, key, value string) error {
	var b kv.Batch
	b.Put(kv.CFDefault, []byte(key), []byte(value))
	n := c.Node(store)
	if err := n.Store.Write(ctx, rc, &b); err != nil {
		return err
	}
	return n.checkUp()
}

// ErrCrashed replaces an answer that came out of a store after its crash.
var ErrCrashed = errors.New("the store has crashed")

func (n *Node) checkUp() error {
	if !n.Up.Load() {
		return ErrCrashed
	}
	return nil
}

// Put writes until it succeeds.
func (c *Cluster) Put(key, value string) {
	c.TB.Helper()
	c.Eventually("put "+key, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return c.TryPut(ctx, key, value) == nil
	})
}

// GetAt reads through one store; a missing key is "".
func (c *Cluster) GetAt(ctx context.Context, store uint64, rc *kvrpcpb.Context, key string) (string, error) {
	n := c.Node(store)
	n.using.RLock()
	defer n.using.RUnlock()
	if err := n.checkUp(); err != nil {
		return "", err
	}
	snap, err := n.Store.Snapshot(ctx, rc, kv.SnapshotOptions{})
	if err != nil {
		return "", err
	}
	defer snap.Close()
	if err := n.checkUp(); err != nil {
		return "", err
	}
	value, closer, err := snap.Get(kv.CFDefault, []byte(key))
	if errors.Is(err, kv.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer closer.Close()
	return string(value), nil
}

// Get reads until it succeeds.
func (c *Cluster) Get(key string) (value string) {
	c.TB.Helper()
	c.Eventually("get "+key, func() bool {
		region := c.RegionAt(key)
		if region == nil {
			return false
		}
		lead := c.LeaderOf(region.Id)
		if lead == 0 {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var err error
		value, err = c.GetAt(ctx, lead, c.Context(lead, region.Id), key)
		return err == nil
	})
	return value
}

// Local reads a key from a store's data, whatever its role.
func (c *Cluster) Local(store uint64, key string) string {
	es := c.Node(store).Engine.NewSnapshot()
	defer es.Close()
	value, closer, err := es.Get(kv.CFDefault, []byte(key))
	if errors.Is(err, kv.ErrNotFound) {
		return ""
	}
	if err != nil {
		c.TB.Fatal(err)
	}
	defer closer.Close()
	return string(value)
}

// Use calls fn with a store that is up and won't be closed meanwhile; false
// means that it is down.
func (c *Cluster) Use(store uint64, fn func(n *Node)) bool {
	n := c.Node(store)
	if !n.Up.Load() { // before the lock, which is held for as long as it takes to close
		return false
	}
	n.using.RLock()
	defer n.using.RUnlock()
	if !n.Up.Load() {
		return false
	}
	fn(n)
	return true
}

// Recorder is an Observer that counts.
type Recorder struct {
	raftstore.NoObserver
	mu    sync.Mutex
	terms []uint64 // in which this store became leader of FirstRegion
	slow  atomic.Int64
	next  atomic.Pointer[raftstore.Observer]
	wins  atomic.Int64
}

// Also passes on what comes from now on.
func (r *Recorder) Also(o raftstore.Observer) { r.next.Store(&o) }

// Wins counts how often a peer of the store, of any region, became leader.
func (r *Recorder) Wins() int { return int(r.wins.Load()) }

// SlowApply makes every batch take that long before the next one is applied.
func (r *Recorder) SlowApply(d time.Duration) { r.slow.Store(int64(d)) }

// Applied implements raftstore.Observer.
func (r *Recorder) Applied(regionID uint64, entries []*raftpb.Entry) {
	if next := r.next.Load(); next != nil {
		(*next).Applied(regionID, entries)
	}
	if d := r.slow.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
}

// Advanced implements raftstore.DataObserver.
func (r *Recorder) Advanced(regionID, from, to uint64, entries []*raftpb.Entry) {
	if next := r.next.Load(); next != nil {
		if d, ok := (*next).(raftstore.DataObserver); ok {
			d.Advanced(regionID, from, to, entries)
		}
	}
}

// Ingested implements raftstore.DataObserver.
func (r *Recorder) Ingested(k kv.KeyRange) {
	if next := r.next.Load(); next != nil {
		if d, ok := (*next).(raftstore.DataObserver); ok {
			d.Ingested(k)
		}
	}
}

// Split implements raftstore.RangeObserver.
func (r *Recorder) Split(region *metapb.Region, at uint64, children []*metapb.Region, index uint64) {
	if o := r.rangeObserver(); o != nil {
		o.Split(region, at, children, index)
	}
}

// Merged implements raftstore.RangeObserver.
func (r *Recorder) Merged(region *metapb.Region, at uint64, source *metapb.Region, sourceAt uint64) {
	if o := r.rangeObserver(); o != nil {
		o.Merged(region, at, source, sourceAt)
	}
}

func (r *Recorder) rangeObserver() raftstore.RangeObserver {
	if next := r.next.Load(); next != nil {
		if o, ok := (*next).(raftstore.RangeObserver); ok {
			return o
		}
	}
	return nil
}

// RoleChanged implements raftstore.Observer.
func (r *Recorder) RoleChanged(regionID uint64, leader bool, term uint64) {
	if next := r.next.Load(); next != nil {
		(*next).RoleChanged(regionID, leader, term)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if leader {
		r.wins.Add(1)
	}
	if leader && regionID == FirstRegion {
		r.terms = append(r.terms, term)
	}
}

// Terms returns the terms in which the store became leader of FirstRegion.
func (r *Recorder) Terms() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.terms...)
}
