package sqlfront

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/tikv/client-go/v2/tikv"
	"golang.org/x/sync/errgroup"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/mutate"
)

// A COPY of its own into an empty table, once it has grown past copra.bulk_load_size
// (CopyBufferBytesMax at most), goes on as a bulk load (docs/adr/0009-bulk-load.md):
//
//	rows ─► runs, one key space each, sorted ─► tables (SSTs), in parallel
//	     ─► overlapping tables merged: duplicates show here
//	     ─► regions split where tables begin, tables ingested by all replicas
//	     ─► one schema change: the table's rows are those under the new id
//
// The new id's range is queued for deletion from the start and taken off the
// queue by that last change: whatever goes wrong before, it is garbage that
// collects itself, and the table is as it was.
const (
	// bulkRunBytes is how many bytes of keys and values are sorted in memory at a
	// time, and bulkRunsMax how many such runs are being written.
	bulkRunBytes = 16 << 20
	bulkRunsMax  = 3
	// bulkWindowRuns is of how many runs' worth of the input a run may hold keys: a
	// key of an index keeps its whole chunk of rows in memory.
	bulkWindowRuns = 8
	// bulkSampleBytes is the distance of the keys by which a merge is cut.
	bulkSampleBytes = 4 << 20
	// bulkMergeTablesMax tables are merged at once, and bulkMergersMax merges run at
	// a time.
	bulkMergeTablesMax = 128
	bulkMergersMax     = 4
	// bulkRegionBytes of keys and values make a region: about half of what a store
	// splits at, since tables are compressed.
	bulkRegionBytes = 64 << 20
)

// bulkCopy is the load of one COPY.
type bulkCopy struct {
	c        *copyIn
	job      bulkload.Job
	target   bulkTarget
	keyspace []byte // in front of all keys
	prefix   []byte // of the new table, behind keyspace
	table    *mutate.Table

	runBytes int64
	taken    int64 // bytes, of all spaces
	spaces   map[string]*bulkSpace
	last     *bulkSpace // where the last key went
	done     bool

	g    *errgroup.Group
	ctx  context.Context // ends with the first error
	stop context.CancelFunc
}

// bulkSpace are the keys of the rows, or of one index.
type bulkSpace struct {
	prefix string
	run    []entry
	bytes  int64
	began  int64 // the run, when so much was taken
	sorted bool  // the run is, so far

	mu      sync.Mutex
	tables  []bulkload.Table
	samples [][]byte // with keyspace and new prefix
}

// bulkLoadBytes is from which size on a COPY may be a bulk load.
func (s *session) bulkLoadBytes() int {
	n, err := strconv.ParseInt(s.settings.Text("copra.bulk_load_size"), 10, 64)
	if err != nil || n > CopyBufferBytesMax {
		return CopyBufferBytesMax // more is not held for it
	}
	return int(n)
}

// startBulk makes the COPY a bulk load if it can be one.
func (k *copySink) startBulk() (*bulkCopy, error) {
	s := k.c.s
	if s.db.o.Bulk == nil || !s.settings.Bool("copra.bulk_load") {
		return nil, nil
	}
	if ok, err := k.bulkPossible(); err != nil || !ok {
		return nil, err
	}
	target, err := s.reserveBulk(k.c.ctx, k.c.table)
	if err != nil {
		return nil, err
	}
	commitTS, err := s.db.timestamp(k.c.ctx)
	if err != nil {
		return nil, err
	}
	job, err := s.db.o.Bulk.Begin(k.txn.kv.StartTS(), commitTS)
	if err != nil {
		return nil, err
	}
	b := &bulkCopy{
		c: k.c, job: job, target: target, keyspace: keyspacePrefix(s.db.kv), prefix: tablecodec.AppendTablePrefix(nil, target.tableID),
		table: k.table, runBytes: cmp.Or(s.db.o.BulkRunBytes, bulkRunBytes), spaces: map[string]*bulkSpace{},
	}
	ctx, stop := context.WithCancel(k.c.ctx)
	b.stop = stop
	b.g, b.ctx = errgroup.WithContext(ctx)
	b.g.SetLimit(bulkRunsMax)
	return b, nil
}

// bulkPossible: the table is empty, and all stores can be handed files.
func (k *copySink) bulkPossible() (bool, error) {
	ctx, db := k.c.ctx, k.c.s.db
	stores, err := db.kv.GetPDClient().GetAllStores(ctx)
	if err != nil {
		return false, fmt.Errorf("list the stores: %w", err)
	}
	for _, st := range stores {
		if st.GetNodeState() != removedStore && !db.o.Bulk.Reaches(st.GetId()) {
			return false, nil
		}
	}
	return db.tableEmpty(k.c.table.ID, k.txn.kv.StartTS())
}

// tableEmpty reports whether a table has no keys at ts. Locks of transactions
// that may have committed before are waited for.
func (db *DB) tableEmpty(id int64, ts uint64) (bool, error) {
	r := tablecodec.TableRange(id)
	snap := db.kv.GetSnapshot(ts)
	snap.SetKeyOnly(true)
	snap.SetScanBatchSize(2)
	it, err := snap.Iter(r.Start, r.End)
	if err != nil {
		return false, err
	}
	defer it.Close()
	return !it.Valid(), nil
}

// keyspacePrefix is what client-go puts in front of keys.
func keyspacePrefix(kv *tikv.KVStore) []byte {
	if c, ok := kv.GetPDClient().(*tikv.CodecPDClient); ok {
		return c.GetCodec().EncodeKey(nil)
	}
	return nil
}

// add takes the keys of a chunk, in the order of the input.
func (b *bulkCopy) add(list []entry) error {
	for i := range list {
		sp := b.space(list[i].key)
		if n := len(sp.run); n > 0 && sp.sorted && string(list[i].key) <= string(sp.run[n-1].key) {
			sp.sorted = false
		}
		if len(sp.run) == 0 {
			sp.began = b.taken
		}
		sp.run = append(sp.run, list[i])
		size := int64(len(list[i].key) + len(list[i].value))
		b.taken += size
		if sp.bytes += size; sp.bytes >= b.runBytes {
			if err := b.cutRun(sp); err != nil {
				return err
			}
		}
	}
	for _, sp := range b.spaces {
		if b.taken-sp.began > bulkWindowRuns*b.runBytes {
			if err := b.cutRun(sp); err != nil {
				return err
			}
		}
	}
	return b.failed()
}

// failed returns why a run could not be written, if one could not.
func (b *bulkCopy) failed() error {
	if b.ctx.Err() == nil {
		return nil
	}
	if err := b.g.Wait(); err != nil {
		return err
	}
	if e := cancelError(b.c.ctx); e != nil {
		return e
	}
	return b.ctx.Err()
}

func (b *bulkCopy) space(key []byte) *bulkSpace {
	if b.last != nil && len(key) > len(b.last.prefix) && string(key[:len(b.last.prefix)]) == b.last.prefix {
		return b.last
	}
	space := keySpace(key)
	sp := b.spaces[string(space)]
	if sp == nil {
		sp = &bulkSpace{prefix: string(space), sorted: true}
		b.spaces[sp.prefix] = sp
	}
	b.last = sp
	return sp
}

// cutRun has a space's run written.
func (b *bulkCopy) cutRun(sp *bulkSpace) error {
	if len(sp.run) == 0 {
		return nil
	}
	run, sorted := sp.run, sp.sorted
	sp.run, sp.bytes, sp.sorted = make([]entry, 0, len(run)+len(run)/8), 0, true
	b.g.Go(func() error { return b.writeRun(sp, run, sorted) })
	return b.failed()
}

// key appends an entry's key in the new table.
func (b *bulkCopy) key(dst, key []byte) []byte {
	at := len(b.keyspace)
	dst = append(append(dst, b.keyspace...), key...)
	copy(dst[at:], b.prefix)
	return dst
}

func (b *bulkCopy) writeRun(sp *bulkSpace, run []entry, sorted bool) error {
	if !sorted {
		sortRun(run)
	}
	w, err := b.job.NewTable()
	if err != nil {
		return err
	}
	defer w.Abort()
	var key []byte
	var samples [][]byte
	size := int64(bulkSampleBytes)
	for i := range run {
		e := &run[i]
		if i > 0 && string(e.key) == string(run[i-1].key) {
			return e.at(b.c, b.table.UniqueError(e.key))
		}
		if i%4096 == 0 && b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		key = b.key(key[:0], e.key)
		if err := w.Add(key, e.value); err != nil {
			return err
		}
		if size += int64(len(e.key) + len(e.value)); size >= min(bulkSampleBytes, b.runBytes/8) {
			samples, size = append(samples, append([]byte(nil), key...)), 0
		}
	}
	t, err := w.Finish()
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.tables = append(sp.tables, t)
	sp.samples = append(sp.samples, samples...)
	return nil
}

// finish loads what was added, and makes it the table's content.
func (b *bulkCopy) finish(rows int64) error {
	for _, sp := range b.spaces {
		if err := b.cutRun(sp); err != nil {
			break // Wait has the reason
		}
	}
	if err := b.g.Wait(); err != nil {
		return err
	}
	tables, err := b.disjoint()
	if err != nil {
		return err
	}
	if err := b.ingest(tables); err != nil {
		return err
	}
	if err := b.c.s.adoptBulk(b.c.ctx, b.target, b.c.table, rows); err != nil {
		return err
	}
	b.done = true
	return nil
}

// close frees what the load has in memory and in files.
func (b *bulkCopy) close() {
	outcome := "error"
	if b.done {
		outcome = "ok"
	}
	b.c.s.db.metrics.bulkLoads.WithLabelValues(outcome).Inc()
	b.stop()
	_ = b.g.Wait() // it was told, or it is not wanted any more
	b.job.Close()
}

// duplicate words the violation that a merge has found.
func (b *bulkCopy) duplicate(err error) error {
	var dup *bulkload.DuplicateError
	if !errors.As(err, &dup) || len(dup.Key) < len(b.keyspace) {
		return err
	}
	out := *pgerror.From(b.table.UniqueError(dup.Key[len(b.keyspace):]))
	out.Where = "COPY " + b.c.table.Name
	return &out
}

// bulkTarget is where a bulk load goes.
type bulkTarget struct {
	tableID int64
	drop    catalog.DropRange // queued for the case that it fails
}
