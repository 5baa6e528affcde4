package raftstore

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"go.etcd.io/raft/v3/raftpb"
)

// applyTask is a piece of a region's committed log, or its end.
type applyTask struct {
	entries   []*raftpb.Entry
	responses []*raftpb.Message
	times     commitTimes
	// destroy ends the region here: the peer was removed.
	destroy bool
	// hold stops the applier here, see mergestop.go.
	hold *sourceStop
}

// applyDone tells the Raft worker what apply has done.
type applyDone struct {
	index, term uint64 // of the last applied entry
	responses   []*raftpb.Message
	confChanges []*raftpb.ConfChangeV2 // those that took effect
	splits      []splitResult
	compactTo   uint64
	admins      []appliedAdmin // admin commands that were applied, whatever their result
	changed     bool           // the region
	region      *metapb.Region
	left        []*metapb.Peer // peers that are no members any longer
	removed     bool           // this peer is no member any longer
	merge       *mergeResult   // a source that was consumed
	hash        *hashJob       // a consistency check
	verify      *raft_cmdpb.VerifyHashRequest
}

// appliedAdmin names a command: after a restart a peer's numbers begin again,
// in a later term.
type appliedAdmin struct {
	id   proposalID
	term uint64
}

// applier writes a region's committed entries to the data engine. Everything
// it decides depends on the entry and the region only, so that all peers decide
// alike (hazard 12); an error of any other kind stops the process.
type applier struct {
	p *peer

	mu      sync.Mutex
	queue   []*applyTask
	backlog atomic.Int64 // bytes of entries in the queue, and of this round

	// Owned by the apply worker, or by the Raft worker while nothing is queued
	// and a snapshot is being applied.
	region *metapb.Region
	state  applyState
	ended  bool // removed: nothing more is applied
	// merge is set while the region is a source that is Merging; records are the
	// merges in which it was the target (mergecommit.go).
	merge   *raft_serverpb.MergeState
	records []*raft_serverpb.MergedRecord
	want    atomic.Pointer[mergeWant] // the source that the applier waits for
	held    atomic.Bool               // by a sourceStop
	reached *sourceStop               // which it came to in this round
	ran     bool                      // in this round
	cut     bool                      // this round: the next entry needs one of its own
	began   int64                     // it, on the store's clock
	times   commitTimes               // of the task being applied

	out     applyDone
	results []applyResult
	writes  []*raftpb.Entry // of this round that took effect, for the observer
	// ingested: an ingestion of this round took effect.
	ingested bool
	count    int   // entries of this round
	settled  int64 // bytes of them, as backlog counts
	bytes    int
	keys     int
}

type applyResult struct {
	prop  *proposal
	err   error
	times commitTimes
}

func (a *applier) init(p *peer, region *metapb.Region, state applyState) {
	a.p, a.region, a.state = p, region, state
	a.merge, a.records = nil, nil
}

// restore adds what a region's state says about merges.
func (a *applier) restore(st *raft_serverpb.RegionLocalState) {
	a.merge, a.records = mergeStateOf(st), st.GetMergedRecords()
}

func mergeStateOf(st *raft_serverpb.RegionLocalState) *raft_serverpb.MergeState {
	if st.GetState() == raft_serverpb.PeerState_Merging {
		return st.GetMergeState()
	}
	return nil
}

func (a *applier) put(t *applyTask) {
	a.took(t)
	a.mu.Lock()
	a.queue = append(a.queue, t)
	a.mu.Unlock()
}

// putBack puts the rest of a task in front.
func (a *applier) putBack(t *applyTask) {
	a.mu.Lock()
	a.queue = append([]*applyTask{t}, a.queue...)
	a.mu.Unlock()
}

func (a *applier) release() { a.held.Store(false) }

// take returns the next task, or nil.
func (a *applier) take() *applyTask {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return nil
	}
	t := a.queue[0]
	a.queue[0] = nil
	if a.queue = a.queue[1:]; len(a.queue) == 0 {
		a.queue = nil
	}
	return t
}

func (a *applier) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue) > 0
}

// applyWorker writes the entries of many regions in one batch.
func (s *Store) applyWorker() {
	var peers []*peer
	batch := s.engine.NewBatch()
	defer batch.Close()
	for {
		if peers = s.applySched.pop(peers[:0], applyRoundRegionsMax); len(peers) == 0 {
			return
		}
		batch.Reset()
		for _, p := range peers {
			p.apply.round(batch)
		}
		if err := s.engine.Apply(batch); err != nil {
			s.fatal(fmt.Errorf("raftstore: %w", err))
			return
		}
		s.metrics.applyRounds.Inc()
		for _, p := range peers {
			p.apply.finish()
			s.applySched.done(p)
		}
		clear(peers)
	}
}

// round adds the region's tasks to the batch, up to applyRoundBytesMax.
func (a *applier) round(batch *engine.Batch) {
	if a.ran = a.ready(); !a.ran {
		return // somebody else may own the state now
	}
	a.p.applySeq.Add(1)
	a.began = a.p.store.now()
	before := a.state
	for batch.Size() < applyRoundBytesMax && a.ready() && !a.roundEnds() {
		t := a.take()
		if t == nil {
			break
		}
		a.run(batch, t)
	}
	if a.ready() {
		a.p.store.applySched.enqueue(a.p)
	}
	if a.state != before && !a.ended {
		batch.PutMeta(metaKey(applyStateKind, a.p.regionID), a.state.encode())
	}
}

// roundEnds reports whether the last entry must be visible, and nothing behind
// it, before more is applied.
func (a *applier) roundEnds() bool { return a.out.merge != nil || a.out.hash != nil || a.cut }

// ready reports whether there is something that can be applied.
func (a *applier) ready() bool { return !a.held.Load() && !a.paused() && a.waiting() }

func (a *applier) run(batch *engine.Batch, t *applyTask) {
	if a.ended {
		a.settled += entriesCost(t.entries)
		return
	}
	if t.destroy {
		a.end(batch, a.withoutSelf())
		return
	}
	if t.hold != nil {
		a.held.Store(true)
		a.reached = t.hold
		return
	}
	a.times = t.times
	for i, e := range t.entries {
		if a.mustWait(e) || a.roundEnds() || isIngest(e) && !a.ingest(e) {
			a.putBack(&applyTask{entries: t.entries[i:], responses: t.responses, times: t.times})
			return
		}
		a.applyEntry(batch, e)
		a.settled += int64(entryCost(e))
		if a.ended {
			a.settled += entriesCost(t.entries[i+1:])
			return
		}
	}
	a.out.responses = append(a.out.responses, t.responses...)
}

// applyEntry applies the entry behind the last one, and no other (hazard 3).
func (a *applier) applyEntry(batch *engine.Batch, e *raftpb.Entry) {
	if e.GetIndex() != a.state.index+1 || e.GetTerm() < a.state.term {
		panic(fmt.Sprintf("raftstore: region %d applies entry %d of term %d behind %d of term %d",
			a.p.regionID, e.GetIndex(), e.GetTerm(), a.state.index, a.state.term))
	}
	if e.GetTerm() > a.state.term {
		for _, prop := range a.p.waiters.takeOlder(e.GetTerm()) {
			a.results = append(a.results, applyResult{prop: prop, err: errStaleCommand(a.p.regionID)})
		}
	}
	a.state = applyState{index: e.GetIndex(), term: e.GetTerm()}
	switch {
	case e.GetType() == raftpb.EntryConfChangeV2:
		a.applyMembership(batch, e)
	case len(e.GetData()) > 0:
		a.applyCommand(batch, e)
	}
	a.bytes += len(e.GetData())
	a.count++
}

func (a *applier) applyCommand(batch *engine.Batch, e *raftpb.Entry) {
	h, rest, err := decodeEntry(e.GetData())
	if err != nil {
		panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), err))
	}
	switch {
	case h.epoch.Version != a.region.RegionEpoch.GetVersion():
		err = a.epochNotMatch()
	case a.merge != nil && h.kind == entryKindWrite:
		err = errMerging(a.p.regionID)
	case h.kind == entryKindWrite:
		a.noteSafePoint(rest)
		count := batch.Len()
		if kv.Conditional(rest) {
			rest = a.resolve(rest)
		}
		if bad := batch.ApplyEncoded(rest); bad != nil {
			panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), bad))
		}
		a.keys += batch.Len() - count
		a.writes = append(a.writes, e)
	case h.kind == entryKindIngest:
		err = a.applyIngest(e)
	default:
		err = a.applyAdmin(batch, e, &h, rest)
	}
	a.answer(&h, e.GetTerm(), err)
}

// epochNotMatch tells the region and its neighbour; the children of a split in
// this very round are not in the store yet.
func (a *applier) epochNotMatch() error {
	if len(a.out.splits) == 0 {
		return a.p.store.epochNotMatch(a.region)
	}
	regions := []*metapb.Region{a.region}
	for _, r := range a.out.splits {
		regions = append(regions, r.region)
	}
	return errEpochNotMatch(regions...)
}

// answer keeps the result for the proposal's waiter, if it waits here.
func (a *applier) answer(h *entryHeader, term uint64, err error) {
	if h.kind == entryKindAdmin && h.id.peer == a.p.id {
		a.out.admins = append(a.out.admins, appliedAdmin{h.id, term})
	}
	if h.id.peer != a.p.id {
		return
	}
	if prop := a.p.waiters.take(h.id.seq, term); prop != nil {
		a.results = append(a.results, applyResult{prop, err, a.times})
	}
}

func (a *applier) applyAdmin(batch *engine.Batch, e *raftpb.Entry, h *entryHeader, rest []byte) error {
	req, err := decodeAdmin(rest)
	if err != nil {
		panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), err))
	}
	if a.merge != nil && req.GetCmdType() != raft_cmdpb.AdminCmdType_RollbackMerge {
		return errMerging(a.p.regionID)
	}
	switch req.GetCmdType() {
	case raft_cmdpb.AdminCmdType_PrepareMerge:
		return a.applyPrepareMerge(batch, e.GetIndex(), h, req.GetPrepareMerge())
	case raft_cmdpb.AdminCmdType_CommitMerge:
		return a.applyCommitMerge(batch, e, h, req.GetCommitMerge())
	case raft_cmdpb.AdminCmdType_RollbackMerge:
		return a.applyRollbackMerge(batch, req.GetRollbackMerge())
	case raft_cmdpb.AdminCmdType_BatchSplit:
		return a.applySplit(batch, h, req.GetSplits())
	case raft_cmdpb.AdminCmdType_ComputeHash:
		a.applyComputeHash(e.GetIndex())
		return nil
	case raft_cmdpb.AdminCmdType_VerifyHash:
		a.out.verify = req.GetVerifyHash()
		return nil
	case raft_cmdpb.AdminCmdType_CompactLog:
		if to := req.GetCompactLog().GetCompactIndex(); to < e.GetIndex() {
			a.out.compactTo = max(a.out.compactTo, to)
		}
		return nil
	}
	panic(fmt.Sprintf("raftstore: region %d, entry %d: admin command %s is unknown; was it written by a newer release?",
		a.p.regionID, e.GetIndex(), req.GetCmdType()))
}

// setRegion puts a changed region into the batch.
func (a *applier) setRegion(batch *engine.Batch, region *metapb.Region) {
	a.region = region
	a.out.changed = true
	batch.PutMeta(metaKey(regionStateKind, region.Id), encodeRegionState(a.regionState()))
}

// regionState is what is stored of the region.
func (a *applier) regionState() *raft_serverpb.RegionLocalState {
	st := normalState(a.region)
	st.MergedRecords = a.records
	if a.merge != nil {
		st.State, st.MergeState = raft_serverpb.PeerState_Merging, a.merge
	}
	return st
}

// withoutSelf is the region that a peer leaves behind who heard of its removal
// from others. Its range is what apply knows now: a split before this task has
// given a part to children, whose data must stay. So are its members and its
// epoch, though both have changed since: the members of an old epoch under a
// newer one would make answerForDead bury those that joined in between.
func (a *applier) withoutSelf() *metapb.Region {
	region := cloneRegion(a.region)
	region.Peers = withoutPeer(region.Peers, a.p.id)
	return region
}

// end marks the region as removed from this store, in the batch that holds the
// last entry before. The data goes later; until then the mark together with
// the apply state is the intent to delete it (hazard 10).
func (a *applier) end(batch *engine.Batch, region *metapb.Region) {
	a.ended = true
	a.p.dataGone.Store(true)
	a.region = region
	a.out.removed = true
	if !a.p.initialized() {
		return // there is nothing in the data engine
	}
	st := tombstoneState(region, metapb.Peer{Id: a.p.id, StoreId: a.p.store.id})
	batch.PutMeta(metaKey(regionStateKind, a.p.regionID), encodeRegionState(st))
	batch.PutMeta(metaKey(applyStateKind, a.p.regionID), a.state.encode())
}

// finish publishes what the batch, which is now visible, has changed: the
// region first, then the applied index, then the answers. The mail is the last
// thing: behind it the Raft worker may put a snapshot in the applier's place.
func (a *applier) finish() {
	p := a.p
	if !a.ran {
		return
	}
	a.tellFollower()
	if a.out.merge != nil {
		p.mergedAt.Store(a.region.RegionEpoch.GetVersion()) // before anybody can ask for the wider region
	}
	if a.out.changed {
		p.publishRegion(a.region, a.merge)
	}
	if applied := p.applied.Load(); a.state.index < applied {
		panic(fmt.Sprintf("raftstore: region %d: applied index falls from %d to %d", p.regionID, applied, a.state.index))
	}
	if len(a.writes) > 0 {
		p.store.observer.Applied(p.regionID, a.writes)
	}
	if a.out.hash != nil {
		a.takeHashSnapshot()
	}
	p.applied.Store(a.state.index)
	p.applySeq.Add(1)
	a.timeResults()
	for _, r := range a.results {
		r.prop.finish(r.err)
	}
	p.readers.release(a.state.index)
	a.settleBacklog()
	a.account()
	out, entries, reached := a.out, a.count, a.reached
	out.index, out.term, out.region = a.state.index, a.state.term, a.region
	a.out, a.reached = applyDone{}, nil
	clear(a.results)
	clear(a.writes)
	a.results, a.writes, a.count, a.bytes, a.keys = a.results[:0], a.writes[:0], 0, 0, 0
	if entries > 0 || len(out.responses) > 0 || out.removed {
		p.send(&out)
	}
	if reached != nil {
		p.send(mailHeld{reached})
	}
}

// tellFollower tells who follows the data of this step.
func (a *applier) tellFollower() {
	s := a.p.store
	a.tellIngested()
	if from := a.p.applied.Load(); s.follower != nil && from < a.state.index {
		s.follower.Advanced(a.p.regionID, from, a.state.index, a.writes)
	}
	if s.rangeChange == nil {
		return
	}
	var children []*metapb.Region
	for _, r := range a.out.splits {
		if !r.skipped {
			children = append(children, r.region)
		}
	}
	if len(a.out.splits) > 0 {
		s.rangeChange.Split(a.region, a.state.index, children, initialIndex)
	}
	if m := a.out.merge; m != nil {
		s.rangeChange.Merged(a.region, a.state.index, m.region, m.record.SourceIndex)
	}
}

func (a *applier) account() {
	st := &a.p.stats
	st.writtenBytes.Add(uint64(a.bytes))
	st.writtenKeys.Add(uint64(a.keys))
	st.sizeDelta.Add(uint64(a.bytes))
	a.p.store.metrics.applyEntries.Add(float64(a.count))
}

// onApplyDone is the Raft worker's part: Raft learns of new members before it
// learns that the entries are applied.
func (p *peer) onApplyDone(d *applyDone) {
	p.appliedIndex, p.appliedTerm = d.index, d.term
	for _, cc := range d.confChanges {
		p.rn.ApplyConfChange(p.withoutFailed(cc, d.region))
		p.resetLease()
	}
	if d.merge != nil {
		p.onMerged(d.merge, d.region)
	}
	switch {
	case len(d.splits) > 0:
		p.onSplits(d.splits, d.region)
		p.onRegionChanged(d.region)
	case d.changed && !d.removed:
		p.store.updateRange(d.region)
		p.onRegionChanged(d.region)
	}
	p.buryPeers(d.left, d.region)
	for _, admin := range d.admins {
		if admin.term == p.role.Load().term { // else admin.reset ended the wait
			p.adminApplied(admin.id)
		}
	}
	for _, m := range d.responses {
		p.step(m)
	}
	if d.hash != nil {
		p.startHash(d.hash)
	}
	if d.verify != nil {
		p.verifyHash(d.verify)
	}
	p.gc.compactTo = max(p.gc.compactTo, d.compactTo)
	p.evictCache()
	if d.removed {
		p.startDestroy(d.region)
		return
	}
	p.feedSource()
	p.renewLease()
}

// evictCache forgets entries that are applied here and, on a leader, are known
// to be at all peers that are being fed.
func (p *peer) evictCache() {
	to := p.applied.Load()
	if p.role.Load().leader {
		to = min(to, p.minActiveMatch())
	}
	p.st.cache.dropTo(to)
}
