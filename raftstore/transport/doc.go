// Package transport carries Raft messages and snapshots between stores.
//
//	Send ─► queue (per store and class, bounded) ─► one stream ─► Handler.Step
//	SendSnapshot ─► a connection of its own ─► Handler.BeginSnapshot, chunks
//
// There are two classes, so that heartbeats and votes don't wait behind bulk
// appends. A message that finds its queue full, or its stream broken, is
// dropped and reported by Handler.ReportUnreachable: Raft sends again.
//
// On the wire: the gRPC service copra.raft.Transport on the store's own port,
// whose messages are google.protobuf.BytesValue with the frames of wire.go in
// them. A stream says in its metadata which cluster and store it means, and is
// refused if the address now belongs to another one.
//
// Local is the same for stores in one process, without sockets.
//
// # What it is not
//
// It does not retry, order across classes or persist: Raft tolerates loss and
// reordering. It does not judge regions or epochs: raftstore does, in Step.
//
// Read next: transport.go, sender.go, server.go, snapshot.go, local.go.
package transport
