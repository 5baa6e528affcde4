package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// driver is a PD in a hurry: it follows PD's rules (ids are never used twice,
// one operator is of one epoch, a region keeps a voter), but has no aim.
func (w *world) driver() {
	rng := w.rng("driver")
	for w.sleep(rng, 20*time.Millisecond, w.shape.operatorPause) {
		key, kind := w.keys[rng.IntN(len(w.keys))], rng.IntN(100)
		region, lead := w.regionAt(key)
		if region == nil || lead == 0 {
			continue
		}
		var resp *pdpb.RegionHeartbeatResponse
		var what string
		switch {
		case kind < 25 && w.shape.transfer:
			resp, what = transferTo(region, rng)
		case kind < 45 && w.shape.split:
			w.splitAt(region, lead, rng)
		case kind < 65 && w.shape.merge:
			resp, what = w.mergeNext(region, rng)
		case w.shape.members:
			resp, what = w.changeMembers(region, lead, rng)
		}
		if resp == nil {
			continue
		}
		resp.RegionId, resp.RegionEpoch = region.Id, region.RegionEpoch
		w.operators.Add(1)
		w.log.add(lead, region.Id, "operator: %s", what)
		w.c.Node(lead).Store.OnPDResponse(resp)
	}
}

func transferTo(region *metapb.Region, rng *rand.Rand) (*pdpb.RegionHeartbeatResponse, string) {
	p := region.Peers[rng.IntN(len(region.Peers))]
	return &pdpb.RegionHeartbeatResponse{TransferLeader: &pdpb.TransferLeader{Peer: p}}, fmt.Sprintf("transfer to s%d", p.StoreId)
}

// mergeNext merges a region into its right neighbour, if both have their peers on
// the same stores; else it takes a step to that.
func (w *world) mergeNext(region *metapb.Region, rng *rand.Rand) (*pdpb.RegionHeartbeatResponse, string) {
	if len(region.EndKey) == 0 {
		return nil, ""
	}
	target, lead := w.regionAt(string(region.EndKey))
	if target == nil || lead == 0 {
		return nil, ""
	}
	for _, p := range target.Peers {
		if peerOn(region, p.StoreId).Id == 0 {
			add := rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, w.c.PD.AllocID(), p.StoreId)
			return &pdpb.RegionHeartbeatResponse{ChangePeer: add}, fmt.Sprintf("add learner s%d=%d for a merge", p.StoreId, add.Peer.Id)
		}
	}
	for _, p := range region.Peers {
		at := peerOn(target, p.StoreId)
		switch {
		case at.Id == 0:
			return &pdpb.RegionHeartbeatResponse{ChangePeer: rafttest.Change(eraftpb.ConfChangeType_RemoveNode, p.Id, p.StoreId)},
				fmt.Sprintf("remove s%d=%d for a merge", p.StoreId, p.Id)
		case p.Role == metapb.PeerRole_Learner && at.Role == metapb.PeerRole_Voter:
			return &pdpb.RegionHeartbeatResponse{ChangePeer: rafttest.Change(eraftpb.ConfChangeType_AddNode, p.Id, p.StoreId)},
				fmt.Sprintf("promote s%d=%d for a merge", p.StoreId, p.Id)
		}
	}
	return &pdpb.RegionHeartbeatResponse{Merge: &pdpb.Merge{Target: target}}, fmt.Sprintf("merge into r%d", target.Id)
}

// splitAt cuts a region at one or two keys.
func (w *world) splitAt(region *metapb.Region, lead uint64, rng *rand.Rand) {
	var keys [][]byte
	var text []string
	for range 1 + rng.IntN(2) {
		name := fmt.Sprintf("%c%c", 'a'+byte(rng.IntN(26)), '0'+byte(rng.IntN(10)))
		key := name
		if w.load != nil {
			key = w.load.Encode(name)
		}
		if inRegion(key, region) && key != string(region.StartKey) {
			keys, text = append(keys, []byte(key)), append(text, name)
		}
	}
	if len(keys) == 0 {
		return
	}
	w.operators.Add(1)
	w.log.add(lead, region.Id, "operator: split at %s", strings.Join(text, ", "))
	w.c.Node(lead).Store.OnPDResponse(&pdpb.RegionHeartbeatResponse{
		RegionId: region.Id, RegionEpoch: region.RegionEpoch,
		SplitRegion: &pdpb.SplitRegion{Policy: pdpb.CheckPolicy_USEKEY, Keys: keys}})
}

// changeMembers takes a step that makes sense for the region's members.
func (w *world) changeMembers(region *metapb.Region, lead uint64, rng *rand.Rand) (*pdpb.RegionHeartbeatResponse, string) {
	var voters, learners []*metapb.Peer // that may be touched
	for _, p := range region.Peers {
		switch {
		case p.Role == metapb.PeerRole_Learner:
			learners = append(learners, p)
		case p.Role == metapb.PeerRole_Voter && p.StoreId != lead:
			voters = append(voters, p)
		}
	}
	var free []uint64
	for _, n := range w.sorted() {
		if peerOn(region, n.id).Id == 0 {
			free = append(free, n.id)
		}
	}
	var changes []*pdpb.ChangePeer
	add := func(typ eraftpb.ConfChangeType, p *metapb.Peer) {
		changes = append(changes, rafttest.Change(typ, p.Id, p.StoreId))
	}
	switch kind := rng.IntN(100); {
	case kind < 35 && len(free) > 0:
		add(eraftpb.ConfChangeType_AddLearnerNode, &metapb.Peer{Id: w.c.PD.AllocID(), StoreId: free[rng.IntN(len(free))]})
	case kind < 60 && len(learners) > 0:
		add(eraftpb.ConfChangeType_AddNode, learners[rng.IntN(len(learners))])
		if kind < 45 && len(voters) > 1 { // a replacement in one step
			add(eraftpb.ConfChangeType_RemoveNode, voters[rng.IntN(len(voters))])
		}
	case kind < 70 && len(learners) > 0:
		add(eraftpb.ConfChangeType_RemoveNode, learners[rng.IntN(len(learners))])
	case kind < 80 && len(voters) > 1:
		add(eraftpb.ConfChangeType_AddLearnerNode, voters[rng.IntN(len(voters))])
	case kind < 95 && len(voters) > 1:
		add(eraftpb.ConfChangeType_RemoveNode, voters[rng.IntN(len(voters))])
	case len(voters) == 1 && len(free) == 0:
		add(eraftpb.ConfChangeType_RemoveNode, voters[0])
	}
	if len(changes) == 0 {
		return nil, ""
	}
	var text []string
	for _, c := range changes {
		text = append(text, fmt.Sprintf("%s s%d=%d", c.ChangeType, c.Peer.StoreId, c.Peer.Id))
	}
	return &pdpb.RegionHeartbeatResponse{ChangePeerV2: &pdpb.ChangePeerV2{Changes: changes}}, strings.Join(text, ", ")
}

func (w *world) sorted() []*node {
	var out []*node
	for _, id := range w.c.IDs() {
		out = append(out, w.nodes[id])
	}
	return out
}

// regionAt returns the region of a key as the leader of the newest epoch tells
// it. Stores that are down or stopped don't tell anything.
func (w *world) regionAt(key string) (region *metapb.Region, lead uint64) {
	var term uint64
	for _, n := range w.sorted() {
		if n.gate.isShut() {
			continue
		}
		w.c.Use(n.id, func(up *rafttest.Node) {
			for _, r := range up.Store.Regions() {
				if !r.Leader || len(r.Region.Peers) == 0 || !inRegion(key, r.Region) {
					continue
				}
				newer := region == nil || r.Region.RegionEpoch.Version > region.RegionEpoch.Version
				if newer || (r.Region.Id == region.Id && r.Term > term) {
					region, lead, term = r.Region, n.id, r.Term
				}
			}
		})
	}
	return region, lead
}

func describeCut(nodes []*node, cut map[link]bool) string {
	var out []string
	for _, a := range nodes {
		for _, b := range nodes {
			switch {
			case cut[link{a.id, b.id}] && cut[link{b.id, a.id}]:
				if a.id < b.id {
					out = append(out, fmt.Sprintf("s%d≠s%d", a.id, b.id))
				}
			case cut[link{a.id, b.id}]:
				out = append(out, fmt.Sprintf("s%d↛s%d", a.id, b.id))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// removal is the change that removes a peer on the store of the crash matrix.
func removal(peer uint64) *pdpb.ChangePeer {
	return rafttest.Change(eraftpb.ConfChangeType_RemoveNode, peer, matrixMoving)
}
