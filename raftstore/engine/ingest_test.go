package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// fill writes n keys into every family, with values that name their origin.
func fill(t *testing.T, e *Engine, origin string, from, to int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(from), uint64(to)))
	apply(t, e, func(b *Batch) {
		for i := from; i < to; i++ {
			user := fmt.Sprintf("key%04d", i)
			v := fmt.Appendf(nil, "%s-%d-%x", origin, i, randomBytes(rng, 100))
			b.Put(kv.CFDefault, versioned1(user, uint64(i)), v)
			b.Put(kv.CFWrite, versioned1(user, uint64(i)), v)
			b.Put(kv.CFLock, codec.EncodeBytes(nil, []byte(user)), v)
			b.Put(kv.CFRaw, []byte(user), v)
		}
	})
}

func randomBytes(rng *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	return out
}

func bound(i int) []byte { return codec.EncodeBytes(nil, fmt.Appendf(nil, "key%04d", i)) }

func export(t *testing.T, e *Engine, fs vfs.FS, start, end []byte, dir string) []string {
	t.Helper()
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := e.NewSnapshot()
	defer s.Close()
	files, err := e.ExportRange(s, start, end, dir, 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range files {
		info, err := fs.Stat(f.Path)
		if err != nil || uint64(info.Size()) != f.Size || f.Keys == 0 || bytes.Compare(f.Start, f.End) >= 0 {
			t.Fatalf("file %+v: %v", f, err)
		}
		paths = append(paths, f.Path)
	}
	return paths
}

// lines keeps the lines of a dump whose user key number is in [from, to).
func lines(dump string, from, to int) string {
	var out []string
	for l := range strings.Lines(dump) {
		var n int
		if i := strings.Index(l, "key"); i < 0 {
			continue
		} else if _, err := fmt.Sscanf(l[i:], "key%04d", &n); err == nil && n >= from && n < to {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}

// TestHazard10_IngestReplacesAll moves a range of one store onto another one
// that holds other data there: nothing old stays, nothing outside changes,
// meta comes along, and all of it is durable at once.
func TestHazard10_IngestReplacesAll(t *testing.T) {
	for _, unflushed := range []bool{false, true} {
		t.Run(fmt.Sprintf("unflushed=%v", unflushed), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			e := open(t, mem)
			other, err := Open(Options{Dir: "other", FS: mem})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			fill(t, other, "new", 100, 900)
			fill(t, e, "old", 0, 500)
			apply(t, e, func(b *Batch) {
				b.PutMeta([]byte("r1"), []byte("old"))
				b.PutMeta([]byte("r2"), []byte("stays"))
				b.PutMeta([]byte("r3"), []byte("goes"))
			})
			if !unflushed {
				if err := e.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			before, source := dump(t, e), dump(t, other)
			files := export(t, other, mem, bound(200), bound(700), "snap")
			if len(files) < 10 {
				t.Fatalf("only %d files: the size limit does not work", len(files))
			}
			snap := e.NewSnapshot()
			meta := []MetaPut{{[]byte("r3"), nil}, {[]byte("r1"), []byte("new")}}
			if err := e.IngestReplace(bound(200), bound(700), files, meta); err != nil {
				t.Fatal(err)
			}
			if _, closer, err := snap.Get(kv.CFRaw, []byte("key0300")); err != nil {
				t.Fatalf("an older snapshot lost its data: %v", err)
			} else {
				closer.Close()
			}
			snap.Close()
			// Raw keys order by their bytes: bound(200) is behind raw key0200.
			check := func(got string) {
				t.Helper()
				want := lines(before, 0, 200) + lines(source, 200, 700)
				gotRest, wantRest := sortedWithoutRaw(got), sortedWithoutRaw(want)
				if gotRest != wantRest {
					t.Fatalf("got %d bytes, want %d", len(gotRest), len(wantRest))
				}
				for _, l := range []string{`raw "key0500"="new`, `raw "key0699"="new`, `raw "key0100"="old`} {
					if !strings.Contains(got, l) {
						t.Fatalf("no %s", l)
					}
				}
				if strings.Contains(got, `raw "key0450"="old`) || !strings.HasSuffix(got, "meta \"r1\"=\"new\"\nmeta \"r2\"=\"stays\"\n") {
					t.Fatalf("wrong rest: %s", got[len(got)-80:])
				}
			}
			check(dump(t, e))
			if unflushed {
				// Old data that overlapped was flushed first; what lies outside may
				// be lost in a crash, so make it comparable.
				if err := e.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			crashed := open(t, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, 1))}))
			check(dump(t, crashed))
			if err := crashed.Close(); err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func sortedWithoutRaw(s string) string {
	var out []string
	for l := range strings.Lines(s) {
		if !strings.HasPrefix(l, "raw") && !strings.HasPrefix(l, "meta") {
			out = append(out, l)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// TestHazard10_IngestIsDurableAtOnce crashes right after an ingest over data
// that was never flushed: the ingest must be there in full.
func TestHazard10_IngestIsDurableAtOnce(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := open(t, mem)
	defer e.Close()
	fill(t, e, "old", 0, 50)
	files := export(t, e, mem, bound(10), bound(20), "snap")
	fill(t, e, "newer", 0, 50)
	if err := e.IngestReplace(bound(10), bound(20), files, []MetaPut{{[]byte("state"), []byte("done")}}); err != nil {
		t.Fatal(err)
	}
	crashed := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	defer crashed.Close()
	got := dump(t, crashed)
	if n := strings.Count(lines(got, 10, 20), "=\"old-"); n < 38 || !strings.Contains(got, `meta "state"="done"`) {
		t.Fatalf("%d ingested lines after a crash:\n%.2000s", n, got)
	}
	if strings.Contains(lines(sortedWithoutRaw(got), 10, 20), "newer") {
		t.Fatal("replaced data came back")
	}
}

func TestDestroyRange(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := open(t, mem)
	defer e.Close()
	fill(t, e, "a", 0, 30)
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := e.DestroyRange(bound(10), nil, []MetaPut{{[]byte("tombstone"), []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	crashed := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	defer crashed.Close()
	for _, e := range []*Engine{e, crashed} {
		got := dump(t, e)
		if lines(sortedWithoutRaw(got), 10, 30) != "" || strings.Count(lines(got, 0, 10), "\n") != 40 || !strings.Contains(got, "tombstone") {
			t.Fatalf("after destroy:\n%s", got)
		}
	}
	if err := e.DestroyRange(bound(3), bound(3), nil); err == nil {
		t.Fatal("an empty range was accepted")
	}
}

// TestIngestReplaceRanges replaces ranges that overlap, touch or lie apart: what
// is between them stays.
func TestIngestReplaceRanges(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := open(t, mem)
	defer e.Close()
	other, err := Open(Options{Dir: "other", FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	fill(t, e, "old", 0, 60)
	fill(t, other, "new", 0, 60)
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	before, source := dump(t, e), dump(t, other)
	files := export(t, other, mem, bound(30), bound(35), "snap")
	ranges := []kv.KeyRange{
		{Start: bound(30), End: bound(35)}, {Start: bound(10), End: bound(15)}, {Start: bound(15), End: bound(20)}, {Start: bound(33), End: bound(40)}}
	if err := e.IngestReplaceRanges(ranges, files, nil); err != nil {
		t.Fatal(err)
	}
	crashed := open(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	defer crashed.Close()
	want := sortedWithoutRaw(lines(before, 0, 10) + lines(before, 20, 30) + lines(source, 30, 35) + lines(before, 40, 60))
	for _, e := range []*Engine{e, crashed} {
		if got := sortedWithoutRaw(dump(t, e)); got != want {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
	}
	files = export(t, other, mem, bound(25), bound(35), "snap2")
	if err := e.IngestReplaceRanges(ranges, files, nil); err == nil {
		t.Fatal("a table over a gap between the ranges was accepted")
	}
	if err := e.IngestReplaceRanges(nil, nil, nil); err == nil {
		t.Fatal("no range was accepted")
	}
}

func TestIngestRefusesForeignFiles(t *testing.T) {
	mem := vfs.NewMem()
	e := open(t, mem)
	defer e.Close()
	fill(t, e, "a", 0, 30)
	before := dump(t, e)
	files := export(t, e, mem, nil, nil, "snap")
	if err := e.IngestReplace(bound(10), nil, files, nil); err == nil || !strings.Contains(err.Error(), "not inside") {
		t.Fatalf("files outside the range: %v", err)
	}
	copied := "snap/copy.sst"
	if err := vfs.Copy(mem, files[0], copied); err != nil {
		t.Fatal(err)
	}
	if err := e.IngestReplace(nil, nil, append(files, copied), nil); err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Fatalf("overlapping files: %v", err)
	}
	f, _ := mem.Create("snap/bad.sst", vfs.WriteCategoryUnspecified)
	f.Write(bytes.Repeat([]byte("no table"), 100))
	f.Close()
	if err := e.IngestReplace(nil, nil, []string{"snap/bad.sst"}, nil); err == nil {
		t.Fatal("garbage was ingested")
	}
	if got := dump(t, e); got != before {
		t.Fatal("a refused ingest changed data")
	}
}
