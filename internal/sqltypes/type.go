package sqltypes

// Type is a type with its modifiers. It is comparable.
type Type struct {
	// OID is pg_type's.
	OID uint32
	// Precision is the digits of numeric(p,s) (0 = unconstrained), the maximum
	// characters of varchar(n)/char(n) (0 = none), the fractional digits of
	// time, timestamp and interval plus one (0 = not given).
	Precision int32
	// Scale is numeric's digits after the point; NoScale where values carry
	// their own. A numeric expression of known scale has Precision 0 and that
	// Scale. For interval it is the mask of allowed fields as in PostgreSQL's
	// modifier (0 = all). 0 for other types.
	Scale int32
}

// NoScale marks a numeric whose values carry their own scale.
const NoScale = -1

// DecimalDigitsMax is the precision of the kernels' fixed-scale decimals.
const DecimalDigitsMax = 38

// OIDs of pg_type.
const (
	OIDBool         uint32 = 16
	OIDBytea        uint32 = 17
	OIDChar         uint32 = 18 // "char", one byte
	OIDName         uint32 = 19
	OIDInt8         uint32 = 20
	OIDInt2         uint32 = 21
	OIDInt2Vector   uint32 = 22
	OIDInt4         uint32 = 23
	OIDRegproc      uint32 = 24
	OIDText         uint32 = 25
	OIDOid          uint32 = 26
	OIDOidVector    uint32 = 30
	OIDJSON         uint32 = 114
	OIDFloat4       uint32 = 700
	OIDFloat8       uint32 = 701
	OIDUnknown      uint32 = 705
	OIDBpchar       uint32 = 1042
	OIDVarchar      uint32 = 1043
	OIDDate         uint32 = 1082
	OIDTime         uint32 = 1083
	OIDTimestamp    uint32 = 1114
	OIDTimestamptz  uint32 = 1184
	OIDInterval     uint32 = 1186
	OIDNumeric      uint32 = 1700
	OIDRegclass     uint32 = 2205
	OIDRegtype      uint32 = 2206
	OIDUUID         uint32 = 2950
	OIDRecord       uint32 = 2249
	OIDVoid         uint32 = 2278
	OIDRegnamespace uint32 = 4089
	OIDRegrole      uint32 = 4096
	OIDBoolArray    uint32 = 1000
	OIDInt2Array    uint32 = 1005
	OIDInt4Array    uint32 = 1007
	OIDTextArray    uint32 = 1009
	OIDVarcharArray uint32 = 1015
	OIDInt8Array    uint32 = 1016
	OIDFloat8Array  uint32 = 1022
	OIDOidArray     uint32 = 1028
	OIDNameArray    uint32 = 1003
	OIDCharArray    uint32 = 1002
	OIDACLItemArray uint32 = 1034
	OIDNumericArray uint32 = 1231

	OIDTid            uint32 = 27
	OIDXid            uint32 = 28
	OIDCid            uint32 = 29
	OIDPgNodeTree     uint32 = 194
	OIDACLItem        uint32 = 1033
	OIDCString        uint32 = 2275
	OIDAny            uint32 = 2276
	OIDAnyArray       uint32 = 2277
	OIDAnyElement     uint32 = 2283
	OIDRegprocedure   uint32 = 2202
	OIDRegoper        uint32 = 2203
	OIDRegoperator    uint32 = 2204
	OIDByteaArray     uint32 = 1001
	OIDBpcharArray    uint32 = 1014
	OIDFloat4Array    uint32 = 1021
	OIDTimestampArray uint32 = 1115
	OIDDateArray      uint32 = 1182
	OIDTimeArray      uint32 = 1183
	OIDTimestamptzArr uint32 = 1185
	OIDIntervalArray  uint32 = 1187
	OIDRegclassArray  uint32 = 2210
	OIDRegtypeArray   uint32 = 2211
	OIDUUIDArray      uint32 = 2951
	OIDRecordArray    uint32 = 2287
)

// Types without modifiers.
var (
	Bool        = Type{OID: OIDBool}
	Int2        = Type{OID: OIDInt2}
	Int4        = Type{OID: OIDInt4}
	Int8        = Type{OID: OIDInt8}
	Oid         = Type{OID: OIDOid}
	Float4      = Type{OID: OIDFloat4}
	Float8      = Type{OID: OIDFloat8}
	Numeric     = Type{OID: OIDNumeric, Scale: NoScale}
	Text        = Type{OID: OIDText}
	Varchar     = Type{OID: OIDVarchar}
	Bpchar      = Type{OID: OIDBpchar}
	Name        = Type{OID: OIDName}
	Char        = Type{OID: OIDChar}
	Bytea       = Type{OID: OIDBytea}
	Date        = Type{OID: OIDDate}
	Time        = Type{OID: OIDTime}
	Timestamp   = Type{OID: OIDTimestamp}
	Timestamptz = Type{OID: OIDTimestamptz}
	Interval    = Type{OID: OIDInterval}
	Unknown     = Type{OID: OIDUnknown}
	Void        = Type{OID: OIDVoid}
	Regclass    = Type{OID: OIDRegclass}
	Regtype     = Type{OID: OIDRegtype}
	TextArray   = Type{OID: OIDTextArray}
	UUID        = Type{OID: OIDUUID}
	JSON        = Type{OID: OIDJSON}
	Record      = Type{OID: OIDRecord}
)

// NumericOf is numeric(p, s).
func NumericOf(precision, scale int32) Type {
	return Type{OID: OIDNumeric, Precision: precision, Scale: scale}
}

// FixedScale reports whether t is a numeric that the kernels keep in
// Decimal128.
func (t Type) FixedScale() bool {
	return t.OID == OIDNumeric && t.Scale >= 0 && t.Scale <= DecimalDigitsMax && t.Precision <= DecimalDigitsMax
}
