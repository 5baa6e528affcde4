package core

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

const benchRegions = 200_000

func benchSet(b *testing.B) *Regions {
	rs := NewRegions()
	for i := range uint64(benchRegions) {
		if _, err := rs.Put(benchRegion(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	return rs
}

func benchRegion(i uint64) *Region {
	return region(i+1, 1, 1, fmt.Sprintf("%08d", i), fmt.Sprintf("%08d", i+1), i%200+1, (i+7)%200+1, (i+77)%200+1)
}

func BenchmarkByKey(b *testing.B) {
	rs := benchSet(b)
	key := []byte("00005000x")
	for b.Loop() {
		rs.ByKey(key)
	}
}

// BenchmarkHeartbeat is a report that changes nothing but figures.
func BenchmarkHeartbeat(b *testing.B) {
	rs := benchSet(b)
	rnd := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		known := rs.ByID(1 + rnd.Uint64N(benchRegions))
		next := *known
		next.SizeBytes++
		if _, err := rs.Put(&next); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLeaderChange is a report that changes the lists.
func BenchmarkLeaderChange(b *testing.B) {
	rs := benchSet(b)
	rnd := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		known := rs.ByID(1 + rnd.Uint64N(benchRegions))
		next := *known
		next.Leader = next.Meta.Peers[rnd.IntN(3)]
		if _, err := rs.Put(&next); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeartbeatParallel(b *testing.B) {
	rs := benchSet(b)
	b.RunParallel(func(pb *testing.PB) {
		rnd := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			next := *rs.ByID(1 + rnd.Uint64N(benchRegions))
			if _, err := rs.Put(&next); err != nil {
				b.Error(err)
			}
		}
	})
}
