package e2e

import (
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// BenchmarkStore measures single requests to one store, in process, through
// Raft and the real disks.
func BenchmarkStore(b *testing.B) {
	c := start(b, 1, nil)
	raw := c.rawClient(kvrpcpb.APIVersion_V1)
	c.must(raw.Put(c.ctx, []byte("k"), []byte("v")))
	info := c.nodes[0].Raftstore().Regions()[0]
	rc := &kvrpcpb.Context{RegionId: info.Region.Id, RegionEpoch: info.Region.RegionEpoch, Peer: info.Region.Peers[0]}
	s := c.nodes[0].Service()
	b.Run("RawGet", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r, err := s.RawGet(c.ctx, &kvrpcpb.RawGetRequest{Context: rc, Key: []byte("k")}); err != nil || r.RegionError != nil {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("KvGet", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r, err := s.KvGet(c.ctx, &kvrpcpb.GetRequest{Context: rc, Key: []byte("k"), Version: 1 << 40}); err != nil || r.RegionError != nil {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("RawPut", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			if r, err := s.RawPut(c.ctx, &kvrpcpb.RawPutRequest{Context: rc, Key: fmt.Appendf(nil, "%d", i), Value: []byte("v")}); err != nil || r.RegionError != nil {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("RawPutParallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if r, err := s.RawPut(c.ctx, &kvrpcpb.RawPutRequest{Context: rc, Key: []byte("k"), Value: []byte("v")}); err != nil || r.RegionError != nil {
					b.Error(r, err)
				}
			}
		})
	})
}
