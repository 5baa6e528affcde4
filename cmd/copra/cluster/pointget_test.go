package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/pingcap/log"
	"github.com/tikv/client-go/v2/config"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/tikv"
	"go.uber.org/zap"

	"github.com/copradb/copra/internal/testaddr"
	"github.com/copradb/copra/sqlfront/kvclient"
)

const (
	pointGetRecords     = 50_000
	pointGetRecordBytes = 1000
	pointGetBatch       = 500
)

func pointGetKey(n int) []byte { return fmt.Appendf(nil, "pointget:%08d", n) }

func pointGetValue(r *rand.Rand) []byte {
	v := make([]byte, pointGetRecordBytes)
	for i := range v {
		v[i] = byte(r.Uint32())
	}
	return v
}

// BenchmarkPointGet reads random records of 1 kB, all in the cache: from a bare
// Pebble, from a store in this process as the SQL layer reads it, and over gRPC.
func BenchmarkPointGet(b *testing.B) {
	ctx := context.Background()
	b.Run("pebble", func(b *testing.B) { benchPebble(b) })
	o := PlaygroundOptions{
		DataDir: b.TempDir(), Stores: 1, PDs: 1, RegionSplitBytes: 96 << 20, CacheBytes: 256 << 20, SQLMemoryBytes: 64 << 20,
		Logger: slog.New(slog.DiscardHandler), SQLAddr: "127.0.0.1:0", FlightAddr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0",
		PDClientAddrs: freeAddrs(b, 1), PDPeerAddrs: freeAddrs(b, 1), StoreAddrs: freeAddrs(b, 1), StoreStatusAddrs: freeAddrs(b, 1),
	}
	p, err := StartPlayground(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Stop()
	log.ReplaceGlobals(zap.NewNop(), &log.ZapProperties{})
	local := p.sql.kv
	remote, err := kvclient.Open(ctx, kvclient.Options{PDEndpoints: o.PDClientAddrs})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = remote.Close() }()
	raw, err := rawkv.NewClient(ctx, o.PDClientAddrs, config.DefaultConfig().Security)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	points, err := kvclient.NewPointReader(local, p.sql.o.Locals.KV)
	if err != nil {
		b.Fatal(err)
	}
	loadPointGets(b, local, raw)
	get := func(kv *tikv.KVStore) func(int) (int, error) {
		return func(n int) (int, error) {
			e, err := kv.GetSnapshot(math.MaxUint64).Get(ctx, pointGetKey(n))
			return len(e.Value), err
		}
	}
	b.Run("in process", func(b *testing.B) { measureGets(b, get(local)) })
	b.Run("in process, as SQL reads", func(b *testing.B) {
		measureGets(b, func(n int) (int, error) {
			v, _, ok := points.Get(ctx, math.MaxUint64, pointGetKey(n))
			if !ok {
				return 0, errors.New("client-go would have to be asked")
			}
			return len(v), nil
		})
	})
	b.Run("gRPC", func(b *testing.B) { measureGets(b, get(remote)) })
	b.Run("gRPC, raw", func(b *testing.B) {
		measureGets(b, func(n int) (int, error) {
			v, err := raw.Get(ctx, pointGetKey(n))
			return len(v), err
		})
	})
}

// measureGets reports the median of single gets.
func measureGets(b *testing.B, get func(n int) (int, error)) {
	var (
		r     = rand.New(rand.NewPCG(1, 2))
		times []time.Duration
	)
	b.ReportAllocs()
	for b.Loop() {
		started := time.Now()
		n, err := get(r.IntN(pointGetRecords))
		times = append(times, time.Since(started))
		if err != nil || n != pointGetRecordBytes {
			b.Fatalf("a record has %d bytes: %v", n, err)
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
}

func benchPebble(b *testing.B) {
	cache := pebble.NewCache(256 << 20)
	defer cache.Unref()
	db, err := pebble.Open(b.TempDir(), &pebble.Options{Cache: cache, Logger: quietPebble{}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	r := rand.New(rand.NewPCG(3, 4))
	for n := range pointGetRecords {
		if err := db.Set(pointGetKey(n), pointGetValue(r), pebble.NoSync); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Compact(context.Background(), pointGetKey(0), pointGetKey(pointGetRecords), false); err != nil {
		b.Fatal(err)
	}
	measureGets(b, func(n int) (int, error) {
		v, closer, err := db.Get(pointGetKey(n))
		if err != nil {
			return 0, err
		}
		size := len(v)
		return size, closer.Close()
	})
}

type quietPebble struct{}

func (quietPebble) Infof(string, ...any)  {}
func (quietPebble) Errorf(string, ...any) {}
func (quietPebble) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func loadPointGets(b *testing.B, kv *tikv.KVStore, raw *rawkv.Client) {
	ctx, r := context.Background(), rand.New(rand.NewPCG(3, 4))
	for from := 0; from < pointGetRecords; from += pointGetBatch {
		txn, err := kv.Begin()
		if err != nil {
			b.Fatal(err)
		}
		var keys, values [][]byte
		for n := from; n < from+pointGetBatch; n++ {
			keys, values = append(keys, pointGetKey(n)), append(values, pointGetValue(r))
			if err := txn.Set(keys[n-from], values[n-from]); err != nil {
				b.Fatal(err)
			}
		}
		if err := txn.Commit(ctx); err != nil {
			b.Fatal(err)
		}
		if err := raw.BatchPut(ctx, keys, values); err != nil {
			b.Fatal(err)
		}
	}
}

func freeAddrs(tb testing.TB, count int) (out []string) {
	for range count {
		out = append(out, testaddr.Free(tb))
	}
	return out
}
