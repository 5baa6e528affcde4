package exec

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/colvec"
)

// probeDictsMax is how many dictionaries a probe remembers the codes of.
const probeDictsMax = 64

// probeKeys makes the words of a probe side's rows. It belongs to one probe;
// the joinKeys are shared.
type probeKeys struct {
	keys *joinKeys
	rows []int32  // rows whose codes are all in range
	word []uint64 // their words
	tmp  []int64  // codes, by position in the batch
	dict []map[arrow.ArrayData][]int64
	buf  []byte
}

// words finds the rows among sel (nil = all of n; none has a NULL key) that may
// join, and their words.
func (p *probeKeys) words(vecs []colvec.Vec, n int, sel []int32) error {
	if p.dict == nil {
		p.dict = make([]map[arrow.ArrayData][]int64, len(vecs))
	}
	if cap(p.rows) < n {
		p.rows, p.word, p.tmp = make([]int32, n), make([]uint64, n), make([]int64, n)
	}
	p.rows, p.word, p.tmp = p.rows[:n], p.word[:n], p.tmp[:n]
	if p.keys.tuples != nil {
		return p.tupleWords(vecs, n, sel)
	}
	k := 0
	for i := range vecs {
		c, v := &p.keys.cols[i], &vecs[i]
		rows := sel
		if i > 0 {
			rows = p.rows[:k]
		}
		switch {
		case c.ints && v.I64 != nil:
			k = addCodes(p, c, i, v.I64, rows, n)
		case c.ints && v.I32 != nil:
			k = addCodes(p, c, i, v.I32, rows, n)
		case c.ints && v.I16 != nil:
			k = addCodes(p, c, i, v.I16, rows, n)
		case c.dec && v.D64 != nil && !c.wide():
			k = addCodes(p, c, i, v.D64, rows, n)
		default:
			if err := p.codes(i, v, rows, n); err != nil {
				return err
			}
			k = addCodes(p, c, i, p.tmp, rows, n)
		}
	}
	p.rows, p.word = p.rows[:k], p.word[:k]
	return nil
}

// wide reports whether there are interned numerics on the build side.
func (c *keyColumn) wide() bool { return c.names.Len() > 0 }

// addCodes adds key column number i to the words of rows, and drops the rows
// that are out of range. The first column makes the words.
func addCodes[T int16 | int32 | int64](p *probeKeys, c *keyColumn, i int, src []T, rows []int32, n int) int {
	k, lo, span := 0, uint64(c.lo), c.span
	out, word := p.rows, p.word
	switch {
	case i > 0:
		for j, r := range rows {
			d := uint64(int64(src[r])) - lo
			out[k], word[k] = r, word[j]|d<<c.shift
			if d <= span {
				k++
			}
		}
	case rows == nil:
		for r, x := range src[:n] {
			d := uint64(int64(x)) - lo
			out[k], word[k] = int32(r), d
			if d <= span {
				k++
			}
		}
	default:
		for _, r := range rows {
			d := uint64(int64(src[r])) - lo
			out[k], word[k] = r, d
			if d <= span {
				k++
			}
		}
	}
	return k
}

// codes writes the codes of rows (nil = all of n) of key column number i.
func (p *probeKeys) codes(i int, v *colvec.Vec, rows []int32, n int) error {
	c := &p.keys.cols[i]
	if v.Dict != nil {
		return p.dictCodes(i, v, rows, n)
	}
	var err error
	eachRow(n, rows, func(r int) {
		switch {
		case c.ints:
			p.tmp[r] = intKey(v, r)
		case err == nil:
			p.tmp[r], err = c.code(v, r, &p.buf, false)
		}
	})
	return err
}

// codeUnknown stands for a value of a dictionary that was not looked up yet.
const codeUnknown = math.MinInt64

// dictCodes looks up each value of a dictionary once.
func (p *probeKeys) dictCodes(i int, v *colvec.Vec, rows []int32, n int) error {
	c := &p.keys.cols[i]
	known, ok := p.dict[i][v.DictID]
	if !ok {
		if len(p.dict[i]) == 0 || len(p.dict[i]) >= probeDictsMax {
			p.dict[i] = map[arrow.ArrayData][]int64{}
		}
		known = make([]int64, v.Dict.N)
		for k := range known {
			known[k] = codeUnknown
		}
		p.dict[i][v.DictID] = known
	}
	var err error
	eachRow(n, rows, func(r int) {
		code := v.Codes[r]
		if known[code] == codeUnknown && err == nil {
			known[code], err = c.code(v.Dict, int(code), &p.buf, false)
		}
		p.tmp[r] = known[code]
	})
	return err
}

// tupleWords is words where the tuples of codes are interned.
func (p *probeKeys) tupleWords(vecs []colvec.Vec, n int, sel []int32) error {
	codes := make([][]int64, len(vecs))
	for i := range vecs {
		if err := p.codes(i, &vecs[i], sel, n); err != nil {
			return err
		}
		codes[i] = append([]int64(nil), p.tmp...)
	}
	k := 0
	var tuple []byte
	eachRow(n, sel, func(r int) {
		tuple = tuple[:0]
		for i := range vecs {
			c := &p.keys.cols[i]
			if uint64(codes[i][r])-uint64(c.lo) > c.span {
				return
			}
			tuple = appendWord(tuple, uint64(codes[i][r]))
		}
		if id, _ := p.keys.tuples.find(tuple, hashBytes(tuple), false); id >= 0 {
			p.rows[k], p.word[k] = int32(r), uint64(id)
			k++
		}
	})
	p.rows, p.word = p.rows[:k], p.word[:k]
	return nil
}
