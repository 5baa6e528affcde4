package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tikv/client-go/v2/config"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/pd/client/clients/gc"

	"github.com/copradb/copra/copr/client"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/kvclient"
	"github.com/copradb/copra/sqlfront/parse"
)

// Limits of a SQL node.
const (
	// SessionsMax is how many sessions may be open at once.
	SessionsMax = 4096
	// TransactionBytesMax bounds what a transaction has written and not yet
	// committed, COPY apart, which flushes as it goes.
	TransactionBytesMax = 512 << 20
	// EntryBytesMax bounds one key with its value.
	EntryBytesMax = catalog.RowValueBytesMax + 64<<10
	// StatementBytesMax is the default memory that a statement's operators may
	// keep.
	StatementBytesMax = 1 << 30
	// NodeBytesMax is the default for all statements together.
	NodeBytesMax = 4 << 30
)

// Waits that keep schema changes and transactions apart, see catalog.VersionLease
// and onlineStepWait.
const (
	asyncCommitWindow = 100 * time.Millisecond
	asyncCommitDrift  = 60 * time.Millisecond
	// onlineStepWait is how long a schema change waits after one step until no
	// transaction can commit that knows only the version before it: a node looks
	// for a new version every VersionLease, and a commit timestamp that a store
	// computes (async commit, 1PC) lies at most the window ahead.
	onlineStepWait = catalog.VersionLease + asyncCommitWindow + asyncCommitDrift
)

// Options of a SQL node.
type Options struct {
	// KV is the transactional client over the SQL keyspace; the caller closes it
	// after the DB.
	KV *tikv.KVStore
	// Points reads single keys from stores of this process; nil: KV does.
	Points *kvclient.PointReader
	// Copr runs plans in the regions. Nil runs them here, over rows read through
	// KV.
	Copr *client.Client
	// Bulk loads large COPYs around the log; nil: they are transactions.
	Bulk bulkload.Loader
	// BulkRunBytes overrides bulkRunBytes, for tests, where not 0.
	BulkRunBytes int64
	// Virtuals are the system tables; nil means none.
	Virtuals   catalog.Virtuals
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// StatementBytesMax and NodeBytesMax override the defaults where not 0.
	StatementBytesMax, NodeBytesMax int64
	// Temp has the temporary files of statements that need more memory than they
	// may have; nil: they fail. The caller closes it after the DB.
	Temp *spill.Manager
	// SlowQueryThreshold is the default of log_min_duration_statement where not 0;
	// negative: statements are not logged.
	SlowQueryThreshold time.Duration
	// DropAtOnce lets SweepDropped delete what was dropped without a look at the
	// safe points, for tests.
	DropAtOnce bool
}

// DB is a SQL node: it makes sessions over one cluster. It implements Frontend.
type DB struct {
	o       Options
	kv      *tikv.KVStore
	catalog *catalog.Store
	cache   parse.Cache
	mem     *exec.MemAccount
	log     *slog.Logger
	metrics *metrics
	rows    rowQueues
	slow    *slowlog.Log
	gc      gc.GCStatesClient
	holds   holds

	sessions atomic.Int64
	nextID   atomic.Uint64
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

var _ Frontend = (*DB)(nil)

// Open starts a SQL node and checks that the cluster answers.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.KV == nil {
		return nil, errors.New("sqlfront: Options.KV is missing")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StatementBytesMax == 0 {
		o.StatementBytesMax = StatementBytesMax
	}
	if o.NodeBytesMax == 0 {
		o.NodeBytesMax = NodeBytesMax
	}
	config.UpdateGlobal(func(c *config.Config) {
		c.TiKVClient.AsyncCommit.SafeWindow = asyncCommitWindow
		c.TiKVClient.AsyncCommit.AllowedClockDrift = asyncCommitDrift
	})
	mem := exec.NewMemAccount(o.NodeBytesMax, nil)
	db := &DB{
		o: o, kv: o.KV, catalog: catalog.NewStore(o.KV, o.Virtuals),
		mem: mem, log: o.Logger, metrics: newMetrics(o.Registerer, mem),
		slow: slowlog.New(o.Logger, 0),
	}
	if _, err := db.catalog.Latest(ctx); err != nil {
		return nil, fmt.Errorf("sqlfront: read the catalog: %w", err)
	}
	db.ctx, db.cancel = context.WithCancel(context.WithoutCancel(ctx))
	db.gc = gcStates(o.KV)
	db.work.Add(2)
	go db.sweep()
	go db.watchHolds()
	return db, nil
}

// Close stops the node's background work. Sessions must be closed before.
func (db *DB) Close() error {
	db.cancel()
	db.work.Wait()
	return nil
}

// RootUser is the only user so far.
const RootUser = "root"

// Credentials implements Frontend.
func (db *DB) Credentials(_ context.Context, user string) (Credentials, error) {
	if user != RootUser {
		return Credentials{}, pgerror.New(pgerror.InvalidAuthorization, "role \"%s\" does not exist", user)
	}
	return Credentials{User: RootUser}, nil
}

// NewSession implements Frontend.
func (db *DB) NewSession(_ context.Context, o SessionOptions) (Session, error) {
	if o.Database != "" && o.Database != catalog.Database {
		return nil, fatal(pgerror.New(pgerror.InvalidCatalogName, "database \"%s\" does not exist", o.Database))
	}
	if db.ctx.Err() != nil {
		return nil, fatal(pgerror.New(pgerror.AdminShutdown, "the SQL node is shutting down"))
	}
	if db.sessions.Add(1) > SessionsMax {
		db.sessions.Add(-1)
		return nil, fatal(pgerror.New(pgerror.TooManyConnections, "sorry, too many clients already").
			WithDetail("This SQL node serves at most %d sessions.", SessionsMax))
	}
	s, err := newSession(db, o)
	if err != nil {
		db.sessions.Add(-1)
		return nil, fatal(pgerror.From(err))
	}
	db.metrics.sessions.Inc()
	return s, nil
}

func fatal(e *pgerror.Error) *pgerror.Error {
	e.Severity = "FATAL"
	return e
}

// giveBackTimeout bounds how long the stores are waited for.
const giveBackTimeout = 30 * time.Second

// sweepInterval is how often the queue of dropped ranges is looked at.
const sweepInterval = 10 * time.Second

// sweep deletes the data of dropped tables and indexes when nobody can read it
// any more.
func (db *DB) sweep() {
	defer db.work.Done()
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-db.ctx.Done():
			return
		case <-tick.C:
			if n, err := db.SweepDropped(db.ctx); err != nil && db.ctx.Err() == nil {
				db.log.Warn("deleting dropped tables failed; it is tried again", "error", err)
			} else if n > 0 {
				db.log.Info("deleted the data of dropped tables and indexes", "ranges", n)
			}
		}
	}
}

// SweepDropped deletes the queued ranges that nobody can read any more, because
// the transaction safe point has passed their drop, and returns how many there
// were.
func (db *DB) SweepDropped(ctx context.Context) (int, error) {
	safe := uint64(math.MaxUint64)
	if !db.o.DropAtOnce {
		st, err := db.gc.GetGCState(ctx)
		if err != nil {
			return 0, fmt.Errorf("get the GC safe points: %w", err)
		}
		safe = st.TxnSafePoint
	}
	queue, err := db.catalog.DropRanges(ctx)
	if err != nil || len(queue) == 0 {
		return 0, err
	}
	done := 0
	for _, r := range queue {
		// Who reads at the drop's commit or later does not know the table.
		if r.CommitTS > safe && !r.Begun {
			continue
		}
		// A bulk load may be about to take it back: one of the two comes first.
		if queued, err := db.catalog.BeginDelete(ctx, r); err != nil {
			return done, err
		} else if !queued {
			continue
		}
		if err := db.catalog.DeleteRange(ctx, r); err != nil {
			return done, err
		}
		if !db.o.DropAtOnce {
			db.giveBack(ctx, r)
		}
		done++
	}
	return done, nil
}

// giveBack has all stores remove what the deletes of a dropped range hide, which
// takes them no compaction. No replica can get the data back: the deletes are in
// all logs. A store that does not answer compacts them some day.
func (db *DB) giveBack(ctx context.Context, r catalog.DropRange) {
	ctx, cancel := context.WithTimeout(ctx, giveBackTimeout)
	defer cancel()
	if err := db.kv.UnsafeDestroyRange(ctx, r.Start, r.End); err != nil {
		db.log.Info("not all stores gave the room of a dropped table back at once", "what", r.What, "error", err)
	}
}
