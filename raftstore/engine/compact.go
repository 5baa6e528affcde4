package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/copradb/copra/internal/kv"
)

// Limits of CompactDeletes.
const (
	// compactDeletesMin and compactDeletesPercent: a table with that many deletes,
	// which are that part of its entries, is worth a compaction, as
	compactDeletesMin     = 4096
	compactDeletesPercent = 30
	// is one whose deletes hide that much below it, by Pebble's estimate.
	compactHiddenBytesMin = 8 << 20
	// compactTableCountMax is how many tables one call begins with.
	compactTableCountMax = 16
)

// CompactDeletes compacts, down to the lowest level, the ranges of tables that
// consist of deletes to a large part: until then neither the deletes nor what
// they hide gives its room back. Pebble looks after that itself where it sees
// enough of it in a whole level; a table that is small beside its level could
// wait for ever. It returns how many tables it began with, and their bytes.
func (e *Engine) CompactDeletes(ctx context.Context) (tables int, bytes uint64, err error) {
	levels, err := e.db.SSTables()
	if err != nil {
		return 0, 0, fmt.Errorf("compact deletes: list tables: %w", err)
	}
	for _, level := range levels[:len(levels)-1] { // in the lowest Pebble drops deletes by itself
		for i := range level {
			t := &level[i]
			if !worthCompaction(t) {
				continue
			}
			start, end := slices.Clone(t.Smallest.UserKey), append(slices.Clone(t.Largest.UserKey), 0)
			if err := e.db.Compact(ctx, start, end, false); err != nil {
				return tables, bytes, fmt.Errorf("compact deletes in [%x, %x): %w", start, end, err)
			}
			bytes += t.Size
			if tables++; tables >= compactTableCountMax {
				return tables, bytes, nil
			}
		}
	}
	return tables, bytes, nil
}

func worthCompaction(t *pebble.SSTableInfo) bool {
	st := &t.TableStats
	if len(t.Smallest.UserKey) == 0 || !kv.CF(t.Smallest.UserKey[0]).Valid() {
		return false
	}
	return st.NumDeletions >= compactDeletesMin && st.NumDeletions*100 >= st.NumEntries*compactDeletesPercent ||
		st.PointDeletionsBytesEstimate+st.RangeDeletionsBytesEstimate >= compactHiddenBytesMin
}

// Excise removes [start, end) of a family with the tables that hold it: unlike a
// range delete it needs no compaction to give the room back. An empty end is the
// family's end. It is durable when it returns; who holds a snapshot loses the
// range, too, but for iterators that are open.
func (e *Engine) Excise(ctx context.Context, cf kv.CF, start, end []byte) error {
	span := pebble.KeyRange{Start: cfKey(nil, cf, start), End: cfEnd(nil, cf, end)}
	err := e.db.Excise(ctx, span)
	e.changed()
	if err != nil {
		return fmt.Errorf("excise [%x, %x) of family %s: %w", start, end, cf, err)
	}
	return nil
}
