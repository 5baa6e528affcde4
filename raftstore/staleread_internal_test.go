package raftstore

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadProgress(t *testing.T) {
	var r readProgress
	require.Zero(t, r.at(1, 100))
	r.learn(ReadState{Version: 1, Index: 10, SafeTS: 50})
	require.Zero(t, r.at(1, 9), "not applied yet")
	require.EqualValues(t, 50, r.at(1, 10))
	require.Zero(t, r.at(2, 10), "another range")
	// A later one needs more; an older one that comes late changes nothing.
	r.learn(ReadState{Version: 1, Index: 20, SafeTS: 90})
	r.learn(ReadState{Version: 1, Index: 15, SafeTS: 70})
	require.EqualValues(t, 50, r.at(1, 19))
	require.EqualValues(t, 90, r.at(1, 20))
	r.learn(ReadState{Version: 1, Index: 5, SafeTS: 60})
	require.EqualValues(t, 90, r.at(1, 20))
	// The same index with a newer timestamp takes the place of what waits.
	r.learn(ReadState{Version: 1, Index: 30, SafeTS: 100})
	r.learn(ReadState{Version: 1, Index: 30, SafeTS: 110})
	require.Len(t, r.waiting, 1)
	// The leader is behind a split that is still to come here.
	r.learn(ReadState{Version: 2, Index: 40, SafeTS: 200})
	require.EqualValues(t, 110, r.at(1, 35))
	require.EqualValues(t, 200, r.at(2, 40))
	require.Zero(t, r.at(1, 40))
	// An old leader's word about the old range.
	r.learn(ReadState{Version: 1, Index: 33, SafeTS: 300})
	require.EqualValues(t, 200, r.at(2, 50))
	r.inherit(2, 1000)
	require.EqualValues(t, 200, r.at(2, 50), "only a new version inherits")
	r.inherit(3, 200)
	require.EqualValues(t, 200, r.at(3, 50))
}

// A peer that lags all the time still gets on: some of the states that wait are
// old enough for it.
func TestReadProgressOfLaggingPeer(t *testing.T) {
	var r readProgress
	last := uint64(0)
	for i := uint64(1); i <= 1000; i++ {
		r.learn(ReadState{Version: 1, Index: 10 * i, SafeTS: 100 * i})
		require.LessOrEqual(t, len(r.waiting), readStateCountMax)
		last = r.at(1, 10*max(i, 20)-200) // twenty states behind
	}
	require.Greater(t, last, uint64(100*900))
	require.LessOrEqual(t, last, uint64(100*980))
}
