package raftstore

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

func cacheEntries(from, to uint64, bytes int) (out []*raftpb.Entry) {
	for i := from; i < to; i++ {
		out = append(out, &raftpb.Entry{Index: new(i), Term: new(uint64(1)), Data: make([]byte, bytes-48)})
	}
	return out
}

// Two regions share the room: an append makes the own cache smaller, keeps the
// newest entries, and the count stays right whatever happens.
func TestEntryCacheBudget(t *testing.T) {
	budget := &cacheBudget{bytesMax: 1000}
	var shownA, shownB atomic.Int64
	a, b := newEntryCache(budget, &shownA), newEntryCache(budget, &shownB)
	check := func() {
		t.Helper()
		require.Equal(t, cost(a.ents), a.bytes)
		require.Equal(t, int64(a.bytes+b.bytes), budget.used.Load())
		require.Equal(t, int64(a.bytes), shownA.Load())
		require.Equal(t, int64(b.bytes), shownB.Load())
	}
	a.append(cacheEntries(1, 9, 100))
	check()
	b.append(cacheEntries(5, 10, 100))
	check()
	require.Equal(t, uint64(8), b.first(), "800 of 1000 bytes are taken")
	b.append(cacheEntries(10, 11, 300))
	require.Equal(t, 1, len(b.ents), "the newest stays, above the budget")
	check()
	handed, ok := a.slice(1, 9, 1<<20)
	require.True(t, ok)
	a.trim(350)
	check()
	require.Equal(t, uint64(6), a.first())
	require.Equal(t, uint64(1), handed[0].GetIndex(), "what was handed out is as it was")
	a.append(cacheEntries(7, 8, 100)) // replaces 7 and 8
	check()
	require.Equal(t, 2, len(a.ents))
	a.append(cacheEntries(20, 22, 100)) // not contiguous
	check()
	require.Equal(t, uint64(20), a.first())
	a.dropTo(20)
	check()
	a.clear()
	b.clear()
	check()
	require.Zero(t, budget.used.Load())
}
