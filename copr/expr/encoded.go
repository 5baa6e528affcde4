package expr

import (
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// evec is a column while it is computed by nodes that know encodings (see
// colvec): a plain vec, unscaled decimals in int64, or codes of a dictionary.
type evec struct {
	vec // of a plain one
	enc encoding

	i64   []int64 // decimals; of a constant, one
	codes []int32
	dict  arrow.Array
	valid bitmap      // of an encoded one
	mem   *[]int64    // i64's, if it is the pool's
	src   arrow.Array // what it was opened from, nil if it was computed
}

type encoding uint8

const (
	encPlain encoding = iota
	encDec64
	encDict
)

// encNode is a node that takes encoded columns, and may return one.
type encNode interface {
	node
	evalEnc(ctx *Ctx, b *Batch, sel []int32) (evec, error)
}

// evalEnc computes a node, encoded if it can. Who calls it releases what it
// returns.
func evalEnc(n node, ctx *Ctx, b *Batch, sel []int32) (evec, error) {
	if e, ok := n.(encNode); ok {
		return e.evalEnc(ctx, b, sel)
	}
	v, err := n.eval(ctx, b, sel)
	return evec{vec: v}, err
}

// openEnc opens a column of a batch.
func openEnc(a arrow.Array, t sqltypes.Type) evec {
	if colvec.IsPlain(a, t) {
		return evec{vec: vec{arr: a}}
	}
	v := colvec.OpenEncoded(a, t)
	e := evec{src: a}
	if v.Nulls > 0 {
		e.valid = bitmap{a.NullBitmapBytes(), a.Data().Offset()}
	}
	if v.Dict == nil {
		e.enc, e.i64 = encDec64, v.D64
		return e
	}
	e.enc, e.codes, e.dict = encDict, v.Codes, v.DictArray()
	return e
}

// release gives the column's memory back; it is not read again.
func (v evec) release() {
	if v.mem != nil {
		int64Pool.Put(v.mem)
	}
}

// validity is the bitmap of any encoding.
func (v evec) validity() bitmap {
	if v.enc == encPlain {
		return v.bitmap()
	}
	return v.valid
}

// isNullConst reports whether v is the constant NULL.
func (v evec) isNullConst() bool { return v.enc == encPlain && v.nullConst() }

// plain gives the column its type's own layout, in the rows of sel at least,
// and releases it.
func (v evec) plain(t sqltypes.Type, n int, sel []int32) vec {
	switch v.enc {
	case encDec64:
		out := widenDecs(v.i64, v.cst, n, sel)
		var valid []byte
		if v.valid.bits != nil {
			valid = copyBits(v.valid, len(out))
		}
		v.release()
		return vec{arr: fixed(t.Arrow(), out, valid), cst: v.cst}
	case encDict:
		return vec{arr: decodeDict(v, t, n, sel)}
	}
	return v.vec
}

// array is the column as it may leave the expression: encoded, but in memory of
// its own.
func (v evec) array(t sqltypes.Type, n int) arrow.Array {
	switch {
	case v.enc == encPlain:
		return v.expand(n)
	case v.src != nil:
		return v.src
	case v.cst:
		return v.plain(t, 1, nil).expand(n)
	}
	var valid []byte
	nulls := 0
	if v.valid.bits != nil {
		valid = copyBits(v.valid, n)
		nulls = n - bitutil.CountSetBits(valid, 0, n)
	}
	if v.enc == encDec64 {
		return colvec.NewDec64(v.i64, valid, nulls)
	}
	return colvec.NewDict(v.dict, v.codes, valid, nulls)
}

// copyBits copies n bits to the start of a bitmap.
func copyBits(b bitmap, n int) []byte {
	out := newBits(n)
	bitutil.CopyBitmap(b.bits, b.off, n, out, 0)
	return out
}

func widenDecs(in []int64, cst bool, n int, sel []int32) []dec {
	if cst {
		n, sel = 1, nil
	}
	out := make([]dec, n)
	if sel == nil {
		for i, v := range in[:n] {
			out[i] = decimal128.FromI64(v)
		}
		return out
	}
	for _, i := range sel {
		out[i] = decimal128.FromI64(in[i])
	}
	return out
}

// decodeDict is the strings of the rows of sel; others are empty.
func decodeDict(v evec, t sqltypes.Type, n int, sel []int32) arrow.Array {
	src := stringsOf(v.dict)
	offs := make([]int32, n+1)
	size := int64(0)
	rowsOf(n, sel, func(i int) {
		if v.valid.set(i) {
			c := v.codes[i]
			l := src.offs[c+1] - src.offs[c]
			offs[i+1] = l
			size += int64(l)
		}
	})
	if size > blockTextBytesMax {
		panic(errBlockText()) // sqlfront/plan and copr/server make it the statement's error
	}
	data := make([]byte, 0, size)
	rowsOf(n, sel, func(i int) {
		if offs[i+1] > 0 {
			c := v.codes[i]
			data = append(data, src.data[src.offs[c]:src.offs[c+1]]...)
		}
	})
	for i := range n {
		offs[i+1] += offs[i]
	}
	var valid []byte
	if v.valid.bits != nil {
		valid = copyBits(v.valid, n)
	}
	return rawArray(t.Arrow(), n, valid, rawBytes(offs), data)
}

// Memory of intermediate results. What a pool gives has any content.

// pooledRowsMax is the most rows of a buffer that is kept for the next batch.
const pooledRowsMax = 1 << 16

var (
	int64Pool = sync.Pool{New: func() any { return new([]int64) }}
	rowsPool  = sync.Pool{New: func() any { return new([]int32) }}
)

// int64s is n values of the pool, to be released by evec.release.
func int64s(n int) ([]int64, *[]int64) {
	p := int64Pool.Get().(*[]int64)
	if cap(*p) < n {
		*p = make([]int64, n)
	}
	s := (*p)[:n]
	if n > pooledRowsMax {
		return s, nil
	}
	return s, p
}

// getRows is room for n row numbers, and putRows gives it back.
func getRows(n int) *[]int32 {
	p := rowsPool.Get().(*[]int32)
	if cap(*p) < n {
		*p = make([]int32, 0, n)
	}
	*p = (*p)[:0]
	return p
}

func putRows(p *[]int32) {
	if cap(*p) <= pooledRowsMax {
		rowsPool.Put(p)
	}
}

// denseShare: a selection of at least this share of a batch (in eighths) is
// computed as the whole batch, where that cannot fail.
const denseShare = 7

// dense is sel, or nil where it is nearly everything.
func dense(n int, sel []int32) []int32 {
	if sel != nil && len(sel)*8 >= n*denseShare {
		return nil
	}
	return sel
}

// eval makes an encoded column plain.
func (c colNode) eval(_ *Ctx, b *Batch, sel []int32) (vec, error) {
	return openEnc(b.Cols[c.index], c.typ).plain(c.typ, b.N, sel), nil
}

func (c colNode) evalEnc(_ *Ctx, b *Batch, _ []int32) (evec, error) {
	return openEnc(b.Cols[c.index], c.typ), nil
}

// newConstNode prepares a decimal that fits an int64.
func newConstNode(e *Const) constNode {
	v := constVec(e.Typ, e.Value)
	n := constNode{v: v, enc: evec{vec: v}}
	if c, ok := v.arr.(*array.Decimal128); ok && !v.arr.IsNull(0) {
		if x, ok := colvec.ToDec64(c.Value(0)); ok {
			n.enc = evec{vec: vec{cst: true}, enc: encDec64, i64: []int64{x}}
		}
	}
	return n
}

type constNode struct {
	v   vec
	enc evec
}

func (c constNode) eval(*Ctx, *Batch, []int32) (vec, error)     { return c.v, nil }
func (c constNode) evalEnc(*Ctx, *Batch, []int32) (evec, error) { return c.enc, nil }

// EvalEncoded is Eval, but the column may be encoded.
func (e *evaluator) EvalEncoded(ctx *Ctx, b *Batch, sel []int32) (arrow.Array, error) {
	v, err := evalEnc(e.n, ctx, b, sel)
	if err != nil {
		return nil, ownError(err)
	}
	return v.array(e.e.Type(), b.N), nil
}
