package sqlfront

import (
	"bytes"
	"math"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// sampled runs a sample over rows that f makes of their numbers, in batches.
func sampled(t *testing.T, typ sqltypes.Type, rows int, f func(i int) sqltypes.Datum) *catalog.ColumnStats {
	t.Helper()
	s := newRowSample(&catalog.Table{ID: 7, Columns: []catalog.Column{{ID: 3, Type: typ}}})
	for at := 0; at < rows; {
		n := min(1000, rows-at)
		b := colvec.NewBuilder(typ, n)
		for i := range n {
			if err := b.AppendDatum(f(at + i)); err != nil {
				t.Fatal(err)
			}
		}
		a, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.add([]arrow.Array{a}, int64(at), n); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	return s.stats()[3]
}

func TestSampleOfAscendingRows(t *testing.T) {
	for _, rows := range []int{1, 100, sampleRows, 200_000} {
		st := sampled(t, sqltypes.Int8, rows, func(i int) sqltypes.Datum { return sqltypes.NewInt(int64(i)) })
		if len(st.Common) != 0 || st.NullFrac != 0 || len(st.Values) != min(rows, statsValuesMax) {
			t.Fatalf("%d rows: %d common, %v null, %d values", rows, len(st.Common), st.NullFrac, len(st.Values))
		}
		for i, k := range st.Values {
			v, _, err := tablecodec.NewDecoder([]tablecodec.Column{tablecodec.IndexColumn(sqltypes.Int8, false)}).DecodeDatums(k)
			if err != nil {
				t.Fatal(err)
			}
			want := (float64(i) + 0.5) / float64(len(st.Values)) * float64(rows)
			if math.Abs(float64(v[0].Int())-want) > float64(rows)/40+1 {
				t.Errorf("%d rows: quantile %d is %d, want about %.0f", rows, i, v[0].Int(), want)
			}
		}
	}
}

func TestSampleOfFewValues(t *testing.T) {
	colors := []string{"red", "red", "red", "green", ""}
	st := sampled(t, sqltypes.Text, 50_000, func(i int) sqltypes.Datum {
		if c := colors[i%5]; c != "" {
			return sqltypes.NewString(c)
		}
		return sqltypes.Null
	})
	if len(st.Common) != 2 || len(st.Values) != 0 || math.Abs(st.NullFrac-0.2) > 0.02 {
		t.Fatalf("%d common, %d values, %v null", len(st.Common), len(st.Values), st.NullFrac)
	}
	if math.Abs(st.Common[0].Frac-0.6) > 0.02 || !bytes.Contains(st.Common[0].Key, []byte("red")) {
		t.Errorf("the most frequent is %q with %v", st.Common[0].Key, st.Common[0].Frac)
	}
	if st := sampled(t, sqltypes.Text, 10, func(int) sqltypes.Datum {
		return sqltypes.NewString(string(bytes.Repeat([]byte("x"), sampleValueBytesMax+1)))
	}); st != nil {
		t.Errorf("long values are kept: %v", st)
	}
	if st := sampled(t, sqltypes.Int4, 10, func(int) sqltypes.Datum { return sqltypes.Null }); st.NullFrac != 1 || len(st.Values)+len(st.Common) != 0 {
		t.Errorf("only NULLs: %+v", st)
	}
}
