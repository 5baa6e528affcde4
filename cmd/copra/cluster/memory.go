package cluster

import (
	"fmt"
	"os"
	"strings"
)

// cacheShare of the machine's memory goes to a dedicated store's block cache,
// as in TiKV.
const cacheSharePercent = 45

// DefaultCacheBytes is the block cache of a store that has the machine for
// itself.
func DefaultCacheBytes() (int64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("cannot read the size of the memory; set --block-cache-size: %w", err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib * 1024 / 100 * cacheSharePercent, nil
		}
	}
	return 0, fmt.Errorf("/proc/meminfo names no MemTotal; set --block-cache-size")
}
