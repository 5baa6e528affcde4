package sqltypes

import (
	"bytes"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
)

func mustType(t testing.TB, name string) Type {
	t.Helper()
	base, rest, _ := strings.Cut(name, "(")
	var mods []int32
	for m := range strings.SplitSeq(strings.TrimSuffix(rest, ")"), ",") {
		if v, err := strconv.Atoi(m); err == nil {
			mods = append(mods, int32(v))
		}
	}
	typ, err := ByName([]string{strings.Trim(base, `"`)}, mods, 0)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

type wireRow struct {
	typ                Type
	input, text, bytes string
}

// wireRows is testdata/wire: what PostgreSQL 15 prints and sends, as
// type|input|text|hex of the binary form.
func wireRows(t testing.TB) (rows []wireRow) {
	data, err := os.ReadFile("testdata/wire")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		b, err := hex.DecodeString(f[3])
		if err != nil || len(f) != 4 {
			t.Fatalf("%q: %v", line, err)
		}
		if f[0] == "bool" {
			f[2] = f[2][:1] // a cast to text says true, the wire t
		}
		rows = append(rows, wireRow{mustType(t, f[0]), f[1], f[2], string(b)})
	}
	if len(rows) < 80 {
		t.Fatalf("only %d rows", len(rows))
	}
	return rows
}

// TestWire goes text → value → text and binary → value, by Datum and by
// column, against PostgreSQL's answers.
func TestWire(t *testing.T) {
	for _, r := range wireRows(t) {
		d, err := ParseText(r.typ, r.input)
		if err != nil {
			t.Errorf("%s %q: %v", r.typ, r.input, err)
			continue
		}
		if got := Format(r.typ, d); got != r.text {
			t.Errorf("%s %q prints as %q, want %q", r.typ, r.input, got, r.text)
		}
		if got := AppendBinary([]byte("x"), r.typ, d); string(got) != "x"+r.bytes {
			t.Errorf("%s %q sends %x, want %x", r.typ, r.input, got[1:], r.bytes)
		}
		back, err := ParseBinary(r.typ, []byte(r.bytes))
		if err != nil || Format(r.typ, back) != r.text {
			t.Errorf("%s %x reads as %q, %v, want %q", r.typ, r.bytes, Format(r.typ, back), err, r.text)
		}
		col := ArrayOf(r.typ, []Datum{Null, d})
		if !arrow.TypeEqual(col.DataType(), r.typ.Arrow()) || !col.IsNull(0) || !DatumAt(r.typ, col, 0).IsNull() {
			t.Errorf("%s: column %s", r.typ, col)
		}
		if got := string(AppendArrowText(nil, r.typ, col, 1, nil)); got != r.text {
			t.Errorf("%s %q prints from a column as %q, want %q", r.typ, r.input, got, r.text)
		}
		if got := AppendArrowBinary(nil, r.typ, col, 1); string(got) != r.bytes {
			t.Errorf("%s %q sends from a column %x, want %x", r.typ, r.input, got, r.bytes)
		}
		if got := Format(r.typ, DatumAt(r.typ, col, 1)); got != r.text {
			t.Errorf("%s %q comes back from a column as %q", r.typ, r.input, got)
		}
	}
}

// TestEncodersDoNotAllocate: rows go out without garbage.
func TestEncodersDoNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, r := range wireRows(t) {
		if r.typ.IsArray() && r.typ.OID != OIDName || r.typ.OID == OIDNumeric && !r.typ.FixedScale() {
			continue
		}
		d, err := ParseText(r.typ, r.input)
		if err != nil {
			t.Fatal(err)
		}
		col := ArrayOf(r.typ, []Datum{d})
		n := testing.AllocsPerRun(10, func() {
			buf = AppendArrowText(buf[:0], r.typ, col, 0, nil)
			buf = AppendArrowBinary(buf, r.typ, col, 0)
		})
		if n != 0 {
			t.Errorf("%s %q: %v allocations", r.typ, r.input, n)
		}
	}
}

func FuzzBinary(f *testing.F) {
	for _, r := range wireRows(f) {
		f.Add(r.typ.OID, r.typ.Typmod(), []byte(r.bytes))
	}
	f.Fuzz(func(t *testing.T, oid uint32, mod int32, b []byte) {
		typ := FromTypmod(oid, mod)
		if !typ.Known() || typ.OID == OIDRecord || typ.Category() == 'P' {
			return
		}
		d, err := ParseBinary(typ, b)
		if err != nil || d.IsNull() {
			return
		}
		out := AppendBinary(nil, typ, d)
		again, err := ParseBinary(typ, out)
		if err != nil || !bytes.Equal(AppendBinary(nil, typ, again), out) {
			t.Fatalf("%s: %x reads, goes out as %x and then %v", typ, b, out, err)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, r := range wireRows(f) {
		f.Add(r.typ.OID, r.typ.Typmod(), r.input)
	}
	for _, s := range []string{"2020-01-02 03:04:05 Europe/Berlin", "Jan 8, 99 BC 3:4 PM", "P1Y2M3DT4H5M6S", "P0001-02-03T04:05:06", "1-2 3 4:5:6 ago", "J2451187", "{\"a\\\"\",NULL}", "1e-5", "\\000", "+05:30:15"} {
		for _, oid := range []uint32{OIDDate, OIDTime, OIDTimestamp, OIDTimestamptz, OIDInterval, OIDTextArray, OIDNumeric, OIDBytea} {
			f.Add(oid, int32(-1), s)
		}
	}
	f.Fuzz(func(t *testing.T, oid uint32, mod int32, s string) {
		typ := FromTypmod(oid, mod)
		if !typ.Known() {
			return
		}
		d, err := ParseText(typ, s)
		if err != nil || d.IsNull() {
			return
		}
		out := Format(typ, d)
		again, err := ParseText(typ, out)
		if err != nil {
			t.Fatalf("%s: %q reads, prints as %q, which doesn't read: %v", typ, s, out, err)
		}
		if second := Format(typ, again); second != out {
			t.Fatalf("%s: %q prints as %q, read again as %q", typ, s, out, second)
		}
	})
}
