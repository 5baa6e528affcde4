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

func TestMerge(t *testing.T) {
	a, b, both := &Histogram{}, &Histogram{}, &Histogram{}
	for i := range 1000 {
		d := time.Duration(i*i) * time.Microsecond
		both.Record(d)
		if i%3 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	a.Merge(b)
	for _, p := range []float64{1, 50, 99, 100} {
		if a.Percentile(p) != both.Percentile(p) {
			t.Errorf("p%v is %s, want %s", p, a.Percentile(p), both.Percentile(p))
		}
	}
	if a.Count() != both.Count() || a.Mean() != both.Mean() || a.Max() != both.Max() {
		t.Errorf("count %d, mean %s, max %s; want %d, %s, %s", a.Count(), a.Mean(), a.Max(), both.Count(), both.Mean(), both.Max())
	}
}
