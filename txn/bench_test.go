package txn_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

const benchRows = 10_000

func benchKey(i int) []byte { return fmt.Appendf(nil, "user%08d", i) }

// newBench returns a store with benchRows committed rows of 100 bytes.
func newBench(b *testing.B) (*txntest.Engine, *txn.Store) {
	b.Helper()
	e, err := txntest.New()
	if err != nil {
		b.Fatal(err)
	}
	s := txn.NewStore(e, txn.Options{})
	b.Cleanup(func() {
		s.Close()
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	value := make([]byte, 100)
	for from := 0; from < benchRows; from += 500 {
		req := &kvrpcpb.PrewriteRequest{Context: e.Context(nil), StartVersion: uint64(10 + from), TryOnePc: true}
		for i := from; i < from+500; i++ {
			req.Mutations = append(req.Mutations, &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: benchKey(i), Value: value})
		}
		req.PrimaryLock = req.Mutations[0].Key
		if r, err := s.KvPrewrite(context.Background(), req); err != nil || r.OnePcCommitTs == 0 {
			b.Fatal(r, err)
		}
	}
	return e, s
}

func BenchmarkKvGet(b *testing.B) {
	e, s := newBench(b)
	req := &kvrpcpb.GetRequest{Context: e.Context(nil), Version: 1 << 40}
	keys := make([][]byte, benchRows)
	for i := range keys {
		keys[i] = benchKey(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		req.Key = keys[i*7919%benchRows]
		if r, err := s.KvGet(context.Background(), req); err != nil || r.NotFound {
			b.Fatal(r, err)
		}
	}
}

// BenchmarkReaderGet is a get without its snapshot.
func BenchmarkReaderGet(b *testing.B) {
	e, s := newBench(b)
	r, err := s.OpenReader(context.Background(), e.Context(nil), txn.ReaderOptions{TS: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	keys := make([][]byte, benchRows)
	for i := range keys {
		keys[i] = benchKey(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, _, ok, err := r.Get(keys[i*7919%benchRows]); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	e, s := newBench(b)
	for _, desc := range []bool{false, true} {
		b.Run(fmt.Sprintf("desc=%t", desc), func(b *testing.B) {
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				r, err := s.OpenReader(context.Background(), e.Context(nil), txn.ReaderOptions{TS: 1 << 40})
				if err != nil {
					b.Fatal(err)
				}
				sc, err := r.NewScanner(txn.ScanOptions{Desc: desc})
				if err != nil {
					b.Fatal(err)
				}
				for {
					_, _, ok, err := sc.Next()
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					rows++
				}
				_ = sc.Close()
				_ = r.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
		})
	}
}

func BenchmarkPrewriteCommit(b *testing.B) {
	e, s := newBench(b)
	value := make([]byte, 100)
	ts := uint64(1 << 30)
	rc := e.Context(nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key := benchKey(i % benchRows)
		ts += 2
		p, err := s.KvPrewrite(context.Background(), &kvrpcpb.PrewriteRequest{
			Context: rc, StartVersion: ts, PrimaryLock: key, Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: key, Value: value}},
		})
		if err != nil || len(p.Errors) > 0 {
			b.Fatal(p, err)
		}
		c, err := s.KvCommit(context.Background(), &kvrpcpb.CommitRequest{Context: rc, StartVersion: ts, CommitVersion: ts + 1, Keys: [][]byte{key}})
		if err != nil || c.Error != nil {
			b.Fatal(c, err)
		}
	}
}
