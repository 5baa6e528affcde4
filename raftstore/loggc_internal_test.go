package raftstore

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// A log that grows fast is looked at before LogCheckInterval is over.
func TestFastGrowingLogIsChecked(t *testing.T) {
	var g logGCState
	g.lastCheck = 1
	entry := []*raftpb.Entry{{Data: make([]byte, 1<<20)}}
	n := 0
	for ; !g.due(2, 100); n++ {
		g.added(entry)
	}
	if n == 0 || n > logUncheckedBytesMax>>20 {
		t.Errorf("the log is checked after %d MiB", n)
	}
	g.checked(2)
	if g.due(3, 100) {
		t.Error("the log is checked again though nothing came")
	}
	if !g.due(102, 100) {
		t.Error("the interval is over, and the log is not checked")
	}
}
