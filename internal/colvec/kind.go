package colvec

import (
	"github.com/copradb/copra/internal/sqltypes"
)

// Kind is the physical layout of a column.
type Kind uint8

// The kinds, each with the slice that holds its values.
const (
	Bool        Kind = iota + 1 // bitmap
	Int16                       // I16
	Int32                       // I32: int4
	Int64                       // I64: int8, oid, reg*
	Float32                     // F32
	Float64                     // F64
	Decimal                     // Dec: numeric of a fixed scale
	NumericText                 // bytes: numeric whose values carry their scale
	String                      // bytes
	Binary                      // bytes
	Date                        // I32: days since 1970-01-01
	Time                        // I64: µs
	Timestamp                   // I64: µs since 1970-01-01
	Interval                    // Iv
)

// KindOf returns the layout of columns of type t.
func KindOf(t sqltypes.Type) Kind {
	switch t.OID {
	case sqltypes.OIDBool:
		return Bool
	case sqltypes.OIDInt2:
		return Int16
	case sqltypes.OIDInt4:
		return Int32
	case sqltypes.OIDInt8:
		return Int64
	case sqltypes.OIDFloat4:
		return Float32
	case sqltypes.OIDFloat8:
		return Float64
	case sqltypes.OIDNumeric:
		if t.FixedScale() {
			return Decimal
		}
		return NumericText
	case sqltypes.OIDBytea:
		return Binary
	case sqltypes.OIDDate:
		return Date
	case sqltypes.OIDTime:
		return Time
	case sqltypes.OIDTimestamp, sqltypes.OIDTimestamptz:
		return Timestamp
	case sqltypes.OIDInterval:
		return Interval
	}
	if t.IsOidLike() {
		return Int64
	}
	return String
}

// IsBytes reports whether values are byte strings (offsets and data).
func (k Kind) IsBytes() bool { return k == NumericText || k == String || k == Binary }

// IsInt reports whether values are integers of any width, dates and times
// included.
func (k Kind) IsInt() bool {
	switch k {
	case Int16, Int32, Int64, Date, Time, Timestamp:
		return true
	}
	return false
}
