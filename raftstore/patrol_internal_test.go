package raftstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A round that misses a region, because a merge moved it under the patrol, may
// forget a store that is cut off. The next round knows it again, so that it gets
// beats: two stores that wait for each other's would never meet.
func TestPatrolKnowsForgottenStores(t *testing.T) {
	_, s := openRegion7(t)
	s.live.keep(map[uint64]struct{}{}, int64(time.Hour))
	require.Nil(t, s.live.health(2))
	for range 10 {
		s.patrolTick(0)
	}
	require.NotNil(t, s.live.health(2))
}
