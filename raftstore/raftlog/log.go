package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/prometheus/client_golang/prometheus"
)

// FormatVersion is the version of the layout that doc.go describes.
const FormatVersion = 1

// Defaults and fixed sizes of the database.
const (
	CacheBytesDefault = 16 << 20
	// MemTableBytes are those of one memtable, by default; up to three exist.
	MemTableBytes = 32 << 20
	// MemTableBytesLarge are for where there is room: the files on disk are as
	// large. They are twice the data engine's: entries may go when the data engine
	// has flushed what they wrote, and those that go while they are in the memtable
	// cost no table.
	MemTableBytesLarge = 2 * MemTableBytes

	memTableCountMax      = 3
	l0SublevelsCompaction = 4
	l0SublevelsStopWrites = 1000
	blockBytes            = 32 << 10
	openFilesMax          = 1024
)

// Options of Open.
type Options struct {
	Dir string
	// FS is the file system, the operating system's if nil.
	FS vfs.FS
	// CacheBytes is the size of the block cache. Cache, if set, is used
	// instead; it may be shared with the data engine.
	CacheBytes int64
	Cache      *pebble.Cache
	// MemTableBytes is the size of one memtable, the constant's if 0.
	MemTableBytes int
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
	// OnFatal is called once, with the first write error; it should end the
	// process. Without it Commit returns the error, and the caller must stop.
	OnFatal func(error)
}

// Log is the Raft log of one store. All methods may be called concurrently.
type Log struct {
	db      *pebble.DB
	log     *slog.Logger
	metrics *disk.Metrics
	write   prometheus.Histogram
	reg     prometheus.Registerer
	failed  atomic.Pointer[error]
}

// Open opens or creates the log in o.Dir.
func Open(o Options) (*Log, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = CacheBytesDefault
	}
	if o.MemTableBytes <= 0 {
		o.MemTableBytes = MemTableBytes
	}
	if _, err := disk.CheckFormat(o.FS, o.Dir, "copra-raftlog", FormatVersion); err != nil {
		return nil, fmt.Errorf("open raft log: %w", err)
	}
	metrics, err := disk.NewMetrics("raft", o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("open raft log: register metrics: %w", err)
	}
	l := &Log{log: o.Logger, metrics: metrics, reg: o.Registerer, write: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "raft_engine_write_duration_seconds",
		Help:    "Duration of one commit to the Raft log, its sync included.",
		Buckets: prometheus.ExponentialBuckets(0.00002, 2, 20),
	})}
	if o.Registerer != nil {
		if err := o.Registerer.Register(l.write); err != nil {
			metrics.Detach()
			return nil, fmt.Errorf("open raft log: register metrics: %w", err)
		}
	}
	po := pebbleOptions(o, disk.NewFatal("raft log "+o.Dir, o.Logger, o.OnFatal), metrics)
	if o.Cache == nil {
		po.Cache = pebble.NewCache(o.CacheBytes)
		defer po.Cache.Unref()
	}
	if l.db, err = pebble.Open(o.Dir, po); err != nil {
		l.unregister()
		return nil, fmt.Errorf("open raft log in %s: %w", o.Dir, err)
	}
	metrics.Attach(l.db)
	return l, nil
}

func pebbleOptions(o Options, fatal *disk.Fatal, metrics *disk.Metrics) *pebble.Options {
	po := &pebble.Options{
		Cache:                       o.Cache,
		EventListener:               disk.Events(o.Logger, fatal, metrics),
		FormatMajorVersion:          pebble.FormatNewest,
		FS:                          &walFS{FS: o.FS, fatal: fatal},
		L0CompactionThreshold:       l0SublevelsCompaction,
		L0StopWritesThreshold:       l0SublevelsStopWrites,
		Logger:                      disk.Logger{Log: o.Logger, Fatal: fatal},
		MaxOpenFiles:                openFilesMax,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: memTableCountMax,
	}
	for i := range po.Levels {
		po.Levels[i].BlockSize = blockBytes
	}
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	return po
}

func (l *Log) unregister() {
	l.metrics.Detach()
	if l.reg != nil {
		l.reg.Unregister(l.write)
	}
}

// Close closes the log. A log that failed is abandoned as it is: closing it
// would write again.
func (l *Log) Close() error {
	l.unregister()
	if err := l.err(); err != nil {
		return err
	}
	return l.db.Close()
}

// FlushAsync starts to write what is in memory into tables, after which the
// files that hold the same in the order of its arrival can go.
func (l *Log) FlushAsync() error {
	if err := l.err(); err != nil {
		return err
	}
	_, err := l.db.AsyncFlush()
	return err
}

// Abandon frees what a log holds that has failed, for tests: there the process
// goes on. What it writes in doing so must be of no interest to anybody.
func (l *Log) Abandon() {
	defer func() { _ = recover() }() // a failed Pebble may fail again
	l.unregister()
	_ = l.db.Close()
}

// Pressure says how far the database's background work is behind.
func (l *Log) Pressure() disk.Pressure { return disk.PressureOf(l.db) }

// err is the sticky error, or nil.
func (l *Log) err() error {
	if p := l.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Commit writes the batch, durably if sync. Reset the batch to use it again.
// After the first error every Commit fails with it.
func (l *Log) Commit(b *Batch, sync bool) (err error) {
	if err := l.err(); err != nil {
		return err
	}
	if b.b.Empty() {
		return nil
	}
	opts := pebble.NoSync
	if sync {
		opts = pebble.Sync
	}
	start := time.Now()
	defer func() {
		// Pebble reports a failed WAL write or sync through Logger.Fatalf.
		if r := recover(); r != nil {
			fatal, ok := r.(*disk.FatalError)
			if !ok {
				panic(r)
			}
			err = fatal
		}
		if err != nil {
			err = fmt.Errorf("raft log: commit of %d bytes failed, the log is closed for writes: %w", b.Size(), err)
			if !l.failed.CompareAndSwap(nil, &err) {
				err = errors.Join(l.err(), err)
			}
			return
		}
		l.write.Observe(time.Since(start).Seconds())
	}()
	return b.b.Commit(opts)
}
