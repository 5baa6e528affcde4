package raftstore

import (
	"testing"

	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/stretchr/testify/require"
)

// The mark of a recovery that a crash kept from being dropped leaves nobody out
// later: a follower would never have looked at it again.
func TestRecoveryMarkOutlivesNoRestart(t *testing.T) {
	for _, stores := range [][]uint64{{9}, {2}} {
		d := newDisks(t)
		d.writeData(func(b *engine.Batch) { normal(b, testRegion(70, 71), applyState{initialIndex, initialTerm}) })
		d.writeLog(func(b *raftlog.Batch) {
			b.PutMeta(metaKey(peerIDKind, 7), encodeUvarint(70))
			b.SetTruncated(7, initialIndex, initialTerm)
			b.SetHardState(7, hardState{term: 6, commit: 5}.proto())
			b.PutMeta(metaKey(recoverKind, 7), encodeFailedStores(stores))
		})
		s, err := d.open()
		require.NoError(t, err)
		t.Cleanup(s.Stop)
		_, marked, err := d.log.GetMeta(metaKey(recoverKind, 7))
		require.NoError(t, err)
		stays := stores[0] == 2 // which has a peer
		require.Equal(t, stays, marked)
		require.Equal(t, stays, len(s.failedOf(7)) > 0)
		require.True(t, s.peer(7).ensureRaft())
		require.Equal(t, stays, len(s.peer(7).st.confState.Voters) == 1)
	}
}
