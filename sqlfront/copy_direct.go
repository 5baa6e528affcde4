package sqlfront

import (
	"context"
	"errors"

	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/copyfmt"
	"github.com/copradb/copra/sqlfront/mutate"
)

// Most rows of most COPYs need no expression evaluated: their fields go from text
// straight to the form in which rows store them. Where anything is unusual about a
// chunk, an error included, it is converted anew in the usual way, which has the
// last word.

// canDirect reports whether chunks may be converted directly.
func (v *copyConverter) canDirect() bool {
	if v.c.options.Binary || len(v.checks) > 0 || v.where != nil || v.defaults != nil {
		return false
	}
	given := make([]bool, len(v.c.table.Columns))
	for _, o := range v.c.ords {
		given[o] = true
	}
	for i := range v.c.table.Columns {
		if v.c.table.Columns[i].NotNull && !given[i] {
			return false
		}
	}
	return true
}

// directRow is the row that is being converted.
type directRow struct {
	v      *copyConverter
	enc    *mutate.Encoder
	keyed  []bool
	stored []bool
	row    []sqltypes.Datum
	fields [][]byte
	ends   []int // of fields in buf, -1: NULL
	buf    []byte
}

// errNotDirect ends a direct conversion.
var errNotDirect = errors.New("this row is not plain")

// convertDirect converts a chunk; ok is false if it needs the usual way.
func (v *copyConverter) convertDirect(ctx context.Context, chunk copyfmt.Chunk) (out loaded, ok bool) {
	table := mutate.New(v.c.table)
	enc := mutate.NewEncoder(table)
	n := len(v.types)
	d := &directRow{v: v, enc: enc, keyed: enc.Keyed(), stored: enc.Stored(),
		row: make([]sqltypes.Datum, n), fields: make([][]byte, n), ends: make([]int, n), buf: make([]byte, 0, 512)} // not nil: an empty field is no NULL
	writer := mutate.NewWriter(ctx, table, nil) // for the handles
	var (
		ids    rowIDs
		handle []byte
		line   int64
	)
	out.entries = make([]entry, 0, v.entriesHint.Load())
	emit := func(key, value []byte, unique bool) {
		out.entries = append(out.entries, entry{key: key, value: value, unique: unique, line: line})
	}
	p := copyfmt.NewParser(v.c.options, v.c.table.Name, v.c.names)
	err := p.Chunk(chunk, func(at int64, fields []copyfmt.Field, _ []byte) (err error) {
		if !d.read(fields) {
			return errNotDirect
		}
		line = at
		if handle, err = ids.handle(ctx, v.c, writer, handle[:0], d.row, directRowIDs); err != nil {
			return err
		}
		out.rows++
		return enc.Insert(d.row, d.fields, handle, emit)
	})
	if err != nil {
		return loaded{}, false
	}
	v.entriesHint.Store(int64(len(out.entries) + len(out.entries)/8))
	return out, true
}

// directRowIDs is how many row ids are taken at a time.
const directRowIDs = 1024

// read takes a row's fields; false means that they are unusual.
func (d *directRow) read(fields []copyfmt.Field) bool {
	d.buf = d.buf[:0]
	for i := range d.ends {
		d.ends[i] = -1
	}
	v := d.v
	for i := range fields {
		f, c := &fields[i], v.c.ords[i]
		if f.Null {
			if v.c.table.Columns[c].NotNull {
				return false
			}
			d.row[c] = sqltypes.Null
			continue
		}
		if !d.field(c, f) {
			return false
		}
		d.ends[c] = len(d.buf)
	}
	// Only now does buf stay where it is; fields came in the order of ords.
	for c := range d.fields {
		d.fields[c] = nil
	}
	start := 0
	for _, c := range v.c.ords {
		if end := d.ends[c]; end >= 0 {
			d.fields[c] = d.buf[start:end:end]
			start = end
		}
	}
	return true
}

// field appends one field that is not NULL to buf, if it is stored.
func (d *directRow) field(c int, f *copyfmt.Field) bool {
	if !d.keyed[c] && !f.Unescaped {
		if out, ok := rowcodec.AppendText(d.buf, d.v.types[c], f.Data); ok {
			d.buf = out
			return true
		}
	}
	val, err := d.v.value(d.v.types[c], f.Data)
	if err != nil {
		return false
	}
	d.row[c] = val
	if d.stored[c] {
		d.buf, err = d.enc.AppendDatum(d.buf, c, val)
	}
	return err == nil
}
