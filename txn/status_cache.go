package txn

import (
	"context"
	"sync"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/mvcc"
)

// statusEntriesMax is the number of transactions in each of the cache's two
// generations.
const statusEntriesMax = 1 << 15

// statusCache remembers how transactions of late ended, and what min_commit_ts
// large running ones have promised. It is a hint: losing entries is harmless.
// When the young generation is full it becomes the old one.
type statusCache struct {
	mu         sync.RWMutex
	young, old map[uint64]mvcc.TxnStatus
}

func (c *statusCache) put(startTS uint64, st mvcc.TxnStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= statusEntriesMax {
		c.young, c.old = make(map[uint64]mvcc.TxnStatus), c.young
	}
	if was, ok := c.young[startTS]; ok && (was.CommitTS != 0 || was.RolledBack) {
		return // an end is final
	}
	c.young[startTS] = st
}

func (c *statusCache) get(startTS uint64) (mvcc.TxnStatus, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if st, ok := c.young[startTS]; ok {
		return st, true
	}
	st, ok := c.old[startTS]
	return st, ok
}

func (c *statusCache) committed(startTS uint64) bool {
	st, ok := c.get(startTS)
	return ok && st.CommitTS != 0
}

// BroadcastTxnStatus takes note of what the owner of a large (pipelined)
// transaction says about it, so that reads can pass its flushed locks without
// asking its primary.
func (s *Store) BroadcastTxnStatus(_ context.Context, req *kvrpcpb.BroadcastTxnStatusRequest) (*kvrpcpb.BroadcastTxnStatusResponse, error) {
	for _, st := range req.GetTxnStatus() {
		s.status.put(st.StartTs, mvcc.TxnStatus{CommitTS: st.CommitTs, MinCommitTS: st.MinCommitTs, RolledBack: st.RolledBack})
	}
	return &kvrpcpb.BroadcastTxnStatusResponse{}, nil
}
