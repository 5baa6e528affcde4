package core

import (
	"bytes"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// Region is one report about one region. Read-only.
type Region struct {
	Meta   *metapb.Region
	Leader *metapb.Peer // nil where it is not known
	Term   uint64
	// Down are the peers that the leader has not heard from, Pending those that
	// it does not count on yet (they wait for a snapshot, say).
	Down    []*pdpb.PeerStats
	Pending []*metapb.Peer

	SizeBytes, Keys           uint64 // approximate
	WrittenBytes, ReadBytes   uint64 // in the reported interval
	WrittenKeys, ReadKeys     uint64
	WriteQueries, ReadQueries uint64
	IntervalSeconds           uint64
	Buckets                   *metapb.BucketMeta
	// ReportedAt is when this leader of PD heard of the region; zero for one
	// that was only loaded from etcd.
	ReportedAt time.Time
}

// FromHeartbeat is the region as its leader reports it. It keeps the message's
// parts.
func FromHeartbeat(hb *pdpb.RegionHeartbeatRequest, now time.Time) *Region {
	r := &Region{
		Meta: hb.Region, Leader: hb.Leader, Term: hb.Term,
		Down: hb.DownPeers, Pending: hb.PendingPeers,
		SizeBytes: hb.ApproximateSize, Keys: hb.ApproximateKeys,
		WrittenBytes: hb.BytesWritten, ReadBytes: hb.BytesRead,
		WrittenKeys: hb.KeysWritten, ReadKeys: hb.KeysRead,
		ReadQueries: ReadQueries(hb.QueryStats), WriteQueries: WriteQueries(hb.QueryStats),
		Buckets:    hb.BucketMeta,
		ReportedAt: now,
	}
	if iv := hb.Interval; iv != nil && iv.EndTimestamp > iv.StartTimestamp {
		r.IntervalSeconds = iv.EndTimestamp - iv.StartTimestamp
	}
	return r
}

// ReadQueries counts the requests that read. Nil is none.
func ReadQueries(q *pdpb.QueryStats) uint64 {
	return q.GetGet() + q.GetScan() + q.GetCoprocessor()
}

// WriteQueries counts the requests that go through the Raft log. Nil is none.
func WriteQueries(q *pdpb.QueryStats) uint64 {
	return q.GetPut() + q.GetDelete() + q.GetDeleteRange() + q.GetPrewrite() +
		q.GetAcquirePessimisticLock() + q.GetCommit() + q.GetRollback()
}

// ID is the region's id.
func (r *Region) ID() uint64 { return r.Meta.Id }

// Epoch is never nil.
func (r *Region) Epoch() *metapb.RegionEpoch { return r.Meta.RegionEpoch }

// Contains reports whether key lies in the region.
func (r *Region) Contains(key []byte) bool {
	return bytes.Compare(key, r.Meta.StartKey) >= 0 &&
		(len(r.Meta.EndKey) == 0 || bytes.Compare(key, r.Meta.EndKey) < 0)
}

// Peer returns the peer with the id, or nil.
func (r *Region) Peer(id uint64) *metapb.Peer {
	for _, p := range r.Meta.Peers {
		if p.Id == id {
			return p
		}
	}
	return nil
}

// StorePeer returns the peer on the store, or nil.
func (r *Region) StorePeer(storeID uint64) *metapb.Peer {
	for _, p := range r.Meta.Peers {
		if p.StoreId == storeID {
			return p
		}
	}
	return nil
}

// IsPending reports whether the leader does not count on the peer yet.
func (r *Region) IsPending(peerID uint64) bool {
	for _, p := range r.Pending {
		if p.Id == peerID {
			return true
		}
	}
	return false
}

// DownSeconds is for how long the leader has not heard from the peer, 0 where
// it has.
func (r *Region) DownSeconds(peerID uint64) uint64 {
	for _, d := range r.Down {
		if d.Peer != nil && d.Peer.Id == peerID {
			return max(d.DownSeconds, 1)
		}
	}
	return 0
}

// Healthy reports whether the peer is neither pending nor down.
func (r *Region) Healthy(peerID uint64) bool {
	return !r.IsPending(peerID) && r.DownSeconds(peerID) == 0
}

// InJoint reports whether the region is between two peer sets.
func (r *Region) InJoint() bool {
	for _, p := range r.Meta.Peers {
		if p.Role == metapb.PeerRole_IncomingVoter || p.Role == metapb.PeerRole_DemotingVoter {
			return true
		}
	}
	return false
}

// Voters are the peers that vote in the incoming peer set.
func (r *Region) Voters() []*metapb.Peer {
	out := make([]*metapb.Peer, 0, len(r.Meta.Peers))
	for _, p := range r.Meta.Peers {
		if p.Role == metapb.PeerRole_Voter || p.Role == metapb.PeerRole_IncomingVoter {
			out = append(out, p)
		}
	}
	return out
}

// Learners are the peers that do not vote in the incoming peer set.
func (r *Region) Learners() []*metapb.Peer {
	var out []*metapb.Peer
	for _, p := range r.Meta.Peers {
		if p.Role == metapb.PeerRole_Learner || p.Role == metapb.PeerRole_DemotingVoter {
			out = append(out, p)
		}
	}
	return out
}

// PB is the region in the form that scans answer with.
func (r *Region) PB(needBuckets bool) *pdpb.Region {
	return &pdpb.Region{
		Region: r.Meta, Leader: r.Leader, DownPeers: r.Down, PendingPeers: r.Pending,
		Buckets: r.BucketsPB(needBuckets),
	}
}

// BucketsPB is the region's buckets, or nil where they are not wanted or known.
func (r *Region) BucketsPB(need bool) *metapb.Buckets {
	if !need || r.Buckets == nil {
		return nil
	}
	return &metapb.Buckets{RegionId: r.Meta.Id, Version: r.Buckets.Version, Keys: r.Buckets.Keys}
}

// ScoreBytes is what the region counts for where stores are balanced by size: an
// empty one costs something, too.
func (r *Region) ScoreBytes() uint64 { return max(r.SizeBytes, regionBytesMin) }
