package rangelist

import (
	"bytes"
	"sort"
)

// Item is something that holds on the keys of [Start, End); an empty End is
// unbounded.
type Item[T any] struct {
	Start, End []byte
	Value      T
}

// List is the key space in segments, each with the values that hold on it. The
// zero List has no values anywhere.
type List[T any] struct{ segments []segment[T] }

// segment lasts until the next one's start.
type segment[T any] struct {
	start  []byte
	values []T
}

// Build returns the list of the items; within a segment they keep their order.
func Build[T any](items []Item[T]) List[T] {
	type edge struct {
		key   []byte
		item  int
		start bool
	}
	edges := make([]edge, 0, 2*len(items))
	for i, it := range items {
		edges = append(edges, edge{it.Start, i, true})
		if len(it.End) > 0 {
			edges = append(edges, edge{it.End, i, false})
		}
	}
	sort.SliceStable(edges, func(i, j int) bool { return bytes.Compare(edges[i].key, edges[j].key) < 0 })
	var out []segment[T]
	if len(edges) > 0 && len(edges[0].key) > 0 {
		out = append(out, segment[T]{})
	}
	var active []int // ascending
	for i := 0; i < len(edges); {
		key := edges[i].key
		for ; i < len(edges) && bytes.Equal(edges[i].key, key); i++ {
			at := sort.SearchInts(active, edges[i].item)
			if edges[i].start {
				active = append(active, 0)
				copy(active[at+1:], active[at:])
				active[at] = edges[i].item
			} else {
				active = append(active[:at], active[at+1:]...)
			}
		}
		values := make([]T, len(active))
		for j, k := range active {
			values[j] = items[k].Value
		}
		out = append(out, segment[T]{key, values})
	}
	return List[T]{out}
}

// Each calls fn for every segment in key order; the last one's end is empty.
// fn's first error ends it.
func (l List[T]) Each(fn func(start, end []byte, values []T) error) error {
	if len(l.segments) == 0 {
		return fn(nil, nil, nil)
	}
	for i, s := range l.segments {
		var end []byte
		if i+1 < len(l.segments) {
			end = l.segments[i+1].start
		}
		if err := fn(s.start, end, s.values); err != nil {
			return err
		}
	}
	return nil
}

// Map returns the list with each segment's values replaced by fn's.
func (l List[T]) Map(fn func(values []T) []T) List[T] {
	out := make([]segment[T], len(l.segments))
	for i, s := range l.segments {
		out[i] = segment[T]{s.start, fn(s.values)}
	}
	return List[T]{out}
}

// at is the segment that holds key, -1 before the first one.
func (l List[T]) at(key []byte) int {
	lo, hi := 0, len(l.segments)
	for lo < hi {
		mid := (lo + hi) / 2
		if bytes.Compare(l.segments[mid].start, key) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// Get returns the values that hold on all of [start, end); ok is false where
// the range crosses a segment's end. The values are the list's own.
func (l List[T]) Get(start, end []byte) (values []T, ok bool) {
	if len(l.segments) == 0 {
		return nil, true
	}
	i := l.at(start)
	if i+1 < len(l.segments) && (len(end) == 0 || bytes.Compare(end, l.segments[i+1].start) > 0) {
		return nil, false
	}
	if i < 0 {
		return nil, true
	}
	return l.segments[i].values, true
}

// SplitKeys returns the ends of segments that lie inside of (start, end).
func (l List[T]) SplitKeys(start, end []byte) [][]byte {
	var keys [][]byte
	for i := l.at(start) + 1; i < len(l.segments); i++ {
		if len(end) > 0 && bytes.Compare(l.segments[i].start, end) >= 0 {
			break
		}
		keys = append(keys, l.segments[i].start)
	}
	return keys
}
