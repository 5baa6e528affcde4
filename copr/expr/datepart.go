package expr

import (
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// datePart computes a field that only the day decides; nil for other fields.
func datePart(field string) func(days int64) int64 {
	switch field {
	case "year":
		return func(days int64) int64 {
			y, _, _ := sqltypes.CivilFromDays(days)
			return y - int64(b2i(y <= 0)) // there is no year 0
		}
	case "month":
		return func(days int64) int64 {
			_, m, _ := sqltypes.CivilFromDays(days)
			return m
		}
	case "day":
		return func(days int64) int64 {
			_, _, d := sqltypes.CivilFromDays(days)
			return d
		}
	case "quarter":
		return func(days int64) int64 {
			_, m, _ := sqltypes.CivilFromDays(days)
			return (m-1)/3 + 1
		}
	case "dow":
		return func(days int64) int64 { return broken{days: days}.dow() }
	}
	return nil
}

// extractDateParts computes extract and date_part of a constant field over
// dates and timestamps without a zone; ok is false where it has to be done row
// by row: for other fields, and where there is an infinite date.
func extractDateParts(cc *call, args []vec, n int, sel []int32) (out vec, ok bool) {
	if !args[0].cst || args[0].nullConst() || args[1].cst || args[0].arr.DataType().ID() != arrow.STRING {
		return vec{}, false
	}
	part := datePart(lookupField(stringsOf(args[0].arr).get(0)))
	if part == nil {
		return vec{}, false
	}
	days, mem := int64s(n)
	defer evec{mem: mem}.release()
	switch cc.args[1].OID {
	case sqltypes.OIDDate:
		ok = dateDays(values[int32](args[1].arr), days, sel)
	case sqltypes.OIDTimestamp:
		ok = stampDays(values[int64](args[1].arr), days, sel)
	}
	if !ok {
		return vec{}, false
	}
	valid := andValidity(n, args[1])
	if cc.typ.OID == sqltypes.OIDFloat8 {
		f := make([]float64, n)
		eachPart(days, sel, part, func(i int, v int64) { f[i] = float64(v) })
		return vec{arr: fixed(cc.typ.Arrow(), f, valid)}, true
	}
	offs := make([]int32, n+1)
	data := make([]byte, 0, 4*restLen(n, sel))
	eachPart(days, sel, part, func(i int, v int64) {
		before := len(data)
		data = strconv.AppendInt(data, v, 10)
		offs[i+1] = int32(len(data) - before)
	})
	for i := range n {
		offs[i+1] += offs[i]
	}
	return vec{arr: rawArray(cc.typ.Arrow(), n, valid, rawBytes(offs), data)}, true
}

// eachPart calls put with the part of each day; days that follow one another
// are often the same.
func eachPart(days []int64, sel []int32, part func(int64) int64, put func(i int, v int64)) {
	last, v := int64(0), part(0)
	rowsOf(len(days), sel, func(i int) {
		if d := days[i]; d != last {
			last, v = d, part(d)
		}
		put(i, v)
	})
}

// dateDays copies dates; false if one is infinite.
func dateDays(in []int32, days []int64, sel []int32) bool {
	fine := true
	rowsOf(len(days), sel, func(i int) {
		fine = fine && !infiniteDate(in[i])
		days[i] = int64(in[i])
	})
	return fine
}

// stampDays are the days of timestamps; false if one is infinite.
func stampDays(in, days []int64, sel []int32) bool {
	fine := true
	rowsOf(len(days), sel, func(i int) {
		fine = fine && !infinite(in[i])
		days[i], _ = sqltypes.SplitTimestamp(in[i])
	})
	return fine
}
