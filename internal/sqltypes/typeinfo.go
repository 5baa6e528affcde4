package sqltypes

import "github.com/apache/arrow/go/v17/arrow"

// typeInfo is what pg_type says of a type.
type typeInfo struct {
	oid       uint32
	name      string // typname
	sqlName   string // format_type without modifiers; "" = name
	size      int16  // typlen
	category  byte
	preferred bool
	array     uint32 // OID of the array type, 0 = none
	elem      uint32 // OID of the element type of an array
}

var typeInfos = []typeInfo{
	{OIDBool, "bool", "boolean", 1, 'B', true, OIDBoolArray, 0},
	{OIDBytea, "bytea", "", -1, 'U', false, OIDByteaArray, 0},
	{OIDChar, "char", `"char"`, 1, 'Z', false, OIDCharArray, 0},
	{OIDName, "name", "", 64, 'S', false, OIDNameArray, OIDChar},
	{OIDInt8, "int8", "bigint", 8, 'N', false, OIDInt8Array, 0},
	{OIDInt2, "int2", "smallint", 2, 'N', false, OIDInt2Array, 0},
	{OIDInt2Vector, "int2vector", "", -1, 'A', false, 1006, OIDInt2},
	{OIDInt4, "int4", "integer", 4, 'N', false, OIDInt4Array, 0},
	{OIDRegproc, "regproc", "", 4, 'N', false, 1008, 0},
	{OIDText, "text", "", -1, 'S', true, OIDTextArray, 0},
	{OIDOid, "oid", "", 4, 'N', true, OIDOidArray, 0},
	{OIDTid, "tid", "", 6, 'U', false, 1010, 0},
	{OIDXid, "xid", "", 4, 'U', false, 1011, 0},
	{OIDCid, "cid", "", 4, 'U', false, 1012, 0},
	{OIDOidVector, "oidvector", "", -1, 'A', false, 1013, OIDOid},
	{OIDJSON, "json", "", -1, 'U', false, 199, 0},
	{OIDPgNodeTree, "pg_node_tree", "", -1, 'Z', false, 0, 0},
	{OIDFloat4, "float4", "real", 4, 'N', false, OIDFloat4Array, 0},
	{OIDFloat8, "float8", "double precision", 8, 'N', true, OIDFloat8Array, 0},
	{OIDUnknown, "unknown", "", -2, 'X', false, 0, 0},
	{OIDACLItem, "aclitem", "", 12, 'U', false, OIDACLItemArray, 0},
	{OIDBpchar, "bpchar", "character", -1, 'S', false, OIDBpcharArray, 0},
	{OIDVarchar, "varchar", "character varying", -1, 'S', false, OIDVarcharArray, 0},
	{OIDDate, "date", "", 4, 'D', false, OIDDateArray, 0},
	{OIDTime, "time", "time without time zone", 8, 'D', false, OIDTimeArray, 0},
	{OIDTimestamp, "timestamp", "timestamp without time zone", 8, 'D', false, OIDTimestampArray, 0},
	{OIDTimestamptz, "timestamptz", "timestamp with time zone", 8, 'D', true, OIDTimestamptzArr, 0},
	{OIDInterval, "interval", "", 16, 'T', true, OIDIntervalArray, 0},
	{OIDNumeric, "numeric", "", -1, 'N', false, OIDNumericArray, 0},
	{OIDRegprocedure, "regprocedure", "", 4, 'N', false, 2207, 0},
	{OIDRegoper, "regoper", "", 4, 'N', false, 2208, 0},
	{OIDRegoperator, "regoperator", "", 4, 'N', false, 2209, 0},
	{OIDRegclass, "regclass", "", 4, 'N', false, OIDRegclassArray, 0},
	{OIDRegtype, "regtype", "", 4, 'N', false, OIDRegtypeArray, 0},
	{OIDRegrole, "regrole", "", 4, 'N', false, 4097, 0},
	{OIDRegnamespace, "regnamespace", "", 4, 'N', false, 4090, 0},
	{OIDUUID, "uuid", "", 16, 'U', false, OIDUUIDArray, 0},
	{OIDRecord, "record", "", -1, 'P', false, OIDRecordArray, 0},
	{OIDVoid, "void", "", 4, 'P', false, 0, 0},
	{OIDCString, "cstring", "", -2, 'P', false, 1263, 0},
	{OIDAny, "any", `"any"`, 4, 'P', false, 0, 0},
	{OIDAnyArray, "anyarray", "", -1, 'P', false, 0, 0},
	{OIDAnyElement, "anyelement", "", 4, 'P', false, 0, 0},
}

var (
	infoByOID  = map[uint32]*typeInfo{}
	infoByName = map[string]*typeInfo{}
)

func init() {
	for i := range typeInfos {
		info := &typeInfos[i]
		if info.sqlName == "" {
			info.sqlName = info.name
		}
		infoByOID[info.oid] = info
		infoByName[info.name] = info
		if info.array != 0 {
			arr := &typeInfo{info.array, "_" + info.name, info.sqlName + "[]", -1, 'A', false, 0, info.oid}
			infoByOID[arr.oid] = arr
			infoByName[arr.name] = arr
		}
	}
}

// Known reports whether copra knows the type.
func (t Type) Known() bool { return infoByOID[t.OID] != nil }

// PgName is pg_type.typname, "" for an unknown type.
func (t Type) PgName() string {
	if i := infoByOID[t.OID]; i != nil {
		return i.name
	}
	return ""
}

// Size is pg_type.typlen: bytes, -1 for variable length, -2 for C strings.
func (t Type) Size() int16 {
	if i := infoByOID[t.OID]; i != nil {
		return i.size
	}
	return -1
}

// Category is pg_type.typcategory.
func (t Type) Category() byte {
	if i := infoByOID[t.OID]; i != nil {
		return i.category
	}
	return 'U'
}

// Preferred is pg_type.typispreferred.
func (t Type) Preferred() bool {
	i := infoByOID[t.OID]
	return i != nil && i.preferred
}

// IsArray reports whether t is an array type (vectors included).
func (t Type) IsArray() bool {
	i := infoByOID[t.OID]
	return i != nil && (i.category == 'A' || i.oid == OIDAnyArray)
}

// Elem is the element type of an array type; ok is false for others.
func (t Type) Elem() (elem Type, ok bool) {
	i := infoByOID[t.OID]
	if i == nil || i.category != 'A' {
		return Type{}, false
	}
	return TypeOf(i.elem), true
}

// ArrayType is the array type of t; ok is false where there is none.
func (t Type) ArrayType() (arr Type, ok bool) {
	i := infoByOID[t.OID]
	if i == nil || i.array == 0 {
		return Type{}, false
	}
	return Type{OID: i.array}, true
}

// TypeOf is the type of an OID without modifiers.
func TypeOf(oid uint32) Type {
	if oid == OIDNumeric {
		return Numeric
	}
	return Type{OID: oid}
}

// Base is t without its modifiers.
func (t Type) Base() Type { return TypeOf(t.OID) }

// Types lists every type copra knows, arrays included, for pg_type.
func Types() []Type {
	out := make([]Type, 0, 2*len(typeInfos))
	for i := range typeInfos {
		out = append(out, TypeOf(typeInfos[i].oid))
		if a := typeInfos[i].array; a != 0 {
			out = append(out, TypeOf(a))
		}
	}
	return out
}

// IsString reports whether values of t are text: category S, "char" and the
// text-like catalog types are not in it.
func (t Type) IsString() bool {
	switch t.OID {
	case OIDText, OIDVarchar, OIDBpchar, OIDName:
		return true
	}
	return false
}

// IsInteger reports whether t is int2, int4 or int8.
func (t Type) IsInteger() bool { return t.OID == OIDInt2 || t.OID == OIDInt4 || t.OID == OIDInt8 }

// IsFloat reports whether t is float4 or float8.
func (t Type) IsFloat() bool { return t.OID == OIDFloat4 || t.OID == OIDFloat8 }

// IsNumeric reports whether t is an integer, a float or numeric.
func (t Type) IsNumeric() bool { return t.IsInteger() || t.IsFloat() || t.OID == OIDNumeric }

// IsReg reports whether t is one of the object identifier alias types.
func (t Type) IsReg() bool {
	switch t.OID {
	case OIDRegproc, OIDRegclass, OIDRegtype, OIDRegnamespace, OIDRegrole, OIDRegprocedure, OIDRegoper, OIDRegoperator:
		return true
	}
	return false
}

// IsOidLike reports whether t is oid, an alias of it, or a transaction or
// command id: unsigned 32 bits kept in an int8.
func (t Type) IsOidLike() bool {
	return t.OID == OIDOid || t.OID == OIDXid || t.OID == OIDCid || t.IsReg()
}

// IsDateTime reports whether t is of category D.
func (t Type) IsDateTime() bool { return t.Category() == 'D' }

// Kind is how a Datum of type t holds its value.
func (t Type) Kind() Kind {
	switch t.OID {
	case OIDBool:
		return KindBool
	case OIDInt2, OIDInt4, OIDInt8, OIDDate, OIDTime, OIDTimestamp, OIDTimestamptz:
		return KindInt
	case OIDFloat4, OIDFloat8:
		return KindFloat
	case OIDNumeric:
		return KindDecimal
	case OIDBytea:
		return KindBytes
	case OIDInterval:
		return KindInterval
	}
	if t.IsOidLike() {
		return KindInt
	}
	return KindString
}

var (
	arrowTimestamp   = &arrow.TimestampType{Unit: arrow.Microsecond}
	arrowTimestamptz = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	arrowDecimals    [DecimalDigitsMax + 1][DecimalDigitsMax + 1]*arrow.Decimal128Type
)

func init() {
	for p := range arrowDecimals {
		for s := range arrowDecimals[p] {
			arrowDecimals[p][s] = &arrow.Decimal128Type{Precision: int32(p), Scale: int32(s)}
		}
	}
}

// Arrow is the Arrow type of a column of t, as doc.go lists them.
func (t Type) Arrow() arrow.DataType {
	switch t.Kind() {
	case KindBool:
		return arrow.FixedWidthTypes.Boolean
	case KindFloat:
		if t.OID == OIDFloat4 {
			return arrow.PrimitiveTypes.Float32
		}
		return arrow.PrimitiveTypes.Float64
	case KindDecimal:
		if !t.FixedScale() {
			return arrow.BinaryTypes.String
		}
		if t.Precision == 0 {
			return arrowDecimals[DecimalDigitsMax][t.Scale]
		}
		return arrowDecimals[t.Precision][t.Scale]
	case KindBytes:
		return arrow.BinaryTypes.Binary
	case KindInterval:
		return arrow.FixedWidthTypes.MonthDayNanoInterval
	case KindString:
		return arrow.BinaryTypes.String
	}
	switch t.OID {
	case OIDInt2:
		return arrow.PrimitiveTypes.Int16
	case OIDInt4:
		return arrow.PrimitiveTypes.Int32
	case OIDDate:
		return arrow.FixedWidthTypes.Date32
	case OIDTime:
		return arrow.FixedWidthTypes.Time64us
	case OIDTimestamp:
		return arrowTimestamp
	case OIDTimestamptz:
		return arrowTimestamptz
	}
	return arrow.PrimitiveTypes.Int64
}
