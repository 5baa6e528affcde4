package sqlfront

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/plan"
)

// lockRows locks the rows that a query with FOR UPDATE or FOR SHARE returned.
// All strengths lock exclusively: more than SHARE asks for, never less.
func (w *writing) lockRows(targets []plan.LockTarget, batches []*expr.Batch) error {
	for _, t := range targets {
		if t.SkipLocked {
			return pgerror.Unsupported("SKIP LOCKED")
		}
		var keys [][]byte
		for _, b := range batches {
			handles := colvec.Open(b.Cols[t.Handle], sqltypes.Bytea)
			for i := range b.N {
				if !handles.IsNull(i) {
					keys = append(keys, tablecodec.AppendRowKey(nil, t.Table.ID, handles.BytesAt(i)))
				}
			}
		}
		wait := lockWaits
		if t.NoWait {
			wait = lockNoWait
		}
		if err := w.lock(w.ctx, w.ts, keys, wait); err != nil {
			return err
		}
	}
	return nil
}
