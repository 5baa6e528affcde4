// Package tpch generates TPC-H data, loads it through COPY, runs the 22 queries
// and compares the answers; also against other systems side by side, in turns,
// query by query (compare.go): any Postgres server, and DuckDB through the
// program duckdb.js, for which node and its package @duckdb/node-api must be
// there. None of them is linked into copra.
//
// A data folder has <table>.tbl or <table>.tbl.gz and may have answers/NN.txt
// (as `psql -At -F '|'` prints them), and schema.sql, indexes.sql and
// queries/NN.sql in the place of those here.
package tpch
