package txnsim_test

import (
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore/sim"
	"github.com/pingcap/failpoint"
	"github.com/pingcap/log"
	"github.com/stretchr/testify/require"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"github.com/tikv/client-go/v2/util"
	"go.uber.org/zap/zapcore"
)

// ciSeeds are those that every test run simulates.
const ciSeeds = 8

// TestSimTxn simulates transactions on some fixed seeds. COPRA_SIM_SEED=n
// simulates that one; COPRA_SIM_SEEDS=n that many, from COPRA_SIM_SEED on;
// COPRA_SIM_DURATION=d as many as there is time for.
func TestSimTxn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	log.SetLevel(zapcore.FatalLevel)
	// client-go asks stores for their health over gRPC; nobody listens here.
	util.EnableFailpoints()
	require.NoError(t, failpoint.Enable("tikvclient/injectLiveness", `return("reachable")`))
	defer func() { require.NoError(t, failpoint.Disable("tikvclient/injectLiveness")) }()

	// Locks of clients that have died are in the way for so long.
	defer atomic.StoreUint64(&transaction.ManagedLockTTL, atomic.SwapUint64(&transaction.ManagedLockTTL, 3000))

	first, count := envNumber(t, "COPRA_SIM_SEED", 1), uint64(ciSeeds)
	if os.Getenv("COPRA_SIM_SEED") != "" {
		count = 1
	}
	count = envNumber(t, "COPRA_SIM_SEEDS", count)
	var end time.Time
	if v := os.Getenv("COPRA_SIM_DURATION"); v != "" {
		d, err := time.ParseDuration(v)
		require.NoError(t, err)
		end, count = time.Now().Add(d), 1<<40
	}
	for seed := first; seed < first+count && (end.IsZero() || time.Now().Before(end)) && !t.Failed(); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rand.Seed(int64(seed)) //nolint:staticcheck // client-go draws its pauses from there
			start := time.Now()
			res := sim.RunLoad(t, seed, "-txn", func(s *sim.Sim) sim.Load { return newRun(s) })
			t.Logf("%s; %.1f s of real time", res, time.Since(start).Seconds())
		})
	}
}

func envNumber(t *testing.T, name string, def uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	require.NoError(t, err, name)
	return n
}
