// Package tpch loads TPC-H data through COPY, runs the queries and compares
// the answers. A data folder has schema.sql, optionally indexes.sql,
// <table>.tbl or <table>.tbl.gz, queries/NN.sql and answers/NN.txt (as
// `psql -At -F '|'` prints them).
package tpch
