package raftstore

import "go.etcd.io/raft/v3/raftpb"

// Entries that are committed and not applied yet are in memory. Of one region
// they are at most committedBytesPerReadyMax; of all regions together
// Config.ApplyBytesMax, give or take what is in the log already when that is
// reached: then writes are refused here, and appends of other leaders. Raft sends
// those again, at most every heartbeat.

// entriesCost is what entries hold in memory.
func entriesCost(ents []*raftpb.Entry) (n int64) {
	for _, e := range ents {
		n += int64(entryCost(e))
	}
	return n
}

// took counts a task that came into the applier's queue.
func (a *applier) took(t *applyTask) {
	n := entriesCost(t.entries)
	a.backlog.Add(n)
	a.p.store.applyBytes.Add(n)
}

// settleBacklog counts what the round that ends has applied, or dropped behind
// the region's end.
func (a *applier) settleBacklog() {
	a.backlog.Add(-a.settled)
	a.p.store.applyBytes.Add(-a.settled)
	a.settled = 0
}

// admitBacklog refuses a write while too much waits to be applied.
func (s *Store) admitBacklog() error {
	if s.applyBytes.Load() <= s.cfg.ApplyBytesMax {
		return nil
	}
	return errServerIsBusy("writes waiting to be applied exceed their memory")
}

// refusedByBacklog reports whether a message brings entries while too much
// waits to be applied. A region of which nothing waits gets some, up to twice
// the limit: what the others wait for may be its entries, as the target of a
// merge waits for its source.
func (s *Store) refusedByBacklog(m *RaftMessage) bool {
	waiting := s.applyBytes.Load()
	if waiting <= s.cfg.ApplyBytesMax || m.Msg.GetType() != raftpb.MsgApp || len(m.Msg.GetEntries()) == 0 {
		return false
	}
	p := s.peer(m.RegionID)
	return waiting > 2*s.cfg.ApplyBytesMax || p == nil || p.apply.backlog.Load() > 0
}
