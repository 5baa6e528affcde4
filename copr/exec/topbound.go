package exec

import (
	"encoding/binary"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// topBound is what the first sort key of a row must not be beyond for the row to
// be among the first: most rows of a large input are dropped by one comparison
// of numbers, before other keys are computed and anything is gathered.
type topBound struct {
	set    bool
	value  int64 // of integers, dates, times; unscaled of numerics
	desc   bool
	strict bool // equal is beyond: there is no other key
}

// set takes the bound from the encoded keys of the worst row kept.
func (b *topBound) from(worst []byte, keys []plan.SortKey, t sqltypes.Type) {
	*b = topBound{}
	kind := colvec.KindOf(t)
	if worst[0] != 1 || !kind.IsInt() && kind != colvec.Decimal || volatile(keys[0].Expr) {
		return
	}
	flip := uint64(0)
	if keys[0].Desc {
		flip = 1<<64 - 1
	}
	v := int64(binary.BigEndian.Uint64(worst[1:]) ^ flip ^ 1<<63)
	if kind == colvec.Decimal {
		lo := int64(binary.BigEndian.Uint64(worst[9:]) ^ flip)
		if v != lo>>63 {
			return // beyond 64 bits
		}
		v = lo
	}
	*b = topBound{set: true, value: v, desc: keys[0].Desc, strict: len(keys) == 1}
}

// within appends the rows of r whose first key v is not beyond the bound; false
// if v has no numbers of 64 bits.
func (b *topBound) within(r Raw, v *colvec.Vec, out []int32) ([]int32, bool) {
	switch {
	case v.Nulls > 0:
		return out, false
	case v.Kind == colvec.Decimal:
		if !v.Encoded {
			return out, false
		}
		return rowsWithin(v.D64, r, b, out), true
	case v.Kind == colvec.Int16:
		return rowsWithin(v.I16, r, b, out), true
	case v.Kind == colvec.Int32 || v.Kind == colvec.Date:
		return rowsWithin(v.I32, r, b, out), true
	}
	return rowsWithin(v.I64, r, b, out), true
}

func rowsWithin[T int16 | int32 | int64](vals []T, r Raw, b *topBound, out []int32) []int32 {
	// As a number that must be at least least: descending as it is, ascending
	// with all bits inverted.
	flip := int64(-1)
	if b.desc {
		flip = 0
	}
	least := b.value ^ flip
	if b.strict {
		if least == 1<<63-1 {
			return out
		}
		least++
	}
	if r.Sel != nil {
		for _, i := range r.Sel {
			if int64(vals[i])^flip >= least {
				out = append(out, i)
			}
		}
		return out
	}
	for i, x := range vals {
		if int64(x)^flip >= least {
			out = append(out, int32(i))
		}
	}
	return out
}
