package client

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/proto/coprpb"
)

// Stream is the answer to a Request. Next, Stats and Close may be called from
// different goroutines; Next from one at a time.
type Stream struct {
	c      *Client
	req    *Request
	types  []sqltypes.Type
	desc   bool
	ctx    context.Context
	cancel context.CancelFunc
	mem    *exec.MemAccount
	wg     sync.WaitGroup

	lanes []chan *expr.Batch // read one after the other; each is closed at its end
	at    int

	mu                  sync.Mutex
	err                 error
	replica             coprpb.ReplicaRead // leader only, once a stale read found no data
	resolved, committed map[uint64]bool
	stats               map[string]*StoreStats
}

// unit is a region that is still to be read.
type unit struct {
	*route
	held []*expr.Batch // kept back until the region is done
	size int64         // of held, as charged

	done    bool
	failure *errorpb.Error
	locks   []*kvrpcpb.LockInfo
}

// locate splits encoded ranges into units, in the order of the scan.
func (s *Stream) locate(bo *tikv.Backoffer, ranges []kv.KeyRange) ([]*unit, error) {
	if len(ranges) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	replica := s.replica
	s.mu.Unlock()
	routes, err := s.c.router.locate(bo, ranges, replica)
	if err != nil {
		return nil, s.describe(err)
	}
	units := make([]*unit, len(routes))
	for i, r := range routes {
		units[i] = &unit{route: r}
	}
	if s.desc {
		slices.Reverse(units)
	}
	return units, nil
}

// start begins with the work: in order, a lane for each region; otherwise one
// lane, and regions of a store together.
func (s *Stream) start(units []*unit) {
	var jobs [][]*unit
	if s.req.KeepOrder {
		for _, u := range units {
			jobs = append(jobs, []*unit{u})
			s.lanes = append(s.lanes, make(chan *expr.Batch, BufferedBatchesMax))
		}
	} else {
		jobs = tickets(units, s.req.concurrency(), s.req.Plan.Merges() != nil)
		s.lanes = []chan *expr.Batch{make(chan *expr.Batch, BufferedBatchesMax)}
	}
	s.wg.Go(func() { s.dispatch(jobs) })
}

// dispatch starts the jobs in order, so many at a time. In order, the job that
// the reader waits for has always been started before the ones whose lanes are
// full.
func (s *Stream) dispatch(jobs [][]*unit) {
	var running sync.WaitGroup
	slots := make(chan struct{}, s.req.concurrency())
	started := 0
	for i, job := range jobs {
		select {
		case slots <- struct{}{}:
		case <-s.ctx.Done():
		}
		if s.ctx.Err() != nil {
			break
		}
		started++
		lane := s.lanes[0]
		if s.req.KeepOrder {
			lane = s.lanes[i]
		}
		running.Go(func() {
			if err := s.work(job, lane); err != nil {
				s.fail(err)
			}
			if s.req.KeepOrder {
				close(lane)
			}
			<-slots
		})
	}
	running.Wait()
	if !s.req.KeepOrder {
		close(s.lanes[0])
		return
	}
	for _, lane := range s.lanes[started:] {
		close(lane)
	}
}

// tickets groups units by store, each group small enough that all of n are put
// to use; where stores merge answers, all that a store has in one.
func tickets(units []*unit, n int, merge bool) [][]*unit {
	byAddr := map[string][]*unit{}
	var addrs []string
	for _, u := range units {
		if byAddr[u.addr] == nil {
			addrs = append(addrs, u.addr)
		}
		byAddr[u.addr] = append(byAddr[u.addr], u)
	}
	each := 1
	if len(addrs) > 0 && !merge {
		each = max(n/len(addrs), 1) // tickets a store
	}
	var out [][]*unit
	for _, addr := range addrs {
		us := byAddr[addr]
		size := min((len(us)+each-1)/each, TicketRegionsMax)
		for chunk := range slices.Chunk(us, size) {
			out = append(out, chunk)
		}
	}
	return out
}

// fail records the first error and stops the rest.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.cancel()
}

func (s *Stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Next returns the next batch, nil at the end. After an error, the error
// again.
func (s *Stream) Next(ctx context.Context) (*expr.Batch, error) {
	for s.at < len(s.lanes) {
		select {
		case b, ok := <-s.lanes[s.at]:
			if ok {
				return b, nil
			}
		case <-ctx.Done():
			return nil, canceled(ctx.Err())
		}
		if err := s.failure(); err != nil {
			return nil, err
		}
		if err := s.ctx.Err(); err != nil {
			return nil, canceled(err)
		}
		s.at++
	}
	return nil, nil
}

func canceled(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return pgerror.Wrap(err, pgerror.QueryCanceled, "canceling statement due to statement timeout")
	}
	return pgerror.Wrap(err, pgerror.QueryCanceled, "canceling statement due to user request")
}

// Close stops what is under way and waits for it.
func (s *Stream) Close() error {
	s.cancel()
	s.wg.Wait()
	s.mem.Shrink(s.mem.Used())
	return nil
}
