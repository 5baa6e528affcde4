package columnar

import (
	"bytes"
	"errors"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// builder makes blocks of a segment.
type builder struct {
	at, end []byte // what is left of the segment
	newest  *newest
	sc      *scan.Scan
}

func (s *Scan) startBuild(start, end []byte) error {
	if !s.v.builds() { // there was no room for the last one
		return s.startRows(start, end)
	}
	b := &builder{at: start, end: end, newest: &newest{
		snap: s.src.Snapshot(), ts: s.src.TS(), cancelled: s.ctx.Err,
		lower: codec.EncodeBytes(nil, start), upper: codec.EncodeBytes(nil, end),
	}}
	node := &plan.TableScan{TableID: s.node.TableID, KeyColumns: s.node.KeyColumns, Columns: s.columns, Handle: true}
	var err error
	b.sc, err = scan.New(node, b.newest, scan.Options{
		BatchRowsFirst: s.v.c.o.BlockRowsMax, BatchRowsMax: s.v.c.o.BlockRowsMax, BatchBytesMax: BlockBytesMax, KeyPrefix: s.o.KeyPrefix,
	})
	s.build = b
	if err != nil {
		return s.abandon(err)
	}
	return nil
}

// abandon goes on by rows where building failed, if that may be for a column
// that this scan does not ask for: those are forgotten. If it is for another
// reason, rows say so.
func (s *Scan) abandon(why error) error {
	own := true
	for _, c := range s.columns {
		own = own && slices.Contains(s.wanted, idOf(c))
	}
	if own || s.ctx.Err() != nil {
		return why
	}
	s.v.forget(s.wanted)
	start, end := s.build.at, s.build.end
	if err := s.closeBuild(); err != nil {
		return err
	}
	return s.startRows(start, end)
}

// nextBlock makes, installs and serves the next block of the segment.
func (s *Scan) nextBlock() error {
	b := s.build
	b.newest.reset()
	batch, err := b.sc.Next()
	if errors.Is(err, errTooFresh) {
		start, end := b.at, b.end
		if err = s.closeBuild(); err == nil {
			err = s.startRows(start, end)
		}
		return err
	}
	if err != nil {
		return s.abandon(err)
	}
	upper := b.end
	if batch != nil && !b.newest.ended {
		upper = append(bytes.Clone(b.sc.LastKey()), 0)
	}
	if batch == nil {
		if batch, err = emptyBatch(b.sc.Types()); err != nil {
			return err
		}
	}
	blk := newBlock(b.at, upper, s.index, b.newest.maxTS, s.columns, batch.Cols)
	fresh := b.newest.fresh
	start := b.at
	b.at = upper
	more := s.v.install(blk, fresh)
	if bytes.Compare(upper, b.end) >= 0 {
		err = s.closeBuild()
	} else if !more {
		end := b.end
		if err = s.closeBuild(); err == nil { // behind this block
			err = s.startRows(upper, end)
		}
	}
	if err != nil {
		return err
	}
	return s.serve(blk, start, upper, fresh)
}

func emptyBatch(types []sqltypes.Type) (*expr.Batch, error) {
	cols := make([]arrow.Array, len(types))
	for i, b := range colvec.NewBuilders(types, 0) {
		a, err := b.Finish()
		if err != nil {
			return nil, err
		}
		cols[i] = a
	}
	return &expr.Batch{Cols: cols}, nil
}
