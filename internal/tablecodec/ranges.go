package tablecodec

import (
	"bytes"
	"slices"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
)

// Bound is one end of a condition on a key column. The zero Bound is open.
type Bound struct {
	Set       bool
	Value     sqltypes.Datum
	Exclusive bool
}

// Interval is what a key's columns must satisfy: the first len(Equal) columns
// equal these values (NULL means IS NULL, in a nullable column), and the next
// one, if there is one, lies between Low and High. NULLs never lie between
// bounds of which one is set.
type Interval struct {
	Equal     []sqltypes.Datum
	Low, High Bound
}

// Range returns the keys under prefix (AppendRecordPrefix, AppendIndexPrefix)
// whose columns satisfy iv; ok is false if none can.
func (iv Interval) Range(prefix []byte, cols []Column) (r kv.KeyRange, ok bool, err error) {
	key := slices.Clip(prefix)
	for i, d := range iv.Equal {
		if d.IsNull() && !cols[i].Nullable {
			return r, false, nil
		}
		if key, err = AppendDatum(key, cols[i], d); err != nil {
			return r, false, err
		}
	}
	if !iv.Low.Set && !iv.High.Set {
		return PrefixRange(slices.Clone(key)), true, nil
	}
	c := cols[len(iv.Equal)]
	low, high := iv.Low, iv.High
	if c.Desc {
		low, high = high, low
	}
	start, ok, err := edge(key, c, low, false)
	if err != nil || !ok {
		return r, false, err
	}
	end, ok, err := edge(key, c, high, true)
	if err != nil || !ok {
		return r, false, err
	}
	return kv.KeyRange{Start: start, End: end}, bytes.Compare(start, end) < 0, nil
}

// edge is the first key at or behind a bound of a column that follows prefix:
// of a lower bound the first key inside, of an upper one the first outside.
func edge(prefix []byte, c Column, b Bound, upper bool) (key []byte, ok bool, err error) {
	if !b.Set {
		// Values only: a flagged column's NULLs are left out.
		key = slices.Clone(prefix)
		if c.Nullable {
			key = append(key, flagValue^mask(&c))
		}
		if upper {
			key = codec.PrefixNext(key)
		}
		return key, true, nil
	}
	if b.Value.IsNull() {
		return nil, false, nil
	}
	key, err = AppendDatum(slices.Clone(prefix), c, b.Value)
	if err != nil {
		return nil, false, err
	}
	if b.Exclusive != upper {
		key = codec.PrefixNext(key)
	}
	return key, true, nil
}

// MergeRanges sorts ranges by start and joins those that touch or overlap. An
// empty End is unbounded. It reorders and keeps rs.
func MergeRanges(rs []kv.KeyRange) []kv.KeyRange {
	slices.SortFunc(rs, func(a, b kv.KeyRange) int { return bytes.Compare(a.Start, b.Start) })
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 && (len(out[n-1].End) == 0 || bytes.Compare(r.Start, out[n-1].End) <= 0) {
			last := &out[n-1]
			if len(last.End) != 0 && (len(r.End) == 0 || bytes.Compare(r.End, last.End) > 0) {
				last.End = r.End
			}
			continue
		}
		out = append(out, r)
	}
	return out
}
