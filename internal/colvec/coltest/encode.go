package coltest

import (
	"github.com/apache/arrow/go/v17/arrow"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Encoded draws whether to encode a plain column of type typ, and does so if
// its values allow. Rows that are NULL have any code or number.
func Encoded(t *rapid.T, a arrow.Array, typ sqltypes.Type) arrow.Array {
	v := colvec.Open(a, typ)
	if !rapid.Bool().Draw(t, "encode") {
		return a
	}
	switch v.Kind {
	case colvec.Decimal:
		vals := make([]int64, v.N)
		for i := range vals {
			if v.IsNull(i) {
				vals[i] = rapid.Int64().Draw(t, "value of a NULL")
				continue
			}
			var ok bool
			if vals[i], ok = colvec.ToDec64(v.Dec[i]); !ok {
				return a
			}
		}
		return colvec.NewDec64(vals, validity(&v), v.Nulls)
	case colvec.String, colvec.Binary:
		dict := colvec.NewBuilder(typ, 0)
		dict.AppendString("")
		seen, codes := map[string]int32{"": 0}, make([]int32, v.N)
		for i := range codes {
			if v.IsNull(i) {
				continue
			}
			s := string(v.BytesAt(i))
			code, ok := seen[s]
			if !ok {
				code = int32(len(seen))
				seen[s] = code
				dict.AppendString(s)
			}
			codes[i] = code
		}
		d, err := dict.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return colvec.NewDict(d, codes, validity(&v), v.Nulls)
	}
	return a
}

func validity(v *colvec.Vec) []byte {
	out := make([]byte, (v.N+7)/8)
	for i := range v.N {
		if !v.IsNull(i) {
			out[i>>3] |= 1 << (i & 7)
		}
	}
	return out
}
