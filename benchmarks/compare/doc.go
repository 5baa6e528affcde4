// Command compare measures copra's raw KV next to etcd in one run: YCSB cells
// (a workload with a number of clients) that alternate between the systems, and
// point gets alone. It starts the servers as processes of their own, with their
// defaults for production: every write synced, all data on the same disk.
//
//	                 ┌─ copra pd, copra tikv ×1          ─┐
//	compare (YCSB) ──┼─ copra pd, copra tikv ×3           ├─ one machine,
//	                 ├─ copra playground (3 in a process) │  one disk
//	                 └─ etcd ×1, etcd ×3                 ─┘
//
// All systems stay up for the whole run. For each repetition, number of clients
// and workload they come one after the other, beginning with another one in
// each repetition, so that neighbours' noise meets all of them alike. A cell
// lasts a fixed time; tables have the medians of the repetitions. Compare ratios
// within a run, never figures of two runs.
//
// etcd is used as somebody who knows it would: its quota is raised, snapshots of
// its key space are rarer than by default, no history is compacted during the
// run; clients share a few connections to every member, as client-go does with
// every store. A scan is a Range with a limit. Reads are linearizable, as they
// are in copra; the point gets also have the serializable ones.
package main
