package benchmarks

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// subBuckets per power of two: a percentile is exact to about 3 %.
const (
	subBucketBits = 5
	subBuckets    = 1 << subBucketBits
	bucketCount   = 64 * subBuckets
)

// Histogram counts durations in logarithmic buckets. Safe for concurrent use.
type Histogram struct {
	buckets [bucketCount]atomic.Int64
	count   atomic.Int64
	sum     atomic.Int64
	max     atomic.Int64
}

func bucketOf(ns int64) int {
	if ns < subBuckets {
		return int(max(ns, 0))
	}
	shift := bits.Len64(uint64(ns)) - 1 - subBucketBits
	return (shift+1)*subBuckets + int(ns>>shift) - subBuckets
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) int64 {
	if i < subBuckets {
		return int64(i)
	}
	shift := i/subBuckets - 1
	base := int64(i%subBuckets + subBuckets)
	if shift > 62-subBucketBits {
		return math.MaxInt64
	}
	return (base+1)<<shift - 1
}

// Record adds one duration.
func (h *Histogram) Record(d time.Duration) {
	ns := int64(d)
	h.buckets[bucketOf(ns)].Add(1)
	h.count.Add(1)
	h.sum.Add(ns)
	for {
		m := h.max.Load()
		if ns <= m || h.max.CompareAndSwap(m, ns) {
			return
		}
	}
}

// Merge adds what other has recorded; nobody may record into other meanwhile.
func (h *Histogram) Merge(other *Histogram) {
	for i := range other.buckets {
		if n := other.buckets[i].Load(); n > 0 {
			h.buckets[i].Add(n)
		}
	}
	h.count.Add(other.count.Load())
	h.sum.Add(other.sum.Load())
	h.max.Store(max(h.max.Load(), other.max.Load()))
}

// Count is the number of durations recorded.
func (h *Histogram) Count() int64 { return h.count.Load() }

// Mean is their average.
func (h *Histogram) Mean() time.Duration {
	if n := h.count.Load(); n > 0 {
		return time.Duration(h.sum.Load() / n)
	}
	return 0
}

// Max is the largest.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Percentile returns the duration below which p percent lie.
func (h *Histogram) Percentile(p float64) time.Duration {
	want := int64(math.Ceil(float64(h.count.Load()) * p / 100))
	var seen int64
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen >= want && seen > 0 {
			return min(time.Duration(bucketTop(i)), h.Max())
		}
	}
	return h.Max()
}
