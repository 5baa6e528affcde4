// Package ycsb runs the core workloads of YCSB (Cooper et al., SoCC 2010):
// single-key reads, updates, inserts, scans and read-modify-writes with keys
// drawn from a scrambled zipfian (Gray et al., SIGMOD 1994), uniform or latest
// distribution. A DB is what the operations run on.
package ycsb
