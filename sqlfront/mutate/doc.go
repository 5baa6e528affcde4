// Package mutate turns changes of rows into changes of keys: the row under its
// primary key or row id, and an entry in every index that is being maintained.
//
//	row (all columns) ─► handle, row key, row value     internal/tablecodec, rowcodec
//	                  ─► one key and value an index
//	                  ─► the transaction's buffer, with "must not exist yet" on
//	                     the keys that make rows unique
//
// Uniqueness is not looked up: the store checks it when the key is locked or
// prewritten, and only what the transaction itself wrote is checked here.
// UniqueError words the violation from the key that the store names.
//
// It keeps no rows and reads none: whoever changes a row brings the old one.
package mutate
