package catalog

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"

	"github.com/copradb/copra/internal/pgerror"
)

// Ids given out from memory: a node takes a range from the store's counter and
// uses it up; what is left at a restart is lost, as with PostgreSQL's cached
// sequences.
const (
	rowIDRange    = 4096
	sequenceRange = 32
	// counterTriesMax bounds the attempts to move a contended counter.
	counterTriesMax = 64
)

// counters are the ranges that this node holds.
type counters struct {
	store *Store
	mu    sync.Mutex
	held  map[string]*idRange
}

type idRange struct {
	mu        sync.Mutex
	next, end int64
}

func (c *counters) rangeOf(key string) *idRange {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = make(map[string]*idRange)
	}
	r := c.held[key]
	if r == nil {
		r = &idRange{}
		c.held[key] = r
	}
	return r
}

// RowIDs gives out n row ids of a table without a primary key, each once, in
// runs: first, first+1 … It may return fewer than n.
func (s *Store) RowIDs(ctx context.Context, tableID int64, n int) (first int64, count int, err error) {
	return s.ids.take(ctx, idKey(rowIDPrefix, tableID), 1, n, rowIDRange)
}

// NextSequenceValue gives out the next value of a sequence; max is the largest
// its column can hold. Values are given once, not without gaps.
func (s *Store) NextSequenceValue(ctx context.Context, sequenceID, max int64) (int64, error) {
	v, _, err := s.ids.take(ctx, idKey(sequencePrefix, sequenceID), 1, 1, sequenceRange)
	if err == nil && v > max {
		return 0, pgerror.New("2200H", "nextval: reached maximum value of sequence (%d)", max)
	}
	return v, err
}

func (c *counters) take(ctx context.Context, key []byte, initial int64, n, chunk int) (int64, int, error) {
	r := c.rangeOf(string(key))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next >= r.end {
		size := int64(max(n, chunk))
		start, err := c.store.advance(ctx, key, initial, size)
		if err != nil {
			return 0, 0, err
		}
		r.next, r.end = start, start+size
	}
	first := r.next
	count := min(int64(n), r.end-first)
	r.next += count
	return first, int(count), nil
}

// advance moves a counter by n in a transaction of its own and returns what it
// was.
func (s *Store) advance(ctx context.Context, key []byte, initial, n int64) (int64, error) {
	for try := 0; ; try++ {
		start, err := s.tryAdvance(ctx, key, initial, n)
		if err == nil || !retryable(err) || try == counterTriesMax {
			return start, err
		}
		pause := time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 6)))
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (s *Store) tryAdvance(ctx context.Context, key []byte, initial, n int64) (int64, error) {
	txn, err := s.kv.Begin()
	if err != nil {
		return 0, fmt.Errorf("begin a transaction to move counter %q: %w", key, err)
	}
	start, err := readCounterIn(ctx, txn, key, initial)
	if err == nil && start > math.MaxInt64-n {
		err = pgerror.New("2200H", "counter %q has no values left", key)
	}
	if err == nil {
		err = txn.Set(key, encodeInt(start+n))
	}
	if err != nil {
		return 0, rollback(txn, err)
	}
	txn.SetEnable1PC(true)
	if err := txn.Commit(ctx); err != nil {
		return 0, err
	}
	return start, nil
}

func readCounterIn(ctx context.Context, g getter, key []byte, initial int64) (int64, error) {
	v, err := g.Get(ctx, key)
	if isNotFound(err) {
		return initial, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read counter %q: %w", key, err)
	}
	return decodeInt(key, v.Value)
}

func rollback(txn *Txn, err error) error {
	if e := txn.Rollback(); e != nil {
		return fmt.Errorf("%w (and its rollback: %v)", err, e)
	}
	return err
}

// SetSequence makes the next value of a sequence be next on this node; other
// nodes first use up the values they hold.
func (s *Store) SetSequence(ctx context.Context, sequenceID, next int64) error {
	key := idKey(sequencePrefix, sequenceID)
	r := s.ids.rangeOf(string(key))
	r.mu.Lock()
	defer r.mu.Unlock()
	txn, err := s.kv.Begin()
	if err != nil {
		return fmt.Errorf("begin a transaction to set counter %q: %w", key, err)
	}
	if err := txn.Set(key, encodeInt(next)); err != nil {
		return rollback(txn, err)
	}
	if err := txn.Commit(ctx); err != nil {
		return err
	}
	r.next, r.end = 0, 0
	return nil
}

// retryable reports whether err says that a transaction was certainly not
// committed and may well be on a new try.
func retryable(err error) bool {
	return tikverr.IsErrWriteConflict(err)
}
