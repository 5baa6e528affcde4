// Package catalog has the descriptors of schemas, tables and indexes, how they
// are kept in the cluster's own key space, and PostgreSQL's system catalogs
// (pg_catalog, information_schema) as virtual tables computed from them.
//
// Descriptors are immutable once published: a change writes a new one under a
// higher schema version in one transaction. A SQL node reads the version key
// at the start of each transaction and re-reads what changed.
package catalog
