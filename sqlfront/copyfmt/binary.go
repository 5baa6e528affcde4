package copyfmt

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// The binary format: a signature, 32 flag bits, a header extension with its
// length before it, then tuples: the number of fields and each field's length
// (-1 = NULL) and bytes; -1 in place of a number of fields ends it. A tuple
// counts as a line in errors.
const (
	binarySignature = "PGCOPY\n\xff\r\n\x00"
	// flagsCritical are the flag bits that a reader must know; of these PostgreSQL
	// once used the first (OIDs).
	flagsCritical   = 0xFFFF << 16
	flagOIDs        = 1 << 16
	binaryTrailer   = -1
	binaryHeaderLen = len(binarySignature) + 8
)

func badFile(format string, args ...any) *pgerror.Error {
	return pgerror.New(pgerror.BadCopyFileFormat, format, args...)
}

// nextBinary is Next for the binary format: chunks of whole tuples.
func (s *Splitter) nextBinary() (Chunk, error) {
	for {
		if err := s.advanceBinary(); err != nil {
			return Chunk{}, err
		}
		if s.lastEnd > 0 && (s.lastEnd >= ChunkBytes || s.done || s.ended) {
			return s.cut(s.lastEnd, s.lines), nil
		}
		switch {
		case s.ended && len(s.rest) > 0:
			return Chunk{}, badFile("received copy data after EOF marker")
		case s.done && s.ended, s.done && s.began && len(s.rest) == 0:
			return Chunk{}, io.EOF
		case s.done && !s.began:
			return Chunk{}, badFile("COPY file signature not recognized")
		case s.done:
			return Chunk{}, badFile("unexpected EOF in COPY data")
		case len(s.rest)-s.lastEnd > LineBytesMax:
			return Chunk{}, pgerror.New(pgerror.ProgramLimitExceeded, "line %d is longer than %d bytes", s.line+s.lines, LineBytesMax)
		}
		if err := s.fill(); err != nil {
			return Chunk{}, err
		}
	}
}

// advanceBinary finds the end of the last whole tuple, as far as a chunk goes.
func (s *Splitter) advanceBinary() error {
	if !s.began {
		n, err := binaryHeader(s.rest)
		if n == 0 || err != nil {
			return err
		}
		s.rest, s.began = s.rest[n:], true
	}
	for !s.ended && s.lastEnd < ChunkBytes {
		n, err := tupleLen(s.rest[s.lastEnd:])
		if err != nil {
			return s.tupleError(err)
		}
		if n == 0 {
			return nil
		}
		if int16(binary.BigEndian.Uint16(s.rest[s.lastEnd:])) == binaryTrailer {
			s.rest = append(s.rest[:s.lastEnd], s.rest[s.lastEnd+2:]...)
			s.ended = true
			return nil
		}
		s.lastEnd += n
		s.lines++
	}
	return nil
}

func (s *Splitter) tupleError(err *pgerror.Error) error {
	return (&Parser{table: s.table}).LineError(err, s.line+s.lines, nil)
}

// binaryHeader is the length of the header that b starts with, 0 if there is
// more to come.
func binaryHeader(b []byte) (int, error) {
	n := min(len(b), len(binarySignature))
	if !bytes.Equal(b[:n], []byte(binarySignature)[:n]) {
		return 0, badFile("COPY file signature not recognized")
	}
	if len(b) < binaryHeaderLen {
		return 0, nil
	}
	flags := binary.BigEndian.Uint32(b[len(binarySignature):])
	switch extension := binary.BigEndian.Uint32(b[len(binarySignature)+4:]); {
	case flags&flagOIDs != 0:
		return 0, badFile("invalid COPY file header (WITH OIDS)")
	case flags&flagsCritical != 0:
		return 0, badFile("unrecognized critical flags in COPY file header")
	case extension > math.MaxInt32:
		return 0, badFile("invalid COPY file header (wrong length)")
	case uint64(len(b)) < uint64(binaryHeaderLen)+uint64(extension):
		return 0, nil
	default:
		return binaryHeaderLen + int(extension), nil
	}
}

// tupleLen is the length of the tuple that b starts with, 0 if there is more to
// come.
func tupleLen(b []byte) (int, *pgerror.Error) {
	if len(b) < 2 {
		return 0, nil
	}
	fields := int16(binary.BigEndian.Uint16(b))
	if fields == binaryTrailer {
		return 2, nil
	}
	end := 2
	for range fields {
		if len(b) < end+4 {
			return 0, nil
		}
		n := int32(binary.BigEndian.Uint32(b[end:]))
		if n < -1 {
			return 0, badFile("invalid field size")
		}
		if end += 4 + int(max(n, 0)); len(b) < end {
			return 0, nil
		}
	}
	return end, nil
}

// binaryChunk is Chunk for the binary format; the fields are the values' bytes.
func (p *Parser) binaryChunk(c Chunk, fn func(line int64, fields []Field, text []byte) error) error {
	line := c.Line
	for data := c.Data; len(data) > 0; line++ {
		n := int(int16(binary.BigEndian.Uint16(data)))
		if n != len(p.columns) {
			return p.LineError(badFile("row field count is %d, expected %d", n, len(p.columns)), line, nil)
		}
		data = data[2:]
		p.fields = p.fields[:0]
		for range n {
			size := int32(binary.BigEndian.Uint32(data))
			data = data[4:]
			f := Field{Null: size < 0}
			if !f.Null {
				f.Data, data = data[:size], data[size:]
			}
			p.fields = append(p.fields, f)
		}
		if err := fn(line, p.fields, nil); err != nil {
			return p.LineError(err, line, nil)
		}
	}
	return nil
}

// appendBinaryRow appends row i of a batch as a tuple.
func (w *Writer) appendBinaryRow(dst []byte, cols []arrow.Array, i int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(cols)))
	for c, col := range cols {
		at := len(dst)
		dst = append(dst, 0xFF, 0xFF, 0xFF, 0xFF)
		if col.IsNull(i) {
			continue
		}
		dst = sqltypes.AppendArrowBinary(dst, w.types[c], col, i)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst
}

// AppendStart appends what comes before the rows: the header of the format.
func (w *Writer) AppendStart(dst []byte, names []string) []byte {
	switch {
	case w.o.Binary:
		return append(append(dst, binarySignature...), 0, 0, 0, 0, 0, 0, 0, 0)
	case w.o.Header:
		return w.appendHeader(dst, names)
	}
	return dst
}

// AppendEnd appends what comes after the rows.
func (w *Writer) AppendEnd(dst []byte) []byte {
	if w.o.Binary {
		return append(dst, 0xFF, 0xFF)
	}
	return dst
}
