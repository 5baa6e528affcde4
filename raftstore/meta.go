package raftstore

import (
	"encoding/binary"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"go.etcd.io/raft/v3/raftpb"
)

// Meta keys of the data engine:
//
//	'r' region(8)  raft_serverpb.RegionLocalState: Normal or Tombstone
//	'a' region(8)  apply state: version(1) uvarint index, term
//
// Both change in the batch that holds the data they describe (hazard 3). A
// Tombstone stays for ever (hazard 4); its apply state goes with the data, so
// "Tombstone and apply state" means that the data must still be deleted.
//
// Meta keys of the Raft log:
//
//	'p' region(8)  uvarint id of the peer whose votes and log these are
//	's' region(8)  intent of a snapshot (snapintent.go)
const (
	regionStateKind = 'r'
	applyStateKind  = 'a'
	peerIDKind      = 'p'
	snapIntentKind  = 's'
)

// A region that comes from a split or from Bootstrap starts behind a
// truncated log of this index and term, so that a peer without data can only
// catch up by a snapshot.
const (
	initialIndex = 5
	initialTerm  = 5
)

func metaKey(kind byte, regionID uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, regionID)
}

const applyStateVersion = 1

// applyState is how far a region's log is applied.
type applyState struct{ index, term uint64 }

func (a applyState) encode() []byte {
	b := append(make([]byte, 0, 21), applyStateVersion)
	return binary.AppendUvarint(binary.AppendUvarint(b, a.index), a.term)
}

func decodeApplyState(regionID uint64, value []byte) (applyState, error) {
	if len(value) > 0 && value[0] == applyStateVersion {
		d := decoder{rest: value[1:]}
		if a := (applyState{d.uvarint(), d.uvarint()}); !d.failed {
			return a, nil
		}
	}
	return applyState{}, fmt.Errorf("raftstore: apply state of region %d is damaged: %x", regionID, value)
}

func encodeRegionState(st *raft_serverpb.RegionLocalState) []byte {
	data, err := st.Marshal()
	if err != nil {
		panic(fmt.Sprintf("raftstore: encode state of region %d: %v", st.GetRegion().GetId(), err))
	}
	return data
}

func normalState(region *metapb.Region) *raft_serverpb.RegionLocalState {
	return &raft_serverpb.RegionLocalState{State: raft_serverpb.PeerState_Normal, Region: region}
}

// tombstoneState says that peer was removed from region. The peer is the only
// removed record.
func tombstoneState(region *metapb.Region, peer metapb.Peer) *raft_serverpb.RegionLocalState {
	return &raft_serverpb.RegionLocalState{
		State: raft_serverpb.PeerState_Tombstone, Region: region, RemovedRecords: []*metapb.Peer{&peer}}
}

func tombstonePeerID(st *raft_serverpb.RegionLocalState) (id uint64) {
	for _, p := range st.GetRemovedRecords() {
		id = max(id, p.GetId())
	}
	return id
}

func decodeRegionState(key, value []byte) (*raft_serverpb.RegionLocalState, error) {
	st := new(raft_serverpb.RegionLocalState)
	if err := st.Unmarshal(value); err != nil || st.GetRegion().GetRegionEpoch() == nil {
		return nil, fmt.Errorf("raftstore: region state %x is damaged: %v", key, err)
	}
	return st, nil
}

// confState derives Raft's configuration from the roles of a region's peers.
func confState(region *metapb.Region) *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	joint := isJoint(region)
	for _, p := range region.GetPeers() {
		switch p.GetRole() {
		case metapb.PeerRole_Voter:
			cs.Voters = append(cs.Voters, p.GetId())
			if joint {
				cs.VotersOutgoing = append(cs.VotersOutgoing, p.GetId())
			}
		case metapb.PeerRole_IncomingVoter:
			cs.Voters = append(cs.Voters, p.GetId())
		case metapb.PeerRole_DemotingVoter:
			cs.VotersOutgoing = append(cs.VotersOutgoing, p.GetId())
			cs.LearnersNext = append(cs.LearnersNext, p.GetId())
		case metapb.PeerRole_Learner:
			cs.Learners = append(cs.Learners, p.GetId())
		}
	}
	if joint {
		cs.AutoLeave = new(true)
	}
	return cs
}

// isJoint reports whether the region is between two configurations.
func isJoint(region *metapb.Region) bool {
	for _, p := range region.GetPeers() {
		if p.GetRole() == metapb.PeerRole_IncomingVoter || p.GetRole() == metapb.PeerRole_DemotingVoter {
			return true
		}
	}
	return false
}

func findPeer(region *metapb.Region, id uint64) *metapb.Peer {
	for _, p := range region.GetPeers() {
		if p.GetId() == id {
			return p
		}
	}
	return nil
}

func peerOnStore(region *metapb.Region, storeID uint64) *metapb.Peer {
	for _, p := range region.GetPeers() {
		if p.GetStoreId() == storeID {
			return p
		}
	}
	return nil
}

// cloneRegion copies what may change: published regions are immutable.
func cloneRegion(r *metapb.Region) *metapb.Region {
	out := &metapb.Region{Id: r.Id, StartKey: r.StartKey, EndKey: r.EndKey}
	out.RegionEpoch = &metapb.RegionEpoch{ConfVer: r.RegionEpoch.GetConfVer(), Version: r.RegionEpoch.GetVersion()}
	for _, p := range r.Peers {
		out.Peers = append(out.Peers, &metapb.Peer{Id: p.Id, StoreId: p.StoreId, Role: p.Role, IsWitness: p.IsWitness})
	}
	return out
}
