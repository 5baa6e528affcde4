package exec

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Raw is rows as operators pass them to one another without gathering them:
// the rows Sel (ascending; nil = all of them) of a batch whose columns may be
// encoded (see colvec). Rows that are not selected may have any value. Sel is
// the reader's until its next call.
type Raw struct {
	*expr.Batch
	Sel []int32
}

// Len is how many rows there are.
func (r Raw) Len() int {
	if r.Sel != nil {
		return len(r.Sel)
	}
	return r.N
}

// RawOperator is an operator that can do without gathering and plain columns.
// A consumer calls either Next or NextRaw, not both.
type RawOperator interface {
	Operator
	// NextRaw returns the next rows, a Raw without Batch at the end.
	NextRaw() (Raw, error)
}

// RawSource is a Source that returns encoded columns.
type RawSource interface {
	Source
	// NextRaw is Next with columns as they are.
	NextRaw() (Raw, error)
}

// rawRunner is a runner that makes Raw; its next is not called.
type rawRunner interface {
	nextRaw() (Raw, error)
}

// NextRaw reads from any operator.
func NextRaw(op Operator) (Raw, error) {
	if r, ok := op.(RawOperator); ok {
		return r.NextRaw()
	}
	b, err := op.Next()
	return Raw{Batch: b}, err
}

// plain gathers the rows and makes the columns plain.
func (r Raw) plain(types []sqltypes.Type) (*expr.Batch, error) {
	if r.Batch == nil {
		return nil, nil
	}
	b := r.Batch
	if r.Sel != nil {
		var err error
		if b, err = takeBatch(b, types, r.Sel); err != nil {
			return nil, err
		}
	}
	cols := colvec.PlainAll(b.Cols, types)
	if len(cols) == 0 || &cols[0] == &b.Cols[0] {
		return b, nil
	}
	return &expr.Batch{N: b.N, Cols: cols}, nil
}

// Gathered is the selected rows only, their columns still encoded.
func (r Raw) Gathered(types []sqltypes.Type) (*expr.Batch, error) {
	if r.Sel == nil {
		return r.Batch, nil
	}
	return takeBatch(r.Batch, types, r.Sel)
}

// PlainBatch is a batch with plain columns: b itself if it has them.
func PlainBatch(b *expr.Batch, types []sqltypes.Type) *expr.Batch {
	out, err := Raw{Batch: b}.plain(types)
	if err != nil {
		panic(err) // nothing is gathered
	}
	return out
}
