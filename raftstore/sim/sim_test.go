package sim_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore/sim"
)

// ciSeeds are those that every test run simulates.
const ciSeeds = 12

// TestSim simulates a few fixed seeds. COPRA_SIM_SEED=n simulates that one;
// COPRA_SIM_SEEDS=n that many, from COPRA_SIM_SEED on; COPRA_SIM_DURATION=d as
// many as there is time for.
func TestSim(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	first, count := number(t, "COPRA_SIM_SEED", 1), uint64(ciSeeds)
	if os.Getenv("COPRA_SIM_SEED") != "" {
		count = 1
	}
	count = number(t, "COPRA_SIM_SEEDS", count)
	var end time.Time
	if v := os.Getenv("COPRA_SIM_DURATION"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("COPRA_SIM_DURATION: %v", err)
		}
		end, count = time.Now().Add(d), 1<<40
	}
	for seed := first; seed < first+count && (end.IsZero() || time.Now().Before(end)) && !t.Failed(); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			start := time.Now()
			res := sim.Run(t, seed)
			t.Logf("%s; %.1f s of real time", res, time.Since(start).Seconds())
		})
	}
}

func number(t *testing.T, name string, def uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
