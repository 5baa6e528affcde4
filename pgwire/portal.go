package pgwire

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront"
)

func itoa(n int) string { return strconv.Itoa(n) }

// buffer reads the rest of a suspended portal into memory, because a session
// runs one statement at a time and another portal wants to.
func (c *conn) buffer(ctx context.Context, p *portal) error {
	var (
		kept  []arrow.Record
		bytes int64
	)
	for {
		rec, err := p.cursor.result.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			_ = c.finish(p) // the statement's own error is the one to tell
			return err
		}
		if bytes += recordBytes(rec); bytes > portalBufferedBytesMax {
			_ = c.finish(p) // superseded by the limit
			return pgerror.New(pgerror.ConfigurationLimitExceeded, "portal %q holds more than %d bytes of rows while another statement runs", p.name, portalBufferedBytesMax).
				WithHint("Fetch the first portal to its end, or use LIMIT.")
		}
		kept = append(kept, rec)
	}
	tag := p.cursor.result.Tag()
	cols := p.cursor.result.Columns()
	if err := p.cursor.result.Close(); err != nil {
		return err
	}
	p.cursor.result = &bufferedResult{Result: p.cursor.result, records: kept, columns: cols, tag: tag}
	p.cursor.done = false
	p.tag = tag
	c.running = nil
	return nil
}

// recordBytes is the memory of a batch's own buffers.
func recordBytes(rec arrow.Record) int64 {
	var n int64
	for _, col := range rec.Columns() {
		for _, b := range col.Data().Buffers() {
			if b != nil {
				n += int64(b.Len())
			}
		}
	}
	return n
}

// bufferedResult replays the batches of a Result that was read ahead.
type bufferedResult struct {
	sqlfront.Result
	records []arrow.Record
	columns []sqlfront.Column
	tag     string
}

// Columns, Next, Tag and Close replace those of the closed Result.
func (b *bufferedResult) Columns() []sqlfront.Column { return b.columns }

// Next returns the next kept batch.
func (b *bufferedResult) Next(context.Context) (arrow.Record, error) {
	if len(b.records) == 0 {
		return nil, io.EOF
	}
	rec := b.records[0]
	b.records = b.records[1:]
	return rec, nil
}

// Tag is the tag that the Result had at its end.
func (b *bufferedResult) Tag() string { return b.tag }

// Close drops the batches.
func (b *bufferedResult) Close() error {
	b.records = nil
	return nil
}
