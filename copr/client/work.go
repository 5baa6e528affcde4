package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/proto/coprpb"
)

// work reads units until nothing is left of them, and what they are split into
// on the way, in the order of the scan.
func (s *Stream) work(units []*unit, lane chan<- *expr.Batch) error {
	bo := tikv.NewBackoffer(s.ctx, BackoffMsMax)
	for len(units) > 0 {
		// Where order is kept, one region after the other; otherwise all at the
		// front that are on one store.
		n := 1
		for !s.req.KeepOrder && n < len(units) && units[n].addr == units[0].addr {
			n++
		}
		progress, err := s.attempt(bo, units[:n], lane)
		if err != nil {
			return err
		}
		if progress {
			bo = tikv.NewBackoffer(s.ctx, BackoffMsMax)
		}
		rest, err := s.recover(bo, units[:n])
		if err != nil {
			return err
		}
		units = append(rest, units[n:]...)
	}
	return nil
}

// attempt asks a store for units once. Those that it did not finish say why.
func (s *Stream) attempt(bo *tikv.Backoffer, units []*unit, lane chan<- *expr.Batch) (progress bool, err error) {
	r := s.request(units)
	addr := units[0].addr
	s.count(addr, func(st *StoreStats) { st.Tickets++ })
	runErr := s.c.tr.Run(s.ctx, addr, r, func(e *plan.Event) error {
		if e.Task < 0 || e.Task >= len(units) || units[e.Task].done {
			return fmt.Errorf("%w: store %s answered for region task %d of %d", errAnswer, addr, e.Task, len(units))
		}
		also, err := s.also(addr, units, e)
		if err != nil {
			return err
		}
		moved, err := s.take(addr, units[e.Task], also, e, lane)
		progress = progress || moved
		return err
	})
	switch {
	case s.ctx.Err() != nil:
		return progress, canceled(s.ctx.Err())
	case errors.Is(runErr, plan.ErrInvalid), errors.Is(runErr, errAnswer):
		return progress, pgerror.Wrap(runErr, pgerror.InternalError, "coprocessor at %s: %v", addr, runErr)
	}
	var pe *pgerror.Error
	if errors.As(runErr, &pe) {
		return progress, pe
	}
	if runErr == nil {
		runErr = fmt.Errorf("the store at %s ended its answer early", addr)
	}
	return progress, s.sendFailed(bo, units, runErr)
}

// also finds the units that end together with the one that e is about.
func (s *Stream) also(addr string, units []*unit, e *plan.Event) ([]*unit, error) {
	var out []*unit
	for _, i := range e.Also {
		if !e.Done || i < 0 || i >= len(units) || i == e.Task || units[i].done || len(units[i].held) > 0 || slices.Contains(out, units[i]) {
			return nil, fmt.Errorf("%w: store %s ended region task %d of %d with another", errAnswer, addr, i, len(units))
		}
		out = append(out, units[i])
	}
	return out, nil
}

var errAnswer = errors.New("copr: malformed answer")

// sendFailed tells the router of units about which the store said nothing.
func (s *Stream) sendFailed(bo *tikv.Backoffer, units []*unit, cause error) error {
	told := false
	for _, u := range units {
		if u.done || u.failure != nil || len(u.locks) > 0 {
			continue
		}
		s.retry(u, "send_failed")
		s.c.router.sendFailed(bo, u.route, cause)
		told = true
	}
	if !told {
		return nil
	}
	s.c.log.Debug("coprocessor request failed", "store", units[0].addr, "err", cause)
	return s.describe(bo.Backoff(tikv.BoTiKVRPC(), cause))
}

// request is what a ticket for the units asks.
func (s *Stream) request(units []*unit) *plan.Request {
	r := &plan.Request{
		Plan: s.req.Plan, ReadTS: s.req.ReadTS, Isolation: s.req.Isolation, BatchRowsMax: s.req.batchRows(),
		Timeout: s.req.Timeout, MemBytesMax: s.req.MemBytesMax, Compression: s.req.Compression,
		Priority: s.req.Priority, NotFillCache: s.req.NotFillCache, Columnar: s.req.Columnar, ResultCache: s.req.ResultCache,
	}
	s.c.router.header(r)
	for _, u := range units {
		u.failure, u.locks = nil, nil
		r.Regions = append(r.Regions, u.task)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.ReplicaRead = s.replica
	for ts := range s.resolved {
		r.ResolvedLocks = append(r.ResolvedLocks, ts)
	}
	for ts := range s.committed {
		r.CommittedLocks = append(r.CommittedLocks, ts)
	}
	slices.Sort(r.ResolvedLocks)
	slices.Sort(r.CommittedLocks)
	return r
}

// take handles one piece of a store's answer. moved says that the unit will
// never have to be read as a whole again.
// also are units that ended well with the one that e is about.
func (s *Stream) take(addr string, u *unit, also []*unit, e *plan.Event, lane chan<- *expr.Batch) (moved bool, err error) {
	if e.Batch != nil && len(e.ResumeKey) > 0 {
		u.task.Ranges = plan.Behind(u.task.Ranges, e.ResumeKey, s.desc)
		if err := s.deliver(e.Batch, lane); err != nil {
			return true, err
		}
		moved = true
	} else if e.Batch != nil {
		n := batchBytes(e.Batch)
		if err := s.mem.Grow(n); err != nil {
			return false, err
		}
		u.held, u.size = append(u.held, e.Batch), u.size+n
	}
	if !e.Done {
		return moved, nil
	}
	switch {
	case e.Err != nil:
		s.c.m.tasks.WithLabelValues("error").Inc()
		return moved, pgerror.From(e.Err)
	case e.RegionError != nil:
		u.failure = e.RegionError
		s.retry(u, "region_error")
		return moved, nil
	case len(e.Locks) > 0:
		u.locks = e.Locks
		s.retry(u, "locked")
		return moved, nil
	}
	u.done = true
	for _, a := range also {
		a.done = true
	}
	s.c.m.tasks.WithLabelValues("ok").Add(float64(1 + len(also)))
	s.count(addr, func(st *StoreStats) { st.Regions += 1 + len(also); st.RegionStats.Add(&e.Stats) })
	held := u.held
	defer s.drop(u)
	for _, b := range held {
		if err := s.deliver(b, lane); err != nil {
			return true, err
		}
	}
	return true, nil
}

func batchBytes(b *expr.Batch) int64 {
	n := int64(0)
	for _, c := range b.Cols {
		n += colvec.ArrayBytes(c)
	}
	return n
}

func (s *Stream) deliver(b *expr.Batch, lane chan<- *expr.Batch) error {
	select {
	case lane <- b:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// drop forgets what was kept back of a unit.
func (s *Stream) drop(u *unit) {
	s.mem.Shrink(u.size)
	u.held, u.size = nil, 0
}

func (s *Stream) retry(u *unit, why string) {
	s.c.m.tasks.WithLabelValues(why).Inc()
	s.count(u.addr, func(st *StoreStats) { st.Retries++ })
	s.drop(u)
}

func (s *Stream) count(addr string, f func(*StoreStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats[addr]
	if st == nil {
		st = &StoreStats{Addr: addr}
		s.stats[addr] = st
	}
	f(st)
}

// recover deals with what stopped units and locates anew what is left of them.
func (s *Stream) recover(bo *tikv.Backoffer, units []*unit) ([]*unit, error) {
	var rest []*unit
	var locks []*kvrpcpb.LockInfo
	for _, u := range units {
		if u.failure != nil {
			if u.failure.DataIsNotReady != nil {
				s.readLeader()
			}
			if err := s.c.router.regionError(bo, u.route, u.failure); err != nil {
				return nil, s.describe(err)
			}
		}
		locks = append(locks, u.locks...)
	}
	if len(locks) > 0 {
		if err := s.resolve(bo, locks); err != nil {
			return nil, err
		}
	}
	for _, u := range units {
		if u.done || len(u.task.Ranges) == 0 {
			continue
		}
		again, err := s.locate(bo, u.task.Ranges)
		if err != nil {
			return nil, err
		}
		rest = append(rest, again...)
	}
	if !s.req.KeepOrder { // those of one store together again
		slices.SortStableFunc(rest, func(a, b *unit) int {
			switch {
			case a.addr < b.addr:
				return -1
			case a.addr > b.addr:
				return 1
			}
			return 0
		})
		if len(rest) > TicketRegionsMax {
			s.c.log.Debug("a coprocessor request was split", "regions", len(rest))
		}
	}
	return rest, nil
}

// readLeader gives up on replicas: one of them lags behind the read.
func (s *Stream) readLeader() {
	s.mu.Lock()
	s.replica = coprpb.ReplicaRead_REPLICA_READ_LEADER
	s.mu.Unlock()
}

// resolve finds out about the transactions of locks, and waits if one of them
// is still alive.
func (s *Stream) resolve(bo *tikv.Backoffer, locks []*kvrpcpb.LockInfo) error {
	ttlMs, ignore, access, err := s.c.router.resolve(bo, s.req.ReadTS, locks)
	if err != nil {
		return s.describe(err)
	}
	s.mu.Lock()
	for _, ts := range ignore {
		s.resolved[ts] = true
	}
	for _, ts := range access {
		s.committed[ts] = true
	}
	s.mu.Unlock()
	if ttlMs > 0 {
		cause := fmt.Errorf("key %x is locked by transaction %d", locks[0].Key, locks[0].LockVersion)
		return s.describe(bo.BackoffWithMaxSleepTxnLockFast(int(ttlMs), cause))
	}
	return nil
}

// describe makes an error that ends the statement one for its user.
func (s *Stream) describe(err error) error {
	var pe *pgerror.Error
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		return canceled(s.ctx.Err())
	case errors.As(err, &pe):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return canceled(err)
	}
	return pgerror.Wrap(err, pgerror.IOError, "the regions of the table cannot be read: %v", err).
		WithHint("Stores may be down, or regions without a leader; run the statement again once the cluster is healthy.")
}
