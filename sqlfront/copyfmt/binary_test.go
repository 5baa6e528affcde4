package copyfmt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

const binaryHead = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// TestBinaryRoundTrip: what the writer makes comes back through the splitter,
// however the bytes arrive.
func TestBinaryRoundTrip(t *testing.T) {
	o := &Options{Binary: true}
	types := []sqltypes.Type{sqltypes.Int4, sqltypes.Text}
	const rows = 50_000 // several chunks
	ints, texts := make([]sqltypes.Datum, rows), make([]sqltypes.Datum, rows)
	for i := range rows {
		ints[i], texts[i] = sqltypes.NewInt(int64(i)), sqltypes.NewString(strings.Repeat("é", i%40))
		if i%7 == 0 {
			texts[i] = sqltypes.Null
		}
	}
	w := NewWriter(o, types, nil)
	cols := []arrow.Array{sqltypes.ArrayOf(types[0], ints), sqltypes.ArrayOf(types[1], texts)}
	data := w.AppendStart(nil, []string{"a", "b"})
	for i := range rows {
		data = w.AppendRow(data, cols, i)
	}
	data = w.AppendEnd(data)
	var next int64
	check := func(line int64, fields []string) {
		want := fmt.Sprintf("%q", string(binary.BigEndian.AppendUint32(nil, uint32(next))))
		if line != next+1 || fields[0] != want {
			t.Fatalf("row %d comes as %d: %s", next, line, fields)
		}
		if i := int(next); (fields[1] == "NULL") != (i%7 == 0) || i%7 != 0 && fields[1] != fmt.Sprintf("%q", texts[i].Str()) {
			t.Fatalf("row %d has %s", i, fields[1])
		}
		next++
	}
	if err := parseAll(o, bytes.NewReader(data), []string{"a", "b"}, check); err != nil || next != rows {
		t.Fatalf("%d rows: %v", next, err)
	}
	next = 0
	if err := parseAll(o, iotest.OneByteReader(bytes.NewReader(data[:4096])), []string{"a", "b"}, check); err == nil ||
		!strings.HasPrefix(err.Error(), "unexpected EOF in COPY data") || next == 0 {
		t.Errorf("a cut file: %d rows, %v", next, err)
	}
}

func TestBinaryErrors(t *testing.T) {
	row := "\x00\x01\x00\x00\x00\x01x"
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", "22P04: COPY file signature not recognized ()"},
		{"text", "1\t2\n", "22P04: COPY file signature not recognized ()"},
		{"short header", binaryHead[:15], "22P04: COPY file signature not recognized ()"},
		{"oids", binaryHead[:11] + "\x00\x01\x00\x00\x00\x00\x00\x00", "22P04: invalid COPY file header (WITH OIDS) ()"},
		{"flags", binaryHead[:11] + "\x00\x10\x00\x00\x00\x00\x00\x00", "22P04: unrecognized critical flags in COPY file header ()"},
		{"extension", binaryHead[:15] + "\xff\x00\x00\x00", "22P04: invalid COPY file header (wrong length) ()"},
		{"no rows", binaryHead + "\xff\xff", ""},
		{"skipped extension", binaryHead[:15] + "\x00\x00\x00\x02ab" + row + "\xff\xff", ""},
		{"no trailer", binaryHead + row, ""},
		{"behind the trailer", binaryHead + row + "\xff\xff" + row, "22P04: received copy data after EOF marker ()"},
		{"columns", binaryHead + row + "\x00\x02\x00\x00\x00\x01x\xff\xff\xff\xff\xff\xff", "22P04: row field count is 2, expected 1 (COPY t, line 2)"},
		{"negative columns", binaryHead + "\xff\xf0" + "\xff\xff", "22P04: row field count is -16, expected 1 (COPY t, line 1)"},
		{"field size", binaryHead + "\x00\x01\xff\xff\xff\xf0", "22P04: invalid field size (COPY t, line 1)"},
		{"cut", binaryHead + row[:5], "22P04: unexpected EOF in COPY data ()"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if err := parseAll(&Options{Binary: true}, strings.NewReader(tc.in), []string{"a"}, func(int64, []string) {}); err != nil {
				got = strings.TrimSuffix(describe(err), "\n")
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzBinary: no input makes the splitter or the parser panic.
func FuzzBinary(f *testing.F) {
	f.Add([]byte(binaryHead + "\x00\x01\x00\x00\x00\x01x\xff\xff"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = parseAll(&Options{Binary: true}, bytes.NewReader(data), []string{"a"}, func(int64, []string) {})
	})
}
