// Package pdsim runs PD's real scheduling code (pd/core, pd/schedule,
// pd/statistics) against simulated stores, at sizes that no test cluster has:
// hundreds of stores, a million regions, hours in minutes.
//
// It simulates no Raft and no network: a leader does what PD tells it if its
// region has a quorum, and reports a moment later. What it does simulate is what
// scheduling depends on: snapshots take their time and queue up at the receiving
// store, every region reports once a minute and after each change, stores report
// every ten seconds, die, and join; some regions are hot.
//
//	          heartbeats                   Send
//	stores ───────────────► core.Regions, schedule.Controller ───┐
//	  ▲                     (patrol, schedulers, operators)      │
//	  └──────────── events in simulated time ◄───────────────────┘
//
// Everything follows from the seed but what depends on Go's order of map
// iteration.
//
// # What it measures
//
// Memory and CPU of heartbeats as they come from the wire; how long it takes, in
// simulated time, until all stores are even; how many peers were moved for that
// beside the fewest possible; whether any region went back to a store that it
// had left (ping-pong); how long a lost store's peers take to be replaced.
//
// Run it: make pd-sim. Read next: sim.go, scenario.go.
package pdsim
