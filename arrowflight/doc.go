// Package arrowflight serves Arrow Flight SQL on the same sessions as pgwire.
// The batches of a result leave as they come out of the executors: a plain
// scan's columns pass from the coprocessors to the client without ever being
// formed into rows.
//
//	GetFlightInfo(query) → schema and a ticket that carries the query
//	DoGet(ticket)        → a session runs it, its batches are streamed
//	DoPut(update)        → a session runs it, the row count goes back
//	prepared statements  → server.prepared, by handle
//	BeginTransaction     → a session that lives until EndTransaction
//
// A request outside a transaction gets a session of its own, in autocommit.
// Metadata calls are SQL over information_schema and pg_catalog.
package arrowflight
