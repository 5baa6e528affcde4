package ycsb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// Op is a kind of operation.
type Op int

// The operations of the core workloads.
const (
	OpRead Op = iota
	OpUpdate
	OpInsert
	OpScan
	OpReadModifyWrite
	opCount
)

var opNames = [opCount]string{"READ", "UPDATE", "INSERT", "SCAN", "READ-MODIFY-WRITE"}

func (o Op) String() string { return opNames[o] }

// Workload is a mix of operations in percent.
type Workload struct {
	Name   string
	Mix    [opCount]int
	Latest bool // reads prefer the newest records (D)
}

// Workloads are YCSB's core workloads by letter.
var Workloads = map[string]Workload{
	"a": {Name: "A", Mix: [opCount]int{OpRead: 50, OpUpdate: 50}},
	"b": {Name: "B", Mix: [opCount]int{OpRead: 95, OpUpdate: 5}},
	"c": {Name: "C", Mix: [opCount]int{OpRead: 100}},
	"d": {Name: "D", Mix: [opCount]int{OpRead: 95, OpInsert: 5}, Latest: true},
	"e": {Name: "E", Mix: [opCount]int{OpScan: 95, OpInsert: 5}},
	"f": {Name: "F", Mix: [opCount]int{OpRead: 50, OpReadModifyWrite: 50}},
}

func (w Workload) next(r *rand.Rand) Op {
	n := r.IntN(100)
	for op, share := range w.Mix {
		if n -= share; n < 0 {
			return Op(op)
		}
	}
	return OpRead
}

const zipfTheta = 0.99

// keys hands out record numbers.
type keys struct {
	records atomic.Int64 // how many exist
	latest  bool
	uniform bool
	zipf    zipfian
}

func newKeys(records int64, uniform, latest bool) *keys {
	k := &keys{latest: latest, uniform: uniform, zipf: newZipfian(records)}
	k.records.Store(records)
	return k
}

func (k *keys) choose(r *rand.Rand) int64 {
	n := k.records.Load()
	switch {
	case k.latest:
		return n - 1 - k.zipf.next(r)%n
	case k.uniform:
		return r.Int64N(n)
	default:
		return int64(fnv64(uint64(k.zipf.next(r))) % uint64(n))
	}
}

// insert returns the number of a new record.
func (k *keys) insert() int64 { return k.records.Add(1) - 1 }

// zipfian draws ranks from 0, rank 0 most often.
type zipfian struct {
	n                 int64
	zetan, eta, alpha float64
}

func newZipfian(n int64) zipfian {
	zeta := func(n int64) (sum float64) {
		for i := int64(1); i <= n; i++ {
			sum += 1 / math.Pow(float64(i), zipfTheta)
		}
		return sum
	}
	z := zipfian{n: n, zetan: zeta(n), alpha: 1 / (1 - zipfTheta)}
	z.eta = (1 - math.Pow(2/float64(n), 1-zipfTheta)) / (1 - zeta(2)/z.zetan)
	return z
}

func (z zipfian) next(r *rand.Rand) int64 {
	u := r.Float64()
	uz := u * z.zetan
	switch {
	case uz < 1:
		return 0
	case uz < 1+math.Pow(0.5, zipfTheta):
		return 1
	}
	return min(int64(float64(z.n)*math.Pow(z.eta*u-z.eta+1, z.alpha)), z.n-1)
}

func fnv64(v uint64) uint64 {
	h := uint64(0xCBF29CE484222325)
	for range 8 {
		h ^= v & 0xFF
		h *= 1099511628211
		v >>= 8
	}
	return h
}

// keyName is YCSB's: hashed, so that inserts spread.
func keyName(record int64) string { return fmt.Sprintf("user%020d", fnv64(uint64(record))) }
