package spill

import (
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	alignment = 8
	// dec64Mark, for data bytes, marks a decimal column encoded as int64.
	dec64Mark = 1<<32 - 1
	// columnHead is the size of what a body says of a column first.
	columnHead = 8
)

// valueBytes is the size of a value of fixed width; 0 for bool and byte strings.
func valueBytes(k colvec.Kind) int {
	switch k {
	case colvec.Int16:
		return 2
	case colvec.Int32, colvec.Date, colvec.Float32:
		return 4
	case colvec.Int64, colvec.Time, colvec.Timestamp, colvec.Float64:
		return 8
	case colvec.Decimal, colvec.Interval:
		return 16
	}
	return 0
}

// isDec64 reports whether a decimal column is encoded as int64, and can stay so.
// Dictionaries are made plain: one would be written with each frame.
func isDec64(a arrow.Array, t sqltypes.Type) bool {
	_, ok := a.(*array.Int64)
	return ok && colvec.KindOf(t) == colvec.Decimal
}

func aligned(n int) int { return (n + alignment - 1) &^ (alignment - 1) }

// appendBody appends rows lo to hi of the columns.
func appendBody(dst []byte, cols []arrow.Array, types []sqltypes.Type, lo, hi int) ([]byte, error) {
	head := len(dst)
	dst = append(dst, make([]byte, columnHead*len(cols))...)
	for c, a := range cols {
		nulls, data, err := 0, 0, error(nil)
		if dst, nulls, data, err = appendColumn(dst, a, types[c], lo, hi); err != nil {
			return dst, err
		}
		binary.LittleEndian.PutUint32(dst[head+columnHead*c:], uint32(nulls))
		binary.LittleEndian.PutUint32(dst[head+columnHead*c+4:], uint32(data))
	}
	return dst, nil
}

func appendColumn(dst []byte, a arrow.Array, t sqltypes.Type, lo, hi int) (out []byte, nulls, data int, err error) {
	small := isDec64(a, t)
	if !small {
		a = colvec.Plain(a, t)
	}
	d := a.Data()
	if !small && d.DataType().ID() != t.Arrow().ID() {
		return dst, 0, 0, fmt.Errorf("spill: a column of type %s is an array of %s", t.Name(), d.DataType())
	}
	n, at, bufs := hi-lo, d.Offset()+lo, d.Buffers()
	if a.NullN() > 0 {
		if valid := a.NullBitmapBytes(); len(valid) > 0 {
			nulls = n - bitutil.CountSetBits(valid, at, n)
			if nulls > 0 {
				dst = appendBits(dst, valid, at, n)
			}
		}
	}
	kind := colvec.KindOf(t)
	switch w := valueBytes(kind); {
	case small:
		return append(dst, bytesOf(bufs[1])[8*at:8*(at+n)]...), nulls, dec64Mark, nil
	case kind == colvec.Bool:
		return appendBits(dst, bytesOf(bufs[1]), at, n), nulls, 0, nil
	case w > 0:
		return pad(append(dst, bytesOf(bufs[1])[w*at:w*(at+n)]...)), nulls, 0, nil
	}
	if n == 0 {
		return pad(binary.LittleEndian.AppendUint32(dst, 0)), 0, 0, nil
	}
	off := arrow.Int32Traits.CastFromBytes(bytesOf(bufs[1]))[at : at+n+1]
	first := off[0]
	for _, o := range off {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(o-first))
	}
	dst = pad(dst)
	data = int(off[n] - first)
	return pad(append(dst, bytesOf(bufs[2])[first:off[n]]...)), nulls, data, nil
}

func bytesOf(b *memory.Buffer) []byte {
	if b == nil {
		return nil
	}
	return b.Bytes()
}

func pad(dst []byte) []byte {
	for len(dst)%alignment != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// appendBits appends n bits from bit at on.
func appendBits(dst, bits []byte, at, n int) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, (n+7)/8)...)
	if at%8 == 0 {
		copy(dst[start:], bits[at/8:at/8+(n+7)/8])
	} else {
		bitutil.CopyBitmap(bits, at, n, dst[start:], 0)
	}
	return pad(dst)
}

// openBody makes the columns of a body of n rows; they alias it.
func openBody(body []byte, types []sqltypes.Type, n int) ([]arrow.Array, error) {
	head := columnHead * len(types)
	if len(body) < head {
		return nil, fmt.Errorf("is too short for its %d columns", len(types))
	}
	r := bodyReader{rest: body[head:]}
	cols := make([]arrow.Array, len(types))
	for c, t := range types {
		nulls := int(binary.LittleEndian.Uint32(body[columnHead*c:]))
		data := int(binary.LittleEndian.Uint32(body[columnHead*c+4:]))
		if nulls > n {
			return nil, fmt.Errorf("has %d nulls among %d rows", nulls, n)
		}
		bufs := make([]*memory.Buffer, 1, 3)
		if nulls > 0 {
			bufs[0] = r.take((n + 7) / 8)
		}
		layout := t.Arrow()
		kind := colvec.KindOf(t)
		switch w := valueBytes(kind); {
		case kind == colvec.Decimal && data == dec64Mark:
			layout = arrow.PrimitiveTypes.Int64
			bufs = append(bufs, r.take(8*n))
		case kind == colvec.Bool:
			bufs = append(bufs, r.take((n+7)/8))
		case w > 0:
			bufs = append(bufs, r.take(w*n))
		default:
			bufs = append(bufs, r.take(4*(n+1)), r.take(data))
		}
		if r.short {
			return nil, fmt.Errorf("ends within column %d", c)
		}
		cols[c] = array.MakeFromData(array.NewData(layout, n, bufs, nil, nulls, 0))
	}
	if len(r.rest) > 0 {
		return nil, fmt.Errorf("has %d bytes too many", len(r.rest))
	}
	return cols, nil
}

type bodyReader struct {
	rest  []byte
	short bool
}

func (r *bodyReader) take(n int) *memory.Buffer {
	if aligned(n) > len(r.rest) {
		r.short = true
		return nil
	}
	b := memory.NewBufferBytes(r.rest[:n:n])
	r.rest = r.rest[aligned(n):]
	return b
}
