// Package kv is the vocabulary that the replicated store and everything above
// it share: column families, write batches, snapshots of a region, and region
// errors. It holds no storage and no consensus; raftstore implements Engine,
// txn, copr and the raw KV service consume it.
//
// # Keys
//
// Every key here is a key inside its column family. Region boundaries live in
// one key space for all families:
//
//	family    key
//	default   EncodeBytes(user key) ++ desc(start_ts)   long values
//	write     EncodeBytes(user key) ++ desc(commit_ts)  commit records
//	lock      EncodeBytes(user key)                     locks
//	raw       the raw client's key, as it is
//
// A boundary is empty or a valid memcomparable encoding (internal/codec), so
// that transactional clients can decode it; to a raw client it is a byte string
// like any other. The one exception are boundaries between raw keys that share
// their first eight bytes: there no transactional key can be, and the regions
// around them begin and end at encodings (raftstore/engine, pocket). A key belongs to the region
// whose [start, end) holds its bytes (without the timestamp).
//
// # Ownership
//
// A Batch owns its bytes. Values returned by Snapshot.Get are valid until the
// returned closer is closed; Iterator.Key and Value until the next move.
package kv
