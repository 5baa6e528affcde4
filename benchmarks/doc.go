// Package benchmarks has the load generators behind `copra bench`. They speak
// public protocols only (TiKV's API through client-go, PostgreSQL's through
// pgx), so that the same load runs against copra and against others. Figures
// of two systems are compared only when they come from the same run on the
// same machine.
//
//	ycsb/   the YCSB core workloads A to F over raw KV, transactions or SQL
//	tpch/   TPC-H: load with COPY, run the queries, compare the answers
package benchmarks
