package tikv

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/tikv/gc"
	"github.com/copradb/copra/tikv/resolvedts"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// formatVersion is the version of a store directory's layout: kv, raft, snap,
// STORE, BOOTSTRAP.
const formatVersion = 1

// Version is the version of TiKV's protocol that a store tells PD.
const Version = "8.5.0"

// heartbeatIntervalDefault is TiKV's.
const heartbeatIntervalDefault = 10 * time.Second

// slowLogThresholdDefault is TiKV's.
const slowLogThresholdDefault = time.Second

// memTablesBytes is the room in the cache for a store's memtables: one that is
// being written and one that is being flushed, in each of its databases. Large
// ones of the Raft log take some of the blocks' room.
const memTablesBytes = 2 * (engine.MemTableBytesDefault + raftlog.MemTableBytes)

// logLargeReserveBytes is the reserve of a disk on which a few hundred megabytes
// more of Raft log don't matter.
const logLargeReserveBytes = 1 << 30

// logMemTableBytes is the size of the Raft log's memtables.
func logMemTableBytes(reserveBytes int64) int {
	if reserveBytes >= logLargeReserveBytes {
		return raftlog.MemTableBytesLarge
	}
	return raftlog.MemTableBytes
}

// Config of a node. DataDir, Addr and PDEndpoints are required.
type Config struct {
	DataDir string
	// Addr is where clients and other stores connect; port 0 picks one.
	// AdvertiseAddr is what PD tells them, Addr if empty. StatusAddr serves
	// HTTP, nothing if empty.
	Addr, AdvertiseAddr, StatusAddr string
	PDEndpoints                     []string
	// Labels say where the store is, as in zone=z1; PD's rules use them.
	Labels map[string]string
	// CacheBytes is the block cache of both databases; MemTableBytes one
	// memtable of the data engine. 0 means the engine's default. Cache, if set,
	// is used instead of one of CacheBytes: stores of one process share it.
	CacheBytes    int64
	Cache         *pebble.Cache
	MemTableBytes int
	// SnapshotBytesPerSecond bounds the snapshots that the store sends; 0 is the
	// transport's default, negative no limit.
	SnapshotBytesPerSecond int64
	// RegionSplitBytes and RegionMaxBytes override Raft's, unless 0.
	RegionSplitBytes, RegionMaxBytes uint64
	Raft                             raftstore.Config
	// CapacityBytes is what the store may use and PD may put here; 0 means the
	// file system's size.
	CapacityBytes uint64
	// ReserveBytes is the room on the disk that clients don't get: 0 means 5 %
	// of the capacity, at most 5 GiB; less than 0 means none.
	ReserveBytes           int64
	StoreHeartbeatInterval time.Duration
	// ResolvedTSInterval is how often the timestamps advance up to which replicas
	// serve stale reads; 0 means resolvedts.IntervalDefault.
	ResolvedTSInterval time.Duration
	// Quota bounds what clients read and write in a second.
	Quota QuotaConfig
	// TTLPollInterval is how often raw values that have expired are removed; 0
	// means raw.TTLPollIntervalDefault.
	TTLPollInterval time.Duration
	// GC has the limits of garbage collection; what it needs of the store is set
	// by the store.
	GC gc.Options
	// LocalTransport connects the stores of one process without sockets; all
	// stores of the cluster must be in it.
	LocalTransport *transport.Local
	// FS is the file system, the operating system's if nil.
	FS     vfs.FS
	Logger *slog.Logger
	// Registerer gets the metrics; Gatherer is what /metrics shows. Without a
	// Gatherer it is the Registerer, if that can be gathered from; without both
	// the node has a registry of its own.
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
	// SlowLogThreshold is from which duration on a request is logged as slow; 0
	// means slowLogThresholdDefault, less than 0 never. RedactInfoLog keeps keys
	// out of the log. Both can be changed while the node runs (POST /config).
	SlowLogThreshold time.Duration
	RedactInfoLog    bool
	// Observers are told what happens to regions, as raftstore's is.
	Observers []raftstore.Observer
	// Columns, if not nil, is fed with what is applied.
	Columns *columnar.Cache
	// ExtraServices adds services to the gRPC server before it serves.
	ExtraServices func(*grpc.Server, *Node)
	// ServerOptions and DialOptions are for TLS; without DialOptions
	// connections are plain text.
	ServerOptions []grpc.ServerOption
	DialOptions   []grpc.DialOption
	// OnFatal ends the process after an error that leaves the store's data in
	// doubt. Without it the node panics.
	OnFatal func(error)
}

func (c *Config) setDefaults() error {
	if c.DataDir == "" || c.Addr == "" || len(c.PDEndpoints) == 0 {
		return errors.New("tikv: a store needs a data directory, an address and the addresses of PD")
	}
	if c.RegionMaxBytes > 0 && c.RegionMaxBytes < c.RegionSplitBytes {
		return fmt.Errorf("tikv: regions of at most %d bytes cannot be split into pieces of %d bytes", c.RegionMaxBytes, c.RegionSplitBytes)
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = engine.CacheBytesDefault
	}
	if c.StoreHeartbeatInterval <= 0 {
		c.StoreHeartbeatInterval = heartbeatIntervalDefault
	}
	if c.SlowLogThreshold == 0 {
		c.SlowLogThreshold = slowLogThresholdDefault
	}
	if c.ResolvedTSInterval == 0 {
		c.ResolvedTSInterval = resolvedts.IntervalDefault
	}
	if c.ResolvedTSInterval < resolvedts.IntervalMin {
		return fmt.Errorf("tikv: resolved timestamps cannot advance every %s: at least %s", c.ResolvedTSInterval, resolvedts.IntervalMin)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Gatherer == nil {
		if g, ok := c.Registerer.(prometheus.Gatherer); ok {
			c.Gatherer = g
		} else {
			c.Gatherer = prometheus.NewRegistry()
		}
	}
	if len(c.DialOptions) == 0 {
		c.DialOptions = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	return nil
}

// raftConfig is Raft with the overrides.
func (c *Config) raftConfig() raftstore.Config {
	r := c.Raft
	if c.RegionSplitBytes > 0 {
		r.RegionSplitBytes = c.RegionSplitBytes
	}
	if c.RegionMaxBytes > 0 {
		r.RegionMaxBytes = c.RegionMaxBytes
	}
	return r
}
