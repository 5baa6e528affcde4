package rowcodec

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/sqltypes"
)

// TestTextIsWhatDatumsAre: where AppendText takes a text, the row is the one of
// the parsed value, and no text that is an error is taken.
func TestTextIsWhatDatumsAre(t *testing.T) {
	numeric := func(p, s int32) sqltypes.Type {
		n := sqltypes.Numeric
		n.Precision, n.Scale = p, s
		return n
	}
	char := func(t sqltypes.Type, n int32) sqltypes.Type {
		t.Precision = n
		return t
	}
	types := []sqltypes.Type{
		sqltypes.Int2, sqltypes.Int4, sqltypes.Int8, sqltypes.Date, sqltypes.Text, sqltypes.Varchar, sqltypes.Bpchar, sqltypes.Bool, sqltypes.Float8,
		numeric(15, 2), numeric(18, 0), numeric(18, 18), numeric(3, 1), numeric(38, 4), numeric(5, 7), sqltypes.Numeric,
		char(sqltypes.Varchar, 3), char(sqltypes.Bpchar, 3), char(sqltypes.Bpchar, 12),
	}
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(types).Draw(t, "type")
		text := rapid.OneOf(
			rapid.StringMatching(`-?[0-9]{1,20}`), rapid.StringMatching(`-?[0-9]{0,14}\.?[0-9]{0,5}`), rapid.StringMatching(`[-+ ]?[0-9.eE-]{0,6} ?`),
			rapid.StringMatching(`[0-9]{4}-[01][0-9]-[0-3][0-9]`), rapid.StringMatching(`[a-zäöü ]{0,14}`), rapid.SampledFrom([]string{"NaN", "inf", "today", "32768", "-32768", "0", "-0", "-0.00", "1_000", "0x1f", ""}),
		).Draw(t, "text")
		out, ok := AppendText([]byte("x"), typ, []byte(text))
		if !ok {
			return
		}
		d, err := sqltypes.ParseTextOpt(typ, text, &sqltypes.ParseOptions{TimeZone: time.UTC})
		if err != nil {
			t.Fatalf("%s %q is taken, and is an error: %v", typ.Name(), text, err)
		}
		want, err := AppendField([]byte("x"), typ, d)
		if err != nil || !bytes.Equal(out, want) {
			t.Fatalf("%s %q is %x, as a value %x (%v)", typ.Name(), text, out, want, err)
		}
		enc := NewEncoder([]Column{{ID: 2, Type: typ}, {ID: 1, Type: sqltypes.Int4}})
		a, err := enc.EncodeFields(nil, [][]byte{out[1:], nil})
		if err != nil {
			t.Fatal(err)
		}
		b, err := enc.Encode(nil, []sqltypes.Datum{d, sqltypes.Null})
		if err != nil || !bytes.Equal(a, b) {
			t.Fatalf("row %x, of values %x (%v)", a, b, err)
		}
	})
	for _, c := range []struct {
		typ  sqltypes.Type
		text string
	}{
		{sqltypes.Int2, "12"}, {sqltypes.Int4, "-12"}, {sqltypes.Int8, "1234567890123"}, {sqltypes.Date, "2024-02-29"},
		{sqltypes.Text, "a b"}, {sqltypes.Varchar, "ab"}, {numeric(15, 2), "1234.50"},
	} {
		if _, ok := AppendText(nil, c.typ, []byte(c.text)); !ok {
			t.Errorf("%s %q is not taken", c.typ.Name(), c.text)
		}
	}
}
