package columnar

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Budget is the memory that one or several caches may use together. Safe for
// concurrent use.
type Budget struct {
	bytesMax int64
	used     atomic.Int64

	mu     sync.Mutex
	caches []*Cache
}

// NewBudget makes a budget of bytesMax for the caches that name it in their
// options.
func NewBudget(bytesMax int64) *Budget { return &Budget{bytesMax: bytesMax} }

func (b *Budget) join(c *Cache) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.caches = append(b.caches, c)
}

// charge accounts for memory.
func (c *Cache) charge(n int64) {
	c.bytes.Add(n)
	c.o.Budget.used.Add(n)
}

func (b *Budget) has(need int64) bool { return b.used.Load()+need <= b.bytesMax }

// roomShare is which part of the budget is freed at a time.
const roomShare = 64

// victim is a column of a table in a region, or all of the table.
type victim struct {
	c    *Cache
	r    *region
	t    *table
	col  *column // nil: the blocks
	used time.Time
}

// makeRoom evicts what was used longest ago until need more bytes fit. What was
// used a moment ago stays: of scans of more than fits the first keep what they
// have, and the others read rows, instead of all throwing out each other's.
func (b *Budget) makeRoom(need int64) bool {
	if b.has(need) {
		return true
	}
	old := b.victims(time.Now().Add(-KeepMin))
	slices.SortStableFunc(old, func(a, b victim) int { return a.used.Compare(b.used) })
	for _, v := range old {
		v.evict()
		if b.has(need + b.bytesMax/roomShare) {
			return true
		}
	}
	return b.has(need)
}

// victims are what was last used before a time; of a table the columns first.
func (b *Budget) victims(before time.Time) (out []victim) {
	b.mu.Lock()
	caches := slices.Clone(b.caches)
	b.mu.Unlock()
	for _, c := range caches {
		for _, r := range c.all() {
			r.mu.Lock()
			for _, t := range r.tables {
				for _, col := range t.columns {
					if col.bytes > 0 && col.used.Before(before) {
						out = append(out, victim{c, r, t, col, col.used})
					}
				}
				if len(t.slots) > 0 && t.used.Before(before) {
					out = append(out, victim{c, r, t, nil, t.used})
				}
			}
			r.mu.Unlock()
		}
	}
	return out
}

// evict drops the victim unless it was used meanwhile.
func (v *victim) evict() {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	switch {
	case v.col == nil && !v.t.used.After(v.used):
		v.t.clear(v.c)
	case v.col != nil && !v.col.used.After(v.used) && v.t.columns[v.col.id] == v.col:
		v.t.evict(v.c, v.col)
	default:
		return
	}
	v.c.m.evictions.Inc()
}
