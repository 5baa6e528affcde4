package sqlfront

import (
	"bytes"
	"context"
	"errors"
	"time"

	tikvkv "github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"golang.org/x/sync/errgroup"

	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/mutate"
)

const (
	// backfillRows is how many rows one transaction of a backfill indexes.
	backfillRows = 2048
	// backfillWorkers is how many such transactions run at a time.
	backfillWorkers = 8
	// backfillTriesMax bounds the attempts at one batch: each means that somebody
	// changed one of its rows in between.
	backfillTriesMax = 100
	abandonTimeout   = 30 * time.Second
)

// tableRow is a row as the backfill reads it.
type tableRow struct {
	handle []byte
	row    []sqltypes.Datum
}

// readRows reads up to limit rows of a table from key start on, and the key to
// go on from (nil at the end).
func readRows(ctx context.Context, t *catalog.Table, it iterator, limit int) ([]tableRow, []byte, error) {
	key, all := scanColumns(t)
	src := &limitedRows{ctx: ctx, it: it, left: limit}
	sc, err := scan.New(&coprplan.TableScan{TableID: t.ID, KeyColumns: key, Columns: all, Handle: true}, src, scan.Options{})
	if err != nil {
		return nil, nil, err
	}
	types := sc.Types()
	var out []tableRow
	for {
		b, err := sc.Next()
		if err != nil {
			return nil, nil, err
		}
		if b == nil {
			break
		}
		out = append(out, datumRowsOf(b, types)...)
	}
	if len(out) < limit {
		return out, nil, nil
	}
	last := tablecodec.AppendRowKey(nil, t.ID, out[len(out)-1].handle)
	return out, append(last, 0), nil
}

// datumRowsOf makes rows of a batch whose last column is the handle.
func datumRowsOf(b *expr.Batch, types []sqltypes.Type) []tableRow {
	vecs := colvec.OpenAll(b.Cols, types)
	n := len(types) - 1
	out := make([]tableRow, b.N)
	for r := range out {
		out[r].row = make([]sqltypes.Datum, n)
		for c := range n {
			out[r].row[c] = vecs[c].At(r, types[c])
		}
		out[r].handle = bytes.Clone(vecs[n].BytesAt(r))
	}
	return out
}

// limitedRows is an iterator as a row source.
type limitedRows struct {
	ctx   context.Context
	it    iterator
	left  int
	began bool
}

// Next implements exec.RowSource.
func (l *limitedRows) Next() (key, value []byte, ok bool, err error) {
	if l.left == 0 {
		return nil, nil, false, nil
	}
	if e := cancelError(l.ctx); e != nil {
		return nil, nil, false, e
	}
	if l.began {
		if err := l.it.Next(); err != nil {
			return nil, nil, false, kvError(l.ctx, err, nil)
		}
	}
	l.began = true
	if !l.it.Valid() {
		return nil, nil, false, nil
	}
	l.left--
	return l.it.Key(), l.it.Value(), true, nil
}

// backfill writes the entries of all rows that exist, in transactions of
// backfillRows rows, several at a time. Writers maintain the index by now:
// whoever changes a row deletes or writes the very entry that the backfill
// writes, so that one of the two conflicts or comes later.
func (b *indexBuild) backfill() error {
	snap, err := b.s.db.catalog.Latest(b.ctx)
	if err != nil {
		return kvError(b.ctx, err, nil)
	}
	t, ix, err := b.find(snap)
	if err != nil {
		return err
	}
	ts, err := b.s.db.timestamp(b.ctx)
	if err != nil {
		return err
	}
	holdStatement(b.ctx, ts)
	g, ctx := errgroup.WithContext(b.ctx)
	g.SetLimit(backfillWorkers)
	part := &indexBuild{s: b.s, ctx: ctx, tableID: b.tableID, indexID: b.indexID}
	err = b.cut(ctx, ts, tablecodec.RecordRange(t.ID), func(r kv.KeyRange) {
		g.Go(func() error { return part.batches(t, ix, r) })
	})
	if gerr := g.Wait(); gerr != nil {
		return gerr
	}
	return err
}

// cut calls fn for ranges of about backfillRows rows that together cover r.
func (b *indexBuild) cut(ctx context.Context, ts uint64, r kv.KeyRange, fn func(kv.KeyRange)) error {
	snap := b.s.db.kv.GetSnapshot(ts)
	snap.SetKeyOnly(true)
	snap.SetNotFillCache(true)
	snap.SetScanBatchSize(backfillRows)
	it, err := snap.Iter(r.Start, r.End)
	if err != nil {
		return kvError(ctx, err, nil)
	}
	defer it.Close()
	start := r.Start
	for n := 1; it.Valid(); n++ {
		if n%backfillRows == 0 {
			if e := cancelError(ctx); e != nil {
				return e
			}
			end := bytes.Clone(it.Key())
			fn(kv.KeyRange{Start: start, End: end})
			start = end
		}
		if err := it.Next(); err != nil {
			return kvError(ctx, err, nil)
		}
	}
	fn(kv.KeyRange{Start: start, End: r.End})
	return nil
}

// batches indexes the rows of a range.
func (b *indexBuild) batches(t *catalog.Table, ix *catalog.Index, r kv.KeyRange) error {
	for start := r.Start; start != nil; {
		var err error
		if start, err = b.batch(t, ix, kv.KeyRange{Start: start, End: r.End}); err != nil {
			return err
		}
	}
	return nil
}

// batch indexes some rows in a transaction of its own, again if it conflicts.
func (b *indexBuild) batch(t *catalog.Table, ix *catalog.Index, r kv.KeyRange) (next []byte, err error) {
	for try := 0; ; try++ {
		next, err = b.tryBatch(t, ix, r)
		switch {
		case err == nil:
			return next, nil
		case !isConflict(err) && !isKeyExists(err) || try == backfillTriesMax:
			return nil, kvError(b.ctx, err, nil)
		}
		if err := pause(b.ctx, try); err != nil {
			return nil, err
		}
	}
}

func (b *indexBuild) tryBatch(t *catalog.Table, ix *catalog.Index, r kv.KeyRange) ([]byte, error) {
	tx, err := b.s.db.kv.Begin()
	if err != nil {
		return nil, err
	}
	next, err := b.writeBatch(tx, t, ix, r)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return next, tx.Commit(b.ctx)
}

func (b *indexBuild) writeBatch(tx *transaction.KVTxn, t *catalog.Table, ix *catalog.Index, r kv.KeyRange) ([]byte, error) {
	tx.SetEnable1PC(true)
	tx.SetEnableAsyncCommit(true)
	tx.GetSnapshot().SetNotFillCache(true)
	tx.GetSnapshot().SetScanBatchSize(backfillRows)
	it, err := tx.Iter(r.Start, r.End)
	if err != nil {
		return nil, err
	}
	rows, next, err := readRows(b.ctx, t, it, backfillRows)
	it.Close()
	if err != nil {
		return nil, err
	}
	return next, b.addEntries(tx, mutate.New(t), ix, rows)
}

// addEntries writes the rows' entries that are not there yet.
func (b *indexBuild) addEntries(tx *transaction.KVTxn, w *mutate.Table, ix *catalog.Index, rows []tableRow) error {
	entries := make([][]byte, len(rows))
	unique := make([]bool, len(rows))
	var lookups [][]byte
	for i, row := range rows {
		var err error
		if entries[i], _, unique[i], err = w.IndexEntry(ix.ID, row.row, row.handle); err != nil {
			return err
		}
		if unique[i] {
			lookups = append(lookups, entries[i])
		}
	}
	there, err := tx.BatchGet(b.ctx, lookups)
	if err != nil {
		return err
	}
	buf := tx.GetMemBuffer()
	mine := map[string]bool{}
	for i, row := range rows {
		if !unique[i] {
			if err := buf.Set(entries[i], row.handle); err != nil {
				return err
			}
			continue
		}
		v, exists := there[string(entries[i])]
		if exists && !bytes.Equal(v.Value, row.handle) || mine[string(entries[i])] {
			return w.DuplicateError(ix, entries[i])
		}
		mine[string(entries[i])] = true
		if exists {
			continue
		}
		if err := buf.SetWithFlags(entries[i], row.handle, tikvkv.SetPresumeKeyNotExists); err != nil {
			return err
		}
	}
	return nil
}

// fillOwnIndex indexes the rows of a table that the open transaction has made.
func (d *ddl) fillOwnIndex(t *catalog.Table, ix *catalog.Index) error {
	if err := d.change.PutTable(t); err != nil {
		return err
	}
	r := tablecodec.RecordRange(t.ID)
	for start := r.Start; start != nil; {
		it, err := d.kv.Iter(start, r.End)
		if err != nil {
			return err
		}
		rows, next, err := readRows(d.ctx, t, it, backfillRows)
		it.Close()
		if err != nil {
			return err
		}
		if err := d.ownEntries(t, ix, rows); err != nil {
			return err
		}
		start = next
	}
	return nil
}

func (d *ddl) ownEntries(t *catalog.Table, ix *catalog.Index, rows []tableRow) error {
	w := mutate.New(t)
	buf := d.kv.GetMemBuffer()
	for _, row := range rows {
		key, value, unique, err := w.IndexEntry(ix.ID, row.row, row.handle)
		if err != nil {
			return err
		}
		if unique {
			if own, err := buf.GetLocal(d.ctx, key); err == nil && len(own) > 0 {
				return w.DuplicateError(ix, key)
			}
		}
		if err := buf.Set(key, value); err != nil {
			return err
		}
	}
	return nil
}
