package sim_test

import (
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"github.com/copradb/copra/raftstore/sim"
	"github.com/stretchr/testify/require"
)

// ciCrashes are those of the crash matrix that every test run tries.
const ciCrashes = 24

// TestCrashMatrix crashes a store at its syncs; COPRA_TEST_LONG=1 at all of
// them.
func TestCrashMatrix(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var points []sim.MatrixPoint
	for victim := range uint64(2) {
		syncs, _ := sim.RunMatrix(t, sim.MatrixPoint{Victim: victim + 1})
		require.Greater(t, syncs, 50)
		t.Logf("store %d syncs %d times", victim+1, syncs)
		for n := range syncs {
			for _, kept := range []int{0, 50, 100} {
				points = append(points,
					sim.MatrixPoint{Victim: victim + 1, Sync: n + 1, Kept: kept},
					sim.MatrixPoint{Victim: victim + 1, Sync: n + 1, Kept: kept, After: true})
			}
		}
	}
	if os.Getenv("COPRA_TEST_LONG") == "" {
		rng := rand.New(rand.NewPCG(1, 1))
		rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		points = points[:ciCrashes]
	}
	files := map[string]int{}
	for _, p := range points {
		t.Run(p.String(), func(t *testing.T) {
			_, path := sim.RunMatrix(t, p)
			files[path]++
		})
	}
	t.Logf("crashes by file: %v", files)
}
