package copyfmt

import (
	"bytes"
	"errors"
	"io"

	"github.com/copradb/copra/internal/pgerror"
)

// Limits of the input.
const (
	// ChunkBytes is about how many bytes of lines a chunk has.
	ChunkBytes = 256 << 10
	// LineBytesMax is the longest line.
	LineBytesMax = 64 << 20
)

// Chunk is some whole lines, the last perhaps without its newline. Its memory
// is its own.
type Chunk struct {
	Data []byte
	Line int64 // number of its first line, from 1
}

// Splitter cuts a stream into chunks at the ends of lines.
type Splitter struct {
	r    io.Reader
	o    *Options
	rest []byte
	line int64
	done bool
	// scan state within rest: bytes looked at, and where in a line they end
	pos     int
	quoted  bool
	lastEnd int   // end of the last whole line in rest
	lines   int64 // whole lines before lastEnd
	inside  int64 // newlines since lastEnd that are data
	// binary format: the header, the trailer has been read
	began, ended bool
	table        string
}

// NewSplitter reads lines from r; table is for messages.
func NewSplitter(r io.Reader, o *Options, table string) *Splitter {
	return &Splitter{r: r, o: o, line: 1, table: table}
}

// Next returns the next chunk, or io.EOF. A "\." line ends the text format.
func (s *Splitter) Next() (Chunk, error) {
	if s.o.Binary {
		return s.nextBinary()
	}
	for {
		s.advance()
		if s.lastEnd > 0 && (s.lastEnd >= ChunkBytes || s.done) {
			return s.cut(s.lastEnd, s.lines), nil
		}
		if s.done {
			if len(s.rest) == 0 {
				return Chunk{}, io.EOF
			}
			return s.cut(len(s.rest), 1), nil
		}
		if len(s.rest)-s.lastEnd > LineBytesMax {
			return Chunk{}, pgerror.New(pgerror.ProgramLimitExceeded, "line %d is longer than %d bytes", s.line+s.lines, LineBytesMax)
		}
		if err := s.fill(); err != nil {
			return Chunk{}, err
		}
	}
}

// fill reads more into rest.
func (s *Splitter) fill() error {
	const readBytes = 64 << 10
	if cap(s.rest)-len(s.rest) < readBytes {
		grown := make([]byte, len(s.rest), max(2*cap(s.rest), ChunkBytes+2*readBytes))
		copy(grown, s.rest)
		s.rest = grown
	}
	n, err := s.r.Read(s.rest[len(s.rest):cap(s.rest)])
	s.rest = s.rest[:len(s.rest)+n]
	if errors.Is(err, io.EOF) {
		s.done = true
		return nil
	}
	return err
}

func (s *Splitter) cut(end int, lines int64) Chunk {
	c := Chunk{Data: s.rest[:end:end], Line: s.line}
	tail := make([]byte, len(s.rest)-end, max(ChunkBytes+(128<<10), len(s.rest)-end))
	copy(tail, s.rest[end:])
	s.rest = tail
	s.line += lines
	s.pos -= end
	if s.pos < 0 {
		s.pos = 0
	}
	s.lastEnd, s.lines = 0, 0
	return c
}

// advance looks for ends of lines in what came since the last call.
func (s *Splitter) advance() {
	if s.o.CSV {
		s.advanceCSV()
		return
	}
	for s.pos < len(s.rest) && s.lastEnd < ChunkBytes {
		i := bytes.IndexByte(s.rest[s.pos:], '\n')
		if i < 0 {
			s.pos = len(s.rest)
			return
		}
		end := s.pos + i
		s.pos = end + 1
		if escaped(s.rest[s.lastEnd:end]) {
			continue
		}
		if isEndMarker(s.rest[s.lastEnd:end]) {
			s.rest, s.done = s.rest[:s.lastEnd], true
			s.pos = len(s.rest)
			return
		}
		s.lastEnd = end + 1
		s.lines++
	}
	if s.done && isEndMarker(s.rest[s.lastEnd:]) {
		s.rest = s.rest[:s.lastEnd]
	}
}

// escaped reports whether line ends in an odd number of backslashes: then the
// newline behind it is data.
func escaped(line []byte) bool {
	n := 0
	for n < len(line) && line[len(line)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

func isEndMarker(line []byte) bool {
	return bytes.Equal(bytes.TrimSuffix(line, []byte("\r")), []byte(`\.`))
}

// advanceCSV keeps track of quotes, inside which newlines are data.
func (s *Splitter) advanceCSV() {
	quote, escape := s.o.Quote, s.o.Escape
	for s.pos < len(s.rest) && s.lastEnd < ChunkBytes {
		b := s.rest[s.pos]
		switch {
		case s.quoted && b == escape && escape != quote:
			if s.pos+1 >= len(s.rest) && !s.done {
				return // the escaped byte isn't here yet
			}
			s.pos += 2
			continue
		case b == quote:
			s.quoted = !s.quoted
		case b == '\n' && s.quoted:
			s.inside++
		case b == '\n':
			if isEndMarker(s.rest[s.lastEnd:s.pos]) {
				s.rest, s.done = s.rest[:s.lastEnd], true
				s.pos = len(s.rest)
				return
			}
			s.lastEnd = s.pos + 1
			s.lines += 1 + s.inside
			s.inside = 0
		}
		s.pos++
	}
	s.pos = min(s.pos, len(s.rest))
}
