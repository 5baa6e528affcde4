// Package pgerror is an error as PostgreSQL's wire protocol knows it: a
// SQLSTATE, a message, and where known a detail, a hint, a position in the
// statement and the names of the objects concerned.
package pgerror
