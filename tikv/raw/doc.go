// Package raw serves the raw key-value requests of TiKV's API (RawGet,
// RawPut, …) on a kv.Engine: single keys without transactions, with an
// optional time to live.
//
// # Keys
//
// Data is in kv.CFRaw. A request of API V1 (or V1TTL) has arbitrary keys,
// stored as they are; the region that holds the bytes is theirs. A request of
// API V2 has keys 'r' + 3 bytes of keyspace + key; V2 clients look regions up
// by the memcomparable encoding, so that is what is stored. V2 keyspaces are
// those below 65536: their keys begin with 'r' 0x00, which V1 clients can
// neither see nor touch.
//
//	API   request key      stored key
//	V1    k                k                 (not in ['r' 0x00, 'r' 0x01))
//	V2    'r' 0x00 ks k    EncodeBytes('r' 0x00 ks k)
//
// # Values
//
//	0x00 value                     without TTL
//	0x01 expiry(8, BE, unix s) value
//
// This is so in V1 and V2 alike (TiKV's V1 has no TTL, its V1TTL and V2 put
// theirs behind the value): a V1 client may give TTLs at any time.
//
// An expired value reads as absent on every path (by the clock of the leader
// that is asked) and is overwritten or deleted later. A sweep of the regions that
// the store leads removes it (ttl.go), a minute or more after it has expired, by a
// delete through Raft that takes effect where the value is still that one: so
// replicas never differ, and no write is lost to it.
//
// # Atomicity
//
// A request's writes are applied as one batch. CompareAndSwap, and writes with
// for_cas, of a key take the same latch, so they are linearizable with each
// other; plain writes are not atomic with them (as in TiKV).
//
// # What it is not
//
// No MVCC, no column families but the default one, no coprocessor: they are
// refused by name.
//
// Read next: keys.go, service.go, scan.go, write.go, ttl.go.
package raw
