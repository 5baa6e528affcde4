package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/copr/client"
	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/pd"
	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/sqlfront/kvclient"
	"github.com/copradb/copra/tikv"
	"github.com/copradb/copra/tikv/importer"
)

// storeHeartbeatInterval is shorter than a dedicated store's, because three
// stores in one process load nobody and their page should be fresh.
const storeHeartbeatInterval = 3 * time.Second

// playgroundReserveBytes is little: a playground is a guest on somebody's disk,
// and its stores share it.
const playgroundReserveBytes = 256 << 20

// PlaygroundOptions configure a whole cluster in one process.
type PlaygroundOptions struct {
	Version                         string
	DataDir                         string
	Stores, PDs                     int
	PDClientAddrs, PDPeerAddrs      []string
	StoreAddrs, StoreStatusAddrs    []string
	SQLAddr, FlightAddr, StatusAddr string
	RegionSplitBytes                int64
	CacheBytes                      int64 // of all stores together
	SQLMemoryBytes                  int64
	TempDir                         string           // of SQL; "" is in DataDir
	TempBytesMax                    int64            // 0 = no limit
	SQLBulkRunBytes                 int64            // see sqlfront.Options
	Columnar                        columnar.Options // of each store; BytesMax is of all together, who share it
	Logger                          *slog.Logger
}

// Playground is a running cluster.
type Playground struct {
	pds    []*pd.Server
	stores []*Store
	sql    *SQLNode
	failed chan error
	log    *slog.Logger
}

// StartPlayground starts PD, then the stores, then SQL. The stores talk to each
// other, and SQL to them, without sockets.
func StartPlayground(ctx context.Context, o PlaygroundOptions) (*Playground, error) {
	p := &Playground{failed: make(chan error, 1), log: o.Logger}
	if err := p.start(ctx, o); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Playground) start(ctx context.Context, o PlaygroundOptions) (err error) {
	registry := NewRegistry()
	if err := p.startPDs(ctx, o, registry); err != nil {
		return err
	}
	locals := &Locals{KV: kvclient.NewLocal(), Copr: client.NewLocal(nil), Import: &importer.Local{}, Timestamps: p.timestamp}
	if err := p.startStores(ctx, o, locals, registry); err != nil {
		return err
	}
	if o.TempDir == "" {
		o.TempDir = filepath.Join(o.DataDir, "temp")
	}
	p.sql, err = StartSQL(ctx, SQLOptions{
		Version: o.Version, PDEndpoints: o.PDClientAddrs, Addr: o.SQLAddr, FlightAddr: o.FlightAddr, StatusAddr: o.StatusAddr,
		MemoryBytesMax: o.SQLMemoryBytes, BulkRunBytes: o.SQLBulkRunBytes, TempDir: o.TempDir, TempBytesMax: o.TempBytesMax, Locals: locals, Stores: p.storeInfos, Logger: o.Logger, Registry: registry,
	})
	if err != nil {
		return fmt.Errorf("start SQL: %w", err)
	}
	return nil
}

// startPDs starts all placement drivers at once: they wait for each other.
func (p *Playground) startPDs(ctx context.Context, o PlaygroundOptions, registry *prometheus.Registry) error {
	names, err := pdNames(o)
	if err != nil {
		return err
	}
	var cluster []string
	for i, name := range names {
		cluster = append(cluster, name+"=http://"+o.PDPeerAddrs[i])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg      sync.WaitGroup
		servers = make([]*pd.Server, len(names))
		errs    = make([]error, len(names))
	)
	for i, name := range names {
		wg.Go(func() {
			servers[i], errs[i] = pd.Start(ctx, pd.Config{
				Name: name, DataDir: filepath.Join(o.DataDir, name), ClientAddr: o.PDClientAddrs[i], PeerAddr: o.PDPeerAddrs[i],
				InitialCluster: strings.Join(cluster, ","), Replicas: min(3, o.Stores), Logger: o.Logger, Registerer: registry,
				GCResolver: NewGCResolver,
			})
			if errs[i] != nil {
				cancel() // the others would wait for it
			}
		})
	}
	wg.Wait()
	for i, s := range servers {
		if errs[i] == nil {
			p.pds = append(p.pds, s)
			p.watchPD(s)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("start PD: %w", err)
	}
	return nil
}

// timestamp takes a timestamp from the placement driver that leads, if it is one
// of ours.
func (p *Playground) timestamp(ctx context.Context) (physical, logical int64, ok bool) {
	for _, s := range p.pds {
		if physical, logical, ok = s.Timestamp(ctx); ok {
			break
		}
	}
	return physical, logical, ok
}

// watchPD passes on that a placement driver ended by itself.
func (p *Playground) watchPD(s *pd.Server) {
	go func() {
		if err := <-s.Failed(); err != nil {
			select {
			case p.failed <- err:
			default:
			}
		}
	}()
}

// pdNames are the names, and folders, of the placement drivers. Their number is
// settled when the data directory is made.
func pdNames(o PlaygroundOptions) ([]string, error) {
	names := []string{"pd"}
	if o.PDs > 1 {
		names = nil
		for i := range o.PDs {
			names = append(names, fmt.Sprintf("pd%d", i+1))
		}
	}
	old, err := filepath.Glob(filepath.Join(o.DataDir, "pd*"))
	if err != nil {
		return nil, err
	}
	for i, path := range old {
		old[i] = filepath.Base(path)
	}
	slices.Sort(old)
	if len(old) > 0 && !slices.Equal(old, names) {
		return nil, fmt.Errorf("the data in %s has %d placement drivers (%s), not %d: start with --pds %d, or in another --data-dir",
			o.DataDir, len(old), strings.Join(old, ", "), len(names), len(old))
	}
	return names, nil
}

// startStores starts all stores at once: the first to come bootstraps.
func (p *Playground) startStores(ctx context.Context, o PlaygroundOptions, locals *Locals, registry *prometheus.Registry) error {
	var (
		local = &transport.Local{}
		wg    sync.WaitGroup
		errs  = make([]error, o.Stores)
	)
	stores := make([]*Store, o.Stores)
	if o.Columnar.BytesMax <= 0 {
		o.Columnar.BytesMax = ColumnsBytes()
	}
	budget := columnar.NewBudget(o.Columnar.BytesMax)
	cache := tikv.NewCache(o.CacheBytes, o.Stores) // shared: each gets what its leaders need
	defer cache.Unref()
	for i := range o.Stores {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := fmt.Sprintf("store%d", i+1)
			cfg := tikv.Config{
				DataDir: filepath.Join(o.DataDir, name), Addr: o.StoreAddrs[i], StatusAddr: o.StoreStatusAddrs[i],
				PDEndpoints: o.PDClientAddrs, Labels: map[string]string{"host": name},
				CacheBytes: o.CacheBytes, Cache: cache, RegionSplitBytes: uint64(o.RegionSplitBytes), RegionMaxBytes: uint64(o.RegionSplitBytes) / 2 * 3,
				ReserveBytes: playgroundReserveBytes, LocalTransport: local, StoreHeartbeatInterval: storeHeartbeatInterval, Logger: o.Logger.With("node", name),
				Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"node": name}, registry), Gatherer: registry,
				OnFatal: p.fatal,
			}
			columns := o.Columnar
			columns.Budget, columns.Registerer = budget, cfg.Registerer
			cfg.Columns = columnar.New(columns)
			stores[i], errs[i] = StartStore(ctx, cfg, locals)
		}()
	}
	wg.Wait()
	for i, s := range stores {
		if errs[i] == nil {
			p.stores = append(p.stores, s)
		}
	}
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("start store %d: %w", i+1, err)
		}
	}
	return nil
}

// fatal reports an error that leaves a store's data in doubt; the store's
// goroutine goes no further, and the process ends.
func (p *Playground) fatal(err error) {
	select {
	case p.failed <- err:
	default:
	}
	select {}
}

// Failed tells of an error after which the process must end at once.
func (p *Playground) Failed() <-chan error { return p.failed }

func (p *Playground) storeInfos() []storeInfo {
	out := make([]storeInfo, 0, len(p.stores))
	for _, s := range p.stores {
		info := storeInfo{ID: s.StoreID(), Address: s.Addr(), Status: s.StatusAddr()}
		for _, r := range s.Raftstore().Regions() {
			info.Regions++
			if r.Leader {
				info.Leaders++
			}
		}
		out = append(out, info)
	}
	return out
}

// Stop stops SQL, then the stores, then PD.
func (p *Playground) Stop() {
	if p.sql != nil {
		p.sql.Stop()
	}
	var wg sync.WaitGroup
	for _, s := range p.stores {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s.Stop()
		}()
	}
	wg.Wait()
	for _, s := range p.pds {
		wg.Go(s.Stop)
	}
	wg.Wait()
}

// psqlArguments are what psql needs to connect to addr.
func psqlArguments(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return "-h " + host + " -p " + port + " -U root copra"
}
