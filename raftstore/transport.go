package raftstore

import (
	"context"
	"errors"
	"io"
)

// Transport carries messages to other stores. It resolves To.StoreId itself.
type Transport interface {
	// Send queues m for the store of m.To and never blocks. A message that
	// cannot be queued is dropped and reported by Store.ReportUnreachable.
	Send(m *RaftMessage)
	// SendSnapshot sends m (a MsgSnap) with its files to the store of m.To. It
	// returns nil when the receiver has all of it and has taken the message.
	SendSnapshot(ctx context.Context, m *RaftMessage, files []SnapshotFile) error
}

// SnapshotFile is one file of a snapshot as its sender reads it.
type SnapshotFile struct {
	Name string // unique within the snapshot; no path separators
	Size int64  // bytes
	// Open opens the file for reading. Each call is a fresh reader.
	Open func() (io.ReadCloser, error)
}

// Handler is what a transport delivers to; *Store implements it.
type Handler interface {
	// Step takes a message from another store. It never blocks; ErrBusy means
	// that the byte budget is used up and the message was dropped (hazard 16).
	Step(m *RaftMessage) error
	// BeginSnapshot starts to receive m (a MsgSnap). An error refuses it.
	BeginSnapshot(m *RaftMessage) (SnapshotReceiver, error)
	// ReportUnreachable says that messages to a peer on storeID were lost.
	ReportUnreachable(regionID, peerID uint64)
}

// SnapshotReceiver takes the files of one snapshot, in order. Exactly one of
// Finish and Abort is called, once.
type SnapshotReceiver interface {
	// Write appends chunk to the named file.
	Write(name string, chunk []byte) error
	// Finish checks that every file is whole, syncs them and steps the message.
	Finish() error
	// Abort removes what was received.
	Abort()
}

// ErrBusy is returned by Step and BeginSnapshot when the store is out of its
// receive budget; the sender's Raft retries.
var ErrBusy = errors.New("raftstore: out of receive budget")
