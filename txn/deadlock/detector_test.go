package deadlock

import (
	"context"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

func detect(t *testing.T, d *Local, txn, holder uint64, key string) *kvrpcpb.Deadlock {
	t.Helper()
	got, err := d.Detect(context.Background(), WaitFor{Txn: txn, HolderTxn: holder, KeyHash: uint64(key[0]), Key: []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCycles(t *testing.T) {
	d := NewLocal(time.Now, 0)
	for _, e := range [][2]uint64{{1, 2}, {2, 3}, {2, 4}, {3, 5}, {4, 5}, {1, 2}} {
		if got := detect(t, d, e[0], e[1], "k"); got != nil {
			t.Errorf("%v: %v", e, got)
		}
	}
	got := detect(t, d, 5, 1, "z")
	if got == nil || len(got.WaitChain) != 4 {
		t.Fatalf("5 waits for 1: %v", got)
	}
	for i, w := range got.WaitChain[1:] {
		if got.WaitChain[i].WaitForTxn != w.Txn {
			t.Errorf("the chain has a gap: %v", got.WaitChain)
		}
	}
	if got := detect(t, d, 5, 5, "z"); got != nil {
		t.Errorf("5 waits for itself (a lock of its own): %v", got)
	}
	// Both ways out of the cycle.
	d.CleanUpWaitFor(WaitFor{Txn: 1, HolderTxn: 2, KeyHash: 'k'})
	if got := detect(t, d, 5, 1, "z"); got != nil {
		t.Errorf("after 1 stopped waiting: %v", got)
	}
	d.CleanUp(5)
	if got := detect(t, d, 1, 2, "k"); got != nil {
		t.Errorf("after 5 ended: %v", got)
	}
}

// The graph is bounded: edges expire, and above the limit new ones are not kept.
func TestHazard24_DetectorIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	d := NewLocal(func() time.Time { return now }, 10)
	for i := range uint64(100) {
		detect(t, d, i+1, 1000, "k")
	}
	if d.Len() != 10 {
		t.Errorf("%d edges", d.Len())
	}
	now = now.Add(EdgeTTLMs*time.Millisecond + 1)
	if got := detect(t, d, 1000, 1, "k"); got != nil {
		t.Errorf("a cycle over an expired edge: %v", got)
	}
	if d.Len() > 10 {
		t.Errorf("%d edges", d.Len())
	}
	for i := range uint64(9) {
		detect(t, d, i+2000, 3000, "k")
	}
	if got := detect(t, d, 3000, 2000, "k"); got == nil {
		t.Error("expired edges were not swept for new ones")
	}
}
