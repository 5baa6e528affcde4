package copyfmt

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/copradb/copra/internal/pgerror"
)

// Field is one field of a line. Data aliases the chunk or the parser's scratch
// memory: it is valid until the next line.
type Field struct {
	Data []byte
	Null bool
	// Unescaped: backslash sequences were resolved, so that Data may be no valid
	// UTF-8.
	Unescaped bool
}

// Parser takes lines apart. Not safe for concurrent use; make one a worker.
type Parser struct {
	o       *Options
	table   string
	columns []string
	fields  []Field
	scratch []byte
}

// NewParser parses lines with these columns; table is for messages.
func NewParser(o *Options, table string, columns []string) *Parser {
	return &Parser{o: o, table: table, columns: columns}
}

// LineError puts PostgreSQL's context onto an error in a line.
func (p *Parser) LineError(err error, line int64, text []byte) error {
	e := *pgerror.From(err)
	if e.Where == "" {
		e.Where = fmt.Sprintf("COPY %s, line %d", p.table, line)
		if text != nil {
			e.Where += ": \"" + shorten(text) + "\""
		}
	}
	return &e
}

// FieldError puts the context onto an error in a field.
func (p *Parser) FieldError(err error, line int64, column int, f Field) error {
	e := *pgerror.From(err)
	if p.o.Binary {
		e.Where = fmt.Sprintf("COPY %s, line %d, column %s", p.table, line, p.columns[column])
	} else if f.Null {
		e.Where = fmt.Sprintf("COPY %s, line %d, column %s: null input", p.table, line, p.columns[column])
	} else {
		e.Where = fmt.Sprintf("COPY %s, line %d, column %s: \"%s\"", p.table, line, p.columns[column], shorten(f.Data))
	}
	return &e
}

// shownBytesMax is how much of a line PostgreSQL shows.
const shownBytesMax = 100

func shorten(b []byte) string {
	b = bytes.TrimRight(b, "\r\n")
	if len(b) > shownBytesMax {
		return strings.ToValidUTF8(string(b[:shownBytesMax]), "") + "..."
	}
	return strings.ToValidUTF8(string(b), "?")
}

// Chunk calls fn for each line of a chunk; the header is passed over (and
// checked).
func (p *Parser) Chunk(c Chunk, fn func(line int64, fields []Field, text []byte) error) error {
	if p.o.Binary {
		return p.binaryChunk(c, fn)
	}
	data, line := c.Data, c.Line
	if !utf8.Valid(data) {
		return p.badUTF8(c)
	}
	for len(data) > 0 {
		text, rest := p.cutLine(data)
		first := line
		if p.o.CSV { // a line goes on over the newlines that are data
			line += int64(bytes.Count(text, []byte("\n")))
		}
		var err error
		if p.o.Header && first == 1 {
			err = p.checkHeader(text)
		} else if err = p.split(text); err == nil {
			err = fn(line, p.fields, text)
		}
		if err != nil {
			return p.LineError(err, line, text)
		}
		data = rest
		line++
	}
	return nil
}

func (p *Parser) badUTF8(c Chunk) error {
	line := c.Line
	for _, text := range bytes.SplitAfter(c.Data, []byte("\n")) {
		if !utf8.Valid(text) {
			bad := 0
			for r, n := utf8.DecodeRune(text); bad < len(text) && (r != utf8.RuneError || n > 1); r, n = utf8.DecodeRune(text[bad:]) {
				bad += n
			}
			return p.LineError(pgerror.New(pgerror.CharacterNotInRepertoire,
				"invalid byte sequence for encoding \"UTF8\": 0x%02x", text[min(bad, len(text)-1)]), line, nil)
		}
		line++
	}
	return nil
}

// cutLine cuts the first line off data. Newlines that are data don't end it.
func (p *Parser) cutLine(data []byte) (text, rest []byte) {
	end := p.lineEnd(data)
	if end < len(data) {
		rest = data[end+1:]
	}
	return bytes.TrimSuffix(data[:end], []byte("\r")), rest
}

// lineEnd is where the first line's newline is, or len(data).
func (p *Parser) lineEnd(data []byte) int {
	if !p.o.CSV {
		for from := 0; ; {
			i := bytes.IndexByte(data[from:], '\n')
			if i < 0 {
				return len(data)
			}
			if !escaped(data[:from+i]) {
				return from + i
			}
			from += i + 1
		}
	}
	quoted := false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case quoted && b == p.o.Escape && p.o.Escape != p.o.Quote:
			i++
		case b == p.o.Quote:
			quoted = !quoted
		case b == '\n' && !quoted:
			return i
		}
	}
	return len(data)
}

func (p *Parser) checkHeader(text []byte) error {
	if !p.o.HeaderMatch {
		return nil
	}
	if err := p.split(text); err != nil {
		return pgerror.New(pgerror.BadCopyFileFormat, "wrong number of fields in header line, expected %d", len(p.columns))
	}
	for i, f := range p.fields {
		if f.Null || string(f.Data) != p.columns[i] {
			return pgerror.New(pgerror.BadCopyFileFormat, "column name mismatch in header line field %d: got \"%s\", expected \"%s\"", i+1, f.Data, p.columns[i])
		}
	}
	return nil
}

// split fills p.fields and checks their number.
func (p *Parser) split(text []byte) error {
	p.fields, p.scratch = p.fields[:0], p.scratch[:0]
	if len(p.columns) == 0 && len(text) == 0 {
		return nil
	}
	var err error
	if p.o.CSV {
		err = p.splitCSV(text)
	} else {
		err = p.splitText(text)
	}
	if err != nil {
		return err
	}
	if n := len(p.fields); n < len(p.columns) {
		return pgerror.New(pgerror.BadCopyFileFormat, "missing data for column \"%s\"", p.columns[n])
	}
	return nil
}

func (p *Parser) add(f Field) error {
	if len(p.fields) >= len(p.columns) {
		return pgerror.New(pgerror.BadCopyFileFormat, "extra data after last expected column")
	}
	p.fields = append(p.fields, f)
	return nil
}

func (p *Parser) splitText(text []byte) error {
	if bytes.IndexByte(text, '\r') >= 0 {
		return pgerror.New(pgerror.BadCopyFileFormat, "literal carriage return found in data").WithHint("Use \"\\r\" to represent carriage return.")
	}
	for {
		end, slash := p.fieldEnd(text)
		raw := text[:end]
		f := Field{Data: raw}
		if string(raw) == p.o.Null {
			f = Field{Null: true}
		} else if slash {
			f.Data, f.Unescaped = p.unescape(raw), true
		}
		if err := p.add(f); err != nil {
			return err
		}
		if end == len(text) {
			return nil
		}
		text = text[end+1:]
	}
}

// fieldEnd is where the first field of text ends, and whether it has backslashes.
func (p *Parser) fieldEnd(text []byte) (end int, slash bool) {
	end = bytes.IndexByte(text, p.o.Delimiter)
	if end < 0 {
		end = len(text)
	}
	if bytes.IndexByte(text[:end], '\\') < 0 {
		return end, false
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case p.o.Delimiter:
			return i, true
		}
	}
	return len(text), true
}

// unescape resolves backslash sequences into scratch memory.
func (p *Parser) unescape(raw []byte) []byte {
	start := len(p.scratch)
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		if b != '\\' || i+1 == len(raw) {
			p.scratch = append(p.scratch, b)
			continue
		}
		i++
		switch b = raw[i]; b {
		case 'b':
			b = '\b'
		case 'f':
			b = '\f'
		case 'n':
			b = '\n'
		case 'r':
			b = '\r'
		case 't':
			b = '\t'
		case 'v':
			b = '\v'
		case 'x':
			if n, v := digits(raw[i+1:], 16, 2); n > 0 {
				b = v
				i += n
			}
		case '0', '1', '2', '3', '4', '5', '6', '7':
			n, v := digits(raw[i:], 8, 3)
			b = v
			i += n - 1
		}
		p.scratch = append(p.scratch, b)
	}
	return p.scratch[start:len(p.scratch):len(p.scratch)]
}

// digits reads up to limit digits of a byte in the given base.
func digits(s []byte, base, limit int) (n int, v byte) {
	for n < len(s) && n < limit {
		d := 99
		switch c := s[n]; {
		case c >= '0' && c <= '9':
			d = int(c - '0')
		case c >= 'a' && c <= 'f':
			d = int(c-'a') + 10
		case c >= 'A' && c <= 'F':
			d = int(c-'A') + 10
		}
		if d >= base {
			break
		}
		v = v*byte(base) + byte(d)
		n++
	}
	return n, v
}

func (p *Parser) splitCSV(text []byte) error {
	for {
		f, rest, err := p.csvField(text)
		if err != nil {
			return err
		}
		if err := p.add(f); err != nil {
			return err
		}
		if rest == nil {
			return nil
		}
		text = rest[1:]
	}
}

// csvField takes the first field off text; rest starts with the delimiter, and
// is nil at the end.
func (p *Parser) csvField(text []byte) (f Field, rest []byte, err error) {
	delim, quote, escape := p.o.Delimiter, p.o.Quote, p.o.Escape
	end := bytes.IndexByte(text, delim)
	plain := text
	if end >= 0 {
		plain = text[:end]
	}
	if bytes.IndexByte(plain, quote) < 0 {
		if end >= 0 {
			rest = text[end:]
		}
		return p.csvValue(plain, false), rest, nil
	}
	start := len(p.scratch)
	quoted, saw := false, false
	i := 0
	for ; i < len(text); i++ {
		b := text[i]
		switch {
		case quoted && b == escape && i+1 < len(text) && (text[i+1] == escape || text[i+1] == quote):
			i++
			p.scratch = append(p.scratch, text[i])
		case b == quote:
			quoted, saw = !quoted, true
		case b == delim && !quoted:
			return p.csvValue(p.scratch[start:len(p.scratch):len(p.scratch)], saw), text[i:], nil
		default:
			p.scratch = append(p.scratch, b)
		}
	}
	if quoted {
		return f, nil, pgerror.New(pgerror.BadCopyFileFormat, "unterminated CSV quoted field")
	}
	return p.csvValue(p.scratch[start:len(p.scratch):len(p.scratch)], saw), nil, nil
}

// csvValue decides whether a field is NULL.
func (p *Parser) csvValue(v []byte, quoted bool) Field {
	i := len(p.fields)
	is := string(v) == p.o.Null
	switch {
	case is && quoted:
		return Field{Data: v, Null: i < len(p.o.ForceNull) && p.o.ForceNull[i]}
	case is:
		return Field{Data: v, Null: i >= len(p.o.ForceNotNull) || !p.o.ForceNotNull[i]}
	}
	return Field{Data: v}
}
