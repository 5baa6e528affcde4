// Package sim tests whole clusters of raftstore by simulation: clients,
// faults and an ill-mannered PD drive three to five stores in one process whose
// time, network, disks and clocks are made up, and everything that the clients
// saw is checked afterwards.
//
//	                    one seed
//	   ┌──────────┬────────┼─────────┬──────────┐   a random stream for each
//	clients     PD driver  stores'  network   flusher
//	   │ put       │ split  faults   │ drop, duplicate, delay, cut
//	   │ get       │ merge  │ crash  │
//	   ▼           ▼        ▼ pause  ▼
//	┌────────────────────────────────────────────┐
//	│ raftstore × 3..5   (testing/synctest)      │──► event log, one line each
//	└────────────────────────────────────────────┘
//	   │ history                │ continuously: leaders, epochs, overlaps
//	   ▼                        ▼ at the end: heal, converge, compare replicas
//	porcupine                 invariants
//
// # What is checked
//
//   - Histories of puts, deletes and reads (under the lease, by read index, on
//     followers) are linearizable per key; writes of unknown outcome may take
//     effect at any later time. Each write goes to two families, and a read must
//     find the same in both.
//   - A term has one leader. A region has one range and one set of members per
//     epoch, whatever store tells it. On no store do regions overlap. Applied
//     indexes don't fall while a process lives.
//   - When the faults end all keys can be written within a bounded time, all
//     members of all regions catch up and hold the same bytes, the regions
//     tile the key space, peers that are no members disappear, and no store has
//     data outside its regions. That survives a restart of everything.
//
// # What repeats
//
// Every actor (a client, a link of the network, the faults of a store) draws
// from a PCG stream of its own, so that one more draw here changes nothing
// there; so does each region on each link. Raft's election timeouts come from
// crypto/rand, which the run seeds. Time is fake and only passes when everybody
// waits. What happens within one instant of it depends on Go's scheduler, on
// select and on the order of maps, which no program can fix; with GOMAXPROCS=1,
// which the tests set, and without asynchronous preemption, which "make sim"
// switches off, about two seeds of three repeat to the last event, the others
// part ways somewhere, and what fails usually fails again. The event log is
// written as the run goes: a failure can be read even if it does not come again.
//
// # What it is not
//
// Pauses hold the store where it looks at its clock, sends, receives, syncs or
// reports applied entries, not at any instruction. Disks lose unsynced data by
// the rules of Pebble's MemFS. The wall clock cannot be set: raftstore reads it
// for PD's statistics only.
//
// # Other loads
//
// RunLoad puts something else on the stores than the clients of client.go, under
// the same faults: tikv/txnsim runs transactions.
//
// Read next: run.go, then one file for each actor: client.go, driver.go,
// faults.go, network.go; check.go and converge.go are the invariants, matrix.go
// the crash matrix.
package sim
