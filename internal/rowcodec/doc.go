// Package rowcodec is the value of a table's row: its columns, but for those
// that live in the key (internal/tablecodec).
//
//	row := version(1) flags(1) count(2) ids nulls ends values
//
//	version  1
//	flags    bit 0: wide
//	count    columns of the row, little-endian
//	ids      column ids, ascending; a byte each, wide: four bytes
//	nulls    a bitmap, bit i = the i-th column is NULL
//	ends     where the i-th value ends in values; two bytes each, wide: four
//	values   one after the other; a NULL has none
//
// A value is as short as its type allows: integers, dates, times and fixed
// decimals 0, 1, 2, 4, 8 or 16 bytes little-endian two's complement (0 bytes
// are the number 0), floats 4 or 8, booleans one, intervals 16, numerics
// without scale their text, strings and bytea as they are.
//
// Columns that the row does not have were added to the table later: they read
// as their default. So ADD COLUMN rewrites nothing. Columns that the reader
// does not ask for cost nothing.
//
// A Decoder is prepared for the columns wanted. Rows of one table mostly have
// the same columns, so it keeps the way from wanted columns to positions and
// works it out again only when a row's header differs from the last one's.
// Corrupt bytes give an error, never a panic.
package rowcodec
