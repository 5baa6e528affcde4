// Package sqlfront is the SQL layer: sessions that parse, bind, plan and run
// Postgres's SQL over the cluster and hand out Arrow batches. What pgwire and
// arrowflight see of it is in api.go; everything else is in the subpackages:
//
//	parse → ast        the statement as written
//	catalog            tables, indexes, system catalogs
//	plan               binding, rewriting, pushing down, physical plans
//	settings           SET and SHOW
//	mutate             rows to keys and index entries
//	copyfmt            COPY's text and CSV
//	kvclient           client-go in process or over gRPC
//
// It keeps no state of its own: any number of SQL nodes serve one cluster.
//
// # Transactions
//
// A statement reads at one timestamp: READ COMMITTED takes a new one for each,
// REPEATABLE READ one for the transaction (snapshot isolation). SERIALIZABLE is
// refused. Tables that the transaction has written are read through its buffer,
// all others by the coprocessors.
//
//	                    reads            writes              on a write conflict
//	one statement       at its start     optimistic, then    run again
//	                                     with locks
//	READ COMMITTED      each statement   locked at once      the statement runs again
//	REPEATABLE READ     at its start     locked at once      40001
//
// What runs again has shown the client nothing. A commit whose outcome is
// unknown is 40003 and never runs again.
//
// # Schema changes
//
// A change is one transaction under a pessimistic lock on the schema version
// (catalog.Change), the user's own where one is open: CREATE, DROP, TRUNCATE and
// most of ALTER TABLE take effect at COMMIT or not at all. Nodes look for a newer
// version every catalog.VersionLease; before a transaction commits it checks that
// the tables it wrote are as they were. Indexes on tables that exist go through
// F1's states (ddl_index.go) with pauses of onlineStepWait, so they cannot be
// created or dropped inside a transaction block. The data of what was dropped is
// deleted later from a durable queue (DB.SweepDropped).
//
// # What is refused by name
//
// Views, foreign keys, sequences of one's own, temporary tables, arrays and json
// in tables, partial and expression indexes, triggers, functions, roles.
//
// Read api.go, session.go, txn.go and write.go, then execute.go.
package sqlfront
