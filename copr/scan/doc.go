// Package scan turns the rows of a table or the entries of an index, as they
// come out of a MVCC scan or a transaction, into batches of Arrow columns.
//
//	RowSource ──key,value──► tablecodec, rowcodec ──► builders ──► *expr.Batch
//	                         only the columns wanted
//
// Batches start at BatchRowsFirst rows and double, so that a LIMIT reads little
// and a long scan wastes nothing; they end early at BatchBytesMax of input. No
// memory is allocated per row.
//
// A key outside the table or index of the plan is an error: whatever ranges a
// request names, it sees no other table's rows.
package scan
