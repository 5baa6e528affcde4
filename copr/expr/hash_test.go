package expr

import (
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// TestHashStable pins hashes: they travel between nodes of different versions.
func TestHashStable(t *testing.T) {
	for _, c := range []struct {
		typ  sqltypes.Type
		text string
		want uint64
	}{
		{sqltypes.Int4, "42", 0xb1b91f99877bf8c},
		{sqltypes.Int8, "42", 0xb1b91f99877bf8c},
		{sqltypes.NumericOf(15, 2), "1.50", 0x83b31a0fb8fc9383},
		{sqltypes.Numeric, "1.500", 0x83b31a0fb8fc9383},
		{sqltypes.Text, "foo", 0x3a9e099abd1078ec},
		{sqltypes.Float8, "1.5", 0xcb18b06480e946c5},
		{sqltypes.Date, "2020-02-29", 0xf557ab7d2ae00861},
		{sqltypes.Interval, "1 mon", 0x112d9e37c6dde6c3},
	} {
		d, err := sqltypes.ParseText(c.typ, c.text)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]uint64, 1)
		HashColumns([]sqltypes.Type{c.typ}, []arrow.Array{sqltypes.ArrayOf(c.typ, []sqltypes.Datum{d})}, nil, out)
		if out[0] != c.want {
			t.Errorf("%s %s hashes to %#x, want %#x", c.typ, c.text, out[0], c.want)
		}
	}
}
