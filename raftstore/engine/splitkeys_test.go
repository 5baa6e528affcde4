package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

func TestSplitKeys(t *testing.T) {
	e := openMem(t)
	fill(t, e, "a", 0, 400)
	one := uint64(4*(200+7) + 3*7)
	got, err := e.SplitKeys(nil, nil, SplitLimits{Bytes: 100 * one, CutCountMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	if got.Bytes < 400*one || len(got.Keys) < 2 || len(got.Keys) > 4 || got.EntryCount == 0 {
		t.Fatalf("%d keys, %d bytes, %d entries", len(got.Keys), got.Bytes, got.EntryCount)
	}
	checkBoundaries(t, got.Keys, nil, nil)
	if got, err = e.SplitKeys(bound(100), bound(200), SplitLimits{Bytes: 10 * one, CutCountMax: 3}); err != nil || len(got.Keys) != 3 {
		t.Fatalf("limited: %d keys, %v", len(got.Keys), err)
	}
	checkBoundaries(t, got.Keys, bound(100), bound(200))
	if got, err = e.SplitKeys(bound(100), bound(200), SplitLimits{Bytes: 1 << 40, CutCountMax: 10}); err != nil || len(got.Keys) != 0 {
		t.Fatalf("large pieces: %x, %v", got.Keys, err)
	}
	if got, err = e.SplitKeys(nil, nil, SplitLimits{Bytes: 1 << 40, Keys: 400, CutCountMax: 10}); err != nil || len(got.Keys) < 2 {
		t.Fatalf("by keys: %x, %v", got.Keys, err)
	}
	// Only tables count, and Pebble may have flushed on its own.
	before, err := e.ApproxSize(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if size, err := e.ApproxSize(nil, nil); err != nil || size < got.Bytes/2 || size < before {
		t.Fatalf("flushed size %d, before %d, %v", size, before, err)
	}
}

func checkBoundaries(t *testing.T, keys [][]byte, start, end []byte) {
	t.Helper()
	last := start
	for _, k := range keys {
		_, rest, err := codec.DecodeBytes(nil, k)
		if err != nil || len(rest) != 0 {
			t.Fatalf("boundary %x is not an encoding: %v", k, err)
		}
		if bytes.Compare(k, last) <= 0 || len(end) > 0 && bytes.Compare(k, end) >= 0 {
			t.Fatalf("boundary %x is not inside (%x, %x)", k, last, end)
		}
		last = k
	}
}

// TestSplitKeysOddData: the versions of one key stay together.
func TestSplitKeysOddData(t *testing.T) {
	e := openMem(t)
	apply(t, e, func(b *Batch) {
		for ts := range uint64(500) {
			b.Put(kv.CFWrite, versioned1("hot", ts), make([]byte, 100))
		}
		b.Put(kv.CFWrite, versioned1("zz", 1), make([]byte, 30_000))
	})
	got, err := e.SplitKeys(nil, nil, SplitLimits{Bytes: 1000, CutCountMax: 100})
	want := codec.EncodeBytes(nil, []byte("zz"))
	if err != nil || len(got.Keys) != 1 || !bytes.Equal(got.Keys[0], want) {
		t.Fatalf("keys %q, %v", got.Keys, err)
	}
}

// TestSplitKeysPockets: raw keys that share their first eight bytes are cut
// between two encodings, and only there by what is no encoding.
func TestSplitKeysPockets(t *testing.T) {
	e := openMem(t)
	apply(t, e, func(b *Batch) {
		for i := range 1000 {
			b.Put(kv.CFRaw, fmt.Appendf(nil, "usertable:%04d", i), make([]byte, 100))
			b.Put(kv.CFRaw, fmt.Appendf(nil, "z%04d", i), make([]byte, 100))
			b.Put(kv.CFWrite, versioned1(fmt.Sprintf("m%03d", i), 1), make([]byte, 100))
		}
	})
	got, err := e.SplitKeys(nil, nil, SplitLimits{Bytes: 30_000, CutCountMax: 100})
	if err != nil || len(got.Keys) < 10 {
		t.Fatalf("keys %q, %v", got.Keys, err)
	}
	checkPockets(t, got.Keys, 3)
	var first, last int // of the cuts inside
	for i, k := range got.Keys {
		if !isEncoding(k) {
			if first == 0 {
				first = i
			}
			last = i
		}
	}
	// The same, one region of it at a time.
	from, to := got.Keys[first-1], got.Keys[last+1]
	if got, err = e.SplitKeys(from, to, SplitLimits{Bytes: 10_000, CutCountMax: 100}); err != nil || len(got.Keys) < 8 || isEncoding(got.Keys[0]) {
		t.Fatalf("pocket alone: %q, %v", got.Keys, err)
	}
	mid := got.Keys[3]
	if got, err = e.SplitKeys(mid, nil, SplitLimits{Bytes: 10_000, CutCountMax: 2}); err != nil || len(got.Keys) != 3 || !bytes.Equal(got.Keys[2], to) {
		t.Fatalf("from the middle of the pocket: %q, %v", got.Keys, err)
	}
}

// checkPockets checks that boundaries which are no encodings stand between
// encodings with no possible transactional key between them.
func checkPockets(t *testing.T, keys [][]byte, insideMin int) {
	t.Helper()
	inside := 0
	for i, k := range keys {
		if i > 0 && bytes.Compare(keys[i-1], k) >= 0 {
			t.Fatalf("boundaries %q and %q", keys[i-1], k)
		}
		if isEncoding(k) {
			continue
		}
		inside++
		p, ok := codec.PocketOf(k)
		if !ok || i == 0 || i == len(keys)-1 {
			t.Fatalf("boundary %q has no pocket (%d of %d)", k, i, len(keys))
		}
		if before := keys[i-1]; isEncoding(before) && !bytes.Equal(before, p.Start) {
			t.Fatalf("left of %q: %q", k, before)
		}
		if after := keys[i+1]; isEncoding(after) && !bytes.Equal(after, p.End) {
			t.Fatalf("right of %q: %q", k, after)
		}
	}
	if inside < insideMin {
		t.Fatalf("%d cuts in pockets: %q", inside, keys)
	}
}

// TestPocketHoldsNoEncoding: a pocket's ends are encodings (or nothing), its
// key is inside, and no encoding of a short key is.
func TestPocketHoldsNoEncoding(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = []byte{0, 1, 'a', 0xF6, 0xF7, 0xFE, 0xFF}[rng.IntN(7)]
		}
		return b
	}
	pockets := 0
	for range 20_000 {
		key := random(9 + rng.IntN(4))
		p, ok := codec.PocketOf(key)
		if !ok {
			continue
		}
		pockets++
		if p.Start != nil && !isEncoding(p.Start) || !isEncoding(p.End) || bytes.Compare(p.Start, key) >= 0 || bytes.Compare(key, p.End) >= 0 {
			t.Fatalf("pocket of %x is [%x, %x)", key, p.Start, p.End)
		}
		near := append(bytes.Clone(key[:rng.IntN(9)]), random(rng.IntN(12))...)
		if enc := codec.EncodeBytes(nil, near); bytes.Compare(enc, p.Start) > 0 && bytes.Compare(enc, p.End) < 0 &&
			!bytes.HasPrefix(near[8:], bytes.Repeat([]byte{0xFF}, 8)) {
			t.Fatalf("%x, the encoding of %x, lies in the pocket of %x", enc, near, key)
		}
	}
	if pockets < 1000 {
		t.Fatalf("only %d pockets", pockets)
	}
}

func TestBoundaries(t *testing.T) {
	got := Boundaries(nil, nil, kv.CFRaw, []byte("usertable:5"))
	if len(got) != 3 || string(got[1]) != "usertable:5" || !isEncoding(got[0]) || !isEncoding(got[2]) {
		t.Fatalf("raw key: %q", got)
	}
	if inner := Boundaries(got[1], got[2], kv.CFRaw, []byte("usertable:6")); len(inner) != 1 || string(inner[0]) != "usertable:6" {
		t.Fatalf("in the pocket: %q", inner)
	}
	if none := Boundaries(got[1], got[2], kv.CFRaw, []byte("usertable:5")); len(none) != 0 {
		t.Fatalf("at its start: %q", none)
	}
	want := codec.EncodeBytes(nil, []byte("k"))
	if got = Boundaries(nil, nil, kv.CFWrite, versioned1("k", 9)); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Fatalf("transactional key: %q", got)
	}
	// A short raw key cannot be a boundary; the region begins just below it.
	if got = Boundaries(nil, nil, kv.CFRaw, []byte("k1")); len(got) != 1 || !isEncoding(got[0]) || string(got[0]) >= "k1" || string(got[0]) < "k0\xff\xff" {
		t.Fatalf("short raw key: %q", got)
	}
	if again := Boundaries(got[0], nil, kv.CFRaw, []byte("k1")); len(again) != 0 {
		t.Fatalf("short raw key, again: %q", again)
	}
	keys := [][]byte{[]byte("usertable:7"), want, []byte("usertable:5"), []byte("zz"), []byte("usertable:7")}
	got = RawBoundaries(nil, []byte("zz"), keys)
	if len(got) != 5 || !bytes.Equal(got[0], want) || string(got[2]) != "usertable:5" || string(got[3]) != "usertable:7" {
		t.Fatalf("several: %q", got)
	}
}
