package copyfmt

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// options makes copy options of "name=value" arguments.
func options(t *testing.T, d *datadriven.TestData) []ast.CopyOption {
	t.Helper()
	var out []ast.CopyOption
	for _, a := range d.CmdArgs {
		if a.Key == "columns" {
			continue
		}
		o := ast.CopyOption{Name: a.Key}
		if strings.HasPrefix(a.Key, "force_") {
			o.List = a.Vals
		} else if len(a.Vals) > 0 {
			o.Value = strings.NewReplacer(`\t`, "\t", "<empty>", "", "<newline>", "\n", "<backslash>", `\`).Replace(a.Vals[0])
		}
		out = append(out, o)
	}
	return out
}

func describe(err error) string {
	e := pgerror.From(err)
	return fmt.Sprintf("%s: %s (%s)\n", e.Code, e.Message, e.Where)
}

// TestParse runs testdata/parse: the input is the file, the output its fields.
func TestParse(t *testing.T) {
	datadriven.RunTest(t, "testdata/parse", func(t *testing.T, d *datadriven.TestData) string {
		columns := []string{"a", "b", "c"}
		if d.HasArg("columns") {
			var n int
			d.ScanArgs(t, "columns", &n)
			columns = columns[:n]
		}
		o, err := ParseOptions(options(t, d), columns, true)
		if err != nil {
			return describe(err)
		}
		input := strings.NewReplacer("<CR>", "\r", "<BAD>", "\xff").Replace(d.Input)
		var b strings.Builder
		err = parseAll(o, strings.NewReader(input), columns, func(line int64, fields []string) {
			fmt.Fprintf(&b, "%d: %s\n", line, strings.Join(fields, " "))
		})
		if err != nil {
			b.WriteString(describe(err))
		}
		return b.String()
	})
}

func parseAll(o *Options, r io.Reader, columns []string, fn func(line int64, fields []string)) error {
	s, p := NewSplitter(r, o, "t"), NewParser(o, "t", columns)
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = p.Chunk(c, func(line int64, fields []Field, _ []byte) error {
			var out []string
			for _, f := range fields {
				if f.Null {
					out = append(out, "NULL")
				} else {
					out = append(out, fmt.Sprintf("%q", f.Data))
				}
			}
			fn(line, out)
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// TestRoundTrip: what is written comes back, whatever the values and options
// and however the bytes arrive.
func TestRoundTrip(t *testing.T) {
	alphabet := []rune("ab,|\"'\\\n\r\t\b.Nnx01ü")
	rapid.Check(t, func(t *rapid.T) {
		o := &Options{Delimiter: '\t', Null: `\N`}
		if rapid.Bool().Draw(t, "csv") {
			o = &Options{CSV: true, Delimiter: ',', Quote: '"', Escape: rapid.SampledFrom([]byte{'"', '\\'}).Draw(t, "escape")}
		}
		if rapid.Bool().Draw(t, "bar") {
			o.Delimiter = '|'
		}
		columns := []string{"a", "b"}
		types := []sqltypes.Type{sqltypes.Text, sqltypes.Text}
		w := NewWriter(o, types, nil)
		var text []byte
		var want []string
		for range rapid.IntRange(1, 5).Draw(t, "rows") {
			var cols []arrow.Array
			var line []string
			for range columns {
				v := sqltypes.Null
				show := "NULL"
				if rapid.IntRange(0, 4).Draw(t, "null") > 0 {
					s := rapid.StringOfN(rapid.SampledFrom(alphabet), 0, 8, -1).Draw(t, "value")
					v, show = sqltypes.NewString(s), fmt.Sprintf("%q", s)
				}
				cols, line = append(cols, sqltypes.ArrayOf(sqltypes.Text, []sqltypes.Datum{v})), append(line, show)
			}
			text = w.AppendRow(text, cols, 0)
			want = append(want, strings.Join(line, " "))
		}
		var got []string
		err := parseAll(o, iotest.OneByteReader(strings.NewReader(string(text))), columns, func(_ int64, fields []string) {
			got = append(got, strings.Join(fields, " "))
		})
		if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("%q gives %q (%v), want %q", text, got, err, want)
		}
	})
}

// TestChunks: many lines make several chunks whose line numbers go on.
func TestChunks(t *testing.T) {
	var b strings.Builder
	const lines = 60_000
	for i := range lines {
		fmt.Fprintf(&b, "%d,\"x\ny\"\n", i)
	}
	o := &Options{CSV: true, Delimiter: ',', Quote: '"', Escape: '"'}
	var next int64 // each record is two lines
	err := parseAll(o, strings.NewReader(b.String()), []string{"a", "b"}, func(line int64, fields []string) {
		if line != 2*next+2 || fields[0] != fmt.Sprintf("%q", fmt.Sprint(next)) {
			t.Fatalf("line %d has %s", line, fields)
		}
		next++
	})
	if err != nil || next != lines {
		t.Errorf("%d lines: %v", next, err)
	}
	if _, err := NewSplitter(iotest.ErrReader(io.ErrUnexpectedEOF), o, "t").Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken connection: %v", err)
	}
}

func TestWriteHeader(t *testing.T) {
	o := &Options{CSV: true, Delimiter: ',', Quote: '"', Escape: '"', ForceQuote: []bool{true}}
	w := NewWriter(o, []sqltypes.Type{sqltypes.Int8}, nil)
	got := string(w.AppendRow(w.appendHeader(nil, []string{"a,b"}), []arrow.Array{sqltypes.ArrayOf(sqltypes.Int8, []sqltypes.Datum{sqltypes.NewInt(5)})}, 0))
	if got != "\"a,b\"\n\"5\"\n" {
		t.Errorf("wrote %q", got)
	}
}

func BenchmarkParseText(b *testing.B) {
	line := "1\t155190\t7706\t1\t17\t21168.23\t0.04\t0.02\tN\tO\t1996-03-13\t1996-02-12\n"
	data := []byte(strings.Repeat(line, 4096))
	columns := strings.Split("a b c d e f g h i j k l", " ")
	p := NewParser(&Options{Delimiter: '\t', Null: `\N`}, "t", columns)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Chunk(Chunk{Data: data, Line: 1}, func(int64, []Field, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
