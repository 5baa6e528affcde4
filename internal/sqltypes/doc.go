// Package sqltypes has PostgreSQL's data types as copra knows them: their
// OIDs, modifiers and names, single values of them (Datum), their text and
// binary forms on the wire, and the Arrow type that a column of them has.
//
// # How columns look in Arrow
//
//	bool                         Boolean
//	int2, int4, int8, oid        Int16, Int32, Int64, Int64
//	float4, float8               Float32, Float64
//	numeric with a known scale   Decimal128(p, s)
//	numeric without              String, PostgreSQL's own text of each value
//	text, varchar, bpchar, name, "char", unknown, json-ish catalog types   String
//	bytea                        Binary
//	date                         Date32 (days since 1970-01-01)
//	time                         Time64(us)
//	timestamp                    Timestamp(us), no zone
//	timestamptz                  Timestamp(us, "UTC")
//	interval                     MonthDayNanoInterval
//	arrays (catalogs only)       String, PostgreSQL's text of the array
//
// A numeric expression whose scale follows from its inputs (columns of
// numeric(p,s), literals, + - * and sum of them) stays in Decimal128(38, s) and
// overflows with an error; division, avg and the like give numeric without
// scale, whose values carry their own display scale as in PostgreSQL.
// Infinite dates and timestamps are the extreme values of their integers.
//
// char(n) is kept without its trailing blanks and printed with them. "char" is
// kept as its text. uuid is kept as its canonical text.
//
// # What differs from PostgreSQL
//
// Timestamps end in January 294247 AD, where µs since 1970 leave int64. The time part
// of an interval in a column is at most 292 years; more is moved to days. NaN
// does not fit numeric(p,s). Numeric scales are not negative. Arrays have one
// dimension.
//
// Files: type.go and typeinfo.go (the types), name.go, datum.go, text.go and
// binary.go (the wire), column.go (Arrow), numeric.go and dec128.go,
// civil.go, datetoken.go, dateparse.go, datetext.go, interval.go, zone.go.
package sqltypes
