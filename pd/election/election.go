package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// renewalsPerTTL is how many times within its life a lease is renewed.
	renewalsPerTTL = 5
	// retryPause is the pause after a failed attempt; followTick is how often a
	// follower that could lead looks whether it may depose the leader.
	retryPause = 50 * time.Millisecond
	followTick = 50 * time.Millisecond
	// resignTimeout bounds giving the key back: who comes next waits for it, or
	// for the lease.
	resignTimeout = time.Second
)

// ErrLost says that the leader key is no longer this leader's.
var ErrLost = errors.New("pd: not leader")

// Record is what etcd has about the leader, read at one revision.
type Record struct {
	// Leader is the value of the leader key, nil where there is none.
	Leader []byte
	// CreateRev is the revision that created the leader key; RenewRev the one
	// that renewed its lease last.
	CreateRev, RenewRev int64
	// TTL is how long a renewal is good for, by the leader's configuration; 0
	// where the leader takes no part in this protocol.
	TTL time.Duration
}

// Store is what the election needs of etcd. After an error the outcome of a
// write is unknown, but for ErrLost.
type Store interface {
	// Read is linearizable.
	Read(ctx context.Context) (Record, error)
	// Create makes the leader key, and a first renewal with it, unless there is
	// one: then rev is 0.
	Create(ctx context.Context, ttl time.Duration) (rev int64, err error)
	// Renew writes a renewal if the leader key still has rev, or returns ErrLost.
	Renew(ctx context.Context, rev int64, ttl time.Duration) error
	// Depose deletes the leader key if it and its renewal are as in r.
	Depose(ctx context.Context, r Record) error
	// Resign deletes the leader key if it still has rev.
	Resign(ctx context.Context, rev int64) error
}

// Elector takes part in the election for one member.
type Elector struct {
	Store Store
	Clock Clock
	TTL   time.Duration
	Log   *slog.Logger
	// IsMine reports whether a leader key is of an earlier life of this member:
	// it does not wait for itself.
	IsMine func(leader []byte) bool
	// Eligible reports whether this member should lead, if nobody does.
	Eligible func() bool
	// Changed returns a channel that gets a value, or is closed, when the
	// leader's record changes, until ctx ends. It may be nil: then it polls.
	Changed func(ctx context.Context, from Record) <-chan struct{}
	// Follow is called with the leader while another member leads, and with nil
	// when nobody is known to.
	Follow func(leader []byte)
	// Lead is called while this member leads; it returns soon after ctx ends or
	// lease is no longer valid. Whatever it started has stopped then.
	Lead func(ctx context.Context, lease *Lease, rev int64) error

	doubt *Doubt
}

// Run takes part until ctx ends.
func (e *Elector) Run(ctx context.Context) {
	e.doubt = NewDoubt(e.Clock)
	for ctx.Err() == nil {
		if err := e.round(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("pd: election round failed", "err", err)
			pause(ctx, retryPause)
		}
	}
}

// round follows the present leader until it is gone, or leads until the lease is
// lost.
func (e *Elector) round(ctx context.Context) error {
	r, err := e.Store.Read(ctx)
	if err != nil {
		return fmt.Errorf("read the leader key: %w", err)
	}
	switch {
	case r.Leader != nil && e.IsMine(r.Leader):
		return e.Store.Depose(ctx, r)
	case r.Leader != nil:
		return e.follow(ctx, r)
	}
	e.Follow(nil)
	if !e.Eligible() {
		pause(ctx, retryPause)
		return nil
	}
	return e.campaign(ctx)
}

// follow watches the leader until its key is gone, and takes that away when its
// lease has run out.
func (e *Elector) follow(ctx context.Context, r Record) error {
	created := r.CreateRev
	e.Follow(r.Leader)
	defer e.Follow(nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var changed <-chan struct{}
	if e.Changed != nil {
		changed = e.Changed(ctx, r)
	}
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	for {
		e.doubt.Observe(r)
		if e.doubt.Over() && e.Eligible() {
			e.Log.Warn("pd: the leader's lease ran out, deposing it")
			return e.Store.Depose(ctx, r)
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changed:
			if !ok {
				changed = nil
			}
		case <-tick.C:
			if changed != nil || !e.Eligible() {
				continue
			}
		}
		var err error
		if r, err = e.Store.Read(ctx); err != nil {
			return fmt.Errorf("read the leader key: %w", err)
		}
		if r.CreateRev != created {
			return nil
		}
	}
}

// campaign tries to create the leader key, and leads while it has it.
func (e *Elector) campaign(ctx context.Context) error {
	lease := NewLease(e.TTL, e.Clock)
	sent := e.Clock.Mono()
	rev, err := e.Store.Create(ctx, e.TTL)
	if err != nil {
		return fmt.Errorf("write the leader key: %w", err)
	}
	if rev == 0 {
		return nil // another member was faster
	}
	lease.RenewedAt(sent)
	lctx, cancel := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		defer cancel()
		e.renew(lctx, lease, rev)
	}()
	err = e.Lead(lctx, lease, rev)
	lease.Revoke()
	cancel()
	<-renewed
	e.resign(ctx, rev)
	return err
}

// renew keeps the lease valid until ctx ends or that is impossible.
func (e *Elector) renew(ctx context.Context, lease *Lease, rev int64) {
	tick := time.NewTicker(e.TTL / renewalsPerTTL)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := e.Clock.Mono()
		rctx, cancel := context.WithTimeout(ctx, e.TTL)
		err := e.Store.Renew(rctx, rev, e.TTL)
		cancel()
		switch {
		case err == nil:
			lease.RenewedAt(sent)
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrLost):
			lease.Revoke()
			e.Log.Warn("pd: another member took the leader key away")
			return
		}
		if !lease.Valid() {
			e.Log.Warn("pd: the leader lease could not be renewed in time", "err", err)
			return
		}
	}
}

// resign gives the key back, so that the next leader need not wait.
func (e *Elector) resign(ctx context.Context, rev int64) {
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if err := e.Store.Resign(rctx, rev); err != nil {
		e.Log.Warn("pd: the leader key was not given back; the lease runs out by itself", "err", err)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
