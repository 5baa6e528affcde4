package raftstore

import "sync"

// A proposal is one command on its way through Raft.
type proposal struct {
	id    proposalID
	epoch proposalEpoch
	data  []byte        // the entry, header included
	admin *adminCommand // nil for a write
	term  uint64        // in which it was proposed; set by the Raft worker
	// decidedIn is the term whose state the write was decided on; 0: it does not
	// depend on any.
	decidedIn uint64
	times     proposalTimes
	done      chan error // capacity 1
}

type proposalEpoch struct{ confVer, version uint64 }

func (p *proposal) finish(err error) { p.done <- err }

// waiterTable holds the proposals that are in Raft's hands. The Raft worker
// adds, the apply worker takes out.
//
// A leader that loses its office doesn't know what becomes of its entries. It
// does as soon as an entry of a later term is applied: terms only grow along
// the log, so what was not applied before never will be.
type waiterTable struct {
	mu sync.Mutex
	m  map[uint64]*proposal // by sequence number
	// minTerm is at most the oldest term in m.
	minTerm uint64
}

func (w *waiterTable) add(p *proposal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = make(map[uint64]*proposal)
	}
	if len(w.m) == 0 || p.term < w.minTerm {
		w.minTerm = p.term
	}
	w.m[p.id.seq] = p
}

// take removes and returns the proposal of an applied entry, or nil.
func (w *waiterTable) take(seq, term uint64) *proposal {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.m[seq]
	if p == nil || p.term != term {
		return nil
	}
	delete(w.m, seq)
	return p
}

// takeOlder removes the proposals of terms before term.
func (w *waiterTable) takeOlder(term uint64) (out []*proposal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.m) == 0 || w.minTerm >= term {
		return nil
	}
	w.minTerm = term
	for seq, p := range w.m {
		if p.term < term {
			out = append(out, p)
			delete(w.m, seq)
		}
	}
	return out
}

// readerTable holds reads that wait until an index is applied.
type readerTable struct {
	mu      sync.Mutex
	waiting []indexWaiter
}

type indexWaiter struct {
	index uint64
	req   *readRequest
}

func (t *readerTable) add(index uint64, req *readRequest) {
	t.mu.Lock()
	t.waiting = append(t.waiting, indexWaiter{index, req})
	t.mu.Unlock()
}

// release finishes the reads that wait for applied or less.
func (t *readerTable) release(applied uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.waiting[:0]
	for _, w := range t.waiting {
		if w.index <= applied {
			w.req.finish(nil)
		} else {
			kept = append(kept, w)
		}
	}
	clear(t.waiting[len(kept):])
	t.waiting = kept
}

// fail finishes all reads with err.
func (t *readerTable) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.waiting {
		w.req.finish(err)
	}
	t.waiting = nil
}
