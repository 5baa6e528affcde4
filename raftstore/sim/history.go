package sim

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is what one client did to one key and saw of it.
type operation struct {
	client         int
	key            string
	write          bool
	refused        bool   // the store said that the write never will take effect
	value          string // written or read; "" is a missing key
	call, returned int64  // fake time since the start; MaxInt64: outcome unknown
	store, region  uint64
}

// history records the operations of all clients.
type history struct {
	mu    sync.Mutex
	start time.Time
	ops   []operation
	// others are reads, writes and writes of unknown outcome of another load.
	others [3]int
}

func (h *history) now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.start.IsZero() {
		h.start = time.Now()
	}
	return int64(time.Since(h.start))
}

func (h *history) add(op operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

func (h *history) counts() (reads, writes, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		switch {
		case op.refused:
		case !op.write:
			reads++
		case op.returned == math.MaxInt64:
			unknown++
		default:
			writes++
		}
	}
	return reads + h.others[0], writes + h.others[1], unknown + h.others[2]
}

// register is one key: a write sets it, a read sees it.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		op := input.(operation)
		if op.write {
			return true, op.value
		}
		return op.value == state.(string), state
	},
}

// linearizeTimeout is real time for one key.
const linearizeTimeout = 30 * time.Second

// checkHistory looks for an order of the operations that explains what the
// clients saw.
func (w *world) checkHistory() {
	byKey, seen := map[string][]operation{}, map[string]bool{}
	for _, op := range w.hist.ops {
		if !op.write {
			seen[op.key+"="+op.value] = true
		}
	}
	for _, op := range w.hist.ops {
		if op.refused {
			if op.value != "" && seen[op.key+"="+op.value] {
				w.fail("the write of %q to key %s was refused by store %d as never to happen, and was read", op.value, op.key, op.store)
			}
			continue
		}
		// A put of unknown outcome that nobody saw explains nothing.
		if op.returned == math.MaxInt64 && op.value != "" && !seen[op.key+"="+op.value] {
			continue
		}
		byKey[op.key] = append(byKey[op.key], op)
	}
	for _, key := range w.keys {
		ops := byKey[key]
		var in []porcupine.Operation
		for _, op := range ops {
			in = append(in, porcupine.Operation{ClientId: op.client, Input: op, Call: op.call, Return: op.returned})
		}
		if porcupine.CheckOperationsTimeout(register, in, linearizeTimeout) == porcupine.Illegal {
			w.fail("key %s is not linearizable; its history:\n%s", key, describeHistory(shortest(ops)))
			return
		}
	}
}

// shortest cuts the history behind the first operation that nothing explains.
func shortest(ops []operation) []operation {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b operation) int { return cmp.Compare(a.returned, b.returned) })
	n := len(ops)
	for lo := 0; lo < n; {
		mid := (lo + n) / 2
		if legal(ops, mid+1) {
			lo = mid + 1
		} else {
			n = mid
		}
	}
	return ops[:min(n+1, len(ops))]
}

// legal checks the first n operations by return; writes that returned later
// count if they had begun.
func legal(ops []operation, n int) bool {
	var in []porcupine.Operation
	for i, op := range ops {
		if i < n || op.write {
			in = append(in, porcupine.Operation{ClientId: op.client, Input: op, Call: op.call, Return: op.returned})
		}
	}
	return porcupine.CheckOperationsTimeout(register, in, linearizeTimeout) != porcupine.Illegal
}

// describeHistory shows the operations before the last one, by call.
func describeHistory(ops []operation) string {
	const shown = 40
	ops = slices.Clone(ops[max(0, len(ops)-shown):])
	slices.SortFunc(ops, func(a, b operation) int { return cmp.Compare(a.call, b.call) })
	var out strings.Builder
	for _, op := range ops {
		what, end := "get ", stamp(time.Duration(op.returned))
		if op.write {
			what = "put "
		}
		if op.returned == math.MaxInt64 {
			end = "     unknown"
		}
		fmt.Fprintf(&out, "%s ..%s  s%d r%d  client %d: %s%s %q\n", stamp(time.Duration(op.call)), end, op.store, op.region, op.client, what, op.key, op.value)
	}
	return out.String()
}
