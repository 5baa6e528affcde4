package cluster

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/pingcap/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/tikv/client-go/v2/tikv"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/copradb/copra/arrowflight"
	"github.com/copradb/copra/copr/client"
	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/zaplog"
	"github.com/copradb/copra/pgwire"
	"github.com/copradb/copra/sqlfront"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/catalog/pgcatalog"
	"github.com/copradb/copra/sqlfront/kvclient"
)

// TempBytesMax is the default limit of a SQL node's temporary files.
const TempBytesMax = 64 << 30

// SQLOptions configure a SQL node.
type SQLOptions struct {
	Version                      string
	PDEndpoints                  []string
	Addr, FlightAddr, StatusAddr string
	MemoryBytesMax               int64
	TempDir                      string        // of temporary files; "" is the system's
	TempBytesMax                 int64         // of all of them together, 0 = no limit
	BulkRunBytes                 int64         // see sqlfront.Options
	SlowQueryThreshold           time.Duration // see sqlfront.Options
	Locals                       *Locals       // stores of this process, may be nil
	Stores                       func() []storeInfo
	Logger                       *slog.Logger
	Registry                     *prometheus.Registry
}

// SQLNode is a running SQL node.
type SQLNode struct {
	o       SQLOptions
	started time.Time
	flight  *client.Flight
	kv      *tikv.KVStore
	temp    *spill.Manager
	db      *sqlfront.DB
	pg      *pgwire.Server
	arrow   *arrowflight.Server
	status  *statusPage
}

// StartSQL connects to the cluster, waiting for it until ctx ends, and serves.
func StartSQL(ctx context.Context, o SQLOptions) (node *SQLNode, err error) {
	if o.Registry == nil {
		o.Registry = NewRegistry()
	}
	redirectClientLogs(o.Logger)
	n := &SQLNode{o: o, started: time.Now(), flight: client.NewFlight(client.FlightOptions{})}
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	var transport client.Transport = n.flight
	options := kvclient.Options{PDEndpoints: o.PDEndpoints}
	if o.Locals != nil {
		transport, options.Local, options.Timestamps = o.Locals.Copr, o.Locals.KV, o.Locals.Timestamps
	}
	if n.kv, err = kvclient.Open(ctx, options); err != nil {
		return nil, err
	}
	var points *kvclient.PointReader
	var bulk bulkload.Loader
	if options.Local != nil {
		bulk = o.Locals.Import
		if points, err = kvclient.NewPointReader(n.kv, options.Local); err != nil {
			return nil, err
		}
	}
	copr, err := client.New(n.kv, client.Options{Transport: transport, Logger: o.Logger, Registerer: o.Registry})
	if err != nil {
		return nil, err
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if n.temp, err = spill.Open(spill.Options{Dir: o.TempDir, BytesMax: o.TempBytesMax, Logger: o.Logger, Registerer: o.Registry}); err != nil {
		return nil, err
	}
	n.db, err = sqlfront.Open(ctx, sqlfront.Options{
		KV: n.kv, Points: points, Bulk: bulk, BulkRunBytes: o.BulkRunBytes, Copr: copr, Virtuals: pgcatalog.Virtuals{}, Logger: o.Logger, Registerer: o.Registry, NodeBytesMax: o.MemoryBytesMax,
		SlowQueryThreshold: o.SlowQueryThreshold, Temp: n.temp,
	})
	if err != nil {
		return nil, err
	}
	if n.pg, err = pgwire.Start(pgwire.Options{Frontend: n.db, Addr: o.Addr, Logger: o.Logger, Registerer: o.Registry}); err != nil {
		return nil, err
	}
	if n.arrow, err = arrowflight.Start(arrowflight.Options{
		Frontend: n.db, Addr: o.FlightAddr, Database: catalog.Database, Version: o.Version, Logger: o.Logger, Registerer: o.Registry,
	}); err != nil {
		return nil, err
	}
	if n.status, err = startStatus(o.StatusAddr, o.Registry, n.info); err != nil {
		return nil, err
	}
	return n, nil
}

// Addr, FlightAddr and StatusAddr are where it listens.
func (n *SQLNode) Addr() string { return n.pg.Addr() }

// FlightAddr is the address of Flight SQL.
func (n *SQLNode) FlightAddr() string { return n.arrow.Addr() }

// StatusAddr is the address of the status page.
func (n *SQLNode) StatusAddr() string { return n.status.addr() }

func (n *SQLNode) info() statusInfo {
	info := statusInfo{Version: n.o.Version, Started: n.started, Connect: map[string]string{
		"SQL": "psql " + psqlArguments(n.Addr()), "Flight SQL": "grpc://" + n.FlightAddr(), "PD": n.o.PDEndpoints[0],
	}}
	if n.o.Stores != nil {
		info.Stores = n.o.Stores()
	}
	return info
}

// Stop ends the sessions and closes everything; it is safe on a node that
// started only halfway.
func (n *SQLNode) Stop() {
	if n.status != nil {
		n.status.stop()
	}
	if n.pg != nil {
		n.pg.Stop()
	}
	if n.arrow != nil {
		n.arrow.Stop()
	}
	var errs []error
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	if n.temp != nil {
		errs = append(errs, n.temp.Close())
	}
	if n.kv != nil {
		errs = append(errs, n.kv.Close())
	}
	errs = append(errs, n.flight.Close())
	if err := errors.Join(errs...); err != nil {
		n.o.Logger.Warn("sql: did not close cleanly", "err", err)
	}
}

// NewRegistry is a metrics registry with Go's and the process's own metrics.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// redirectClientLogs sends client-go's and PD's client's log lines, which go to
// a global logger, to ours.
func redirectClientLogs(l *slog.Logger) {
	log.ReplaceGlobals(zap.New(zaplog.Core{Log: l, Min: zapcore.WarnLevel, Prefix: "client: "}), &log.ZapProperties{Level: zap.NewAtomicLevelAt(zapcore.WarnLevel)})
}
