package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/copradb/copra/internal/kv"
)

// TestHazard10_ExciseIsDurableAtOnce: what is excised does not come back by a
// crash, neither what was on disk nor what was in memory only, and nothing but
// the range and its family goes.
func TestHazard10_ExciseIsDurableAtOnce(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, fs)
	fill(t, e, "flushed", 0, 60)
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	fill(t, e, "memory", 30, 90)
	before := dump(t, e)
	snap := e.NewSnapshot()
	for _, cf := range []kv.CF{kv.CFLock, kv.CFWrite, kv.CFDefault} {
		if err := e.Excise(context.Background(), cf, bound(20), bound(50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
	check := func(when, got string) {
		t.Helper()
		if lines(got, 0, 20) != lines(before, 0, 20) || lines(got, 50, 60) != lines(before, 50, 60) {
			t.Errorf("%s: what was outside changed:\n%s", when, got)
		}
		if inside := lines(got, 20, 50); inside != onlyRaw(lines(before, 20, 50)) {
			t.Errorf("%s: left inside:\n%s", when, inside)
		}
	}
	check("before the crash", dump(t, e))
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, crashed)
	defer e.Close()
	check("after it", dump(t, e))
	// The range can be written again.
	fill(t, e, "again", 30, 40)
	if got := lines(dump(t, e), 30, 40); got == onlyRaw(got) {
		t.Errorf("nothing can be written into an excised range:\n%s", got)
	}
}

func TestExciseToTheEndOfAFamily(t *testing.T) {
	e := openMem(t)
	fill(t, e, "x", 0, 20)
	if err := e.Excise(context.Background(), kv.CFLock, nil, nil); err != nil {
		t.Fatal(err)
	}
	if n := countFamily(t, e, kv.CFLock); n != 0 {
		t.Errorf("%d locks are left", n)
	}
	if n := countFamily(t, e, kv.CFRaw); n != 20 {
		t.Errorf("%d raw keys are left", n)
	}
}

// onlyRaw keeps the lines of raw data.
func onlyRaw(s string) string {
	var out strings.Builder
	for l := range strings.Lines(s) {
		if strings.HasPrefix(l, "raw") {
			out.WriteString(l)
		}
	}
	return out.String()
}

func countFamily(t *testing.T, e *Engine, cf kv.CF) (n int) {
	t.Helper()
	s := e.NewSnapshot()
	defer s.Close()
	it, err := s.NewIter(cf, kv.IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n
}

// TestCompactDeletesGivesRoomBack: deletes of most of a store's data, of which
// Pebble alone would keep both, free their room.
func TestCompactDeletesGivesRoomBack(t *testing.T) {
	e := openMem(t)
	const keys, versions = 400, 40
	key := func(k, v int) []byte { return versioned1(fmt.Sprintf("key%04d", k), uint64(v+1)) }
	for v := range versions {
		apply(t, e, func(b *Batch) {
			for k := range keys {
				b.Put(kv.CFWrite, key(k, v), fmt.Appendf(nil, "%0200d", k*v))
			}
		})
		if err := e.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.db.Compact(context.Background(), []byte{byte(kv.CFWrite)}, []byte{byte(kv.CFWrite) + 1}, false); err != nil {
		t.Fatal(err)
	}
	before, err := e.ApproxSize(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, e, func(b *Batch) {
		for k := range keys {
			for v := range versions - 1 {
				b.Delete(kv.CFWrite, key(k, v))
			}
		}
	})
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ {
		after, err := e.ApproxSize(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if after < before/10 {
			break
		}
		if tries > 100_000 {
			t.Fatalf("%d of %d bytes are left", after, before)
		}
		// Pebble counts a new table's deletes in the background.
		if _, _, err := e.CompactDeletes(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n := countFamily(t, e, kv.CFWrite); n != keys {
		t.Errorf("%d records are left, want %d", n, keys)
	}
	if n, _, err := e.CompactDeletes(context.Background()); err != nil || n != 0 {
		t.Errorf("there is more to compact: %d %v", n, err)
	}
}
