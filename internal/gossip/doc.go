// Package gossip lets stores and placement drivers tell each other who is alive
// and how everybody is: a dead or slow store is known to all within about two
// seconds, with or without PD.
//
// The protocol is SWIM in the form of hashicorp/memberlist. This package gives
// it a transport over a gRPC service on the port that the node serves anyway, so
// that whatever guards that port guards gossip, too; no other port is opened.
//
//	memberlist ── packets ─► one queue and stream a peer ─► Service ─► memberlist
//	           ── streams ─► one call each (net.Conn)    ─►
//	   │ joined, left, updated
//	   ▼
//	table of members ── changes, one at a time ─► Options.OnChange
//
// It is an opinion, not a fact: a paused or cut-off node may be taken for dead,
// and two nodes may disagree for a moment. Nothing that is about safety may
// depend on it; it decides when to wake up, where to send, and what to show.
//
// # Invariants
//
//   - A node is known by its name (store-4, pd-8e9e05c52164694d), which never
//     changes hands; its address comes with its Meta and may change.
//   - Nodes of other clusters are refused at the door, by the metadata of each
//     call, and once more by every Meta.
//   - What comes from the network is checked before memberlist sees it, and no
//     queue grows without a limit: what does not fit is dropped and counted.
//   - A process that restarted before anybody noticed is still reported dead,
//     and then alive.
//
// Idea: Das, Gupta and Motivala, SWIM (DSN 2002), and Lifeguard (Dadgar and
// others, 2017). Read next: gossip.go, transport.go, service.go.
package gossip
