// Package pgcatalog computes PostgreSQL's system catalogs from copra's own
// descriptors: the tables of pg_catalog and information_schema that clients
// ask for, with PostgreSQL 15's columns (tables.txt), and the functions that go
// with them (pg_get_indexdef, format_type's friends, privileges …).
//
// A table that has nothing to say in copra (triggers, publications …) exists
// and is empty, so that a client's joins over it work.
package pgcatalog
