package benchmarks

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestPercentilesAreClose(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var (
		h   Histogram
		all []time.Duration
	)
	for range 100_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		h.Record(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, p := range []float64{1, 50, 90, 99, 99.9, 100} {
		want := all[min(int(float64(len(all))*p/100), len(all)-1)]
		got := h.Percentile(p)
		if diff := float64(got-want) / float64(want); diff < -0.04 || diff > 0.04 {
			t.Errorf("p%v = %v, exactly %v", p, got, want)
		}
	}
	if h.Count() != 100_000 || h.Max() != all[len(all)-1] {
		t.Errorf("count %d, max %v", h.Count(), h.Max())
	}
}

func TestBucketsCoverEverything(t *testing.T) {
	for _, ns := range []int64{0, 1, 31, 32, 33, 63, 64, 1000, 1 << 20, 1<<40 + 12345, 1<<62 + 1} {
		i := bucketOf(ns)
		if i < 0 || i >= bucketCount || bucketTop(i) < ns || i > 0 && bucketTop(i-1) >= ns {
			t.Errorf("%d falls into bucket %d, which ends at %d", ns, i, bucketTop(i))
		}
	}
}
