// Package tablecodec lays tables and indexes out in the SQL keyspace, so that
// keys order as rows do.
//
//	row    't' int64(table) "_r" handle                       → row value (internal/rowcodec)
//	index  't' int64(table) "_i" int64(index) columns         → handle   unique, no column NULL
//	       't' int64(table) "_i" int64(index) columns handle  → 0x00     otherwise
//
// Integers are memcomparable (internal/codec). The handle is the primary key's
// columns, or the hidden row id of a table without one, one after the other
// without null flags: primary keys have no NULLs. An index column has a flag
// byte in front (0x01 value, 0x02 NULL, so that NULLs come last, as
// PostgreSQL's ascending indexes have them); of a descending column every
// byte, the flag's too, is inverted (so NULLs come first, as PostgreSQL's
// descending indexes have them).
//
// # Columns
//
//	bool                         one byte
//	integers, dates, times       int64, whatever their width
//	floats                       float64; -0 is 0; NaN above all
//	numeric(p,s)                 128-bit unscaled integer
//	numeric                      class, exponent, digits (numeric.go)
//	bpchar                       without trailing blanks, in groups of eight bytes
//	text and the like, bytea     groups of eight bytes (C collation)
//	interval                     128-bit microseconds, months of 30 days
//
// Values that compare equal have one encoding, so some do not come back as
// they were (Lossy): 1.10 as 1.1, 30 days as '30 days' though it was a month.
// Key columns of such types are therefore stored in the row's value as well,
// and an index over them does not cover them.
//
// What it is not: it knows no catalog and no keyspace prefix (client-go adds
// that one).
package tablecodec
