package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/kvclient"
)

const (
	fairRows       = 600_000
	fairRegion     = 8 << 20
	fairPause      = 500 * time.Microsecond
	fairScan       = "SELECT grp, count(*), sum(price), avg(price * (1 - discount)), max(day) FROM fair WHERE note <> 'x' GROUP BY grp"
	fairRowScan    = "SET copra.columnar = off"
	fairPoint      = "SELECT note FROM fair WHERE id = $1"
	fairShortScan  = "SELECT sum(price) FROM fair WHERE id BETWEEN $1 AND $1 + 99"
	fairPointBytes = 100
)

// BenchmarkFair is how long single short requests take while queries scan a
// table: reads of keys by the store's service in this process, SELECTs of a row
// by its key, and of sums over 100 rows, over the Postgres protocol. One client
// pauses fairPause between two of them. It takes its time as such, not ns/op.
func BenchmarkFair(b *testing.B) {
	ctx := context.Background()
	o := PlaygroundOptions{
		DataDir: b.TempDir(), Stores: 3, PDs: 1, RegionSplitBytes: fairRegion, CacheBytes: 256 << 20, SQLMemoryBytes: 1 << 30,
		Logger: slog.New(slog.DiscardHandler), SQLAddr: "127.0.0.1:0", FlightAddr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0",
		PDClientAddrs: freeAddrs(b, 1), PDPeerAddrs: freeAddrs(b, 1), StoreAddrs: freeAddrs(b, 3), StoreStatusAddrs: freeAddrs(b, 3),
	}
	p, err := StartPlayground(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Stop()
	c := fairConn(b, p)
	fairLoad(b, c)
	points := fairPoints(b, p, o.PDClientAddrs, c)
	for _, how := range []string{"columns", "rows"} {
		for range 3 { // the caches are warm, then
			fairExec(b, c, fairScan)
		}
		for _, scans := range []int{0, 1, 4} {
			if scans == 0 && how == "rows" {
				continue
			}
			for _, kind := range []string{"KvGet", "KvGet, gRPC", "SELECT by key", "SELECT of 100 rows"} {
				b.Run(fmt.Sprintf("%s/%d scans of %s", kind, scans, how), func(b *testing.B) {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0)) // each sub-benchmark begins with the -cpu flag's
					cpusched.SpareProcs()
					stop := fairScans(b, p, scans, how == "rows")
					fairMeasure(b, points[kind])
					b.ReportMetric(stop(), "scans/s")
				})
			}
		}
	}
}

func fairConn(tb testing.TB, p *Playground) *pgconn.PgConn {
	host, port, _ := strings.Cut(p.sql.Addr(), ":")
	c, err := pgconn.Connect(context.Background(), fmt.Sprintf("host=%s port=%s user=root dbname=copra sslmode=disable", host, port))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func fairExec(tb testing.TB, c *pgconn.PgConn, sql string) {
	if _, err := c.Exec(context.Background(), sql).ReadAll(); err != nil {
		tb.Fatal(err)
	}
}

func fairLoad(tb testing.TB, c *pgconn.PgConn) {
	fairExec(tb, c, "CREATE TABLE fair (id bigint PRIMARY KEY, grp int, price numeric(12,2), discount numeric(4,2), day date, note text)")
	rng := rand.New(rand.NewPCG(1, 2))
	var rows strings.Builder
	for id := range fairRows {
		fmt.Fprintf(&rows, "%d\t%d\t%d.%02d\t0.0%d\t2024-%02d-%02d\t%0*d\n",
			id, rng.IntN(8), rng.IntN(100000), rng.IntN(100), rng.IntN(10), 1+rng.IntN(12), 1+rng.IntN(28), fairPointBytes, id)
	}
	if _, err := c.CopyFrom(context.Background(), strings.NewReader(rows.String()), "COPY fair FROM STDIN"); err != nil {
		tb.Fatal(err)
	}
	fairExec(tb, c, "ANALYZE fair")
}

// fairPoints are the short requests.
func fairPoints(tb testing.TB, p *Playground, pds []string, c *pgconn.PgConn) map[string]func(id int) error {
	ctx := context.Background()
	reader, err := kvclient.NewPointReader(p.sql.kv, p.sql.o.Locals.KV)
	if err != nil {
		tb.Fatal(err)
	}
	remote, err := kvclient.Open(ctx, kvclient.Options{PDEndpoints: pds})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = remote.Close() })
	row, err := c.Exec(ctx, "SELECT 'fair'::regclass::oid").ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	table, err := strconv.ParseInt(string(row[0].Rows[0][0]), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]func(id int) error{"KvGet": func(id int) error {
		h, err := tablecodec.AppendHandle(nil, []sqltypes.Type{sqltypes.Int8}, []sqltypes.Datum{sqltypes.NewInt(int64(id))})
		if err != nil {
			return err
		}
		key := tablecodec.AppendRowKey(nil, table, h)
		v, _, ok := reader.Get(ctx, math.MaxUint64, key)
		if !ok { // the region has moved
			e, err := p.sql.kv.GetSnapshot(math.MaxUint64).Get(ctx, key)
			if v = e.Value; err != nil {
				return err
			}
		}
		if len(v) < fairPointBytes {
			return fmt.Errorf("row %d has %d bytes", id, len(v))
		}
		return nil
	}}
	out["KvGet, gRPC"] = func(id int) error {
		h, err := tablecodec.AppendHandle(nil, []sqltypes.Type{sqltypes.Int8}, []sqltypes.Datum{sqltypes.NewInt(int64(id))})
		if err != nil {
			return err
		}
		_, err = remote.GetSnapshot(math.MaxUint64).Get(ctx, tablecodec.AppendRowKey(nil, table, h))
		return err
	}
	for name, sql := range map[string]string{"SELECT by key": fairPoint, "SELECT of 100 rows": fairShortScan} {
		if _, err := c.Prepare(ctx, name, sql, nil); err != nil {
			tb.Fatal(err)
		}
		out[name] = func(id int) error {
			r := c.ExecPrepared(ctx, name, [][]byte{fmt.Append(nil, id)}, nil, nil).Read()
			if r.Err == nil && len(r.Rows) != 1 {
				return fmt.Errorf("%d rows", len(r.Rows))
			}
			return r.Err
		}
	}
	return out
}

// fairScans starts clients that scan; stop returns how many scans a second there
// were.
func fairScans(b *testing.B, p *Playground, n int, rows bool) (stop func() float64) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	count, start := 0, time.Now()
	for range n {
		c := fairConn(b, p)
		fairExec(b, c, "SET copra.result_cache = off") // each of them computes
		if rows {
			fairExec(b, c, fairRowScan)
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Exec(ctx, fairScan).ReadAll(); err != nil && ctx.Err() == nil {
					b.Error(err)
					return
				}
				mu.Lock()
				count++
				mu.Unlock()
			}
		})
	}
	return func() float64 {
		mu.Lock()
		per := float64(count) / time.Since(start).Seconds()
		mu.Unlock()
		cancel()
		wg.Wait()
		return per
	}
}

func fairMeasure(b *testing.B, point func(id int) error) {
	rng := rand.New(rand.NewPCG(3, 4))
	var times []time.Duration
	for b.Loop() {
		time.Sleep(fairPause)
		start := time.Now()
		if err := point(rng.IntN(fairRows)); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	for _, q := range []struct {
		name  string
		share float64
	}{{"p50-µs", .5}, {"p99-µs", .99}, {"p99.9-µs", .999}} {
		b.ReportMetric(float64(times[int(float64(len(times))*q.share)].Nanoseconds())/1000, q.name)
	}
	b.ReportMetric(0, "ns/op")
}
