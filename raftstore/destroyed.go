package raftstore

// destroyedQuietMinutes is how long a region is not compared between its replicas after
// a part of it was destroyed past Raft: every store does that when it is told,
// at another place of the log than the others.
const destroyedQuietMinutes = 10

// RangeDestroyed says that the data of the encoded range [start, end), end empty:
// unbounded, was removed from this store alone.
func (s *Store) RangeDestroyed(start, end []byte) {
	now := s.now()
	s.eachPeer(func(p *peer) {
		region := p.region.Load()
		if len(region.GetPeers()) > 0 && rangesOverlap(region.StartKey, region.EndKey, start, end) {
			p.destroyedAt.Store(now)
		}
	})
}

// recentlyDestroyed reports whether the replicas may differ for a good reason.
func (p *peer) recentlyDestroyed() bool {
	at := p.destroyedAt.Load()
	return at != 0 && p.store.now()-at < destroyedQuietMinutes*60e9
}
