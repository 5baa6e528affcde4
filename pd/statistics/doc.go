// Package statistics keeps what PD knows of the load: which regions are hot, for
// reads and for writes, and how much each store does. It is fed by heartbeats
// and read by the hot-region scheduler and the HTTP API.
//
// It decides nothing (pd/schedule does) and stores nothing: after a change of
// PD's leader a few heartbeats tell it again.
//
//	region heartbeat ─► HotCache (read, write): regions above their store's threshold
//	store heartbeat ──► StoreLoads: median of the last rates
//
// # What is hot
//
// A region is hot where its rate of bytes, keys or queries reaches the threshold
// of the store that leads it: a fixed least rate, or 0.8 of the store's 60th
// hottest region, whatever is more. Each report that finds it hot raises its
// degree by one. It is dropped after three in a row that do not, and its degree
// starts anew when its load moves to other stores, so that a region that was
// just moved is left where it is for a while.
//
// # Cost
//
// An idle region's heartbeat is one look-up. Thresholds are worked out for one
// store at a time, from its hot regions only.
//
// Read next: hot.go.
package statistics
