package raftstore

import (
	"encoding/binary"

	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// readBatchCountMax bounds the read indexes of one region that are on their way;
// reads that come meanwhile share the next one.
const readBatchCountMax = 4

// readRequest waits for a read index.
type readRequest struct {
	follower bool
	term     uint64     // in which the leader answered a follower
	check    []byte     // what the leader checks its memory locks against, or nil
	done     chan error // capacity 1
}

func (r *readRequest) finish(err error) { r.done <- err }

// readIndexState is the Raft worker's view of the read indexes on their way.
type readIndexState struct {
	renew   bool
	batches map[uint64]*readBatch
}

// readBatch are the reads that share one read index.
type readBatch struct {
	reqs     []*readRequest
	follower bool
	check    []byte
	time     int64 // when it was sent: a lease begins here
	age      int   // ticks since it was sent
	waited   int   // ticks since it was first sent
}

// A read index's context: id(8) kind(1) rest. The id is never used again, not
// even after a restart: an answer to an older request would give an older index.
const (
	readPlain  = 0
	readCheck  = 1 // rest: uvarint read ts, count, then start and end of each range
	readLocked = 2 // an answer; rest: kvrpcpb.LockInfo
)

// readAll sends the reads of this round.
func (p *peer) readAll() {
	if p.index.renew {
		p.index.renew = false
		if r := p.role.Load(); r.leader && p.appliedTerm == r.term && len(p.index.batches) < readBatchCountMax {
			p.sendReadIndex(&readBatch{})
		} else {
			p.renewing.Store(false)
		}
	}
	r := p.role.Load()
	if len(p.reads) == 0 || (r.leader && p.appliedTerm != r.term) {
		// A leader that has not applied an entry of its term may not know what is
		// committed. Raft waits by itself, but not if it is the only voter
		// (hazard 6).
		return
	}
	shared := map[bool]*readBatch{}
	kept := p.reads[:0]
	for _, req := range p.reads {
		follower := !r.leader
		switch {
		case follower && (!req.follower || r.lead == nil):
			req.finish(errNotLeader(p.regionID, r.lead))
		case len(p.index.batches)+len(shared) >= readBatchCountMax && shared[follower] == nil && req.check == nil:
			kept = append(kept, req)
		case follower && req.check != nil:
			p.sendReadIndex(&readBatch{reqs: []*readRequest{req}, follower: true, check: req.check})
		default:
			if shared[follower] == nil {
				shared[follower] = &readBatch{follower: follower}
			}
			shared[follower].reqs = append(shared[follower].reqs, req)
		}
	}
	clear(p.reads[len(kept):])
	p.reads = kept
	for _, b := range shared {
		p.sendReadIndex(b)
	}
}

// sendReadIndex sends a batch under a fresh id.
func (p *peer) sendReadIndex(b *readBatch) {
	if p.index.batches == nil {
		p.index.batches = make(map[uint64]*readBatch)
	}
	id := p.store.readIDs.Add(1)
	b.time, b.age = p.now, 0
	p.index.batches[id] = b
	ctx := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(b.check)), id)
	if b.check != nil {
		ctx = append(append(ctx, readCheck), b.check...)
	} else {
		ctx = append(ctx, readPlain)
	}
	p.rn.ReadIndex(ctx)
}

// onReadState finishes a batch: its reads wait for index only.
func (p *peer) onReadState(rs raft.ReadState) {
	if len(rs.RequestCtx) < 9 {
		return
	}
	id := binary.BigEndian.Uint64(rs.RequestCtx)
	b := p.index.batches[id]
	if b == nil {
		return // it was retried, or the role changed
	}
	delete(p.index.batches, id)
	if rs.RequestCtx[8] == readLocked {
		lock := new(kvrpcpb.LockInfo)
		if err := lock.Unmarshal(rs.RequestCtx[9:]); err != nil {
			b.fail(errReadIndexNotReady(p.regionID, "the leader's answer is damaged"))
			return
		}
		b.fail(&LockedError{Lock: lock})
		return
	}
	if !b.follower {
		p.renewing.Store(false)
		p.leases.start = max(p.leases.start, b.time)
		p.renewLease()
	}
	for _, req := range b.reqs {
		req.term = p.role.Load().term
		p.readers.add(rs.Index, req)
	}
	p.readers.release(p.applied.Load())
}

func (b *readBatch) fail(err error) {
	for _, req := range b.reqs {
		req.finish(err)
	}
	b.reqs = nil
}

// tickReads retries what was not answered: Raft drops read indexes in silence
// (hazard 6).
func (p *peer) tickReads() {
	c := &p.store.cfg
	for id, b := range p.index.batches {
		b.age++
		b.waited++
		if b.waited >= c.ReadTimeoutTicks {
			delete(p.index.batches, id)
			p.endRenewal(b)
			b.fail(errReadIndexNotReady(p.regionID, "no quorum answered in time"))
		} else if b.age >= c.ReadIndexRetryTicks {
			delete(p.index.batches, id)
			p.sendReadIndex(b)
		}
	}
}

func (p *peer) endRenewal(b *readBatch) {
	if !b.follower {
		p.renewing.Store(false)
	}
}

// failLeaderReads ends the reads that were sent as leader of another term.
func (p *peer) failLeaderReads(r *role) {
	for id, b := range p.index.batches {
		if !b.follower {
			delete(p.index.batches, id)
			b.fail(errNotLeader(p.regionID, r.lead))
		}
	}
	p.renewing.Store(false)
}

// onLeaderChanged makes follower reads ask the new leader with the next tick.
func (p *peer) onLeaderChanged() {
	for _, b := range p.index.batches {
		b.age = p.store.cfg.ReadIndexRetryTicks
	}
	p.missing = 0
}

// failReads ends all reads.
func (p *peer) failReads(err error) {
	for id, b := range p.index.batches {
		delete(p.index.batches, id)
		b.fail(err)
	}
	for _, req := range p.reads {
		req.finish(err)
	}
	p.reads = nil
	p.readers.fail(err)
}

// LockChecker knows the locks that a leader keeps in memory only. CheckLocks
// notes that keys in the ranges were read at readTS, and returns a lock that
// the read must wait for, or nil. It must not block.
type LockChecker interface {
	CheckLocks(regionID, readTS uint64, ranges []kv.KeyRange) *kvrpcpb.LockInfo
}

func encodeReadCheck(o kv.SnapshotOptions) []byte {
	b := binary.AppendUvarint(nil, o.ReadTS)
	b = binary.AppendUvarint(b, uint64(len(o.Ranges)))
	for _, r := range o.Ranges {
		b = appendBytes(appendBytes(b, r.Start), r.End)
	}
	return b
}

func decodeReadCheck(b []byte) (readTS uint64, ranges []kv.KeyRange, ok bool) {
	d := decoder{rest: b}
	readTS = d.uvarint()
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		ranges = append(ranges, kv.KeyRange{Start: d.bytes(), End: d.bytes()})
	}
	return readTS, ranges, !d.failed
}

// lockedReadIndex answers a follower's read index that meets a memory lock; it
// reports whether it did.
func (p *peer) lockedReadIndex(m *raftpb.Message) bool {
	lc := p.store.lockChecker
	if lc == nil || len(m.Entries) != 1 || !p.role.Load().leader {
		return false
	}
	ctx := m.Entries[0].GetData()
	if len(ctx) < 9 || ctx[8] != readCheck {
		return false
	}
	readTS, ranges, ok := decodeReadCheck(ctx[9:])
	if !ok {
		return false
	}
	lock := lc.CheckLocks(p.regionID, readTS, ranges)
	if lock == nil {
		return false
	}
	data, err := lock.Marshal()
	if err != nil {
		return false
	}
	answer := append(append(ctx[:8:8], readLocked), data...)
	p.sendMessage(&raftpb.Message{
		Type: raftpb.MsgReadIndexResp.Enum(), To: m.From, From: new(p.id), Term: new(p.role.Load().term),
		Entries: []*raftpb.Entry{{Data: answer}},
	})
	return true
}
