package raftstore

import (
	"bytes"
	"context"
	"fmt"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Write replicates a batch, see kv.Engine.
func (s *Store) Write(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
	p, err := s.peerFor(rc)
	if err != nil {
		return err
	}
	if err := p.checkLeader(rc, p.role.Load()); err != nil {
		return err
	}
	region := p.region.Load()
	if err := s.checkEpoch(rc, region); err != nil {
		return err
	}
	if p.merging.Load() != nil {
		return errMerging(p.regionID)
	}
	if b.Size() > entryBytesMax {
		return errEntryTooLarge(p.regionID, b.Size())
	}
	if err := checkBatch(b, region); err != nil {
		return err
	}
	if err := p.admitDisk(region, rc.GetDiskFullOpt(), b); err != nil {
		return err
	}
	if err := s.admitBacklog(); err != nil {
		return err
	}
	size := int64(b.Size())
	if rc.GetDiskFullOpt() == kvrpcpb.DiskFullOpt_NotAllowedOnFull {
		// What ends transactions, and is marked, frees more than it costs.
		t := tracker.From(ctx)
		was := t.Enter(tracker.Throttle)
		err := s.slowDown(ctx, size)
		t.Enter(was)
		if err != nil {
			return err
		}
	}
	if s.proposalBytes.Add(size) > s.cfg.ProposalBytesMax {
		s.proposalBytes.Add(-size)
		return errServerIsBusy("writes waiting for consensus exceed their memory")
	}
	defer s.proposalBytes.Add(-size)
	s.willWrite(size)
	p.stats.requests.Add(1)
	if sm := p.stats.sampler.Load(); sm != nil {
		sm.addBatch(b)
	}
	h := p.newHeader(entryKindWrite, region)
	return p.proposeWrite(ctx, &proposal{
		id:        h.id,
		epoch:     proposalEpoch{h.epoch.ConfVer, h.epoch.Version},
		decidedIn: rc.GetTerm(),
		data:      append(h.appendTo(make([]byte, 0, entryHeaderBytesMax+b.Size())), b.Bytes()...),
		done:      make(chan error, 1),
	})
}

// newHeader starts the entry of a new proposal.
func (p *peer) newHeader(kind byte, region *metapb.Region) entryHeader {
	return entryHeader{
		kind:  kind,
		id:    proposalID{peer: p.id, seq: p.seq.Add(1)},
		epoch: metapb.RegionEpoch{ConfVer: region.RegionEpoch.GetConfVer(), Version: region.RegionEpoch.GetVersion()},
	}
}

// checkBatch checks the encoding and that every key is in the region. Apply
// checks the epoch's version, which stands for the same range.
func checkBatch(b *kv.Batch, region *metapb.Region) error {
	r := kv.ReadBatch(b.Bytes())
	conditional := kv.Conditional(b.Bytes())
	for {
		op, _, key, value, ok, err := r.Next()
		if err != nil {
			return fmt.Errorf("raftstore: write to region %d: %w", region.GetId(), err)
		}
		if !ok {
			return nil
		}
		if !keyInRegion(key, region) {
			return errKeyNotInRegion(key, region)
		}
		if (op == kv.OpDeleteIf) != conditional {
			return fmt.Errorf("raftstore: write to region %d: conditional deletes and other operations in one batch", region.GetId())
		}
		if op != kv.OpDeleteRange {
			continue
		}
		if bytes.Compare(key, value) >= 0 {
			return fmt.Errorf("raftstore: write to region %d: delete of the empty range [%x, %x)", region.GetId(), key, value)
		}
		if len(region.EndKey) > 0 && bytes.Compare(value, region.EndKey) > 0 {
			return errKeyNotInRegion(value, region)
		}
	}
}

// propose hands a proposal to the Raft worker and waits until it is applied.
func (p *peer) propose(ctx context.Context, prop *proposal) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch ok, full := p.mail.putRequest(prop); {
	case full:
		return errServerIsBusy("too many requests wait at the region")
	case !ok:
		return errRegionNotFound(p.regionID)
	}
	p.store.raftSched.enqueue(p)
	select {
	case err := <-prop.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("region %d: the outcome of the write is unknown: %w", p.regionID, ctx.Err())
	case <-p.store.stopped:
		return ErrStopped
	}
}

// proposeAll proposes what came in this round: writes in one message, so that
// followers get them in one.
func (p *peer) proposeAll() {
	if len(p.props) == 0 || p.transferring() {
		return
	}
	r, region := p.role.Load(), p.region.Load()
	merging := p.merging.Load() != nil || p.admin.prepare != (proposalID{})
	var writes []*proposal
	for _, prop := range p.props {
		switch {
		case !r.leader:
			prop.finish(errNotLeader(p.regionID, r.lead))
		case staleTerm(prop.decidedIn, r.term): // it was held up behind Write's check
			prop.finish(errStaleCommand(p.regionID))
		case prop.epoch.version != region.RegionEpoch.GetVersion():
			prop.finish(p.store.epochNotMatch(region))
		case merging:
			prop.finish(errMerging(p.regionID))
		case prop.admin != nil:
			p.proposeAdmin(prop, r, region)
		default:
			writes = append(writes, prop)
		}
	}
	clear(p.props)
	p.props = p.props[:0]
	if len(writes) == 0 {
		return
	}
	p.store.metrics.proposals.WithLabelValues("normal").Add(float64(len(writes)))
	if len(writes) > 1 && p.stepProposals(writes, r.term) == nil {
		return
	}
	for i := range writes { // one, or Raft's memory is nearly full: one by one
		if err := p.stepProposals(writes[i:i+1], r.term); err != nil {
			writes[i].finish(p.dropped())
		}
	}
}

// transferring reports whether Raft refuses proposals because this leader hands
// over. They wait: in milliseconds another peer leads, and the callers hear its
// name, or the transfer is given up. A refusal as "busy" would cost them
// seconds.
func (p *peer) transferring() bool {
	st := p.rn.BasicStatus()
	return st.RaftState == raft.StateLeader && st.LeadTransferee != 0
}

// stepProposals gives proposals to Raft, all or none.
func (p *peer) stepProposals(props []*proposal, term uint64) error {
	ents := make([]*raftpb.Entry, len(props))
	now := p.store.now()
	for i, prop := range props {
		ents[i] = &raftpb.Entry{Data: prop.data}
		prop.term, prop.times.proposed = term, now
		p.waiters.add(prop)
	}
	err := p.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(p.id), Entries: ents})
	if err != nil {
		for _, prop := range props {
			p.waiters.take(prop.id.seq, term)
		}
	}
	return err
}

// dropped says why Raft refused a proposal; it certainly was not proposed.
func (p *peer) dropped() error {
	st := p.rn.BasicStatus()
	switch {
	case st.Lead != p.id:
		return errNotLeader(p.regionID, findPeer(p.region.Load(), st.Lead))
	}
	return errServerIsBusy("the region's uncommitted writes exceed their memory")
}
