package sqlfront

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/plan"
)

// update runs an UPDATE: all rows are read before the first is written.
func (w *writing) update(p *plan.UpdatePlan, params []sqltypes.Datum) (*execution, error) {
	if err := w.needTable(p.Table); err != nil {
		return nil, err
	}
	e, err := w.newExecution(p.Table, params, p.Returning)
	if err != nil {
		return nil, err
	}
	batches, err := e.source(p.Source)
	if err != nil {
		return nil, err
	}
	e.begin()
	seen := map[string]bool{}
	var olds, news [][]sqltypes.Datum
	var handles [][]byte
	for _, b := range batches {
		b, hs := firstOf(b, seen)
		if b.N == 0 {
			continue
		}
		n := len(e.types)
		rows := e.rows(b, 1+n)
		row := func(i int) []sqltypes.Datum { return rows[i] }
		if err := e.checkNotNull(b.Cols[1+n:], row); err != nil {
			return nil, err
		}
		if err := e.checkConstraints(p.Checks, b, row); err != nil {
			return nil, err
		}
		if err := e.returnRows(b); err != nil {
			return nil, err
		}
		olds, news, handles = append(olds, e.rows(b, 1)...), append(news, rows...), append(handles, hs...)
	}
	if err := e.writer.Update(olds, news, handles); err != nil {
		return nil, err
	}
	e.affected = int64(len(news))
	return e, e.end()
}

// delete runs a DELETE.
func (w *writing) delete(p *plan.DeletePlan, params []sqltypes.Datum) (*execution, error) {
	if err := w.needTable(p.Table); err != nil {
		return nil, err
	}
	e, err := w.newExecution(p.Table, params, p.Returning)
	if err != nil {
		return nil, err
	}
	batches, err := e.source(p.Source)
	if err != nil {
		return nil, err
	}
	e.begin()
	seen := map[string]bool{}
	for _, b := range batches {
		b, handles := firstOf(b, seen)
		for i, row := range e.rows(b, 1) {
			if err := e.writer.Delete(row, handles[i]); err != nil {
				return nil, err
			}
		}
		e.affected += int64(b.N)
		if err := e.returnRows(b); err != nil {
			return nil, err
		}
	}
	return e, e.end()
}

// firstOf keeps the rows whose handle, in the first column, comes for the first
// time: a row joined to several rows of FROM counts once.
func firstOf(b *expr.Batch, seen map[string]bool) (*expr.Batch, [][]byte) {
	v := colvec.Open(b.Cols[0], sqltypes.Bytea)
	var sel []int32
	var handles [][]byte
	for i := range b.N {
		h := string(v.BytesAt(i))
		if !seen[h] {
			seen[h] = true
			sel = append(sel, int32(i))
			handles = append(handles, []byte(h))
		}
	}
	if len(sel) == b.N {
		return b, handles
	}
	return expr.TakeBatch(b, sel), handles
}
