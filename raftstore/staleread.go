package raftstore

import (
	"math"
	"sync"

	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// readStateCountMax bounds the read states of one region that wait until
// enough is applied. A peer that lags keeps old ones, and so gets on.
const readStateCountMax = 8

// A ReadState is a promise of a region's leader that holds for ever: behind
// the log's entry Index nothing is committed at or below SafeTS in the range
// that the region has in Version of its epoch. Who has applied Index can read at
// SafeTS without asking anybody.
//
// The version matters because a leader answers only for the range that it has:
// a peer that has not come to a split yet shows more than that, one that is
// behind a merge as well.
type ReadState struct{ Version, Index, SafeTS uint64 }

// readProgress is what a peer knows of its region's read states.
type readProgress struct {
	mu      sync.Mutex
	version uint64
	safeTS  uint64
	waiting []ReadState // of entries that are not applied yet; Index and SafeTS grow
}

// learn takes in a read state. It may come late or twice.
func (r *readProgress) learn(st ReadState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.waiting); n > 0 {
		switch last := &r.waiting[n-1]; {
		case last.SafeTS >= st.SafeTS || last.Version > st.Version:
			return
		case last.Version == st.Version && last.Index >= st.Index:
			*last = st
			return
		}
	}
	if len(r.waiting) >= readStateCountMax {
		kept := r.waiting[:0]
		for i := 0; i < len(r.waiting); i += 2 {
			kept = append(kept, r.waiting[i])
		}
		r.waiting = kept
	}
	r.waiting = append(r.waiting, st)
}

// at returns the safe ts of a region that is in version and has applied that
// much; 0: none is known.
func (r *readProgress) at(version, applied uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for ; n < len(r.waiting) && r.waiting[n].Index <= applied; n++ {
		switch st := r.waiting[n]; {
		case st.Version > r.version:
			r.version, r.safeTS = st.Version, st.SafeTS
		case st.Version == r.version:
			r.safeTS = max(r.safeTS, st.SafeTS)
		}
	}
	r.waiting = append(r.waiting[:0], r.waiting[n:]...)
	if r.version != version {
		return 0
	}
	return r.safeTS
}

// inherit sets what a split leaves to the parent and its children.
func (r *readProgress) inherit(version, safeTS uint64) {
	if safeTS == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if version > r.version {
		r.version, r.safeTS = version, safeTS
	}
}

// safeTS is up to where the peer can be read without asking its leader, or 0.
func (p *peer) safeTS() uint64 {
	region := p.region.Load()
	// The region first: with an applied index comes the region that belongs to it.
	return p.progress.at(region.GetRegionEpoch().GetVersion(), p.applied.Load())
}

// passReadProgress gives what is known of a parent to the children of its
// splits, which made it what region is now. Nobody can have committed in their
// ranges below it: whoever leads a child was elected later, and has raised max_ts
// past it.
func (p *peer) passReadProgress(splits int, region *metapb.Region, children []*peer) {
	version := region.GetRegionEpoch().GetVersion()
	// Every split counts one. If there was anything else, nothing is known.
	ts := p.progress.at(version-uint64(splits), p.applied.Load())
	p.progress.inherit(version, ts)
	for _, child := range children {
		child.progress.inherit(child.region.Load().GetRegionEpoch().GetVersion(), ts)
	}
}

// staleSnapshot serves a read at a timestamp that is safe here. It needs neither
// a lease nor a leader.
func (p *peer) staleSnapshot(rc *kvrpcpb.Context, o kv.SnapshotOptions) (kv.Snapshot, error) {
	if !p.initialized() {
		return nil, errNotInitialized(p.regionID)
	}
	if err := p.store.checkEpoch(rc, p.region.Load()); err != nil {
		return nil, err
	}
	safe := p.progress.at(rc.GetRegionEpoch().GetVersion(), p.applied.Load())
	if o.ReadTS == 0 || o.ReadTS == math.MaxUint64 || o.ReadTS > safe {
		p.store.metrics.rejectedReads.WithLabelValues("safe_ts").Inc()
		return nil, errDataIsNotReady(p.regionID, p.id, safe, o.ReadTS)
	}
	p.store.metrics.staleReads.Inc()
	// checked compares the version again: it is the one that safe is of.
	return p.takeSnapshot(0).checked(rc)
}

// LeaderState is a region that this store leads.
type LeaderState struct {
	Region       *metapb.Region // read-only
	PeerID, Term uint64
}

// Leaders lists the regions that this store leads, in no order. It wakes none.
// A region that is about to be merged is not among them: its target may have
// consumed it already, on another store, and commit in its range.
func (s *Store) Leaders() (out []LeaderState) {
	s.eachPeer(func(p *peer) {
		// The role first: it may be lost while the region is looked at, which
		// those who are asked about the term will know. The region before the
		// merge: who publishes the epoch of a merging region has said that it is one.
		r, region := p.role.Load(), p.region.Load()
		if r.leader && len(region.GetPeers()) > 0 && p.merging.Load() == nil {
			out = append(out, LeaderState{Region: region, PeerID: p.id, Term: r.term})
		}
	})
	return out
}

// LearnReadState takes in what a leader of the region found out.
func (s *Store) LearnReadState(regionID uint64, st ReadState) {
	if p := s.peer(regionID); p != nil && st.Index != 0 && st.SafeTS != 0 {
		p.progress.learn(st)
	}
}

// CheckLeaders returns the regions of infos whose peers here have voted for no
// other leader than the one that asks, and know the region as it does; it takes
// in the read states that come along. It wakes no peer.
//
// An answer says that no later leader can have had this store's vote until now:
// a peer publishes the term of its vote before the vote leaves.
func (s *Store) CheckLeaders(infos []*kvrpcpb.LeaderInfo) (agreed []uint64) {
	for _, info := range infos {
		p := s.peer(info.GetRegionId())
		if p == nil {
			continue
		}
		if st := info.GetReadState(); st != nil {
			s.LearnReadState(p.regionID, ReadState{
				Version: info.GetRegionEpoch().GetVersion(), Index: st.GetAppliedIndex(), SafeTS: st.GetSafeTs()})
		}
		r, epoch := p.role.Load(), p.region.Load().GetRegionEpoch()
		if r.term == info.GetTerm() && r.lead.GetId() == info.GetPeerId() && p.initialized() &&
			epoch.GetConfVer() == info.GetRegionEpoch().GetConfVer() && epoch.GetVersion() == info.GetRegionEpoch().GetVersion() {
			agreed = append(agreed, p.regionID)
		}
	}
	return agreed
}

// MinSafeTS is the smallest safe ts of the peers whose regions meet the encoded
// range [start, end), an empty end is unbounded. It is 0 if one of them has none,
// or if there is no peer.
func (s *Store) MinSafeTS(start, end []byte) uint64 {
	least := uint64(math.MaxUint64)
	s.eachPeer(func(p *peer) {
		region := p.region.Load()
		if len(region.GetPeers()) > 0 && rangesOverlap(region.StartKey, region.EndKey, start, end) {
			least = min(least, p.safeTS())
		}
	})
	if least == math.MaxUint64 {
		return 0
	}
	return least
}

// SafeTS is up to where this store's peer of the region can be read without
// asking its leader, or 0.
func (s *Store) SafeTS(regionID uint64) uint64 {
	if p := s.peer(regionID); p != nil {
		return p.safeTS()
	}
	return 0
}
