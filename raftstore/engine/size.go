package engine

import (
	"fmt"

	"github.com/copradb/copra/internal/kv"
)

// ApproxSize estimates the bytes on disk of [start, end) in all families. What
// is still in memtables isn't counted.
func (e *Engine) ApproxSize(start, end []byte) (uint64, error) {
	var total uint64
	for _, cf := range kv.CFs {
		n, err := e.db.EstimateDiskUsage(cfKey(nil, cf, start), cfEnd(nil, cf, end))
		if err != nil {
			return 0, fmt.Errorf("estimate size of [%x, %x): %w", start, end, err)
		}
		total += n
	}
	return total, nil
}
