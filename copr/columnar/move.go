package columnar

import (
	"bytes"
	"slices"
	"sort"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/codec"
)

// moved is a slot on its way from one region to another: the same rows, the same
// dirty keys, at an index of the other region's log.
type moved struct {
	prefix []byte
	keys   string
	used   time.Time
	slot   *slot
	cols   columns
}

// Split lets the children of a split take over the blocks in their ranges. The
// region, as it is from now on, must have been fed up to its applied index at;
// index is the one of the children's logs at which they begin. It must be called
// before a scan of a child can begin.
func (c *Cache) Split(region *metapb.Region, at uint64, children []*metapb.Region, index uint64) {
	r := c.region(region.GetId())
	if r == nil {
		return
	}
	r.mu.Lock()
	if !r.known || r.fed != at {
		r.reset("gap")
	}
	r.stopBuilding()
	r.version = max(r.version, region.GetRegionEpoch().GetVersion())
	out := r.takeOut(c, region)
	r.mu.Unlock()
	for _, child := range children {
		start, end, ok := plainBounds(child)
		if !ok {
			continue
		}
		var own []moved
		for _, m := range out {
			if bytes.Compare(m.slot.lower, start) >= 0 && (len(end) == 0 || bytes.Compare(m.slot.upper, end) <= 0) {
				own = append(own, m)
			}
		}
		c.receive(child, index, own, true)
	}
}

// Merged lets a region take over the blocks of another one that it has consumed:
// what that one had at its applied index sourceAt is the region's at at, to which
// it has been fed. It must be called before a scan of the wider region can begin.
func (c *Cache) Merged(region *metapb.Region, at uint64, source *metapb.Region, sourceAt uint64) {
	var out []moved
	if sr := c.region(source.GetId()); sr != nil {
		sr.mu.Lock()
		if !sr.known || sr.fed != sourceAt {
			sr.reset("gap")
		}
		sr.stopBuilding()
		out = sr.takeOut(c, nil)
		sr.mu.Unlock()
	}
	c.receive(region, at, out, false)
}

// stopBuilding keeps scans that build from installing what they read before the
// ranges changed. The caller has the lock.
func (r *region) stopBuilding() {
	for _, t := range r.tables {
		if t.watch != nil {
			t.watch.failed, t.watch.keys = true, nil
		}
	}
}

// takeOut removes the slots that do not lie in the region; nil: all. The caller
// has the lock.
func (r *region) takeOut(c *Cache, region *metapb.Region) (out []moved) {
	start, end, ok := []byte(nil), []byte(nil), false
	if region != nil {
		start, end, ok = plainBounds(region)
	}
	for _, t := range r.tables {
		kept := t.slots[:0:0]
		for _, s := range t.slots {
			if ok && bytes.Compare(s.lower, start) >= 0 && (len(end) == 0 || bytes.Compare(s.upper, end) <= 0) {
				kept = append(kept, s)
				continue
			}
			out = append(out, moved{t.prefix, t.keys, t.used, s, s.cols})
			t.remove(c, s)
		}
		t.slots = kept
	}
	return out
}

// plainBounds are the bounds of a region as plain keys; ok is false if they are
// no encodings of such.
func plainBounds(m *metapb.Region) (start, end []byte, ok bool) {
	for _, b := range [...]struct {
		bound []byte
		plain *[]byte
	}{{m.GetStartKey(), &start}, {m.GetEndKey(), &end}} {
		if len(b.bound) == 0 {
			continue
		}
		plain, rest, err := codec.DecodeBytes(nil, b.bound)
		if err != nil || len(rest) > 0 {
			return nil, nil, false
		}
		*b.plain = plain
	}
	return start, end, true
}

// receive gives slots to a region, which is at the applied index at now; a new
// one begins there.
func (c *Cache) receive(m *metapb.Region, at uint64, slots []moved, begins bool) {
	r := c.region(m.GetId())
	for {
		if r == nil {
			if len(slots) == 0 {
				return // nobody has asked for it yet
			}
			if r = c.add(m.GetId()); r == nil {
				return
			}
		}
		r.mu.Lock()
		if !r.dead {
			break
		}
		r.mu.Unlock()
		r = nil
	}
	defer r.mu.Unlock()
	if begins {
		r.reset("version")
		r.known = false
	}
	if !r.known {
		r.known, r.first, r.fed = true, at, at
	}
	r.stopBuilding()
	r.version = max(r.version, m.GetRegionEpoch().GetVersion())
	if r.fed != at {
		r.reset("gap")
		return
	}
	for _, s := range slots {
		r.take(s, at)
	}
}

// take puts a slot into its place. The caller has the lock.
func (r *region) take(m moved, at uint64) {
	i := slices.IndexFunc(r.tables, func(t *table) bool { return bytes.Equal(t.prefix, m.prefix) })
	if i < 0 {
		if len(r.tables) >= RegionTablesMax {
			return
		}
		r.tables, i = append(r.tables, newTable(m.prefix, m.keys)), len(r.tables)
	}
	t := r.tables[i]
	if t.keys != m.keys || t.overlaps(m.slot.lower, m.slot.upper) {
		return
	}
	t.small = false
	if t.used.Before(m.used) {
		t.used = m.used
	}
	b := *m.slot.block
	b.index = at
	s := &slot{block: &b, dirty: m.slot.dirty, list: m.slot.list, dirtyTS: m.slot.dirtyTS}
	place := sort.Search(len(t.slots), func(i int) bool { return bytes.Compare(t.slots[i].lower, b.lower) > 0 })
	t.slots = slices.Insert(slices.Clip(t.slots), place, s)
	r.c.charge(s.own())
	for _, e := range m.cols {
		col := t.columns[e.of.id]
		if col == nil {
			col = &column{id: e.of.id, plan: e.of.plan, dict: e.of.dict, used: e.of.used, asked: e.of.asked}
		}
		t.put(r.c, s, col, e.chunk)
	}
	r.c.m.moved.Inc()
}

func (t *table) overlaps(lower, upper []byte) bool {
	i := sort.Search(len(t.slots), func(i int) bool { return bytes.Compare(t.slots[i].upper, lower) > 0 })
	return i < len(t.slots) && bytes.Compare(t.slots[i].lower, upper) < 0
}
