package copyfmt

import (
	"bytes"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// Writer makes lines of rows.
type Writer struct {
	o     *Options
	types []sqltypes.Type
	text  *sqltypes.TextOptions
	value []byte
}

// NewWriter writes columns of these types.
func NewWriter(o *Options, types []sqltypes.Type, text *sqltypes.TextOptions) *Writer {
	return &Writer{o: o, types: types, text: text}
}

// appendHeader appends the header line.
func (w *Writer) appendHeader(dst []byte, names []string) []byte {
	for i, n := range names {
		if i > 0 {
			dst = append(dst, w.o.Delimiter)
		}
		w.value = append(w.value[:0], n...)
		dst = w.append(dst, false, len(names) == 1)
	}
	return append(dst, '\n')
}

// AppendRow appends row i of a batch as a line or tuple.
func (w *Writer) AppendRow(dst []byte, cols []arrow.Array, i int) []byte {
	if w.o.Binary {
		return w.appendBinaryRow(dst, cols, i)
	}
	for c, col := range cols {
		if c > 0 {
			dst = append(dst, w.o.Delimiter)
		}
		if col.IsNull(i) {
			dst = append(dst, w.o.Null...)
			continue
		}
		w.value = sqltypes.AppendArrowText(w.value[:0], w.types[c], col, i, w.text)
		dst = w.append(dst, c < len(w.o.ForceQuote) && w.o.ForceQuote[c], len(cols) == 1)
	}
	return append(dst, '\n')
}

// append appends w.value in the format's own quoting.
func (w *Writer) append(dst []byte, force, alone bool) []byte {
	if w.o.CSV {
		return w.appendCSV(dst, force, alone)
	}
	for _, b := range w.value {
		switch b {
		case '\\':
			dst = append(dst, '\\', '\\')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\v':
			dst = append(dst, '\\', 'v')
		case w.o.Delimiter:
			dst = append(dst, '\\', b)
		default:
			dst = append(dst, b)
		}
	}
	return dst
}

func (w *Writer) appendCSV(dst []byte, force, alone bool) []byte {
	v := w.value
	quote := force || string(v) == w.o.Null || alone && string(v) == `\.` ||
		bytes.IndexByte(v, w.o.Delimiter) >= 0 || bytes.IndexByte(v, w.o.Quote) >= 0 || bytes.ContainsAny(v, "\r\n")
	if !quote {
		return append(dst, v...)
	}
	dst = append(dst, w.o.Quote)
	for _, b := range v {
		if b == w.o.Quote || b == w.o.Escape {
			dst = append(dst, w.o.Escape)
		}
		dst = append(dst, b)
	}
	return append(dst, w.o.Quote)
}
