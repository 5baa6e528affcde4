package raftstore

// leaseMarkCountMax bounds the appends whose commit may renew the lease.
const leaseMarkCountMax = 256

// leaseState is what the Raft worker knows about the read lease (hazards 6 to
// 8). The lease says: until its end no other peer can be elected, because a
// quorum heard from this leader at a time that was not before the lease began,
// and refuses its votes for an election timeout after that.
//
//	send ──► quorum hears ──► quorum answers
//	 │ lease begins              │ lease is known
//	 └────────── leaseDuration ──┼───────────►│ ends
//
// Two kinds of messages renew it: the heartbeats of a read index, and appends,
// whose commit shows that a quorum has them. It begins when they were made.
// Everything that lets another leader in without an election timeout ends it:
// a leader transfer for the rest of the term (its MsgTimeoutNow may still be on
// the way), a split from propose to apply (a child's leader elsewhere owes us
// nothing), a change of members (the quorum that promised may not be one any
// longer). A peer that restarts has forgotten its promises, so it refuses votes
// for an election timeout (Store.votesRefused).
type leaseState struct {
	start   int64 // the latest known beginning; 0 is none
	blocked bool  // a split is on its way
	// transferTerm is the term in which a transfer was tried.
	transferTerm uint64
	marks        []leaseMark
}

type leaseMark struct {
	index uint64
	time  int64
}

// mark notes that the log reached index at time now.
func (l *leaseState) mark(index uint64, now int64) {
	if n := len(l.marks); n > 0 && (l.marks[n-1].time == now || n == leaseMarkCountMax) {
		// Later entries count as if they were made then: too early is safe.
		l.marks[n-1].index = index
		return
	}
	l.marks = append(l.marks, leaseMark{index, now})
}

// committed consumes the marks up to a commit index.
func (l *leaseState) committed(index uint64) (renewed bool) {
	n := 0
	for n < len(l.marks) && l.marks[n].index <= index {
		l.start = max(l.start, l.marks[n].time)
		n++
	}
	l.marks = append(l.marks[:0], l.marks[n:]...)
	return n > 0
}

// resetLease ends the lease and forgets all that could renew it.
func (p *peer) resetLease() {
	p.lease.Store(0)
	p.leases.start = 0
	p.leases.marks = p.leases.marks[:0]
}

// renewLease publishes the lease that the known beginning allows. A leader has
// none before it has applied an entry of its own term: until then it may not
// have applied all that its predecessors acknowledged (hazard 6).
func (p *peer) renewLease() {
	r := p.role.Load()
	if !r.leader || p.appliedTerm != r.term || p.leases.start == 0 || p.leases.blocked || p.leases.transferTerm == r.term ||
		p.merging.Load() != nil {
		return
	}
	end := p.leases.start + int64(p.store.cfg.leaseDuration())
	if end > p.lease.Load() {
		p.lease.Store(end)
	}
}

// suspendLease ends the lease until unblockLease.
func (p *peer) suspendLease() {
	p.leases.blocked = true
	p.resetLease()
}
