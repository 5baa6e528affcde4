package exec

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

// appendEqualKey appends bytes that are equal exactly for values that compare
// equal; NULL equals NULL. No encoding is a prefix of another.
func appendEqualKey(dst []byte, t sqltypes.Type, v *colvec.Vec, i int) ([]byte, error) {
	if v.IsNull(i) {
		return append(dst, 0), nil
	}
	if v.Dict != nil {
		v, i = v.Dict, int(v.Codes[i])
	}
	dst = append(dst, 1)
	switch v.Kind {
	case colvec.Int16, colvec.Int32, colvec.Int64, colvec.Date, colvec.Time, colvec.Timestamp:
		return binary.LittleEndian.AppendUint64(dst, uint64(v.IntAt(i))), nil
	case colvec.Decimal:
		if v.Encoded {
			return append(dst, dec128Bytes(decimal128.FromI64(v.D64[i]))...), nil
		}
		dst = binary.LittleEndian.AppendUint64(dst, v.Dec[i].LowBits())
		return binary.LittleEndian.AppendUint64(dst, uint64(v.Dec[i].HighBits())), nil
	case colvec.Binary, colvec.String:
		if t.OID == sqltypes.OIDBpchar {
			break
		}
		s := v.BytesAt(i)
		return append(binary.AppendUvarint(dst, uint64(len(s))), s...), nil
	}
	return tablecodec.AppendVec(dst, tablecodec.Column{Type: t}, v, i)
}

// appendSortKey appends bytes that order as the sort key says. The column may be
// encoded.
func appendSortKey(dst []byte, t sqltypes.Type, k *plan.SortKey, v *colvec.Vec, i int) ([]byte, error) {
	if v.IsNull(i) {
		if k.NullsFirst {
			return append(dst, 0), nil
		}
		return append(dst, 2), nil
	}
	dst = append(dst, 1)
	start := len(dst)
	switch {
	case v.Dict != nil:
		v, i = v.Dict, int(v.Codes[i])
	case v.Encoded:
		v, i = &colvec.Vec{Kind: v.Kind, N: 1, Dec: []decimal128.Num{decimal128.FromI64(v.D64[i])}}, 0
	}
	dst, err := tablecodec.AppendVec(dst, tablecodec.Column{Type: t}, v, i)
	if k.Desc {
		for j := start; j < len(dst); j++ {
			dst[j] ^= 0xFF
		}
	}
	return dst, err
}

// sortKeys computes the sort keys of batches: for each row one byte string, in
// one arena.
type sortKeys struct {
	keys  []plan.SortKey
	exprs *exprList
}

func newSortKeys(keys []plan.SortKey) (*sortKeys, error) {
	exprs := make([]expr.Expr, len(keys))
	for i, k := range keys {
		exprs[i] = k.Expr
	}
	list, err := compileAll(exprs)
	return &sortKeys{keys: keys, exprs: list}, err
}

// append appends the keys of b's rows to arena and their ends to ends.
func (s *sortKeys) append(ctx *Ctx, b *expr.Batch, arena []byte, ends []int) ([]byte, []int, error) {
	vecs, err := s.exprs.eval(ctx, b)
	if err != nil {
		return arena, ends, err
	}
	for i := range b.N {
		for c := range s.keys {
			if arena, err = appendSortKey(arena, s.exprs.types[c], &s.keys[c], &vecs[c], i); err != nil {
				return arena, ends, err
			}
		}
		ends = append(ends, len(arena))
	}
	return arena, ends, nil
}

// appendRaw is append for the rows of r.
func (s *sortKeys) appendRaw(ctx *Ctx, r Raw, arena []byte, ends []int) ([]byte, []int, error) {
	cols, err := s.exprs.encoded(ctx, r)
	if err != nil {
		return arena, ends, err
	}
	vecs := colvec.OpenAllEncoded(cols, s.exprs.types)
	for k := range r.Len() {
		for c := range s.keys {
			if arena, err = appendSortKey(arena, s.exprs.types[c], &s.keys[c], &vecs[c], rowAt(r.Sel, k)); err != nil {
				return arena, ends, err
			}
		}
		ends = append(ends, len(arena))
	}
	return arena, ends, nil
}

// intKey returns a column's value as a 64-bit key that is equal exactly for
// equal values, for the kinds that fit; see intKeyed.
func intKey(v *colvec.Vec, i int) int64 {
	switch v.Kind {
	case colvec.Int64, colvec.Time, colvec.Timestamp:
		return v.I64[i]
	case colvec.Int32, colvec.Date:
		return int64(v.I32[i])
	case colvec.Int16:
		return int64(v.I16[i])
	case colvec.Bool:
		if v.BoolAt(i) {
			return 1
		}
		return 0
	}
	var buf [8]byte
	return int64(binary.BigEndian.Uint64(codec.EncodeFloat64(buf[:0], v.FloatAt(i))) ^ math.MaxInt64)
}

// intKeyed reports whether intKey serves columns of type t.
func intKeyed(t sqltypes.Type) bool {
	k := colvec.KindOf(t)
	return k.IsInt() || k == colvec.Bool || k == colvec.Float32 || k == colvec.Float64
}
