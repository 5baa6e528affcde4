package sqltypes

import (
	"fmt"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
)

// Limits of type modifiers, as PostgreSQL's.
const (
	charLengthMax       = 10485760
	numericPrecisionMax = 1000
	timePrecisionMax    = 6
	intervalFullRange   = 0x7FFF
	intervalFullPrec    = 0xFFFF
)

// Bits of an interval's field mask.
const (
	intervalMonth  = 1 << 1
	intervalYear   = 1 << 2
	intervalDay    = 1 << 3
	intervalHour   = 1 << 10
	intervalMinute = 1 << 11
	intervalSecond = 1 << 12
)

var intervalFields = map[int32]string{
	intervalYear: "year", intervalMonth: "month", intervalDay: "day", intervalHour: "hour",
	intervalMinute: "minute", intervalSecond: "second", intervalYear | intervalMonth: "year to month",
	intervalDay | intervalHour:                                   "day to hour",
	intervalDay | intervalHour | intervalMinute:                  "day to minute",
	intervalDay | intervalHour | intervalMinute | intervalSecond: "day to second",
	intervalHour | intervalMinute:                                "hour to minute",
	intervalHour | intervalMinute | intervalSecond:               "hour to second",
	intervalMinute | intervalSecond:                              "minute to second",
}

// Name is the type as format_type prints it.
func (t Type) Name() string {
	info := infoByOID[t.OID]
	if info == nil {
		return "???"
	}
	switch t.OID {
	case OIDBpchar:
		if t.Precision == 0 {
			return "bpchar"
		}
		return fmt.Sprintf("character(%d)", t.Precision)
	case OIDVarchar:
		if t.Precision != 0 {
			return fmt.Sprintf("character varying(%d)", t.Precision)
		}
	case OIDNumeric:
		if t.Precision != 0 {
			return fmt.Sprintf("numeric(%d,%d)", t.Precision, t.Scale)
		}
	case OIDTime, OIDTimestamp, OIDTimestamptz:
		if t.Precision != 0 {
			word, rest, _ := strings.Cut(info.sqlName, " ")
			return fmt.Sprintf("%s(%d) %s", word, t.Precision-1, rest)
		}
	case OIDInterval:
		name := "interval"
		if t.Scale != 0 {
			name += " " + intervalFields[t.Scale]
		}
		if t.Precision != 0 {
			name += fmt.Sprintf("(%d)", t.Precision-1)
		}
		return name
	}
	return info.sqlName
}

// String is Name.
func (t Type) String() string { return t.Name() }

// Typmod is pg_attribute.atttypmod, -1 for none.
func (t Type) Typmod() int32 {
	switch t.OID {
	case OIDBpchar, OIDVarchar:
		if t.Precision > 0 {
			return t.Precision + 4
		}
	case OIDNumeric:
		if t.Precision > 0 {
			return t.Precision<<16 | (t.Scale & 0x7ff) + 4
		}
	case OIDTime, OIDTimestamp, OIDTimestamptz:
		return t.Precision - 1
	case OIDInterval:
		if t.Precision == 0 && t.Scale == 0 {
			return -1
		}
		mask, prec := t.Scale, t.Precision-1
		if mask == 0 {
			mask = intervalFullRange
		}
		if prec < 0 {
			prec = intervalFullPrec
		}
		return mask<<16 | prec
	}
	return -1
}

// FromTypmod is the inverse of Typmod.
func FromTypmod(oid uint32, typmod int32) Type {
	t := TypeOf(oid)
	if typmod < 0 {
		return t
	}
	switch oid {
	case OIDBpchar, OIDVarchar:
		t.Precision = max(typmod-4, 0)
	case OIDNumeric:
		if typmod >= 4 {
			t.Precision = (typmod - 4) >> 16 & 0xffff
			t.Scale = (typmod-4)&0x7ff ^ 1024 - 1024
		}
	case OIDTime, OIDTimestamp, OIDTimestamptz:
		t.Precision = typmod + 1
	case OIDInterval:
		if mask := typmod >> 16 & 0x7fff; mask != intervalFullRange {
			t.Scale = mask
		}
		if prec := typmod & 0xffff; prec != intervalFullPrec {
			t.Precision = prec + 1
		}
	}
	return t
}

// spellings are SQL's names of types that are not pg_type's.
var spellings = map[string]uint32{
	"boolean": OIDBool, "bigint": OIDInt8, "smallint": OIDInt2, "integer": OIDInt4, "int": OIDInt4,
	"real": OIDFloat4, "float": OIDFloat8, "double precision": OIDFloat8, "decimal": OIDNumeric, "dec": OIDNumeric,
	"character varying": OIDVarchar, "char varying": OIDVarchar, "character": OIDBpchar, "nchar": OIDBpchar,
	"timestamp without time zone": OIDTimestamp, "timestamp with time zone": OIDTimestamptz,
	"time without time zone": OIDTime, "serial": OIDInt4, "serial4": OIDInt4, "bigserial": OIDInt8, "serial8": OIDInt8,
	"smallserial": OIDInt2, "serial2": OIDInt2,
}

// unsupported are types of PostgreSQL that copra refuses by name.
var unsupported = map[string]bool{
	"timetz": true, "time with time zone": true, "jsonb": true, "jsonpath": true, "xml": true, "money": true, "bit": true, "varbit": true,
	"bit varying": true, "inet": true, "cidr": true, "macaddr": true, "macaddr8": true, "point": true, "line": true, "lseg": true,
	"box": true, "path": true, "polygon": true, "circle": true, "tsvector": true, "tsquery": true, "int4range": true,
	"int8range": true, "numrange": true, "tsrange": true, "tstzrange": true, "daterange": true, "int4multirange": true,
	"int8multirange": true, "nummultirange": true, "tsmultirange": true, "tstzmultirange": true, "datemultirange": true,
	"xid8": true, "pg_lsn": true, "pg_snapshot": true, "txid_snapshot": true, "regconfig": true, "regdictionary": true,
	"regcollation": true, "refcursor": true,
}

// ByName finds a type by its (possibly qualified) name, the constants in its
// parentheses and its number of array dimensions. Names are folded already,
// as the parser does. It knows pg_type's names and SQL's spellings; an unknown
// name is 42704, one of PostgreSQL's that copra lacks 0A000.
func ByName(names []string, mods []int32, arrayDims int) (Type, error) {
	full := strings.Join(names, ".")
	if len(names) == 0 || len(names) > 2 || len(names) == 2 && names[0] != "pg_catalog" {
		return Type{}, pgerror.New(pgerror.UndefinedObject, "type %q does not exist", full)
	}
	name := names[len(names)-1]
	for strings.HasSuffix(name, "[]") {
		name, arrayDims = strings.TrimSuffix(name, "[]"), arrayDims+1
	}
	oid, ok := spellings[name]
	if !ok {
		if info := infoByName[name]; info != nil {
			oid, ok = info.oid, true
		}
	}
	if !ok {
		if unsupported[name] {
			return Type{}, pgerror.Unsupported("type " + name)
		}
		return Type{}, pgerror.New(pgerror.UndefinedObject, "type %q does not exist", full)
	}
	t, err := withMods(oid, name, mods)
	if err != nil || arrayDims == 0 {
		return t, err
	}
	arr, ok := t.ArrayType()
	if !ok {
		return Type{}, pgerror.New(pgerror.UndefinedObject, "could not find array type for data type %s", t.Name())
	}
	return arr, nil
}

func withMods(oid uint32, name string, mods []int32) (Type, error) {
	t := TypeOf(oid)
	switch oid {
	case OIDBpchar, OIDVarchar:
		return withLength(t, name, mods)
	case OIDNumeric:
		return withPrecision(mods)
	case OIDFloat8:
		if name == "float" && len(mods) == 1 {
			return floatOf(mods[0])
		}
	case OIDTime, OIDTimestamp, OIDTimestamptz, OIDInterval:
		return withTimePrecision(t, mods)
	}
	if len(mods) > 0 {
		return t, pgerror.New(pgerror.SyntaxError, "type modifier is not allowed for type %q", name)
	}
	return t, nil
}

func withLength(t Type, name string, mods []int32) (Type, error) {
	word := "varchar"
	if t.OID == OIDBpchar {
		word = "char"
	}
	switch {
	case len(mods) == 0:
		if name == "character" || name == "nchar" {
			t.Precision = 1
		}
	case len(mods) > 1:
		return t, pgerror.New(pgerror.InvalidParameterValue, "invalid type modifier")
	case mods[0] < 1:
		return t, pgerror.New(pgerror.InvalidParameterValue, "length for type %s must be at least 1", word)
	case mods[0] > charLengthMax:
		return t, pgerror.New(pgerror.InvalidParameterValue, "length for type %s cannot exceed %d", word, charLengthMax)
	default:
		t.Precision = mods[0]
	}
	return t, nil
}

func withPrecision(mods []int32) (Type, error) {
	if len(mods) == 0 {
		return Numeric, nil
	}
	if len(mods) > 2 {
		return Numeric, pgerror.New(pgerror.InvalidParameterValue, "invalid NUMERIC type modifier")
	}
	if mods[0] < 1 || mods[0] > numericPrecisionMax {
		return Numeric, pgerror.New(pgerror.InvalidParameterValue, "NUMERIC precision %d must be between 1 and %d", mods[0], numericPrecisionMax)
	}
	t := NumericOf(mods[0], 0)
	if len(mods) == 2 {
		if mods[1] < -1000 || mods[1] > 1000 {
			return Numeric, pgerror.New(pgerror.InvalidParameterValue, "NUMERIC scale %d must be between -1000 and 1000", mods[1])
		}
		if mods[1] < 0 {
			return Numeric, pgerror.Unsupported("numeric with a negative scale")
		}
		t.Scale = mods[1]
	}
	return t, nil
}

func floatOf(bits int32) (Type, error) {
	switch {
	case bits < 1:
		return Float8, pgerror.New(pgerror.InvalidParameterValue, "precision for type float must be at least 1 bit")
	case bits <= 24:
		return Float4, nil
	case bits <= 53:
		return Float8, nil
	}
	return Float8, pgerror.New(pgerror.InvalidParameterValue, "precision for type float must be less than 54 bits")
}

func withTimePrecision(t Type, mods []int32) (Type, error) {
	if t.OID == OIDInterval && len(mods) > 0 {
		mask := mods[0]
		if mask == intervalFullRange {
			mask = 0
		} else if _, ok := intervalFields[mask]; !ok {
			return t, pgerror.New(pgerror.InvalidParameterValue, "invalid INTERVAL type modifier")
		}
		t.Scale = mask
		mods = mods[1:]
	}
	if len(mods) == 0 {
		return t, nil
	}
	if len(mods) > 1 {
		return t, pgerror.New(pgerror.InvalidParameterValue, "invalid type modifier")
	}
	if mods[0] < 0 {
		return t, pgerror.New(pgerror.InvalidParameterValue, "%s(%d) precision must not be negative", strings.ToUpper(t.PgName()), mods[0])
	}
	t.Precision = min(mods[0], timePrecisionMax) + 1
	return t, nil
}
