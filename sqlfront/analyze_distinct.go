package sqlfront

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/sqltypes"
)

const (
	// distinctWorkersMax is how many columns of a batch ANALYZE counts at a time, and
	// distinctRowsMin of how many rows on a batch is worth that.
	distinctWorkersMax = 4
	distinctRowsMin    = 1024
	// recentCount is how many decimals of a column are remembered: a power of two.
	recentCount = 256
)

// distinct counts the distinct values of a column.
type distinct struct {
	sketch
	value []byte
	// recent are decimals that were added: the wire's form of one costs more than
	// to see that it was there before.
	recent *[recentCount]recentDecimal
}

type recentDecimal struct {
	decimal128.Num
	known bool
}

// countDistinct adds a batch's columns, several at a time: each column is one
// goroutine's, so that the counts are what they would be in one.
func countDistinct(counts []distinct, types []sqltypes.Type, cols []arrow.Array, n int) {
	workers := min(runtime.GOMAXPROCS(0), distinctWorkersMax, len(counts))
	if n < distinctRowsMin || workers < 2 {
		for c := range counts {
			counts[c].add(types[c], cols[c], n)
		}
		return
	}
	var (
		wg   sync.WaitGroup
		next atomic.Int64
	)
	for range workers {
		wg.Go(func() {
			for c := int(next.Add(1)) - 1; c < len(counts); c = int(next.Add(1)) - 1 {
				counts[c].add(types[c], cols[c], n)
			}
		})
	}
	wg.Wait()
}

func (d *distinct) add(t sqltypes.Type, col arrow.Array, n int) {
	if dec, ok := col.(*array.Decimal128); ok {
		d.addDecimals(t, dec, n)
		return
	}
	for i := range n {
		if !col.IsNull(i) {
			d.value = sqltypes.AppendArrowBinary(d.value[:0], t, col, i)
			d.sketch.add(d.value)
		}
	}
}

func (d *distinct) addDecimals(t sqltypes.Type, col *array.Decimal128, n int) {
	if d.recent == nil {
		d.recent = new([recentCount]recentDecimal)
	}
	for i := range n {
		if col.IsNull(i) {
			continue
		}
		x := col.Value(i)
		last := &d.recent[x.LowBits()%recentCount]
		if last.known && last.Num == x {
			continue // a sketch does not count twice
		}
		*last = recentDecimal{x, true}
		d.value = sqltypes.AppendArrowBinary(d.value[:0], t, col, i)
		d.sketch.add(d.value)
	}
}
