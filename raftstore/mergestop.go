package raftstore

import (
	"log/slog"
	"sync/atomic"

	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
)

// A source's peer that its target is about to consume takes no part in Raft any
// longer and serves nothing. There are two ways to get there:
//
//   - The target's applier has come to CommitMerge. What is committed up to
//     PrepareMerge is in this peer's log, on disk (the source's leader waited for
//     that), so it is fed to the applier without Raft. There is no way back.
//   - A snapshot brings the target beyond CommitMerge. This peer is held as it
//     is, and goes on as if nothing had been if Raft has no use for the snapshot.
//
// In both the applier ends up held between two entries, with all that it has
// done known to the Raft worker.

// sourceStop is why, and whom to tell when the applier holds.
type sourceStop struct {
	catchUp *mailCatchUp // nil: held for a snapshot
	take    *sourceTake
}

type (
	mailCatchUp struct {
		target *peer
		want   *mergeWant
	}
	mailHold    struct{ take *sourceTake }
	mailRelease struct{ take *sourceTake }
	// mailHeld comes behind all that the applier has reported before.
	mailHeld struct{ stop *sourceStop }
	// mailMerged ends a source. exact: its log was applied up to PrepareMerge.
	mailMerged struct {
		region, into *metapb.Region
		exact        bool
	}
)

// sourceTake are the sources that one snapshot of their target takes over.
type sourceTake struct {
	target  *peer
	r       *receivedSnapshot
	sources []*peer
	waiting atomic.Int32
	failed  atomic.Bool
	done    bool // of the target's Raft worker: all are held
}

// answered counts the sources' answers; behind the last one the snapshot goes
// on, or is dropped.
func (t *sourceTake) answered(ok bool) {
	if !ok {
		t.failed.Store(true)
	}
	if t.waiting.Add(-1) == 0 {
		t.target.send(&mailTaken{t})
	}
}

type mailTaken struct{ take *sourceTake }

// stopSource ends this peer's part in Raft.
func (p *peer) stopSource(stop *sourceStop) {
	p.merge.stop = stop
	p.suspendLease()
	err := errMerging(p.regionID)
	for _, prop := range p.props {
		prop.finish(err)
	}
	p.props = nil
	p.failReads(err)
}

// refuseStopped answers what comes in while the peer is stopped.
func (p *peer) refuseStopped() {
	for _, prop := range p.props {
		prop.finish(errMerging(p.regionID))
	}
	for _, req := range p.reads {
		req.finish(errMerging(p.regionID))
	}
	p.props, p.reads = nil, nil
}

// onCatchUp brings the applier to the PrepareMerge entry.
func (p *peer) onCatchUp(m *mailCatchUp) {
	if p.merge.stop != nil || p.snap.applying || p.ending || !p.initialized() {
		return // the target's tick asks again
	}
	if p.handed < m.want.commit && p.st.last < m.want.commit {
		p.log.Warn("merge waits for entries that should be here", slog.Uint64("have", p.st.last), slog.Uint64("want", m.want.commit))
		return
	}
	p.stopSource(&sourceStop{catchUp: m})
	p.feedSource()
}

// feedSource gives the applier the next entries, or the order to hold.
func (p *peer) feedSource() {
	stop := p.merge.stop
	if stop == nil || stop.catchUp == nil || p.appliedIndex < p.handed {
		return
	}
	to := stop.catchUp.want.commit
	if p.handed >= to {
		p.holdApplier(stop)
		return
	}
	ents, err := p.st.Entries(p.handed+1, to+1, committedBytesPerReadyMax)
	if err != nil {
		p.store.fatal(err)
		return
	}
	p.handed = ents[len(ents)-1].GetIndex()
	p.apply.put(&applyTask{entries: ents})
	p.store.applySched.enqueue(p)
}

func (p *peer) holdApplier(stop *sourceStop) {
	p.apply.put(&applyTask{hold: stop})
	p.store.applySched.enqueue(p)
}

// onHeld: the applier holds, and this worker has seen all that it did.
func (p *peer) onHeld(m mailHeld) {
	switch {
	case m.stop != p.merge.stop: // released meanwhile
		p.apply.release()
		p.store.applySched.enqueue(p)
	case m.stop.catchUp != nil:
		m.stop.catchUp.want.ready.Store(p)
		p.store.applySched.enqueue(m.stop.catchUp.target)
	default:
		m.stop.take.answered(true)
	}
}

// onHold stops this peer for a snapshot of its target.
func (p *peer) onHold(t *sourceTake) {
	if p.merge.stop != nil || p.ending || p.snap.applying {
		t.answered(false)
		return
	}
	stop := &sourceStop{take: t}
	p.stopSource(stop)
	p.holdApplier(stop)
}

// onRelease goes on: to Raft it was as if messages had been lost.
func (p *peer) onRelease(t *sourceTake) {
	if p.merge.stop == nil || p.merge.stop.take != t {
		return
	}
	p.merge.stop = nil
	p.leases.blocked = false
	p.apply.release()
	p.store.applySched.enqueue(p)
}

// onMergedAway ends this peer: its range and data are its target's.
func (p *peer) onMergedAway(m mailMerged) {
	err := error(errEpochNotMatch(m.into))
	outcome := err // behind PrepareMerge nothing took effect
	if !m.exact {
		outcome = errOutcomeUnknown(p.regionID, "a snapshot of the region it was merged into covers its place in the log")
	}
	p.leave(err, outcome)
	for _, mail := range p.mail.close() {
		p.handleGone(mail)
	}
	p.log.Info("region merged away", slog.Uint64("target", m.into.Id))
	p.store.observer.RegionChanged(m.region, true)
}

// dropStopped filters the messages to a stopped peer.
func (p *peer) dropStopped(m *RaftMessage) bool {
	if p.merge.stop == nil {
		return false
	}
	p.store.drop("merging")
	if m.Msg.GetType() == raftpb.MsgSnap {
		p.store.discardSnapshotOf(m)
	}
	return true
}
