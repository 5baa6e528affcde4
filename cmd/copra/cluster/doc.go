// Package cluster puts the roles together: a SQL node over a cluster
// (StartSQL), and the playground, which is a PD, stores and a SQL node in one
// process on the same code paths (StartPlayground). The commands and the
// end-to-end tests both start things through it.
package cluster
