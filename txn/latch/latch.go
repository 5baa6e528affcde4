// Package latch serialises commands that touch the same keys.
//
// A latch is one of a fixed number of slots; a key's hash picks its slot, so
// two keys may share one, which costs concurrency and nothing else. A command
// takes all its slots in ascending order, hence commands never deadlock, and
// holds them from before its snapshot until its write is applied: what it
// checked is still true when it writes.
//
//	command 1:  ──lock 3──lock 7────snapshot──check──write──unlock
//	command 2:  ──lock 7 …waits………………………………………………………………lock──snapshot──…
//
// It is not a lock of Percolator: latches live for one request, in memory.
// Invariant: a slot is held by at most one Guard. Read next: package txn's
// command.go, the only user.
package latch

import (
	"context"
	"slices"

	"github.com/zeebo/xxh3"
)

// SlotsDefault is the number of slots of a store; a power of two.
const SlotsDefault = 1 << 14

// Latches is a fixed table of slots.
type Latches struct {
	slots []chan struct{} // a token in it: held
	mask  uint64
}

// New returns n slots; n is rounded up to a power of two.
func New(n int) *Latches {
	size := 1
	for size < n {
		size *= 2
	}
	l := &Latches{slots: make([]chan struct{}, size), mask: uint64(size - 1)}
	for i := range l.slots {
		l.slots[i] = make(chan struct{}, 1)
	}
	return l
}

// Guard is the set of slots a command holds. The zero Guard holds none; it can
// be used again after Release and then keeps its memory.
type Guard struct {
	l     *Latches
	slots []uint32
}

// Acquire takes the slots of keys, waiting in order of arrival. When ctx ends
// first nothing is held and the cause is returned.
func (l *Latches) Acquire(ctx context.Context, g *Guard, keys [][]byte) error {
	g.l, g.slots = l, g.slots[:0]
	for _, k := range keys {
		g.slots = append(g.slots, uint32(xxh3.Hash(k)&l.mask))
	}
	if len(g.slots) > 1 {
		slices.Sort(g.slots)
		g.slots = slices.Compact(g.slots)
	}
	for i, s := range g.slots {
		select {
		case l.slots[s] <- struct{}{}:
			continue
		default:
		}
		select {
		case l.slots[s] <- struct{}{}:
		case <-ctx.Done():
			g.slots = g.slots[:i]
			g.Release()
			return context.Cause(ctx)
		}
	}
	return nil
}

// Release gives the slots back.
func (g *Guard) Release() {
	for _, s := range g.slots {
		<-g.l.slots[s]
	}
	g.slots = g.slots[:0]
}
