package tikv

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/grpcbuf"
	"google.golang.org/grpc/mem"
)

// Answers that were made and have not gone out to the network yet, of all
// connections: a client that asks for much and reads slowly would fill the
// store's memory with them (hazard 16). Above the limit further reads are refused
// as "server is busy". Single answers are bounded by those who make them
// (raw.ResponseBytesMax, txn.ResponseBytesMax).
const (
	answerBytesMax = 512 << 20
	// answerMessageBytesMax is how much goes into one message of a batch stream,
	// before the last answer.
	answerMessageBytesMax = 4 << 20
	// answerBufferBytesMin is the size from which on an encoded message counts
	// until it has gone out.
	answerBufferBytesMin = 64 << 10
)

// answerCollectPause is how often garbage is collected, at most, to see which of
// the answers that use the budget up are still there.
const answerCollectPause = 5 * time.Second

// answerBudget counts the bytes of answers.
type answerBudget struct {
	used      atomic.Int64
	max       int64
	collected atomic.Int64 // when garbage was collected last, in Unix nanoseconds
}

// full reports whether there is no room for further answers.
func (b *answerBudget) full() bool {
	if b.used.Load() < b.max {
		return false
	}
	b.collect()
	return true
}

// collect looks for answers that nobody will send any more: gRPC doesn't give
// back what it had not written yet when a connection broke. Such a message counts
// until the garbage collector has found it.
func (b *answerBudget) collect() {
	now, last := time.Now().UnixNano(), b.collected.Load()
	if now-last >= int64(answerCollectPause) && b.collected.CompareAndSwap(last, now) {
		go runtime.GC()
	}
}

// Take implements answers.Budget. One answer alone may be of any size.
func (b *answerBudget) Take(n, own int64) bool {
	if total := b.used.Add(n); total > b.max && total > own+n {
		b.used.Add(-n)
		b.collect()
		return false
	}
	return true
}

// Release implements answers.Budget.
func (b *answerBudget) Release(n int64) { b.used.Add(-n) }

// hold counts an answer that is there already.
func (b *answerBudget) hold(n int64) { b.used.Add(n) }

// buffer wraps an encoded message of grpcbuf.Pool's, to count until gRPC has
// written it.
func (b *answerBudget) buffer(data *[]byte) mem.Buffer {
	if b == nil || len(*data) < answerBufferBytesMin {
		return mem.NewBuffer(data, grpcbuf.Pool)
	}
	return mem.NewBuffer(data, b.counted(grpcbuf.Pool, int64(len(*data))))
}

// counted counts n bytes until a buffer is given back to the pool that it
// returns, or is garbage.
func (b *answerBudget) counted(pool mem.BufferPool, n int64) mem.BufferPool {
	b.hold(n)
	p := &countingPool{pool, &heldAnswer{b: b, n: n}}
	runtime.AddCleanup(p, (*heldAnswer).release, p.held)
	return p
}

// heldAnswer is what one encoded message counts for.
type heldAnswer struct {
	b    *answerBudget
	n    int64
	done atomic.Bool
}

func (h *heldAnswer) release() {
	if h.done.CompareAndSwap(false, true) {
		h.b.Release(h.n)
	}
}

// countingPool hears when a buffer is no longer used.
type countingPool struct {
	mem.BufferPool
	held *heldAnswer
}

// Put implements mem.BufferPool.
func (p *countingPool) Put(data *[]byte) {
	p.held.release()
	p.BufferPool.Put(data)
}

// readMethods are those that may have large answers, and that the quota of
// reads is about.
var readMethods = map[string]bool{
	kvGetCommand.name: true, kvScanCommand.name: true, kvBatchGetCommand.name: true, kvBufferBatchGetCommand.name: true, kvScanLockCommand.name: true,
	rawGetCommand.name: true, rawBatchGetCommand.name: true, rawScanCommand.name: true, rawBatchScanCommand.name: true, rawChecksumCommand.name: true,
}

// writeMethods are those that bring data. What ends transactions is none.
var writeMethods = map[string]bool{
	kvPrewriteCommand.name: true, kvFlushCommand.name: true,
	rawPutCommand.name: true, rawBatchPutCommand.name: true, rawCompareAndSwapCommand.name: true,
}
