// Package pdclient is how a store talks to PD: ids, bootstrap, heartbeats,
// splits, timestamps, safe points. It is not the client of transactions; that
// is github.com/tikv/pd/client, which servers do not import.
//
//	callers ── call ──► leader's connection ──► PD leader
//	                        ▲ forget on "not leader", find again by GetMembers
//	ReportRegion ─► bounded queue ─► heartbeat stream ─► … answers ─► handler
//	GetTS ─► queue ─► one batch at a time on the Tso stream
//
// # Invariants
//
//   - Every call goes on until it has an answer, an error that trying again
//     does not cure, or the end of its context: PD may restart or change its
//     leader under it.
//   - Timestamps of one client strictly increase; a PD that breaks this stops
//     the process.
//   - A full heartbeat queue drops the newest report and counts it. The next
//     one of that region repeats it.
package pdclient
