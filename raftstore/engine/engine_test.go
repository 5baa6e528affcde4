package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

func open(t *testing.T, fs vfs.FS) *Engine {
	t.Helper()
	e, err := Open(Options{Dir: "data", FS: fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func openMem(t *testing.T) *Engine {
	t.Helper()
	e := open(t, vfs.NewMem())
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func apply(t *testing.T, e *Engine, fill func(b *Batch)) {
	t.Helper()
	b := e.NewBatch()
	defer b.Close()
	fill(b)
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
}

// dump lists the whole content, families and meta, one line an entry.
func dump(t *testing.T, e *Engine) string {
	t.Helper()
	var out strings.Builder
	s := e.NewSnapshot()
	defer s.Close()
	for _, cf := range kv.CFs {
		it, err := s.NewIter(cf, kv.IterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			v, err := it.Value()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%s %q=%q\n", cf, it.Key(), v)
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			t.Fatal(err)
		}
	}
	err := e.ScanMeta(nil, func(k, v []byte) error {
		fmt.Fprintf(&out, "meta %q=%q\n", k, v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func versioned1(user string, ts uint64) []byte {
	return codec.EncodeTS(codec.EncodeBytes(nil, []byte(user)), ts)
}

// TestComparerProperties checks what Pebble's documentation of Comparer asks
// for, on keys that are nasty for an encoding with markers.
func TestComparerProperties(t *testing.T) {
	c := Comparer
	key := rapid.Custom(func(t *rapid.T) []byte {
		first := rapid.SampledFrom([]byte{'d', 'l', 'm', 'r', 'w'}).Draw(t, "family")
		body := rapid.OneOf(
			rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xF7, 0xF8, 0xFE, 0xFF}), 0, 30),
			rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 0xFF}), 0, 18), func(b []byte) []byte {
				return codec.EncodeTS(codec.EncodeBytes(nil, b), uint64(len(b)))
			}),
		).Draw(t, "body")
		return append([]byte{first}, body...)
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		pa, pb := a[:c.Split(a)], b[:c.Split(b)]
		if c.Split(pa) != len(pa) {
			t.Fatalf("the prefix %x of %x is not its own prefix", pa, a)
		}
		if len(pa) < len(a) && c.Compare(pa, a) >= 0 {
			t.Fatalf("the prefix %x does not sort before %x", pa, a)
		}
		cmp, pcmp := c.Compare(a, b), bytes.Compare(pa, pb)
		if pcmp != 0 && cmp != pcmp {
			t.Fatalf("prefixes order %x and %x by %d, the keys by %d", a, b, pcmp, cmp)
		}
		if pcmp == 0 && cmp != c.ComparePointSuffixes(a[len(pa):], b[len(pb):]) {
			t.Fatalf("suffixes order %x and %x otherwise than the keys", a, b)
		}
		if c.Equal(a, b) != (cmp == 0) {
			t.Fatalf("Equal(%x, %x) disagrees", a, b)
		}
		if aa, ab := c.AbbreviatedKey(a), c.AbbreviatedKey(b); aa < ab && cmp >= 0 || aa > ab && cmp <= 0 {
			t.Fatalf("abbreviated keys order %x and %x otherwise", a, b)
		}
		if cmp < 0 {
			if s := c.Separator(nil, a, b); c.Compare(a, s) > 0 || c.Compare(s, b) >= 0 {
				t.Fatalf("Separator(%x, %x) = %x", a, b, s)
			}
		}
		if s := c.Successor(nil, a); c.Compare(a, s) > 0 {
			t.Fatalf("Successor(%x) = %x", a, s)
		}
		next := c.ImmediateSuccessor(nil, pa)
		if c.Split(next) != len(next) || c.Compare(pa, next) >= 0 {
			t.Fatalf("ImmediateSuccessor(%x) = %x is not a larger prefix", pa, next)
		}
		if c.Compare(pb, pa) > 0 && c.Compare(pb, next) < 0 {
			t.Fatalf("prefix %x lies between %x and its successor %x", pb, pa, next)
		}
	})
}

func TestReadYourWrites(t *testing.T) {
	e := openMem(t)
	var enc kv.Batch
	enc.Put(kv.CFWrite, versioned1("a", 5), []byte("w5"))
	enc.Put(kv.CFRaw, []byte("k1"), []byte("v1"))
	enc.Put(kv.CFRaw, []byte("k2"), []byte("v2"))
	enc.Put(kv.CFLock, []byte("l"), []byte("lock"))
	enc.Delete(kv.CFRaw, []byte("k1"))
	before := e.NewSnapshot()
	defer before.Close()
	apply(t, e, func(b *Batch) {
		if err := b.ApplyEncoded(enc.Bytes()); err != nil {
			t.Fatal(err)
		}
		b.PutMeta([]byte("applied"), []byte{7})
		if b.Len() != enc.Len()+1 || b.Size() == 0 {
			t.Fatalf("batch has %d writes, %d bytes", b.Len(), b.Size())
		}
	})
	want := "lock \"l\"=\"lock\"\nraw \"k2\"=\"v2\"\nwrite \"a\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xf8\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfa\"=\"w5\"\nmeta \"applied\"=\"\\a\"\n"
	if got := dump(t, e); got != want {
		t.Fatalf("got\n%swant\n%s", got, want)
	}
	if _, _, err := before.Get(kv.CFRaw, []byte("k2")); !errors.Is(err, kv.ErrNotFound) {
		t.Fatalf("the snapshot of before sees a later write: %v", err)
	}
	apply(t, e, func(b *Batch) { b.DeleteRange(kv.CFRaw, nil, nil); b.DeleteMeta([]byte("applied")) })
	if got := dump(t, e); strings.Contains(got, "raw") || strings.Contains(got, "meta") || !strings.Contains(got, "lock") {
		t.Fatalf("after deletes:\n%s", got)
	}
	b := e.NewBatch()
	defer b.Close()
	if err := b.ApplyEncoded([]byte{9, 'd'}); err == nil {
		t.Fatal("a malformed batch was accepted")
	}
}

// TestPointIterator compares iterators bounded to one user key, which use the
// bloom filters, with a model, over memtables and tables.
func TestPointIterator(t *testing.T) {
	e := openMem(t)
	rng := rand.New(rand.NewPCG(1, 2))
	type version struct{ key, value []byte }
	var all []version
	for i := range 400 {
		k := versioned1(fmt.Sprintf("user%02d", rng.IntN(40)), uint64(rng.IntN(1000)))
		v := fmt.Appendf(nil, "v%d", i)
		apply(t, e, func(b *Batch) { b.Put(kv.CFWrite, k, v) })
		all = slices.DeleteFunc(all, func(o version) bool { return bytes.Equal(o.key, k) })
		all = append(all, version{k, v})
		if i%90 == 0 {
			if err := e.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.SortFunc(all, func(a, b version) int { return bytes.Compare(a.key, b.key) })
	snap := e.NewSnapshot()
	defer snap.Close()
	for u := range 45 {
		prefix := codec.EncodeBytes(nil, fmt.Appendf(nil, "user%02d", u))
		it, err := snap.NewIter(kv.CFWrite, kv.IterOptions{Lower: prefix, Upper: codec.PrefixNext(prefix)})
		if err != nil {
			t.Fatal(err)
		}
		if it.(*Iterator).point == nil {
			t.Fatalf("bounds of %q are not recognised as one key", prefix)
		}
		var want []version
		for _, v := range all {
			if bytes.HasPrefix(v.key, prefix) {
				want = append(want, v)
			}
		}
		i := 0
		for ok := it.First(); ok; ok = it.Next() {
			if v, _ := it.Value(); i >= len(want) || !bytes.Equal(it.Key(), want[i].key) || !bytes.Equal(v, want[i].value) {
				t.Fatalf("user %d, version %d: got %x", u, i, it.Key())
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("user %d: %d versions, want %d", u, i, len(want))
		}
		for _, ts := range []uint64{0, 300, 700, 1001} {
			at := codec.EncodeTS(slices.Clone(prefix), ts)
			n, _ := slices.BinarySearchFunc(want, at, func(v version, k []byte) int { return bytes.Compare(v.key, k) })
			if ok := it.SeekGE(at); ok != (n < len(want)) || ok && !bytes.Equal(it.Key(), want[n].key) {
				t.Fatalf("user %d: SeekGE ts %d", u, ts)
			}
			// Backwards from a seek that used the prefix.
			if ok := it.Prev(); ok != (n > 0) || ok && !bytes.Equal(it.Key(), want[n-1].key) {
				t.Fatalf("user %d: Prev after SeekGE ts %d", u, ts)
			}
		}
		if ok := it.Last(); ok != (len(want) > 0) || ok && !bytes.Equal(it.Key(), want[len(want)-1].key) {
			t.Fatalf("user %d: Last", u)
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	late := e.NewSnapshot()
	defer late.Close()
	hits := e.db.Metrics().Filter.Hits
	for u := range 39 {
		prefix := codec.EncodeBytes(nil, fmt.Appendf(nil, "user%02d-absent", u))
		it, err := late.NewIter(kv.CFWrite, kv.IterOptions{Lower: prefix, Upper: codec.PrefixNext(prefix)})
		if err != nil || it.First() {
			t.Fatalf("an absent key is there: %v", err)
		}
		it.Close()
	}
	if n := e.db.Metrics().Filter.Hits - hits; n < 30 {
		t.Fatalf("bloom filters answered %d of 39 reads of absent keys", n)
	}
}

func TestBoundsOfOneKey(t *testing.T) {
	enc := func(s string) []byte { return codec.EncodeBytes([]byte{'w'}, []byte(s)) }
	for _, c := range []struct {
		name         string
		lower, upper []byte
		point        bool
	}{
		{"whole key", enc("a"), codec.PrefixNext(enc("a")), true},
		{"two timestamps", codec.EncodeTS(enc("a"), 9), codec.EncodeTS(enc("a"), 3), true},
		{"appended zero", enc("a"), append(enc("a"), 0), true},
		{"eight bytes", enc("12345678"), codec.PrefixNext(enc("12345678")), true},
		{"next key", enc("a"), enc("b"), false},
		{"prefix of the next group", enc("a"), []byte("wb"), false},
		{"no encoding", []byte("wab"), []byte("wac"), false},
		{"another family", append([]byte{'l'}, enc("a")[1:]...), append([]byte{'l'}, codec.PrefixNext(enc("a"))[1:]...), false},
	} {
		if got := pointPrefix(c.lower, c.upper) != nil; got != c.point {
			t.Errorf("%s: point = %v", c.name, got)
		}
	}
}

// TestHazard03_BatchIsWholeAfterCrash applies index and data in one batch and
// crashes at every step: what is durable is one prefix of the history.
func TestHazard03_BatchIsWholeAfterCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := open(t, mem)
	if _, ok, err := e.GetMetaDurable([]byte("applied")); ok || err != nil {
		t.Fatalf("durable meta in an empty engine: %v %v", ok, err)
	}
	durable := byte(0)
	for i := byte(1); i <= 60; i++ {
		apply(t, e, func(b *Batch) {
			for k := range byte(3) {
				b.Put(kv.CFRaw, []byte{'k', k}, []byte{i})
			}
			b.PutMeta([]byte("applied"), []byte{i})
		})
		if i%13 == 0 {
			if err := e.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			durable = i
		}
		v, ok, err := e.GetMetaDurable([]byte("applied"))
		if err != nil || ok != (durable > 0) || ok && v[0] != durable {
			t.Fatalf("after %d writes: durable meta %v %v %v, want %d", i, v, ok, err, durable)
		}
		if i%10 == 0 {
			checkCrash(t, mem.CrashClone(vfs.CrashCloneCfg{}), durable)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	checkCrash(t, mem.CrashClone(vfs.CrashCloneCfg{}), 60)
}

func checkCrash(t *testing.T, fs vfs.FS, durable byte) {
	t.Helper()
	e := open(t, fs)
	defer e.Close()
	v, ok, err := e.GetMeta([]byte("applied"))
	if err != nil || ok != (durable > 0) || ok && v[0] != durable {
		t.Fatalf("after a crash: applied %v %v %v, want %d", v, ok, err, durable)
	}
	s := e.NewSnapshot()
	defer s.Close()
	for k := range byte(3) {
		v, closer, err := s.Get(kv.CFRaw, []byte{'k', k})
		if durable == 0 {
			if !errors.Is(err, kv.ErrNotFound) {
				t.Fatalf("key %d after a crash: %v", k, err)
			}
			continue
		}
		if err != nil || v[0] != durable {
			t.Fatalf("key %d after a crash: %v %v, want %d", k, v, err, durable)
		}
		closer.Close()
	}
}

func TestFormatIsChecked(t *testing.T) {
	fs := vfs.NewMem()
	if err := open(t, fs).Close(); err != nil {
		t.Fatal(err)
	}
	write := func(s string) {
		f, err := fs.Create("data/COPRA-FORMAT", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte(s))
		f.Close()
	}
	for content, want := range map[string]string{
		"copra-data 99\n":   "start a newer copra",
		"copra-raftlog 1\n": "holds a copra-raftlog",
		"nonsense":          "is damaged",
		"copra-data 0":      "is damaged",
	} {
		write(content)
		if _, err := Open(Options{Dir: "data", FS: fs}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("format %q: %v", content, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	e, err := Open(Options{Dir: "data", FS: vfs.NewMem(), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, e, func(b *Batch) { b.Put(kv.CFRaw, []byte("k"), []byte("v")) })
	families, err := reg.Gather()
	if err != nil || len(families) < 10 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	if p := e.Pressure(); p.MemTableBytes == 0 {
		t.Fatalf("pressure %+v", p)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	// The registerer is free for the next engine, as after a restart in one process.
	if e, err = Open(Options{Dir: "data", FS: vfs.NewMem(), Registerer: reg}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
