package rowcodec_test

import (
	"bytes"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
)

func drawColumns(t *rapid.T) []rowcodec.Column {
	ids := rapid.SliceOfNDistinct(rapid.OneOf(rapid.Uint32Range(1, 20), rapid.Uint32()), 0, 12, rapid.ID).Draw(t, "ids")
	cols := make([]rowcodec.Column, len(ids))
	for i, id := range ids {
		cols[i] = rowcodec.Column{ID: id, Type: coltest.Type(t)}
	}
	return cols
}

func TestRowsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cols := drawColumns(t)
		enc := rowcodec.NewEncoder(cols)
		var wanted []rowcodec.Wanted
		var from []int // column of each wanted one, -1 = not in the rows
		for i, c := range cols {
			if rapid.Bool().Draw(t, "wanted") {
				wanted, from = append(wanted, rowcodec.Wanted{ID: c.ID, Type: c.Type}), append(from, i)
			}
		}
		added := coltest.Type(t)
		def := coltest.Nullable(t, added)
		wanted, from = append(wanted, rowcodec.Wanted{ID: 0, Type: added, Default: def}), append(from, -1)
		for i, c := range cols {
			if c.ID == 0 {
				wanted[len(wanted)-1] = rowcodec.Wanted{ID: 0, Type: c.Type}
				from[len(from)-1] = i
			}
		}
		dec := rowcodec.NewDecoder(wanted)
		for range 3 {
			vals := make([]sqltypes.Datum, len(cols))
			arrays := make([]arrow.Array, len(cols))
			for i, c := range cols {
				vals[i] = coltest.Nullable(t, c.Type)
				arrays[i] = coltest.Array(t, c.Type, vals[i:i+1])
			}
			row, err := enc.Encode(nil, vals)
			if err != nil {
				t.Fatal(err)
			}
			enc.Bind(arrays)
			if viaArrow, err := enc.EncodeRow(nil, 0); err != nil || !bytes.Equal(row, viaArrow) {
				t.Fatalf("from Arrow %x (%v), from Datums %x", viaArrow, err, row)
			}
			got, err := dec.DecodeDatums(row)
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range wanted {
				want := def
				if from[i] >= 0 {
					want = vals[from[i]]
				}
				if coltest.Text(w.Type, got[i]) != coltest.Text(w.Type, want) {
					t.Fatalf("column %d (%s): %s, want %s", w.ID, w.Type.Name(), coltest.Text(w.Type, got[i]), coltest.Text(w.Type, want))
				}
			}
		}
	})
}

func TestLongRow(t *testing.T) {
	cols := []rowcodec.Column{{ID: 3, Type: sqltypes.Text}, {ID: 1, Type: sqltypes.Int4}}
	long := sqltypes.NewString(string(bytes.Repeat([]byte("x"), 100_000)))
	row, err := rowcodec.NewEncoder(cols).Encode(nil, []sqltypes.Datum{long, sqltypes.NewInt(42)})
	if err != nil {
		t.Fatal(err)
	}
	vals, err := rowcodec.NewDecoder([]rowcodec.Wanted{{ID: 1, Type: sqltypes.Int4}, {ID: 3, Type: sqltypes.Text}}).DecodeDatums(row)
	if err != nil || vals[0].Int() != 42 || vals[1].Str() != long.Str() {
		t.Fatalf("%v, %v", vals[0], err)
	}
	huge := sqltypes.NewString(string(make([]byte, rowcodec.RowBytesMax+1)))
	_, err = rowcodec.NewEncoder(cols[:1]).Encode(nil, []sqltypes.Datum{huge})
	if pgerror.Code(err) != pgerror.ProgramLimitExceeded {
		t.Errorf("a row over the limit: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	var wanted []rowcodec.Wanted
	var cols []rowcodec.Column
	types := make([]sqltypes.Type, len(coltest.Types))
	for i, typ := range coltest.Types {
		wanted = append(wanted, rowcodec.Wanted{ID: uint32(i), Type: typ})
		cols = append(cols, rowcodec.Column{ID: uint32(i), Type: typ})
		types[i] = typ
	}
	nulls, err := rowcodec.NewEncoder(cols).Encode(nil, make([]sqltypes.Datum, len(cols)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(nulls)
	f.Add([]byte{1, 0, 1, 0, 9, 0, 2, 0, '1', '0'})
	f.Add([]byte{1, 1, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, row []byte) {
		bs := colvec.NewBuilders(types, 1)
		if err := rowcodec.NewDecoder(wanted).Decode(row, bs); err != nil {
			if pgerror.Code(err) != pgerror.DataCorrupted {
				t.Fatalf("error %v", err)
			}
			return
		}
		arrays, err := colvec.FinishAll(bs)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range colvec.OpenAll(arrays, types) {
			if v.N != 1 {
				t.Fatalf("%d rows", v.N)
			}
			_ = coltest.Text(types[i], v.At(0, types[i]))
		}
	})
}

// lineitem's columns behind its key, as TPC-H has them.
func lineitem() ([]rowcodec.Column, []sqltypes.Datum) {
	num, char := sqltypes.NumericOf(15, 2), sqltypes.Type{OID: sqltypes.OIDBpchar, Precision: 1}
	dec := func(s string) sqltypes.Datum { d, _ := sqltypes.ParseNumeric(s); return sqltypes.NewDecimal(d) }
	cols := []rowcodec.Column{
		{ID: 2, Type: sqltypes.Int4}, {ID: 3, Type: sqltypes.Int4}, {ID: 5, Type: num}, {ID: 6, Type: num}, {ID: 7, Type: num}, {ID: 8, Type: num},
		{ID: 9, Type: char}, {ID: 10, Type: char}, {ID: 11, Type: sqltypes.Date}, {ID: 12, Type: sqltypes.Date}, {ID: 13, Type: sqltypes.Date},
		{ID: 14, Type: sqltypes.Text}, {ID: 15, Type: sqltypes.Text}, {ID: 16, Type: sqltypes.Text},
	}
	str := sqltypes.NewString
	return cols, []sqltypes.Datum{
		sqltypes.NewInt(155190), sqltypes.NewInt(7706), dec("17.00"), dec("21168.23"), dec("0.04"), dec("0.02"), str("N"), str("O"),
		sqltypes.NewInt(9568), sqltypes.NewInt(9538), sqltypes.NewInt(9577), str("DELIVER IN PERSON"), str("TRUCK"), str("egular courts above the"),
	}
}

func BenchmarkDecodeLineitem(b *testing.B) {
	cols, vals := lineitem()
	row, err := rowcodec.NewEncoder(cols).Encode(nil, vals)
	if err != nil {
		b.Fatal(err)
	}
	wanted := make([]rowcodec.Wanted, len(cols))
	types := make([]sqltypes.Type, len(cols))
	for i, c := range cols {
		wanted[i], types[i] = rowcodec.Wanted{ID: c.ID, Type: c.Type}, c.Type
	}
	dec, bs := rowcodec.NewDecoder(wanted), colvec.NewBuilders(types, 8192)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := dec.Decode(row, bs); err != nil {
			b.Fatal(err)
		}
		if i%8192 == 8191 {
			if _, err := colvec.FinishAll(bs); err != nil {
				b.Fatal(err)
			}
		}
	}
}
