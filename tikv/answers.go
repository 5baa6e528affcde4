package tikv

import (
	"sync/atomic"

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

// answerBudget counts the bytes of answers.
type answerBudget struct {
	used atomic.Int64
	max  int64
}

// full reports whether there is no room for further answers.
func (b *answerBudget) full() bool { return b.used.Load() >= b.max }

// Take implements answers.Budget. One answer alone may be of any size.
func (b *answerBudget) Take(n, own int64) bool {
	if total := b.used.Add(n); total > b.max && total > own+n {
		b.used.Add(-n)
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
	n := int64(len(*data))
	b.hold(n)
	return mem.NewBuffer(data, countingPool{grpcbuf.Pool, b, n})
}

// countingPool hears when a buffer is no longer used.
type countingPool struct {
	mem.BufferPool
	b *answerBudget
	n int64
}

// Put implements mem.BufferPool.
func (p countingPool) Put(data *[]byte) {
	p.b.Release(p.n)
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
