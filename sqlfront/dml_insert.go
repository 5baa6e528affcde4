package sqlfront

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/plan"
)

// insert runs an INSERT.
func (w *writing) insert(p *plan.InsertPlan, params []sqltypes.Datum) (*execution, error) {
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
	if p.Conflict != nil {
		return e, e.upsert(p, batches)
	}
	e.begin()
	for _, b := range batches {
		if err := e.insertBatch(p, b); err != nil {
			return nil, err
		}
	}
	return e, e.end()
}

func (e *execution) insertBatch(p *plan.InsertPlan, b *expr.Batch) error {
	rows := e.rows(b, 0)
	if err := e.checkRows(p, b, rows); err != nil {
		return err
	}
	if err := e.insertRows(rows); err != nil {
		return err
	}
	e.affected += int64(b.N)
	return e.returnRows(b)
}

// checkRows holds new rows to NOT NULL and CHECK.
func (e *execution) checkRows(p *plan.InsertPlan, b *expr.Batch, rows [][]sqltypes.Datum) error {
	row := func(i int) []sqltypes.Datum { return rows[i] }
	if err := e.checkNotNull(b.Cols, row); err != nil {
		return err
	}
	return e.checkConstraints(p.Checks, b, row)
}

// insertRows writes new rows under their keys or new row ids.
func (e *execution) insertRows(rows [][]sqltypes.Datum) error {
	if !e.writer.HasRowID() {
		for _, r := range rows {
			handle, err := e.writer.Handle(nil, r)
			if err != nil {
				return err
			}
			if err := e.writer.Insert(r, handle); err != nil {
				return err
			}
		}
		return nil
	}
	for len(rows) > 0 {
		first, n, err := e.s.db.catalog.RowIDs(e.ctx, e.desc.ID, len(rows))
		if err != nil {
			return err
		}
		for i := range n {
			if err := e.writer.Insert(rows[i], tablecodec.AppendRowID(nil, first+int64(i))); err != nil {
				return err
			}
		}
		rows = rows[n:]
	}
	return nil
}
