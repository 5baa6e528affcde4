package raw

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"
)

// stored is how many entries the family has on disk, expired ones included.
func (f *fixture) stored() (n int) {
	f.Helper()
	snap := f.eng.Data.NewSnapshot()
	it, err := snap.NewIter(kv.CFRaw, kv.IterOptions{})
	if err != nil {
		f.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		f.Fatal(err)
	}
	if err := snap.Close(); err != nil {
		f.Fatal(err)
	}
	return n
}

func (f *fixture) checker(o TTLOptions) *TTLChecker {
	f.Helper()
	o.Regions = func() []LedRegion { return []LedRegion{{Context: v1}} }
	o.Local = func() LocalReader { return f.eng.Data.NewSnapshot() }
	o.Clock = func() time.Time { return f.clock }
	if o.Write == nil {
		o.Write = f.eng.Write
	}
	c, err := NewTTLChecker(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	return c
}

func TestTTLSweep(t *testing.T) {
	f := newFixture(t)
	reg := prometheus.NewRegistry()
	c := f.checker(TTLOptions{Registerer: reg})
	const expiring = 700 // several writes
	for i := range expiring {
		f.put(v1, fmt.Sprintf("old %04d", i), "v", 10)
	}
	f.put(v1, "lasting", "v", 0)
	f.put(v1, "later", "v", 1000)
	f.put(v2, "r\x00\x00\x01old", "v", 10)
	f.clock = f.clock.Add(30 * time.Second) // expired, but a slow clock may still show them
	if n, err := c.Sweep(bg); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	f.expect("invisible long before", f.get(v1, "old 0001"), "-")
	f.clock = f.clock.Add(time.Minute)
	if n, err := c.Sweep(bg); n != expiring+1 || err != nil {
		t.Fatal(n, err)
	}
	if n := f.stored(); n != 2 {
		t.Fatalf("%d entries are left on disk", n)
	}
	f.expect("the others", f.scan(&kvrpcpb.RawScanRequest{Context: v1, Limit: 10}), `"lasting"=v "later"=v`)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, m := range families {
		if m.GetName() == "tikv_ttl_expire_kv_count_total" {
			seen = append(seen, fmt.Sprint(m.GetMetric()[0].GetCounter().GetValue()))
		}
	}
	if strings.Join(seen, " ") != "701" {
		t.Fatalf("counted %v", seen)
	}
}

// TestTTLSweepMissesWhatWasRewritten: a value that is written between the
// sweep's look and its delete stays.
func TestTTLSweepMissesWhatWasRewritten(t *testing.T) {
	f := newFixture(t)
	f.put(v1, "a", "old", 10)
	f.put(v1, "b", "old", 10)
	f.clock = f.clock.Add(time.Hour)
	c := f.checker(TTLOptions{Write: func(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
		f.put(v1, "a", "new", 10)
		return f.eng.Write(ctx, rc, b)
	}})
	if _, err := c.Sweep(bg); err != nil {
		t.Fatal(err)
	}
	f.expect("rewritten", f.get(v1, "a"), "new")
	if n := f.stored(); n != 1 {
		t.Fatalf("%d entries are left", n)
	}
	f.eng.Fail(context.DeadlineExceeded)
	f.clock = f.clock.Add(time.Hour)
	broken := f.checker(TTLOptions{})
	if n, err := broken.Sweep(bg); n != 0 || err == nil || !strings.Contains(err.Error(), "region 1") {
		t.Fatal(n, err)
	}
}

func TestTTLSweepRuns(t *testing.T) {
	if _, err := NewTTLChecker(TTLOptions{PollInterval: time.Millisecond}); err == nil {
		t.Fatal("too short an interval was taken")
	}
	synctest.Test(t, func(t *testing.T) {
		var sweeps atomic.Int64
		c, err := NewTTLChecker(TTLOptions{PollInterval: 12 * time.Hour, Regions: func() []LedRegion { sweeps.Add(1); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		c.Start()
		for _, step := range []struct {
			hours time.Duration
			want  int64
		}{{1, 1}, {24, 3}} {
			time.Sleep(step.hours*time.Hour + time.Second)
			if synctest.Wait(); sweeps.Load() != step.want {
				t.Fatalf("%d h later: %d sweeps", step.hours, sweeps.Load())
			}
		}
		c.Close()
	})
}

func FuzzValue(f *testing.F) {
	f.Add([]byte("v"), uint64(10), int64(5), []byte{1, 2, 3})
	f.Add([]byte{}, uint64(0), int64(0), []byte{})
	f.Add([]byte{0, 1}, uint64(TTLSecondsMax), int64(1)<<40, []byte{1, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, value []byte, ttl uint64, later int64, junk []byte) {
		now := time.Unix(1_700_000_000, 0)
		stored, err := encodeValue(value, ttl, now)
		if err != nil {
			if ttl <= TTLSecondsMax && len(value) <= ValueBytesMax {
				t.Fatal(err)
			}
			return
		}
		later &= 1<<40 - 1
		got, left, ok, err := decodeValue(stored, now.Add(time.Duration(later%(100*365*86400))*time.Second))
		switch elapsed := uint64(later % (100 * 365 * 86400)); {
		case err != nil:
			t.Fatal(err)
		case ttl == 0 && (!ok || left != 0 || string(got) != string(value)):
			t.Fatalf("no TTL: %q %d %v", got, left, ok)
		case ttl > 0 && ok != (elapsed < ttl):
			t.Fatalf("TTL %d after %d s: visible %v", ttl, elapsed, ok)
		case ttl > 0 && ok && (left != ttl-elapsed || string(got) != string(value)):
			t.Fatalf("TTL %d after %d s: %q, %d s left", ttl, elapsed, got, left)
		}
		if v, _, ok, err := decodeValue(junk, now); err == nil && ok && len(v) >= len(junk) {
			t.Fatalf("junk %x reads as %x", junk, v)
		}
	})
}
