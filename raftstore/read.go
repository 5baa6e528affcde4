package raftstore

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// Snapshot gives a linearizable view of a region, see kv.Engine.
//
// On the leader under its lease it costs a few atomic loads and an engine
// snapshot, all on the caller's goroutine. Otherwise a read index confirms
// that the peer still leads, or asks the leader.
func (s *Store) Snapshot(ctx context.Context, rc *kvrpcpb.Context, o kv.SnapshotOptions) (kv.Snapshot, error) {
	snap, err := s.view(ctx, rc, o)
	if err == nil {
		snap.(*snapshot).tracker = tracker.From(ctx)
	}
	return snap, err
}

func (s *Store) view(ctx context.Context, rc *kvrpcpb.Context, o kv.SnapshotOptions) (kv.Snapshot, error) {
	p, err := s.peerFor(rc)
	if err != nil {
		return nil, err
	}
	if rc.GetStaleRead() {
		return p.staleSnapshot(rc, o)
	}
	r := p.role.Load()
	if !r.leader && rc.GetReplicaRead() {
		return p.followerSnapshot(ctx, rc, o)
	}
	if err := p.checkLeader(rc, r); err != nil {
		return nil, err
	}
	if err := s.checkEpoch(rc, p.region.Load()); err != nil {
		return nil, err
	}
	if s.now() < p.lease.Load() {
		seen := p.seenByFollowers(r)
		snap := p.takeSnapshot(r.term)
		// Check all of it again: the snapshot is now fixed, and a pause before
		// this line cannot make it staler (hazard 7).
		now := s.now()
		if left := p.lease.Load() - now; left > 0 && p.role.Load() == r && snap.applied >= seen {
			p.renewSoon(left)
			return snap.checked(rc)
		}
		snap.release()
	}
	s.metrics.rejectedReads.WithLabelValues("lease_expire").Inc()
	return p.indexSnapshot(ctx, rc, r)
}

// seenByFollowers is the index that a read under the lease must not be behind.
// What the leader has committed and not applied yet, because its own disk or
// apply is slow, was acknowledged to nobody; but a follower that reads may have
// applied and shown it.
func (p *peer) seenByFollowers(r *role) uint64 {
	if p.followerReads.Load() != r.term {
		return 0
	}
	return p.committed.Load()
}

// renewSoon asks for a new lease when half of it is over.
func (p *peer) renewSoon(left int64) {
	p.store.metrics.leaseReads.Inc()
	if left < int64(p.store.cfg.leaseDuration())/2 && p.renewing.CompareAndSwap(false, true) {
		p.send(mailRenewLease{})
	}
}

// indexSnapshot confirms the leadership first.
func (p *peer) indexSnapshot(ctx context.Context, rc *kvrpcpb.Context, r *role) (kv.Snapshot, error) {
	p.store.metrics.indexReads.Inc()
	if err := p.readIndex(ctx, &readRequest{done: make(chan error, 1)}); err != nil {
		return nil, err
	}
	snap := p.takeSnapshot(r.term)
	if now := p.role.Load(); now != r {
		snap.release()
		return nil, errNotLeader(p.regionID, now.lead)
	}
	return snap.checked(rc)
}

// followerSnapshot asks the leader for its commit index and waits for it.
func (p *peer) followerSnapshot(ctx context.Context, rc *kvrpcpb.Context, o kv.SnapshotOptions) (kv.Snapshot, error) {
	if !p.initialized() {
		return nil, errNotInitialized(p.regionID)
	}
	if err := p.store.checkEpoch(rc, p.region.Load()); err != nil {
		return nil, err
	}
	p.store.metrics.indexReads.Inc()
	req := &readRequest{follower: true, done: make(chan error, 1)}
	if o.ReadTS != 0 {
		req.check = encodeReadCheck(o)
	}
	if err := p.readIndex(ctx, req); err != nil {
		return nil, err
	}
	snap := p.takeSnapshot(0)
	if p.role.Load().term != req.term {
		// It may hold what a new leader has committed, who doesn't know that
		// followers read (seenByFollowers).
		snap.release()
		return nil, errReadIndexNotReady(p.regionID, "the leader changed")
	}
	p.store.metrics.replicaReads.Inc()
	return snap.checked(rc)
}

// readIndex waits until all that was committed when it was called is applied.
func (p *peer) readIndex(ctx context.Context, req *readRequest) error {
	start := p.store.now()
	defer func() {
		took := time.Duration(p.store.now() - start)
		p.store.metrics.readIndexWait.Observe(took.Seconds())
		tracker.From(ctx).AddReadIndex(took)
	}()
	switch ok, full := p.mail.putRequest(req); {
	case full:
		return errServerIsBusy("too many requests wait at the region")
	case !ok:
		return errRegionNotFound(p.regionID)
	}
	p.store.raftSched.enqueue(p)
	select {
	case err := <-req.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.store.stopped:
		return ErrStopped
	}
}

// peerFor finds the peer that a request is for.
func (s *Store) peerFor(rc *kvrpcpb.Context) (*peer, error) {
	if to := rc.GetPeer(); to != nil && to.GetStoreId() != 0 && to.GetStoreId() != s.id {
		return nil, errStoreNotMatch(to.GetStoreId(), s.id)
	}
	if s.state.Load() != stateRunning {
		return nil, ErrStopped
	}
	p := s.peer(rc.GetRegionId())
	if p == nil {
		return nil, errRegionNotFound(rc.GetRegionId())
	}
	if to := rc.GetPeer(); to != nil && to.GetId() != 0 && to.GetId() != p.id {
		return nil, errMismatchPeer(to.GetId(), p.id)
	}
	return p, nil
}

// checkLeader refuses requests that only the leader serves, and requests that
// were sent terms ago.
func (p *peer) checkLeader(rc *kvrpcpb.Context, r *role) error {
	if !r.leader {
		return errNotLeader(p.regionID, p.leaderHint(r))
	}
	if staleTerm(rc.GetTerm(), r.term) {
		return errStaleCommand(p.regionID)
	}
	return nil
}

// staleTerm reports whether another peer may have led between the two terms: a
// leader that follows itself has the next one.
func staleTerm(decidedIn, now uint64) bool { return decidedIn != 0 && now > decidedIn+1 }

// checkEpoch compares the version: it changes with the range. A change of
// members alone doesn't concern reads and writes.
func (s *Store) checkEpoch(rc *kvrpcpb.Context, region *metapb.Region) error {
	if rc.GetRegionEpoch().GetVersion() == region.GetRegionEpoch().GetVersion() && len(region.GetPeers()) > 0 {
		return nil
	}
	return s.epochNotMatch(region)
}

// snapshot is one engine snapshot seen as one region.
type snapshot struct {
	s       *engine.Snapshot
	p       *peer
	region  *metapb.Region
	term    uint64
	applied uint64
	merging bool
	err     error
	tracker *tracker.Tracker // of the request; nil: nobody counts
}

var _ kv.Snapshot = (*snapshot)(nil)

func (p *peer) takeSnapshot(term uint64) *snapshot {
	out := &snapshot{p: p, term: term}
	p.stats.requests.Add(1)
	before := p.applySeq.Load()
	out.applied = p.applied.Load()
	out.s = p.store.engine.NewSnapshot()
	if before&1 != 0 || p.applySeq.Load() != before {
		// A batch was being written: only the snapshot knows if it is inside.
		out.applied, out.err = p.store.snapshotApplied(out.s, p.regionID)
	}
	if p.dataGone.Load() {
		// Deleted, or replaced by a snapshot of Raft's: the region that is
		// published may not be the one that the engine snapshot holds.
		out.err = errRegionNotFound(p.regionID)
	}
	out.region = p.region.Load()
	out.merging = p.merging.Load() != nil
	return out
}

// checked returns the snapshot if the region still is what the request meant.
// Whoever published an applied index published the region that belongs to it
// before, so a snapshot with a split inside does not get past this.
func (s *snapshot) checked(rc *kvrpcpb.Context) (kv.Snapshot, error) {
	if s.err == nil {
		s.err = s.p.store.checkEpoch(rc, s.region)
	}
	if s.err == nil && s.merging {
		s.err = errMerging(s.region.Id)
	}
	if s.err != nil {
		s.release()
		return nil, s.err
	}
	return s, nil
}

func (s *snapshot) release() {
	if err := s.s.Close(); err != nil && s.err == nil {
		s.err = err
	}
}

func (s *snapshot) Region() *metapb.Region { return s.region }
func (s *snapshot) Term() uint64           { return s.term }
func (s *snapshot) AppliedIndex() uint64   { return s.applied }
func (s *snapshot) MaxTSSynced() bool      { return s.term != 0 && s.p.maxTSSynced(s.term) }
func (s *snapshot) Close() error           { return s.s.Close() }

// Get reads one key of the region.
func (s *snapshot) Get(cf kv.CF, key []byte) ([]byte, io.Closer, error) {
	if !keyInRegion(key, s.region) {
		return nil, nil, errKeyNotInRegion(key, s.region)
	}
	value, closer, err := s.s.Get(cf, key)
	if err == nil {
		s.p.stats.readBytes.Add(uint64(len(key) + len(value)))
		s.p.stats.readKeys.Add(1)
	}
	if s.tracker != nil {
		s.tracker.Scan.Gets++
	}
	if sm := s.p.stats.sampler.Load(); sm != nil {
		sm.add(cf, key, nil)
	}
	return value, closer, err
}

// NewIter iterates over a family of the region.
func (s *snapshot) NewIter(cf kv.CF, o kv.IterOptions) (kv.Iterator, error) {
	if bytes.Compare(o.Lower, s.region.StartKey) < 0 {
		o.Lower = s.region.StartKey
	}
	if end := s.region.EndKey; len(end) > 0 && (len(o.Upper) == 0 || bytes.Compare(o.Upper, end) > 0) {
		o.Upper = end
	}
	if sm := s.p.stats.sampler.Load(); sm != nil {
		sm.add(cf, o.Lower, o.Upper)
	}
	it, err := s.s.NewIter(cf, o)
	if err == nil && s.tracker != nil {
		it.(*engine.Iterator).Track(s.tracker)
	}
	return it, err
}
