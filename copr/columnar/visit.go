package columnar

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// Source is a reader of a region at the scan's timestamp (a txn.Reader).
type Source interface {
	// Snapshot and TS are what it reads.
	Snapshot() kv.Snapshot
	TS() uint64
	// Rows are those of a range, with their locks checked.
	Rows(r kv.KeyRange, keyOnly bool) (Rows, error)
}

// Rows walks rows. Key and value are valid until the next call.
type Rows interface {
	Next() (key, value []byte, ok bool, err error)
	Close() error
}

// Visit is one scan's use of the cache. It must be closed. Not safe for
// concurrent use.
type Visit struct {
	c       *Cache
	r       *region
	t       *table
	keys    string // signature of the key columns
	version uint64 // of the region, as scans saw it before
	watch   *watch // nil: this scan does not build

	generation uint64
}

// Close ends the scan's part.
func (v *Visit) Close() {
	if v == nil {
		return
	}
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	v.release()
}

// release lets another scan build. The caller has the lock.
func (v *Visit) release() {
	if v.watch != nil && v.t.watch == v.watch {
		v.t.watch = nil
	}
	v.watch = nil
}

// forget drops columns beside the wanted ones, so that this scan's successors
// don't read them again, and builds no more itself.
func (v *Visit) forget(wanted []columnID) {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	for id, col := range v.t.columns {
		if !slices.Contains(wanted, id) {
			v.t.evict(v.c, col)
		}
	}
	v.release()
}

// view is a slot as a scan found it.
type view struct {
	*block
	slot  *slot
	cols  columns
	dirty []string // not sorted
	newTS uint64   // the slot's dirtyTS
	plain bool     // it serves the scan's timestamp and snapshot
	read  bool     // by this scan, from rows
}

// chunks are the columns that a scan wants, in their order, nil those that the
// view lacks; all says whether it has them all.
func (w *view) chunks(cols []*column) (out []*chunk, all bool) {
	out, all = make([]*chunk, len(cols)), true
	for i, c := range cols {
		out[i] = w.cols.get(c)
		all = all && out[i] != nil
	}
	return out, all
}

// Open plans the scan of ranges: ascending, inside the table. It returns nil
// when the scan is to read rows by itself.
func (v *Visit) Open(ctx context.Context, n *plan.TableScan, src Source, ranges []kv.KeyRange, o ScanOptions) (*Scan, error) {
	if v == nil {
		return nil, nil
	}
	whole, ok := universe(v.t.prefix, src.Snapshot())
	if !ok || n.Desc || len(ranges) > ScanRangesMax || !inside(ranges, v.t.prefix) {
		v.c.m.scans.WithLabelValues("unusual").Inc()
		return nil, nil
	}
	s := &Scan{work: &work{busy: 1}, v: v, ctx: ctx, node: n, src: src, o: o, index: src.Snapshot().AppliedIndex(), wanted: idsOf(n.Columns), types: typesOf(n)}
	if o.Eval != nil {
		s.bounds = bounds(o.Filter, n.Columns)
	}
	s.whole = covers(ranges, whole)
	ranges = clip(ranges, whole)
	if v.nothing(s.whole) { // to read or to build: it may only be counted
		if !s.whole {
			v.c.m.scans.WithLabelValues("rows").Inc()
			return nil, nil
		}
		if _, ok := v.look(s, nil); !ok {
			v.c.m.scans.WithLabelValues("version").Inc()
			return nil, nil
		}
		s.plan(ranges, nil)
		return s, nil
	}
	var err error
	var later bool
	if s.locked, later, ok, err = lockedKeys(src, ranges); err != nil {
		return nil, err
	}
	if !ok {
		v.c.m.scans.WithLabelValues("locks").Inc()
		return nil, nil
	}
	if !v.r.waitFed(ctx, s.index) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v.c.m.scans.WithLabelValues("behind").Inc()
		return nil, nil
	}
	views, ok := v.look(s, ranges)
	if !ok {
		v.c.m.scans.WithLabelValues("version").Inc()
		return nil, nil
	}
	s.plan(ranges, views)
	s.judgeClean(later)
	if v.watch != nil && !slices.ContainsFunc(s.work.rest, func(g segment) bool { return g.how == byBuilding }) {
		v.Close()
	}
	return s, nil
}

// builds reports whether the scan may still build.
func (v *Visit) builds() bool {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	return v.watch != nil
}

// nothing reports whether there are no blocks, and the scan is not to make any.
func (v *Visit) nothing(whole bool) bool {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	if len(v.t.slots) > 0 {
		return false
	}
	if !whole {
		v.release()
	}
	return v.watch == nil
}

// look takes the slots that meet the ranges, which may be none, as they are, and
// finds the columns.
func (v *Visit) look(s *Scan, ranges []kv.KeyRange) (views []view, ok bool) {
	r, t := v.r, v.t
	version := s.src.Snapshot().Region().GetRegionEpoch().GetVersion()
	r.mu.Lock()
	defer r.mu.Unlock()
	if version < r.version || r.dead || t.keys != v.keys {
		return nil, false
	}
	if version > r.version {
		if r.version > 0 {
			r.reset("version")
		}
		r.version = version
	}
	// A region that was seen with another version before the snapshot was taken
	// is built by the next scan.
	if v.watch != nil && (v.version > 0 && v.version != version || v.watch.failed || s.index < r.first) {
		v.release()
	}
	v.findColumns(s, time.Now())
	s.first = len(t.slots) == 0
	if len(ranges) == 0 {
		return nil, true
	}
	first, last := ranges[0].Start, ranges[len(ranges)-1].End
	from := sort.Search(len(t.slots), func(i int) bool { return bytes.Compare(t.slots[i].upper, first) > 0 })
	for _, sl := range t.slots[from:] {
		if bytes.Compare(sl.lower, last) >= 0 {
			break
		}
		views = append(views, view{
			block: sl.block, slot: sl, cols: sl.cols, dirty: sl.list[:len(sl.list):len(sl.list)], newTS: sl.dirtyTS,
			plain: sl.index <= s.index && sl.maxTS <= s.src.TS(),
		})
	}
	return views, true
}

// findColumns finds the columns that the scan wants, and those that a block is
// built anew with. The caller has the lock.
func (v *Visit) findColumns(s *Scan, now time.Time) {
	t := v.t
	t.used = now
	if len(t.columns)+len(s.wanted) > TableColumnsMax {
		for id, col := range t.columns {
			if !slices.Contains(s.wanted, id) {
				t.evict(v.c, col)
			}
		}
	}
	for i, id := range s.wanted {
		s.cols = append(s.cols, t.want(id, s.node.Columns[i], now))
	}
	s.again = slices.Clone(s.cols)
	for _, col := range t.columns {
		if col.used != now && col.bytes > 0 && now.Sub(col.used) < ColumnKeepMax {
			s.again = append(s.again, col)
		}
	}
}

// install puts a block into its place. It reports whether the scan may go on
// building.
func (v *Visit) install(b *block, cols []*column, chunks []*chunk, fresh []string) bool {
	need := b.bytes
	for _, ch := range chunks {
		need += ch.bytes
	}
	if !v.c.o.Budget.makeRoom(need) {
		v.c.m.dropped.WithLabelValues("full").Inc()
		v.Close()
		return false
	}
	r, t := v.r, v.t
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.watch == nil || v.watch.failed || t.watch != v.watch || r.dead || b.index < r.first {
		v.release()
		return false
	}
	s := &slot{block: b}
	for _, k := range fresh {
		s.add(k)
		s.dirtyTS = math.MaxUint64
	}
	for _, w := range v.watch.keys {
		if w.index > b.index && w.key >= string(b.lower) && w.key < string(b.upper) {
			s.add(w.key)
			s.dirtyTS = max(s.dirtyTS, w.ts)
		}
	}
	keep := t.slots[:0:0]
	at := -1
	for _, old := range t.slots {
		if at < 0 && bytes.Compare(old.lower, b.lower) >= 0 {
			at = len(keep)
		}
		if bytes.Compare(old.upper, b.lower) > 0 && bytes.Compare(old.lower, b.upper) < 0 {
			t.remove(v.c, old)
			continue
		}
		keep = append(keep, old)
	}
	if at < 0 {
		at = len(keep)
	}
	if len(s.list) > BlockDirtyKeysMax {
		t.slots = keep
		v.c.m.dropped.WithLabelValues("dirty").Inc()
		return true
	}
	t.slots = slices.Insert(keep, at, s)
	v.c.charge(s.own())
	for i, col := range cols {
		t.put(v.c, s, col, chunks[i])
	}
	v.c.m.built.Inc()
	return true
}

// add puts columns that were read later into the block of a view, if it is still
// there: whatever has changed in between is among its dirty keys.
func (v *Visit) add(w *view, cols []*column, chunks []*chunk) {
	need := int64(0)
	for _, ch := range chunks {
		need += ch.bytes
	}
	if !v.c.o.Budget.makeRoom(need) {
		v.c.m.dropped.WithLabelValues("full").Inc()
		return
	}
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	i := v.t.find(w.lower)
	if i < 0 || v.t.slots[i] != w.slot {
		return
	}
	for i, col := range cols {
		v.t.put(v.c, w.slot, col, chunks[i])
	}
}

// counted notes how many rows a scan of all rows of the region has found.
func (v *Visit) counted(rows uint64) {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	v.t.small = rows < uint64(v.c.o.BuildRowsMin)
}

// universe is the part of the table that lies in the snapshot's region, as plain
// keys. It is not known of regions whose bounds are no encodings.
func universe(prefix []byte, snap kv.Snapshot) (kv.KeyRange, bool) {
	u := kv.KeyRange{Start: prefix, End: codec.PrefixNext(prefix)}
	m := snap.Region()
	for _, b := range [...]struct {
		bound []byte
		plain *[]byte
		sign  int
	}{{m.GetStartKey(), &u.Start, 1}, {m.GetEndKey(), &u.End, -1}} {
		if len(b.bound) == 0 {
			continue
		}
		plain, rest, err := codec.DecodeBytes(nil, b.bound)
		if err != nil || len(rest) > 0 {
			return u, false
		}
		if bytes.Compare(plain, *b.plain) == b.sign {
			*b.plain = plain
		}
	}
	return u, bytes.Compare(u.Start, u.End) < 0
}

func inside(ranges []kv.KeyRange, prefix []byte) bool {
	end := codec.PrefixNext(prefix)
	for _, r := range ranges {
		if bytes.Compare(r.Start, prefix) < 0 || len(r.End) == 0 || bytes.Compare(r.End, end) > 0 {
			return false
		}
	}
	return true
}

// clip is what of the ranges lies in the universe.
func clip(ranges []kv.KeyRange, u kv.KeyRange) []kv.KeyRange {
	var out []kv.KeyRange
	for _, r := range ranges {
		if bytes.Compare(r.Start, u.Start) < 0 {
			r.Start = u.Start
		}
		if bytes.Compare(r.End, u.End) > 0 {
			r.End = u.End
		}
		if bytes.Compare(r.Start, r.End) < 0 {
			out = append(out, r)
		}
	}
	return out
}

// covers reports whether a single range holds the universe.
func covers(ranges []kv.KeyRange, u kv.KeyRange) bool {
	return slices.ContainsFunc(ranges, func(r kv.KeyRange) bool {
		return bytes.Compare(r.Start, u.Start) <= 0 && bytes.Compare(r.End, u.End) >= 0
	})
}

// lockedKeys are the plain keys with locks that may matter to the reader:
// ascending. Those of which every read says that they don't are left out. ok is
// false when there are too many; later says that some were left out only because
// of the reader's timestamp.
func lockedKeys(src Source, ranges []kv.KeyRange) (keys []string, later, ok bool, err error) {
	for _, r := range ranges {
		it, err := src.Snapshot().NewIter(kv.CFLock, kv.IterOptions{Lower: codec.EncodeBytes(nil, r.Start), Upper: codec.EncodeBytes(nil, r.End)})
		if err != nil {
			return nil, false, false, err
		}
		more, left, err := appendLocked(keys, it, src.TS())
		if err = errors.Join(err, it.Close()); err != nil {
			return nil, false, false, err
		}
		later = later || left
		if keys = more; len(keys) > ScanLocksMax {
			return nil, false, false, nil
		}
	}
	return keys, later, true, nil
}

func appendLocked(keys []string, it kv.Iterator, ts uint64) (all []string, later bool, err error) {
	for it.First(); it.Valid() && len(keys) <= ScanLocksMax; it.Next() {
		raw, err := it.Value()
		if err != nil {
			return nil, false, err
		}
		var l mvcc.Lock
		if err := mvcc.ParseLock(raw, &l); err != nil {
			return nil, false, err
		}
		if l.Type == mvcc.LockLock || l.Pessimistic() || l.Shared() {
			continue
		}
		if l.StartTS > ts || l.MinCommitTS > ts {
			later = true
			continue
		}
		key, _, err := codec.DecodeBytes(nil, it.Key())
		if err != nil {
			return nil, false, err
		}
		keys = append(keys, string(key))
	}
	return keys, later, it.Error()
}
