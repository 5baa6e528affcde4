// Package kvclient opens the SQL layer's transactional client: client-go over
// the keyspace in which SQL keeps its data (API V2, keyspace copra_sql), so
// that the keys of V1 clients and those of SQL never meet.
//
// Requests to a store that lives in this very process take no detour over
// gRPC: Local calls the store's service directly, through the same codec and
// with the same semantics; requests to any other address go over the wire.
//
// PointReader reads single keys from leaders in this process without the part of
// client-go that deals with everything else, and leaves the rest to it.
//
// A region whose stores have had no room for a few seconds fails writes at once
// (room.go), where client-go would try for more than a minute.
//
//	session → client-go ─┬─ Local → tikvpb.TikvServer      same process
//	                     └─ client-go's RPC client → gRPC   another process
package kvclient
