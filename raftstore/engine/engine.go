package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/prometheus/client_golang/prometheus"
)

// FormatVersion is the version of the layout that doc.go describes.
const FormatVersion = 1

// Defaults and fixed sizes of the database.
const (
	CacheBytesDefault    = 128 << 20
	MemTableBytesDefault = 32 << 20

	memTableCountMax         = 4 // writes stall beyond this many full memtables
	l0SublevelsCompaction    = 4
	l0SublevelsStopWrites    = 1000 // flow control above Pebble acts long before
	baseLevelBytesMax        = 64 << 20
	blockBytes               = 16 << 10
	indexBlockBytes          = 256 << 10
	bloomBitsPerKey          = 10
	openFilesMax             = 4096
	rangeDeleteFlushDelayMax = 10 * time.Second
)

// Options of Open.
type Options struct {
	Dir string
	// FS is the file system, the operating system's if nil.
	FS vfs.FS
	// CacheBytes is the size of the block cache. Cache, if set, is used
	// instead; it may be shared with the Raft log.
	CacheBytes int64
	Cache      *pebble.Cache
	// MemTableBytes is the size of one memtable; up to four exist.
	MemTableBytes int
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
	// OnFatal stops the process after an I/O error. Without it Open's engine
	// panics.
	OnFatal func(error)
}

// Engine is the data of one store. All methods may be called concurrently.
type Engine struct {
	db      *pebble.DB
	opts    *pebble.Options
	dir     string
	fs      vfs.FS
	fatal   *disk.Fatal
	metrics *disk.Metrics

	gen    atomic.Uint64 // counts what has been written
	shared atomic.Pointer[Snapshot]
}

// Open opens or creates the data in o.Dir.
func Open(o Options) (*Engine, error) {
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
		o.MemTableBytes = MemTableBytesDefault
	}
	if _, err := disk.CheckFormat(o.FS, o.Dir, "copra-data", FormatVersion); err != nil {
		return nil, fmt.Errorf("open data engine: %w", err)
	}
	metrics, err := disk.NewMetrics("kv", o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("open data engine: register metrics: %w", err)
	}
	fatal := disk.NewFatal("data engine "+o.Dir, o.Logger, o.OnFatal)
	po := pebbleOptions(o, fatal, metrics)
	if o.Cache == nil {
		po.Cache = pebble.NewCache(o.CacheBytes)
		defer po.Cache.Unref()
	}
	db, err := pebble.Open(o.Dir, po)
	if err != nil {
		metrics.Detach()
		return nil, fmt.Errorf("open data engine in %s: %w", o.Dir, err)
	}
	metrics.Attach(db)
	e := &Engine{db: db, opts: po, dir: o.Dir, fs: o.FS, fatal: fatal, metrics: metrics}
	if err := e.clearScratch(); err != nil {
		return nil, errors.Join(fmt.Errorf("open data engine in %s: %w", o.Dir, err), e.Close())
	}
	return e, nil
}

func pebbleOptions(o Options, fatal *disk.Fatal, metrics *disk.Metrics) *pebble.Options {
	po := &pebble.Options{
		Cache:                       o.Cache,
		DisableWAL:                  true,
		EventListener:               disk.Events(o.Logger, fatal, metrics),
		FlushDelayDeleteRange:       rangeDeleteFlushDelayMax,
		FormatMajorVersion:          pebble.FormatNewest,
		FS:                          o.FS,
		L0CompactionThreshold:       l0SublevelsCompaction,
		L0StopWritesThreshold:       l0SublevelsStopWrites,
		LBaseMaxBytes:               baseLevelBytesMax,
		Logger:                      disk.Logger{Log: o.Logger, Fatal: fatal},
		MaxOpenFiles:                openFilesMax,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: memTableCountMax,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(2, cpusched.Default().Cores()/2) },
	}
	// An ingest that overlaps a memtable would otherwise be queued behind it
	// and return before it is durable: without a WAL a crash would lose it, and
	// the ingested files are gone by then.
	po.Experimental.DisableIngestAsFlushable = func() bool { return true }
	setTableOptions(po)
	return po
}

// setTableOptions sets what tables look like.
func setTableOptions(po *pebble.Options) {
	schema := colblk.DefaultKeySchema(Comparer, keyPrefixBundle)
	po.Comparer, po.KeySchema, po.KeySchemas = Comparer, schema.Name, sstable.MakeKeySchemas(&schema)
	for i := range po.Levels {
		po.Levels[i].BlockSize = blockBytes
		po.Levels[i].IndexBlockSize = indexBlockBytes
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBitsPerKey)
	}
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		s := pebble.DBCompressionFastest
		s.Levels[0] = block.NoCompression // soon compacted: not worth the time
		return s
	})
}

// closeFlushMax bounds the flush of Close: a full disk may never take it, and
// the Raft log has what is lost.
const closeFlushMax = 30 * time.Second

// Close flushes what is in memory, if that goes through within closeFlushMax,
// and closes the database. Snapshots and iterators must be closed before.
func (e *Engine) Close() error {
	e.metrics.Detach()
	e.replaceShared(nil)
	ctx, cancel := context.WithTimeout(context.Background(), closeFlushMax)
	defer cancel()
	err := e.Flush(ctx)
	return errors.Join(err, e.db.Close())
}

// Flush makes all that was applied before durable.
func (e *Engine) Flush(ctx context.Context) error {
	done, err := e.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush data engine: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// FlushAsync starts a flush. GetMetaDurable shows when it has gone through. An
// engine that stalls, or is about to, is flushing already; it would hold up the
// caller, and behind the caller all writes.
func (e *Engine) FlushAsync() {
	if e.metrics.Stalled() || e.db.Metrics().MemTable.Size >= (memTableCountMax-1)*e.opts.MemTableSize {
		return
	}
	if _, err := e.db.AsyncFlush(); err != nil {
		e.fatal.Stop(fmt.Errorf("start flush: %w", err))
	}
}

// MemTableBytesMax is what memtables may hold before writes wait.
func (e *Engine) MemTableBytesMax() uint64 { return memTableCountMax * e.opts.MemTableSize }

// Pressure says how far flushes and compactions are behind.
func (e *Engine) Pressure() disk.Pressure { return disk.PressureOf(e.db) }

// GetMeta returns a copy of a meta key's value.
func (e *Engine) GetMeta(key []byte) (value []byte, ok bool, err error) {
	v, closer, err := e.db.Get(metaKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read meta key %x: %w", key, err)
	}
	value = append([]byte{}, v...)
	return value, true, closer.Close()
}

// GetMetaDurable is GetMeta of the state that survives a crash.
func (e *Engine) GetMetaDurable(key []byte) (value []byte, ok bool, err error) {
	err = e.scanMeta(key, true, func(k, v []byte) error {
		if len(k) == len(key) {
			value, ok = append([]byte{}, v...), true
		}
		return io.EOF // the key itself is the first one with its prefix
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return value, ok, err
}

// ScanMeta calls fn for the meta keys with this prefix, in order, until fn
// fails. Key and value are valid during the call.
func (e *Engine) ScanMeta(prefix []byte, fn func(key, value []byte) error) error {
	return e.scanMeta(prefix, false, fn)
}

// ScanMetaDurable is ScanMeta of the state that survives a crash.
func (e *Engine) ScanMetaDurable(prefix []byte, fn func(key, value []byte) error) error {
	return e.scanMeta(prefix, true, fn)
}

func (e *Engine) scanMeta(prefix []byte, durable bool, fn func(key, value []byte) error) (err error) {
	lower := metaKey(prefix)
	it, err := e.db.NewIter(&pebble.IterOptions{
		LowerBound: lower, UpperBound: prefixEnd(lower), OnlyReadGuaranteedDurable: durable})
	if err != nil {
		return fmt.Errorf("scan meta keys %x: %w", prefix, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("scan meta keys %x: %w", prefix, err)
		}
		if err := fn(it.Key()[1:], v); err != nil {
			return err
		}
	}
	return it.Error()
}

func metaKey(key []byte) []byte {
	out := make([]byte, 0, len(key)+1)
	return append(append(out, metaPrefix), key...)
}
