// Package grpcbuf has the memory that gRPC reads and writes messages in.
//
// gRPC's own pool has no size between 32 KiB and 1 MiB and clears a buffer, in
// its whole capacity, whenever it is taken: a message of 40 kB costs a megabyte
// of zeros. Nobody reads here what was not written before, so nothing is
// cleared, and sizes are powers of two.
package grpcbuf

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// Buffers from 2^bufferBitsMin to 2^bufferBitsMax bytes are kept; others are
// left to the garbage collector.
const (
	bufferBitsMin = 8
	bufferBitsMax = 22
)

// pool keeps buffers by the power of two that their capacity reaches.
type pool struct {
	sizes [bufferBitsMax + 1]sync.Pool
}

// Pool is the one of this process.
var Pool mem.BufferPool = &pool{}

// Get returns a buffer of length bytes, whose content is arbitrary.
func (p *pool) Get(length int) *[]byte {
	n := max(bits.Len(uint(max(length, 1)-1)), bufferBitsMin)
	if n > bufferBitsMax {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.sizes[n].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<n)
	return &b
}

// Put gives a buffer back.
func (p *pool) Put(b *[]byte) {
	n := bits.Len(uint(cap(*b))) - 1
	if n >= bufferBitsMin && n <= bufferBitsMax {
		p.sizes[n].Put(b)
	}
}

// ServerOption makes a server use the pool.
func ServerOption() grpc.ServerOption { return experimental.BufferPool(Pool) }

// DialOption makes a connection use the pool.
func DialOption() grpc.DialOption { return experimental.WithBufferPool(Pool) }
