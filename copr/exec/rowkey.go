package exec

import (
	"encoding/binary"

	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
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

// appendSortKey appends bytes that order as the sort key says.
func appendSortKey(dst []byte, t sqltypes.Type, k *plan.SortKey, v *colvec.Vec, i int) ([]byte, error) {
	if v.IsNull(i) {
		if k.NullsFirst {
			return append(dst, 0), nil
		}
		return append(dst, 2), nil
	}
	dst = append(dst, 1)
	start := len(dst)
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
