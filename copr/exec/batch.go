package exec

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// takeBatch is the rows of b at ascending positions sel.
func takeBatch(b *expr.Batch, types []sqltypes.Type, sel []int32) (*expr.Batch, error) {
	if len(sel) == b.N {
		return b, nil
	}
	if n := len(sel); n > 0 && int(sel[n-1]-sel[0]) == n-1 {
		return sliceBatch(b, int(sel[0]), int(sel[0])+n), nil
	}
	out := &expr.Batch{N: len(sel), Cols: make([]arrow.Array, len(b.Cols))}
	for c, col := range b.Cols {
		a, err := colvec.Take(col, types[c], sel)
		if err != nil {
			return nil, err
		}
		out.Cols[c] = a
	}
	return out, nil
}

// sliceBatch is rows lo to hi (exclusive) of b.
func sliceBatch(b *expr.Batch, lo, hi int) *expr.Batch {
	out := &expr.Batch{N: hi - lo, Cols: make([]arrow.Array, len(b.Cols))}
	for c, col := range b.Cols {
		out.Cols[c] = array.NewSlice(col, int64(lo), int64(hi))
	}
	return out
}

// rowRef is a row of a store: batch in the upper half, row in the lower.
type rowRef uint64

// store keeps batches and gathers rows of them in any order.
type store struct {
	types []sqltypes.Type
	vecs  [][]colvec.Vec // by batch
	refs  []rowRef       // of all rows, in order of arrival
	mem   memUser
}

func newStore(types []sqltypes.Type, acct *MemAccount) *store {
	return &store{types: types, mem: memUser{acct: acct}}
}

// refBytes is what a row costs a store beside its values.
const refBytes = 8

// add keeps the rows sel of b, all of them if sel is nil.
func (s *store) add(b *expr.Batch, sel []int32) error {
	n := b.N
	if sel != nil {
		n = len(sel)
	}
	if err := s.mem.grow(batchBytes(b) + refBytes*int64(n)); err != nil {
		return err
	}
	base := rowRef(len(s.vecs)) << 32
	s.vecs = append(s.vecs, colvec.OpenAll(b.Cols, s.types))
	if sel == nil {
		for i := range b.N {
			s.refs = append(s.refs, base|rowRef(i))
		}
		return nil
	}
	for _, i := range sel {
		s.refs = append(s.refs, base|rowRef(i))
	}
	return nil
}

// gather makes a batch of the given rows.
func (s *store) gather(refs []rowRef) (*expr.Batch, error) {
	out := &expr.Batch{N: len(refs), Cols: make([]arrow.Array, len(s.types))}
	for c, t := range s.types {
		b := colvec.NewBuilder(t, len(refs))
		for _, r := range refs {
			b.AppendFrom(&s.vecs[r>>32][c], int(uint32(r)))
		}
		a, err := b.Finish()
		if err != nil {
			return nil, err
		}
		out.Cols[c] = a
	}
	return out, nil
}

func (s *store) free() {
	s.vecs, s.refs = nil, nil
	s.mem.free()
}
