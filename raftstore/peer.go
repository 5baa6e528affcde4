package raftstore

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// A peer is this store's replica of one region. It has two owners: the Raft
// worker that drives it drives RawNode, log and membership of this peer; the
// apply worker owns the applier. They talk by mail. What readers need is
// published through atomics.
type peer struct {
	store    *Store
	regionID uint64
	id       uint64
	log      *slog.Logger

	mail       mailbox
	sched      atomic.Int32
	tickDue    atomic.Bool
	applySched atomic.Int32

	// Published. region and applied are written by the apply worker, region
	// first: who sees an applied index sees the epoch that belongs to it.
	region    atomic.Pointer[metapb.Region]
	role      atomic.Pointer[role]
	applied   atomic.Uint64
	applySeq  atomic.Uint64 // odd while a batch with this region is written
	awake     atomic.Bool   // gets ticks
	dataGone  atomic.Bool   // what an engine snapshot shows may not be the region's data
	lease     atomic.Int64  // end of the read lease on the store's clock; 0 is none
	committed atomic.Uint64 // published before any other peer hears of it
	// followerReads is the last term in which this peer, leading, answered a
	// read index of another one.
	followerReads atomic.Uint64
	shedding      atomic.Bool // a shedLeader mail is on its way
	renewing      atomic.Bool // a read asked for a new lease
	maxTS         atomic.Pointer[maxTSMark]
	mergedAt      atomic.Uint64 // the version in which it last consumed a source
	// merging is set while the region is the source of a merge: before its region
	// is published, and cleared behind that.
	merging    atomic.Pointer[raft_serverpb.MergeState]
	mergedInto atomic.Pointer[raft_serverpb.MergedRecord] // what others told: the source was merged
	seq        atomic.Uint64                              // last proposal number
	stats      peerStats
	hash       atomic.Pointer[RegionHash] // of the last consistency check
	progress   readProgress               // of stale reads
	// destroyedAt is when a part of the region was destroyed past Raft; 0: never.
	destroyedAt atomic.Int64
	cacheBytes  atomic.Int64 // of the entry cache
	cacheTrim   atomic.Int64 // what the entry cache is to be cut to, in bytes; 0: nothing

	// Sleep, see hibernate.go and patrol.go. leadIncarnation is that of the
	// leader's store when the peer fell asleep, or was told who leads.
	leadIncarnation atomic.Uint64
	sleptAt         atomic.Int64             // when it fell asleep; 0: not yet, or cold
	without         atomic.Pointer[[]uint64] // stores that were gone when the leader fell asleep
	warm            atomic.Bool              // nothing of its log waits to be applied
	nudged          atomic.Bool              // a nudge is in the mail
	listed          bool                     // owned by awakeSet
	cold            atomic.Bool              // Raft's state is on disk only
	askedAt         atomic.Int64             // when the others were asked who leads; 0: not yet
	leaderlessSince int64                    // owned by the ticker, as the next
	reportedAt      int64
	checkedAt       int64        // when it last asked whether it is a member, see sleepcheck.go
	leaderToldAt    atomic.Int64 // when it last heard of its leader; 0: not yet looked at
	validatedAt     atomic.Int64 // when PD was last asked whether it is a member, see validate.go

	waiters waiterTable
	readers readerTable
	apply   applier

	// Owned by the Raft worker from here on.
	rn    *raft.RawNode
	st    *peerStorage
	hs    hardState // as handed to the log writer, or about to be
	now   int64     // the store's clock when this round began
	gone  bool      // being destroyed
	props []*proposal
	reads []*readRequest

	appends      int           // log tasks on their way
	persisted    persistedRing // how long the last of them took
	selfSteps    []*raftpb.Message
	handed       uint64 // the last entry given to apply
	appliedIndex uint64 // what apply has reported
	appliedTerm  uint64
	ending       bool // the applier was told to end
	doomed       *doom
	otherPeers   map[uint64]metapb.Peer

	leases  leaseState
	index   readIndexState
	snap    snapshotState
	admin   adminState
	merge   mergeState
	gc      logGCState
	report  reportState
	load    loadState
	missing int      // ticks without a word from a leader
	failed  []uint64 // stores that are gone for good, while the region recovers
	sleep   sleepState
	// deposedTicks counts since the peer lost its office with writes in the log.
	deposedTicks int
	// quietSince is when the last message of Raft's came.
	quietSince int64

	consistency consistencyState
}

// role is what a peer is in its group.
type role struct {
	term   uint64
	leader bool
	lead   *metapb.Peer // nil if unknown
}

// hardState is raftpb.HardState by value.
type hardState struct{ term, vote, commit uint64 }

func (h hardState) proto() *raftpb.HardState {
	return &raftpb.HardState{Term: &h.term, Vote: &h.vote, Commit: &h.commit}
}

// peerStats counts what PD wants to know.
type peerStats struct {
	writtenBytes, writtenKeys, readBytes, readKeys atomic.Uint64
	// sizeBytes is the region's approximate size; sizeDelta what was written
	// since it was measured.
	sizeBytes, sizeDelta atomic.Uint64
	// sizeGuessed says that sizeDelta is all there is, guessed at a split.
	sizeGuessed atomic.Bool
	// sizeKeys is the same for entries, 0 until they were counted; sizeKeysAt is
	// writtenKeys at that time.
	sizeKeys, sizeKeysAt atomic.Uint64
	// requests are reads and writes that came to this peer; sampler looks at their
	// keys while there are many.
	requests atomic.Uint64
	sampler  atomic.Pointer[loadSampler]
}

// newPeer makes a peer from what the store has of it. The caller publishes it.
func (s *Store) newPeer(region *metapb.Region, id uint64, rs raftlog.RaftState, applied applyState) (*peer, error) {
	p := s.newColdPeer(region, id, applied)
	if err := p.startFrom(rs); err != nil {
		return nil, err
	}
	return p, nil
}

// startRaft makes the RawNode on top of p.st.
func (p *peer) startRaft(applied uint64) error {
	c := &p.store.cfg
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        p.id,
		ElectionTick:              c.ElectionTicks,
		HeartbeatTick:             c.HeartbeatTicks,
		Storage:                   p.st,
		Applied:                   applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             raftMessageBytesMax,
		MaxCommittedSizePerReady:  committedBytesPerReadyMax,
		MaxUncommittedEntriesSize: uncommittedBytesMax,
		MaxInflightMsgs:           raftInflightCountMax,
		MaxInflightBytes:          raftInflightBytesMax,
		CheckQuorum:               true, // both from day one, no switch (hazard 13)
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{p.log},
	})
	if err != nil {
		return err
	}
	p.rn = rn
	return nil
}

func (p *peer) initialized() bool { return len(p.region.Load().GetPeers()) > 0 }

// self is this peer as a message shows it.
func (p *peer) self() metapb.Peer {
	if me := findPeer(p.region.Load(), p.id); me != nil {
		return *me
	}
	return metapb.Peer{Id: p.id, StoreId: p.store.id}
}

// send puts mail and schedules the peer. Mail to a peer that is gone is
// answered here.
func (p *peer) send(v any) {
	if !p.mail.put(v) {
		p.handleGone(v)
		return
	}
	p.store.raftSched.enqueue(p)
}

// raftWorker drives peers until the store stops.
func (s *Store) raftWorker() {
	var peers []*peer
	var mails []any
	for {
		if peers = s.raftSched.pop(peers[:0], 1); len(peers) == 0 {
			return
		}
		mails = peers[0].process(mails)
		s.raftSched.done(peers[0])
	}
}

// process handles what has come in since the last round, then what Raft makes
// of it. buf is an empty slice for the next mails; the handled one is returned
// in exchange.
func (p *peer) process(buf []any) []any {
	mails := p.mail.swap(buf)
	p.now = p.store.now()
	for _, m := range mails {
		if p.gone {
			p.handleGone(m)
			continue
		}
		if !p.quiet(m) && p.rouse(m) {
			p.handle(m)
		}
	}
	due := p.tickDue.Swap(false)
	if !p.awake.Load() {
		p.mail.trim()
		return mails
	}
	if !p.gone {
		p.trimIfAsked()
	}
	if due && !p.gone {
		p.tick()
	}
	if p.merge.stop != nil {
		p.refuseStopped()
	} else if !p.gone {
		p.proposeAll()
		p.readAll()
		p.handleReady()
		if len(p.reads) > 0 && !p.gone { // those that waited for others' answers
			p.readAll()
			p.handleReady()
		}
		if p.merging.Load() != nil {
			p.driveMerge()
			p.handleReady()
		}
		p.reportIfDue()
		p.offerSleep()
	}
	p.endIfDue()
	if p.gone {
		p.awake.Store(false)
	}
	return mails
}

func (p *peer) handle(m any) {
	switch m := m.(type) {
	case *RaftMessage:
		p.store.received.Add(-int64(m.bytesSize()))
		if !p.dropStopped(m) {
			p.onMessage(m)
		}
	case *proposal:
		p.props = append(p.props, m)
	case *readRequest:
		p.reads = append(p.reads, m)
	case *appendDone:
		p.onAppendDone(m)
	case *applyDone:
		p.onApplyDone(m)
	case *snapshotMade:
		p.onSnapshotMade(m)
	case *snapshotSent:
		p.onSnapshotSent(m)
	case *snapshotApplied:
		p.onSnapshotApplied(m)
	case *hashComputed:
		p.onHashComputed(m)
	case *splitKeysFound:
		p.onSplitKeys(m)
	case mailRenewLease:
		p.index.renew = true
	case mailUnreachable:
		p.rn.ReportUnreachable(m.peerID)
	case mailOldSnapshot:
		p.onOldSnapshot(m.msg)
	case mailShedLeader:
		p.onShedLeader(m)
	case mailCampaign:
		p.campaign()
	case mailWake: // it is awake
	case mailNudge:
		p.nudged.Store(false)
		p.onNudge(m)
	case mailHandOver:
		p.onHandOver()
	case mailOperator:
		p.onOperator(m.resp)
	case mailValidated:
		p.onValidated(m.region)
	case *mailCatchUp:
		p.onCatchUp(m)
	case mailHold:
		p.onHold(m.take)
	case mailRelease:
		p.onRelease(m.take)
	case mailHeld:
		p.onHeld(m)
	case *mailTaken:
		p.onTaken(m)
	case mailMerged:
		p.onMergedAway(m)
	case mailInitialize:
		if p.ending { // its end is with the applier already
			p.handleGone(m)
			return
		}
		p.initialize(m)
	default:
		panic("raftstore: unknown mail")
	}
}

type (
	mailRenewLease  struct{}
	mailUnreachable struct{ peerID uint64 }
	mailOldSnapshot struct{ msg *raftpb.Message }
	mailCampaign    struct{}
)

// tick is one step of Raft's clock. Ticks that come while one is due are one:
// after a pause a peer must not see its election timeout shrink (hazard 7).
func (p *peer) tick() {
	p.tickWant() // also of a source that waits for its own source
	if p.merge.stop != nil {
		return
	}
	p.rn.Tick()
	p.tickReads()
	p.tickMissing()
	p.tickDeposed()
	if r := p.role.Load(); r.leader {
		p.tickReport()
		p.tickSplitCheck()
		p.tickLoad()
		p.tickRecovery()
		p.tickConsistency()
		p.tickRemoval()
		p.tickSleep()
	}
	p.tickCampaign()
	p.tickLog()
}

// campaign starts an election at once; Raft's pre-vote keeps it harmless.
func (p *peer) campaign() {
	if p.merge.stop != nil {
		return
	}
	if err := p.rn.Campaign(); err != nil {
		p.log.Debug("campaign refused", slog.Any("error", err))
	}
}

// raftLogger sends Raft's own messages to debug level: at one line a role
// change and region, info would drown the rest. What matters is logged by us.
const levelTrace = slog.LevelDebug - 4 // Raft's own debug messages

type raftLogger struct{ l *slog.Logger }

func (r raftLogger) Debug(v ...any) { r.Debugf("%v", v...) }
func (r raftLogger) Debugf(f string, v ...any) {
	if r.l.Enabled(context.Background(), levelTrace) {
		r.l.Log(context.Background(), levelTrace, "raft: "+sprintf(f, v))
	}
}
func (r raftLogger) Error(v ...any)            { r.l.Error("raft", slog.Any("message", v)) }
func (r raftLogger) Errorf(f string, v ...any) { r.l.Error("raft: " + sprintf(f, v)) }
func (r raftLogger) Info(v ...any)             {}
func (r raftLogger) Infof(f string, v ...any) {
	if r.l.Enabled(context.Background(), slog.LevelDebug) {
		r.l.Debug("raft: " + sprintf(f, v))
	}
}
func (r raftLogger) Warning(v ...any)            { r.l.Debug("raft", slog.Any("message", v)) }
func (r raftLogger) Warningf(f string, v ...any) { r.Infof(f, v...) }
func (r raftLogger) Fatal(v ...any)              { r.Panic(v...) }
func (r raftLogger) Fatalf(f string, v ...any)   { r.Panicf(f, v...) }
func (r raftLogger) Panic(v ...any)              { panic(sprintf("raft: %v", v)) }
func (r raftLogger) Panicf(f string, v ...any)   { panic("raft: " + sprintf(f, v)) }
