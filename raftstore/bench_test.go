package raftstore_test

import (
	"context"
	"testing"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
)

// A point get under the lease.
func BenchmarkLeaseRead(b *testing.B) {
	c := rafttest.NewCluster(b, 1, 1, raftstore.Config{})
	c.Put("a", "1")
	rc := c.Context(1, first)
	store := c.Node(1).Store
	b.ReportAllocs()
	for b.Loop() {
		snap, err := store.Snapshot(context.Background(), rc, kv.SnapshotOptions{})
		if err != nil {
			b.Fatal(err)
		}
		_, closer, err := snap.Get(kv.CFDefault, []byte("a"))
		if err != nil {
			b.Fatal(err)
		}
		if err := closer.Close(); err != nil {
			b.Fatal(err)
		}
		if err := snap.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Writes of many clients to three stores in memory.
func BenchmarkWrite(b *testing.B) {
	c := rafttest.NewCluster(b, 3, 3, raftstore.Config{})
	c.Put("a", "1")
	lead := c.WaitLeader(first)
	b.ReportAllocs()
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		rc := c.Context(lead, first)
		for pb.Next() {
			var batch kv.Batch
			batch.Put(kv.CFDefault, []byte("key"), make([]byte, 100))
			if err := c.Node(lead).Store.Write(context.Background(), rc, &batch); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
