package columnar

import (
	"bytes"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/tablecodec"
)

// Limits of a cache, where Options has none.
const (
	// BytesMax is the memory of all blocks and dirty keys of a store.
	BytesMax = 256 << 20
	// BlockRowsMax and BlockBytesMax end a block (rows as stored).
	BlockRowsMax  = 8192
	BlockBytesMax = 8 << 20
	// BuildRowsMin is how many rows of a table a region must have for its columns
	// to be kept.
	BuildRowsMin = 2048
	// LongStringBytes is above how many bytes a value, on average, one scan of a
	// column is no reason to keep it.
	LongStringBytes = 20
	// BlockDirtyKeysMax drops a block; BlockDirtyKeysFew are those with which a
	// scan that may build leaves it as it is.
	BlockDirtyKeysMax = 2048
	BlockDirtyKeysFew = 128
	// dirtyReadRows is as how many rows of a new block a dirty key's read counts;
	// scans read dirtyReadsMin of a small one before it is made anew.
	dirtyReadRows = 16
	dirtyReadsMin = 64
	// WatchKeysMax is how many keys may change while a scan builds.
	WatchKeysMax = 1 << 16
	// RegionsMax and RegionTablesMax bound what is known of scans.
	RegionsMax      = 1 << 16
	RegionTablesMax = 16
	// TableColumnsMax is how many columns of a table are kept in a region: with
	// more, those that a scan does not want go.
	TableColumnsMax = 2048
	// ScanRangesMax and ScanLocksMax: scans of more ranges, and over more locks,
	// read rows.
	ScanRangesMax = 64
	ScanLocksMax  = 256
	// KeepMin is how long what was used is not evicted, so that scans of more
	// than fits do not throw out each other's blocks.
	KeepMin = 30 * time.Second
	// ColumnKeepMax is how long a column that nobody asks for is read again when a
	// block of many changed rows is built anew.
	ColumnKeepMax = 10 * time.Minute
	// FeedWaitMax is how long a scan waits for the feed to come to its snapshot.
	FeedWaitMax = 50 * time.Millisecond
)

// Options of a Cache; zero fields take the constants.
type Options struct {
	// BytesMax is the memory that the cache may use, Budget what it shares with
	// other caches instead.
	BytesMax int64
	Budget   *Budget
	// BlockRowsMax and BuildRowsMin are for tests; -1 = 0.
	BlockRowsMax, BuildRowsMin int
	Registerer                 prometheus.Registerer
}

func (o *Options) fill() {
	if o.BytesMax <= 0 {
		o.BytesMax = BytesMax
	}
	if o.Budget == nil {
		o.Budget = NewBudget(o.BytesMax)
	}
	for _, f := range [...]struct {
		v *int
		d int
	}{{&o.BlockRowsMax, BlockRowsMax}, {&o.BuildRowsMin, BuildRowsMin}} {
		if *f.v == 0 {
			*f.v = f.d
		}
		*f.v = max(*f.v, 0)
	}
	o.BlockRowsMax = min(max(o.BlockRowsMax, 1), BlockRowsMax)
}

// Cache has the columns of a store's regions. Safe for concurrent use.
type Cache struct {
	o     Options
	m     *metrics
	bytes atomic.Int64

	mu      sync.RWMutex
	regions map[uint64]*region
}

// New makes an empty cache.
func New(o Options) *Cache {
	o.fill()
	c := &Cache{o: o, regions: map[uint64]*region{}}
	c.m = newMetrics(o.Registerer, c)
	o.Budget.join(c)
	return c
}

// Bytes is the memory of all blocks and dirty keys.
func (c *Cache) Bytes() int64 { return c.bytes.Load() }

func (c *Cache) region(id uint64) *region {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.regions[id]
}

// Advanced feeds the cache: the region's data went from the applied index from
// to the index to by these writes alone (index and kv.Batch bytes each). It must
// be called for every step of every region in order, when the step is in the
// engine and before a snapshot at to is told apart from one behind it. It does
// not block. An error says that a batch is malformed.
func (c *Cache) Advanced(regionID, from, to uint64, writes iter.Seq2[uint64, []byte]) error {
	r := c.region(regionID)
	if r == nil {
		return nil
	}
	return r.advanced(from, to, writes)
}

// RegionChanged drops what does not belong to this version of the region. It
// frees memory earlier; scans find out themselves.
func (c *Cache) RegionChanged(regionID, version uint64) {
	if r := c.region(regionID); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.version != 0 && r.version < version {
			r.reset("version")
		}
	}
}

// Drop forgets a region: it left the store.
func (c *Cache) Drop(regionID uint64) {
	c.mu.Lock()
	r := c.regions[regionID]
	delete(c.regions, regionID)
	c.mu.Unlock()
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reset("removed")
		r.dead = true
	}
}

// DropRange drops the columns of tables with keys in [start, end), which are
// encoded (an empty end is unbounded). It must be called behind every change of
// the data that does not go through the Raft log.
func (c *Cache) DropRange(start, end []byte) {
	for _, r := range c.all() {
		r.mu.Lock()
		if slices.ContainsFunc(r.tables, func(t *table) bool {
			return (len(end) == 0 || bytes.Compare(t.encStart, end) < 0) && bytes.Compare(t.encEnd, start) > 0
		}) {
			r.reset("range")
		}
		r.mu.Unlock()
	}
}

func (c *Cache) all() []*region {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]*region, 0, len(c.regions))
	for _, r := range c.regions {
		out = append(out, r)
	}
	return out
}

// Visit begins a scan of a table in a region. It must be called before the
// scan's snapshot is taken; Close ends it. It returns nil when there is no room
// to remember the scan: rows are to be read then.
func (c *Cache) Visit(regionID uint64, n *plan.TableScan, keyPrefix []byte) *Visit {
	prefix := tablecodec.AppendRecordPrefix(bytes.Clone(keyPrefix), n.TableID)
	sig := keySignature(n.KeyColumns)
	for {
		r := c.region(regionID)
		if r == nil {
			if r = c.add(regionID); r == nil {
				return nil
			}
		}
		if v, ok := r.visit(prefix, sig); ok {
			return v
		}
	}
}

func (c *Cache) add(regionID uint64) *region {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.regions[regionID]; r != nil {
		return r
	}
	if len(c.regions) >= RegionsMax && !c.forgetIdle() {
		return nil
	}
	r := &region{c: c, id: regionID}
	c.regions[regionID] = r
	return r
}

// forgetTriesMax is how many regions are looked at for one that can be forgotten.
const forgetTriesMax = 64

// forgetIdle forgets some region of which no columns are kept: of regions that
// requests name and that never were here nobody else does. The caller has c.mu.
func (c *Cache) forgetIdle() bool {
	tries := 0
	for id, r := range c.regions {
		if tries++; tries > forgetTriesMax {
			return false
		}
		r.mu.Lock()
		idle := !r.listens()
		r.dead = r.dead || idle
		r.mu.Unlock()
		if idle {
			delete(c.regions, id)
			return true
		}
	}
	return false
}

// encodedPrefix is where the encodings of the keys with a prefix begin and end.
func encodedPrefix(prefix []byte) (start, end []byte) {
	start = codec.EncodeBytes(nil, prefix)
	return start, codec.EncodeBytes(nil, codec.PrefixNext(prefix))
}
