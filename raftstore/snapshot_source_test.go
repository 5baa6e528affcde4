package raftstore

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestSnapshotAskedForWhileMade: making the snapshot of a large region takes
// longer than the time between two heartbeats, with each of which Raft asks
// again. That must not throw away what was made: it would be made forever and
// never sent.
func TestSnapshotAskedForWhileMade(t *testing.T) {
	const truncated = 5
	var s snapshotSource
	if s.take(truncated) != nil || !s.wanted {
		t.Fatal("the first question must start the making")
	}
	s.wanted, s.busy = false, true // makeSnapshotIfWanted
	if s.take(truncated) != nil {
		t.Fatal("there is no snapshot yet")
	}
	s.busy = false
	index := uint64(9)
	s.made(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index}}, "dir")
	if s.wanted {
		t.Error("another snapshot is wanted before the first one was looked at")
	}
	if got := s.take(truncated); got.GetMetadata().GetIndex() != index {
		t.Errorf("took %v", got)
	}
	// One that the log has left behind does not count.
	s.made(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index}}, "dir")
	if s.take(index+1) != nil || !s.wanted {
		t.Error("an old snapshot was taken")
	}
}
