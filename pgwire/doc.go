// Package pgwire serves PostgreSQL's frontend/backend protocol 3.0 on top of
// sqlfront's sessions: startup with TLS and SCRAM-SHA-256, simple and extended
// query, portals, COPY, cancel requests, and errors with SQLSTATE and
// position. It knows messages and formats; what a statement means is
// sqlfront's.
//
//	accept → startup → auth → ┌ Query ───────────────► simple.go
//	                          │ Parse Bind Describe
//	                          │ Execute Close Sync ──► extended.go
//	                          └ CopyData … ──────────► copy.go
//
// # Transactions
//
// The statements of one Query message, and those between two Sync messages,
// form one implicit transaction, as in PostgreSQL. A single statement runs in
// autocommit: an Execute is held back until the next message shows whether it
// is alone (that message always comes, for a client that wants its answer
// sends Sync or Flush).
//
// # Memory
//
// Rows are encoded straight from Arrow columns into the connection's write
// buffer, which is flushed when it passes flushBytes. What a suspended portal
// holds back is bounded by portalBufferedBytesMax.
package pgwire
