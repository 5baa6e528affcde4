package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/transaction"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/copyfmt"
	"github.com/copradb/copra/sqlfront/mutate"
)

// CopyBufferBytesMax is how much a COPY of its own keeps before it starts to
// flush to the stores as it goes (a pipelined transaction).
const CopyBufferBytesMax = 32 << 20

// copyStatsRows is from how many rows on a COPY tells the catalog that the table
// has grown.
const copyStatsRows = 1000

// copyIn is COPY FROM STDIN: all rows or none.
type copyIn struct {
	s       *session
	ctx     context.Context
	finish  func()
	st      *ast.Copy
	snap    *catalog.Snapshot
	table   *catalog.Table
	ords    []int
	names   []string
	options *copyfmt.Options
	rows    int64
	closed  bool
}

func (c *copyIn) Kind() ResultKind                           { return ResultCopyIn }
func (c *copyIn) Columns() []Column                          { return nil }
func (c *copyIn) Next(context.Context) (arrow.Record, error) { return nil, io.EOF }
func (c *copyIn) CopyFormat() CopyFormat {
	return CopyFormat{Binary: c.options.Binary, Columns: len(c.ords)}
}
func (c *copyIn) Tag() string { return fmt.Sprintf("COPY %d", c.rows) }
func (c *copyIn) CopyTo(ctx context.Context, w io.Writer) error {
	return baseResult{}.CopyTo(ctx, w)
}

func (c *copyIn) Close() error {
	if !c.closed {
		c.closed = true
		c.finish()
	}
	return nil
}

// CopyFrom loads the rows of r.
func (c *copyIn) CopyFrom(ctx context.Context, r io.Reader) error {
	stop := context.AfterFunc(ctx, c.s.Cancel)
	defer stop()
	err := c.load(r)
	if err != nil {
		c.rows = 0
		c.s.Fail()
		return err
	}
	c.s.db.metrics.copyRows.Add(float64(c.rows))
	return nil
}

func (c *copyIn) load(r io.Reader) error {
	if c.s.txn != nil {
		return c.loadInTxn(c.s.txn, r)
	}
	t := c.s.newTxn(false)
	t.pessimistic = false
	defer t.rollbackOpen()
	ts, err := t.readTS(c.ctx)
	if err != nil {
		return err
	}
	if _, err := t.store(ts); err != nil {
		return err
	}
	if err := c.s.awaitFence(c.ctx, c.table); err != nil {
		return kvError(c.ctx, err, nil)
	}
	sink := &copySink{c: c, txn: t, table: t.table(c.table), spill: true}
	defer sink.close()
	err = sink.run(r)
	if err == nil {
		err = sink.settle()
	}
	if err == nil && sink.bulk != nil {
		c.rows = sink.rows
		return nil
	}
	if err != nil {
		return kvError(c.ctx, err, t.tables())
	}
	if e := cancelError(c.ctx); e != nil {
		return e
	}
	if err := t.commit(c.ctx); err != nil {
		return kvError(c.ctx, err, t.tables())
	}
	c.rows = sink.rows
	c.grow()
	return nil
}

// loadInTxn loads into the open transaction's buffer, which bounds the size.
func (c *copyIn) loadInTxn(t *txn, r io.Reader) error {
	ts, err := t.readTS(c.ctx)
	if err != nil {
		return err
	}
	tx, err := t.store(ts)
	if err != nil {
		return err
	}
	if err := c.s.awaitFence(c.ctx, c.table); err != nil {
		return kvError(c.ctx, err, nil)
	}
	stage := tx.GetMemBuffer().Staging()
	sink := &copySink{c: c, txn: t, table: t.table(c.table)}
	if err = sink.run(r); err == nil {
		err = t.lock(c.ctx, ts, sink.locks, lockWaits)
	}
	if err != nil {
		tx.GetMemBuffer().Cleanup(stage)
		return kvError(c.ctx, err, t.tables())
	}
	tx.GetMemBuffer().Release(stage)
	c.rows = sink.rows
	return nil
}

// grow adds the new rows to the table's estimated size.
func (c *copyIn) grow() {
	if c.rows < copyStatsRows {
		return
	}
	err := c.s.changeSchema(context.WithoutCancel(c.ctx), func(d *ddl) error {
		st := d.change.Snapshot().TableStats(c.table.ID)
		st.Rows += c.rows
		return d.change.PutStats(c.table.ID, st)
	})
	if err != nil {
		c.s.db.log.Warn("the row count after COPY could not be stored; ANALYZE does it", "table", c.table.Name, "error", err)
	}
}

// copySink writes encoded rows into a transaction.
type copySink struct {
	c     *copyIn
	txn   *txn
	table *mutate.Table
	spill bool
	rows  int64
	locks [][]byte
	// held is what a COPY of its own has so far, while it may yet become a bulk load.
	held      [][]entry
	heldBytes int
	decided   bool
	bulk      *bulkCopy
	// last are the greatest unique keys written, by key space: keys that ascend
	// cannot meet one that is flushed already.
	last map[string][]byte
}

// write takes one chunk's keys. Those of a COPY of its own are held until it is
// so large that it is a bulk load, if it can be one, or ends.
func (k *copySink) write(list []entry) error {
	switch {
	case k.bulk != nil:
		return k.bulk.add(list)
	case !k.spill || k.decided:
		return k.writeTxn(list)
	}
	k.held = append(k.held, list)
	for i := range list {
		k.heldBytes += len(list[i].key) + len(list[i].value)
	}
	if k.heldBytes < k.c.s.bulkLoadBytes() {
		return nil
	}
	k.decided = true
	var err error
	if k.bulk, err = k.startBulk(); err != nil {
		return err
	}
	return k.release()
}

// release hands on what was held.
func (k *copySink) release() error {
	k.decided = true
	held := k.held
	k.held = nil
	for _, list := range held {
		if err := k.write(list); err != nil {
			return err
		}
	}
	return nil
}

// close frees what the sink has beside its transaction.
func (k *copySink) close() {
	if k.bulk != nil {
		k.bulk.close()
	}
}

// writeTxn writes one chunk's keys into the transaction.
func (k *copySink) writeTxn(list []entry) error {
	if err := k.checkFlushed(list); err != nil {
		return err
	}
	buf := k.txn.kv.GetMemBuffer()
	for i := range list {
		e := &list[i]
		if !e.unique {
			if err := buf.Set(e.key, e.value); err != nil {
				return err
			}
			continue
		}
		if err := k.putUnique(e); err != nil {
			return err
		}
	}
	if k.txn.kv.IsPipelined() {
		_, err := buf.Flush(false)
		return err
	}
	if k.spill && k.txn.kv.Size() > CopyBufferBytesMax {
		return k.pipeline()
	}
	return nil
}

func (k *copySink) putUnique(e *entry) error {
	w := mutate.NewWriter(k.c.ctx, k.table, k.txn.kv.GetMemBuffer())
	if err := w.PutNew(e.key, e.value); err != nil {
		return e.at(k.c, err)
	}
	if k.txn.pessimistic {
		k.locks = append(k.locks, w.Locks...)
	}
	return nil
}

// checkFlushed looks for unique keys of this COPY that are flushed already:
// only keys that do not ascend can be.
func (k *copySink) checkFlushed(list []entry) error {
	if k.last == nil {
		k.last = map[string][]byte{}
	}
	var doubtful [][]byte
	for i := range list {
		e := &list[i]
		if !e.unique {
			continue
		}
		space := keySpace(e.key)
		if last := k.last[string(space)]; string(e.key) > string(last) {
			k.last[string(space)] = e.key
		} else if k.txn.kv.IsPipelined() {
			doubtful = append(doubtful, e.key)
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	there, err := k.txn.kv.BatchGet(k.c.ctx, doubtful)
	if err != nil {
		return err
	}
	for i := range list {
		if _, exists := there[string(list[i].key)]; exists && list[i].unique {
			return list[i].at(k.c, k.table.UniqueError(list[i].key))
		}
	}
	return nil
}

// keySpace is what all keys of a table's rows, or of one index, start with.
func keySpace(key []byte) []byte {
	if _, _, err := tablecodec.SplitRowKey(key); err != nil {
		return key[:tablecodec.IndexPrefixLen]
	}
	return key[:tablecodec.RecordPrefixLen]
}

// pipeline moves what was written so far to a transaction that flushes to the
// stores as it grows.
func (k *copySink) pipeline() error {
	t := k.txn
	old := t.kv
	k.splitOff()
	tx, err := k.c.s.db.kv.Begin(tikv.WithDefaultPipelinedTxn(), tikv.WithStartTS(old.StartTS()))
	if err != nil {
		return err
	}
	tx.SetSchemaLeaseChecker(schemaChecker{t})
	tx.SetSchemaVer(schemaVersion(0))
	if err := moveBuffer(old, tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := old.Rollback(); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	t.kv = tx
	return nil
}

// splitOff gives a table that is about to become large regions of its own.
//
// That is not only good for its neighbours. After the commit client-go walks
// over the regions of the transaction's range to resolve what was flushed, until
// one ends behind that range. The end of a keyspace's last region reads as an
// empty key, which is never behind: the walk would start again at the first
// region, for ever. Behind the table's end there is always another region.
func (k *copySink) splitOff() {
	id := k.c.table.ID
	borders := [][]byte{tablecodec.AppendTablePrefix(nil, id), tablecodec.AppendTablePrefix(nil, id+1)}
	if _, err := k.c.s.db.kv.SplitRegions(k.c.ctx, borders, false, nil); err != nil {
		k.c.s.db.log.Warn("splitting the regions of a table failed; COPY goes on in those that there are", "table", k.c.table.Name, "error", err)
	}
}

// settle waits until everything is flushed: up to then a COPY can be cancelled.
// A bulk load it ends.
func (k *copySink) settle() error {
	if k.bulk != nil {
		return k.bulk.finish(k.rows)
	}
	if err := k.release(); err != nil {
		return err
	}
	if !k.txn.kv.IsPipelined() {
		return nil
	}
	buf := k.txn.kv.GetMemBuffer()
	if _, err := buf.Flush(true); err != nil {
		return err
	}
	return buf.FlushWait()
}

// moveBuffer copies a transaction's writes, with what is presumed of their keys.
func moveBuffer(from, to *transaction.KVTxn) error {
	it, err := from.GetMemBuffer().Iter(nil, nil)
	if err != nil {
		return err
	}
	defer it.Close()
	src, dst := from.GetMemBuffer(), to.GetMemBuffer()
	for it.Valid() {
		flags, err := src.GetFlags(it.Key())
		if err != nil {
			return err
		}
		if flags.HasPresumeKeyNotExists() {
			err = dst.SetWithFlags(it.Key(), it.Value(), presumeAbsent)
		} else {
			err = dst.Set(it.Key(), it.Value())
		}
		if err != nil {
			return err
		}
		if err := it.Next(); err != nil {
			return err
		}
	}
	_, err = dst.Flush(false)
	return err
}

// entry is one key that COPY writes.
type entry struct {
	key, value []byte
	unique     bool
	line       int64
}

// at gives an error the line that the key comes from.
func (e *entry) at(c *copyIn, err error) error {
	x := *pgerror.From(err)
	if x.Where == "" {
		x.Where = fmt.Sprintf("COPY %s, line %d", c.table.Name, e.line)
	}
	return &x
}
