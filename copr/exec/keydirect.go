package exec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/colvec"
)

// directCodesMax is the most entries of a directKeys array.
const directCodesMax = 1 << 16

// directPause is for how many batches directKeys is not tried after one that it
// could not serve.
const directPause = 16

// directKeys is a cache in front of a keyTable for columns that have few
// possible values: codes of dictionaries, bools, integers close to one another,
// strings of one byte. Each column is a digit of a mixed-radix number, and an
// array has the key's number by that; an entry is filled when the table has
// numbered the key. A column that changes its digits' meaning (another
// dictionary, another range) costs a clearing of the array.
type directKeys struct {
	digits []digit
	ids    []int32 // by code: number + 1, 0 = not known
	codes  []int32 // of the batch at hand
	rest   int
}

// digit is how a column makes its digit. The last value stands for NULL.
type digit struct {
	form digitForm
	dict arrow.ArrayData
	base int64 // ranges: value of 0
	card int
}

type digitForm uint8

const (
	dictDigit digitForm = iota + 1
	boolDigit
	rangeDigit
	byteDigit
)

// Bytes is about how much memory the arrays take.
func (d *directKeys) Bytes() int64 { return 4 * int64(cap(d.ids)) }

// look gives rows their numbers, -1 if not known; false if the columns are not
// fit for it.
func (d *directKeys) look(cols []colvec.Vec, sel []int32, n int, out []int32) bool {
	if d.rest > 0 || len(cols) == 0 {
		d.rest--
		return false
	}
	if !d.arrange(cols, sel, n) {
		d.ids = d.ids[:0] // the digits may have changed
		d.rest = directPause
		return false
	}
	d.codes = sized(d.codes, n)
	ids := d.ids
	if len(cols) == 2 && d.digits[0].form == dictDigit && d.digits[1].form == dictDigit &&
		cols[0].Nulls == 0 && cols[1].Nulls == 0 {
		combineDicts(d.codes, cols, sel, int32(d.digits[1].card))
	} else {
		for c := range cols {
			d.digits[c].add(d.codes, &cols[c], sel, c == 0)
		}
	}
	for k, code := range d.codes {
		out[k] = ids[code] - 1
	}
	return true
}

// learn remembers the number of row k's key.
func (d *directKeys) learn(k int, id int32) { d.ids[d.codes[k]] = id + 1 }

func combineDicts(codes []int32, cols []colvec.Vec, sel []int32, radix int32) {
	a, b := cols[0].Codes, cols[1].Codes
	if sel == nil {
		a, b = a[:len(codes)], b[:len(codes)]
		for k := range codes {
			codes[k] = a[k]*radix + b[k]
		}
		return
	}
	b = b[:len(a)]
	for k, i := range sel[:len(codes)] {
		codes[k] = a[i]*radix + b[i]
	}
}

// arrange sets up the digits; false if there are too many codes.
func (d *directKeys) arrange(cols []colvec.Vec, sel []int32, n int) bool {
	fresh := d.digits == nil
	if fresh {
		d.digits = make([]digit, len(cols))
	}
	total := 1
	for c := range cols {
		g, ok := d.digits[c].of(&cols[c], sel, n)
		if !ok {
			return false
		}
		if g != d.digits[c] {
			d.digits[c], fresh = g, true
		}
		if total *= g.card; total > directCodesMax {
			return false
		}
	}
	if fresh || len(d.ids) != total {
		d.ids = sized(d.ids, total)
		clear(d.ids)
	}
	return true
}

// of is the digit that serves a column, g itself if it still does.
func (g digit) of(v *colvec.Vec, sel []int32, n int) (digit, bool) {
	switch {
	case v.Dict != nil:
		return digit{form: dictDigit, dict: v.DictID, card: v.Dict.N + 1}, v.Dict.N < directCodesMax
	case v.Kind == colvec.Bool:
		return digit{form: boolDigit, card: 3}, true
	case v.Kind.IsInt():
		return g.ofRange(v, sel, n)
	case v.Kind == colvec.String || v.Kind == colvec.Binary:
		return digit{form: byteDigit, card: 257}, oneByteEach(v, sel, n)
	}
	return g, false
}

func oneByteEach(v *colvec.Vec, sel []int32, n int) bool {
	for k := range n {
		if i := rowAt(sel, k); v.Off[i+1]-v.Off[i] != 1 && !v.IsNull(i) {
			return false
		}
	}
	return true
}

// ofRange finds the range of a batch's integers; it takes in that of g if it
// can.
func (g digit) ofRange(v *colvec.Vec, sel []int32, n int) (digit, bool) {
	first, last := v.IntAt(rowAt(sel, 0)), v.IntAt(rowAt(sel, n-1))
	if v.Nulls == 0 && uint64(last-first) >= directCodesMax && uint64(first-last) >= directCodesMax {
		return g, false
	}
	var lo, hi int64
	var some bool
	switch {
	case v.Nulls > 0:
		lo, hi, some = rangeOfSome(v, sel, n)
	case v.Kind == colvec.Int16:
		lo, hi, some = rangeOf(v.I16, sel, n)
	case v.Kind == colvec.Int32 || v.Kind == colvec.Date:
		lo, hi, some = rangeOf(v.I32, sel, n)
	default:
		lo, hi, some = rangeOf(v.I64, sel, n)
	}
	if !some {
		if g.form == rangeDigit {
			return g, true
		}
		return digit{form: rangeDigit, card: 2}, true
	}
	if uint64(hi-lo) >= directCodesMax {
		return g, false
	}
	if g.form == rangeDigit {
		end := g.base + int64(g.card) - 2
		if lo >= g.base && hi <= end {
			return g, true
		}
		if both := max(hi, end) - min(lo, g.base); both >= 0 && both < directCodesMax/2 {
			lo, hi = min(lo, g.base), max(hi, end)
		}
	}
	return digit{form: rangeDigit, base: lo, card: int(hi-lo) + 2}, true
}

func rangeOf[T int16 | int32 | int64](vals []T, sel []int32, n int) (lo, hi int64, some bool) {
	if sel == nil {
		a, b := vals[0], vals[0]
		for _, x := range vals[:n] {
			a, b = min(a, x), max(b, x)
		}
		return int64(a), int64(b), true
	}
	a, b := vals[sel[0]], vals[sel[0]]
	for _, i := range sel[:n] {
		a, b = min(a, vals[i]), max(b, vals[i])
	}
	return int64(a), int64(b), true
}

func rangeOfSome(v *colvec.Vec, sel []int32, n int) (lo, hi int64, some bool) {
	for k := range n {
		i := rowAt(sel, k)
		if v.IsNull(i) {
			continue
		}
		x := v.IntAt(i)
		if !some {
			lo, hi, some = x, x, true
		}
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi, some
}

// add appends the column's digit to the rows' codes; the first one begins them.
func (g *digit) add(codes []int32, v *colvec.Vec, sel []int32, first bool) {
	if first {
		clear(codes)
	}
	card := int32(g.card)
	if v.Nulls > 0 {
		for k := range codes {
			if i := rowAt(sel, k); v.IsNull(i) {
				codes[k] = codes[k]*card + card - 1
			} else {
				codes[k] = codes[k]*card + g.at(v, i)
			}
		}
		return
	}
	switch {
	case g.form == dictDigit:
		addDigits(codes, v.Codes, sel, 0, card)
	case g.form == rangeDigit && v.I16 != nil:
		addDigits(codes, v.I16, sel, g.base, card)
	case g.form == rangeDigit && v.I32 != nil:
		addDigits(codes, v.I32, sel, g.base, card)
	case g.form == rangeDigit:
		addDigits(codes, v.I64, sel, g.base, card)
	default:
		for k := range codes {
			codes[k] = codes[k]*card + g.at(v, rowAt(sel, k))
		}
	}
}

func addDigits[T int16 | int32 | int64](codes []int32, vals []T, sel []int32, base int64, card int32) {
	if sel == nil {
		vals = vals[:len(codes)]
		for k := range codes {
			codes[k] = codes[k]*card + int32(int64(vals[k])-base)
		}
		return
	}
	for k, i := range sel[:len(codes)] {
		codes[k] = codes[k]*card + int32(int64(vals[i])-base)
	}
}

// at is the digit of row i, which is not NULL.
func (g *digit) at(v *colvec.Vec, i int) int32 {
	switch g.form {
	case dictDigit:
		return v.Codes[i]
	case boolDigit:
		if v.BoolAt(i) {
			return 1
		}
		return 0
	case rangeDigit:
		return int32(v.IntAt(i) - g.base)
	}
	return int32(v.Data[v.Off[i]])
}
