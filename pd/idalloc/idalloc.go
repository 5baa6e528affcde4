// Package idalloc hands out ids of stores, regions, peers and operators. An id
// is never given twice, also not by two leaders: ids are reserved in etcd in
// batches, under the leader's fence, before the first of a batch is used. What a
// leader reserved and did not use is lost; there are 2^64 of them.
package idalloc

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/copradb/copra/pd/etcdkv"
)

const (
	// batchIDs is how many ids are reserved at a time.
	batchIDs = 1000
	// CountMax is how many ids one request may ask for.
	CountMax = 1 << 20
)

// Allocator allocates ids for one term of one leader. Safe for concurrent use.
type Allocator struct {
	fence *etcdkv.Fence
	key   string

	mu   sync.Mutex
	last uint64 // the last id given
	end  uint64 // the last id reserved
}

// New continues above all that was reserved before.
func New(ctx context.Context, fence *etcdkv.Fence, key string) (*Allocator, error) {
	v, ok, err := fence.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	a := &Allocator{fence: fence, key: key}
	if ok {
		if len(v) != 8 {
			return nil, fmt.Errorf("pd: %s in etcd holds %d bytes, want 8: it was written by something else", key, len(v))
		}
		a.end = binary.BigEndian.Uint64(v)
		a.last = a.end
	}
	return a, nil
}

// Alloc returns the first of count consecutive new ids.
func (a *Allocator) Alloc(ctx context.Context, count uint32) (uint64, error) {
	if count == 0 || count > CountMax {
		return 0, fmt.Errorf("pd: a request for %d ids is outside of 1 to %d", count, CountMax)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n := uint64(count)
	if a.end-a.last < n {
		end := a.last + n + batchIDs
		if err := a.fence.PutLarger(ctx, a.key, binary.BigEndian.AppendUint64(nil, end)); err != nil {
			return 0, fmt.Errorf("pd: reserve ids: %w", err)
		}
		a.end = end
	}
	first := a.last + 1
	a.last += n
	return first, nil
}
