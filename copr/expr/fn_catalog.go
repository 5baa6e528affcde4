package expr

import (
	"strings"

	"github.com/copradb/copra/internal/sqltypes"
)

func init() {
	def("format_type(oid,int4) text", func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		oid, mod := reader[int64](args[0]), reader[int32](args[1])
		return lift(cc, args, n, sel, func(i int) (string, bool, error) {
			switch {
			case args[0].isNull(i):
				return "", false, nil
			case oid(i) == 0:
				return "-", true, nil
			case args[1].isNull(i):
				return formatType(sqltypes.TypeOf(uint32(oid(i))), false), true, nil
			}
			return formatType(sqltypes.FromTypmod(uint32(oid(i)), mod(i)), true), true, nil
		})
	}, nonStrict, stable)
	def("pg_encoding_to_char(int4) name", pure1(func(enc int32) string {
		switch enc {
		case 0:
			return "SQL_ASCII"
		case 6:
			return "UTF8"
		case 8:
			return "LATIN1"
		}
		return ""
	}), stable)
	def("pg_char_to_encoding(name) int4", pure1(func(s string) int32 {
		switch strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) {
		case "sqlascii":
			return 0
		case "utf8", "unicode":
			return 6
		case "latin1", "iso88591":
			return 8
		}
		return -1
	}), stable)
	// name_get is name[subscript], from 0.
	RegisterFunc(Def{Name: "name_get", Args: []sqltypes.Type{sqltypes.Name, sqltypes.Int4}, Ret: sqltypes.Char, Strict: true,
		Eval: func(_ *Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
			switch s, i := a[0].Str(), a[1].Int(); {
			case i < 0 || i >= int64(sqltypes.Name.Size()):
				return sqltypes.Null, nil
			case i >= int64(len(s)):
				return sqltypes.NewString(""), nil
			default:
				return sqltypes.NewString(sqltypes.CharText(s[i])), nil
			}
		}})
	count := func(nulls bool) evalFunc {
		return rowCall(func(_ *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
			n := 0
			for _, d := range a {
				if d.IsNull() == nulls {
					n++
				}
			}
			return sqltypes.NewInt(int64(n)), nil
		})
	}
	def("num_nulls(variadic any) int4", count(true), nonStrict)
	def("num_nonnulls(variadic any) int4", count(false), nonStrict)
	def("pg_typeof(any) regtype", func(cc *call, args []vec, _ int, _ []int32) (vec, error) {
		return constVec(sqltypes.Regtype, sqltypes.NewInt(int64(cc.args[0].OID))), nil
	}, nonStrict, stable)
}

// formatType is format_type: without a modifier char(n) is "character", with
// the modifier -1 "bpchar".
func formatType(t sqltypes.Type, modGiven bool) string {
	if t.OID == sqltypes.OIDBpchar && t.Precision == 0 && !modGiven {
		return "character"
	}
	return t.Name()
}
