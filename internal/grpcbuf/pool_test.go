package grpcbuf

import "testing"

func TestPoolGivesWhatWasAskedFor(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 257, 4096, 40_000, 1 << 20, 1<<22 - 1, 1 << 22, 1<<22 + 1} {
		for range 3 {
			b := Pool.Get(size)
			if len(*b) != size {
				t.Fatalf("Get(%d) has %d bytes", size, len(*b))
			}
			if size > 0 && size <= 1<<bufferBitsMax && cap(*b) >= 2*max(size, 1<<bufferBitsMin) {
				t.Fatalf("Get(%d) has room for %d", size, cap(*b))
			}
			*b = (*b)[:size/2]
			Pool.Put(b)
		}
	}
	odd := make([]byte, 0, 3000) // goes where its capacity is enough for whoever gets it
	Pool.Put(&odd)
	for range 10 {
		if b := Pool.Get(2048); len(*b) != 2048 {
			t.Fatalf("Get(2048) has %d bytes", len(*b))
		}
	}
}
