package expr

import (
	"encoding/json"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// JSON is only made, for the catalog queries of clients: there is no column of
// it.
func init() {
	def("json_build_object(variadic any) json", rowCall(buildObject), nonStrict, stable)
	def("json_build_array(variadic any) json", rowCall(buildArray), nonStrict, stable)
	for name, empty := range map[string]string{"json_build_object": "{}", "json_build_array": "[]"} {
		def(name+"() json", func(*call, []vec, int, []int32) (vec, error) {
			return constVec(sqltypes.Type{OID: sqltypes.OIDJSON}, sqltypes.NewString(empty)), nil
		}, stable)
	}
	def("to_json(anyelement) json", rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		s, err := jsonText(cc, cc.args[0], a[0])
		return sqltypes.NewString(s), err
	}), stable)
}

// buildObject is json_build_object, spaced as PostgreSQL does it.
func buildObject(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
	if len(a)%2 != 0 {
		return sqltypes.Null, pgerror.New(pgerror.InvalidParameterValue, "argument list must have even number of elements").
			WithHint("The arguments of json_build_object() must consist of alternating keys and values.")
	}
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; i < len(a); i += 2 {
		if i > 0 {
			b.WriteString(", ")
		}
		if a[i].IsNull() {
			return sqltypes.Null, pgerror.New(pgerror.InvalidParameterValue, "argument %d cannot be null", i+1).
				WithHint("Object keys should be text.")
		}
		value, err := jsonText(cc, cc.args[i+1], a[i+1])
		if err != nil {
			return sqltypes.Null, err
		}
		b.WriteString(jsonString(outText(cc, cc.args[i], a[i])) + " : " + value)
	}
	b.WriteByte('}')
	return sqltypes.NewString(b.String()), nil
}

func buildArray(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
	parts := make([]string, len(a))
	for i := range a {
		var err error
		if parts[i], err = jsonText(cc, cc.args[i], a[i]); err != nil {
			return sqltypes.Null, err
		}
	}
	return sqltypes.NewString("[" + strings.Join(parts, ", ") + "]"), nil
}

// jsonText is a value as JSON: numbers and truth values as they are, all else
// as a string.
func jsonText(cc *call, t sqltypes.Type, d sqltypes.Datum) (string, error) {
	if d.IsNull() {
		return "null", nil
	}
	switch t.OID {
	case sqltypes.OIDBool:
		if d.Bool() {
			return "true", nil
		}
		return "false", nil
	case sqltypes.OIDJSON:
		return d.Str(), nil
	case sqltypes.OIDInt2, sqltypes.OIDInt4, sqltypes.OIDInt8, sqltypes.OIDFloat4, sqltypes.OIDFloat8, sqltypes.OIDNumeric:
		s := outText(cc, t, d)
		if strings.ContainsAny(s, "NI") { // NaN, Infinity
			return jsonString(s), nil
		}
		return s, nil
	case sqltypes.OIDTimestamp, sqltypes.OIDTimestamptz: // ISO 8601
		return jsonString(strings.Replace(outText(cc, t, d), " ", "T", 1)), nil
	}
	if elem, ok := t.Elem(); ok && t.IsArray() {
		return jsonArray(cc, t, elem, d)
	}
	return jsonString(outText(cc, t, d)), nil
}

func jsonArray(cc *call, t, elem sqltypes.Type, d sqltypes.Datum) (string, error) {
	elems, err := sqltypes.SplitArray(t, d.Str())
	if err != nil {
		return "", err
	}
	parts := make([]string, len(elems))
	for i, e := range elems {
		v := sqltypes.Null
		if !e.Null {
			if v, err = sqltypes.ParseTextOpt(elem, e.Text, cc.ctx.parseOptions()); err != nil {
				return "", err
			}
		}
		if parts[i], err = jsonText(cc, elem, v); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(parts, ",") + "]", nil
}

// jsonString quotes s.
func jsonString(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can always be encoded, into memory
	return strings.TrimSuffix(b.String(), "\n")
}
