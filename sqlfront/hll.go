package sqlfront

import (
	"math"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// hllBits is the logarithm of a sketch's registers: 4096 of a byte give an error
// of about 1.6 %.
const hllBits = 12

// sketch counts distinct values roughly (HyperLogLog, Flajolet et al. 2007, with
// the small-range correction).
type sketch struct{ registers [1 << hllBits]uint8 }

func (s *sketch) add(value []byte) {
	h := xxh3.Hash(value)
	i := h >> (64 - hllBits)
	rank := uint8(bits.LeadingZeros64(h<<hllBits|1<<(hllBits-1))) + 1
	s.registers[i] = max(s.registers[i], rank)
}

// count estimates the number of different values added.
func (s *sketch) count() int64 {
	const m = 1 << hllBits
	sum, zeros := 0.0, 0
	for _, r := range s.registers {
		sum += math.Ldexp(1, -int(r))
		if r == 0 {
			zeros++
		}
	}
	estimate := 0.7213 / (1 + 1.079/m) * m * m / sum
	if estimate <= 2.5*m && zeros > 0 {
		estimate = m * math.Log(m/float64(zeros))
	}
	return int64(math.Round(estimate))
}
