package cluster

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/copradb/copra/copr/columnar"
)

// Shares of the machine's memory. A dedicated store's block cache gets what
// TiKV's gets; a playground is a guest on somebody's machine.
const (
	cacheSharePercent           = 45
	playgroundCacheSharePercent = 10
	playgroundCacheBytesMin     = 256 << 20
	playgroundCacheBytesMax     = 512 << 20
	columnsSharePercent         = 6
	columnsBytesMax             = 16 << 30
)

// The garbage collector's settings, where the environment (GOGC, GOMEMLIMIT)
// has none. Most of a server's heap is the block cache and columns, which have
// nothing to mark, and what statements allocate dies young: collecting half as
// often costs little memory as long as the heap is small. Near the limit it
// collects more often instead of growing.
const (
	gcPercent               = 200
	memoryLimitSharePercent = 75
)

// DefaultCacheBytes is the block cache of a store that has the machine for
// itself.
func DefaultCacheBytes() (int64, error) {
	total, err := memoryBytes()
	if err != nil {
		return 0, fmt.Errorf("%w; set --block-cache-size", err)
	}
	return total / 100 * cacheSharePercent, nil
}

// PlaygroundCacheBytes is the block cache of all stores of a playground.
func PlaygroundCacheBytes() int64 {
	total, err := memoryBytes()
	if err != nil {
		return playgroundCacheBytesMin
	}
	return min(max(total/100*playgroundCacheSharePercent, playgroundCacheBytesMin), playgroundCacheBytesMax)
}

// ColumnsBytes is what the columnar caches of a process may take, in whole MiB.
func ColumnsBytes() int64 {
	total, err := memoryBytes()
	if err != nil {
		return columnar.BytesMax
	}
	return min(max(total/100*columnsSharePercent, columnar.BytesMax), columnsBytesMax) >> 20 << 20
}

// TuneGC sets the garbage collector up for a server.
func TuneGC() {
	setGCPercent()
	if total, err := memoryBytes(); err == nil && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(total / 100 * memoryLimitSharePercent)
	}
}

func setGCPercent() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// memoryBytes is the size of the machine's memory.
func memoryBytes() (int64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("cannot read the size of the memory: %w", err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("/proc/meminfo names no MemTotal")
}
