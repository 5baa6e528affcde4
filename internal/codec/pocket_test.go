package codec

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestRegionDecodable(t *testing.T) {
	p, ok := PocketOf([]byte("usertable:1"))
	if !ok {
		t.Fatal("no pocket")
	}
	in := func(k string) []byte { return []byte(k) }
	for _, c := range []struct {
		start, end []byte
		want       bool
	}{
		{nil, nil, true},
		{p.Start, p.End, true},
		{p.Start, in("usertable:1"), true},
		{in("usertable:1"), in("usertable:2"), true},
		{in("usertable:2"), p.End, true},
		{nil, in("usertable:1"), false},
		{in("usertable:1"), nil, false},
		{EncodeBytes(nil, in("a")), in("usertable:1"), false},
		{in("usertable:1"), EncodeBytes(nil, in("z")), false},
		{in("usertabl\x01"), in("usertabm\x01"), false},
		{EncodeBytes(nil, in("a")), EncodeBytes(nil, in("z")), true},
	} {
		if got := RegionDecodable(c.start, c.end); got != c.want {
			t.Errorf("[%q, %q): %v", c.start, c.end, got)
		}
	}
}

// TestEncodingBelow: it is an encoding at or below the key, and no other one
// that a client would use is between them.
func TestEncodingBelow(t *testing.T) {
	for _, c := range []struct{ key, want string }{
		{"user1", "user0\xff\xff\xff\xff" + "\xff\xff\xff\xff\xff\xff\xff\xff\xff" + "\x00\x00\x00\x00\x00\x00\x00\x00\xf7"},
		{"", ""}, {"\x00\x00", ""},
		{string(EncodeBytes(nil, []byte("user1"))), string(EncodeBytes(nil, []byte("user1")))},
		{string(EncodeBytes(nil, []byte("a long key of several groups"))) + "tail", string(EncodeBytes(nil, []byte("a long key of several groups")))},
	} {
		if got := EncodingBelow([]byte(c.key)); string(got) != c.want {
			t.Errorf("%q: got %q, want %q", c.key, got, c.want)
		}
	}
	rng := rand.New(rand.NewPCG(9, 9))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = []byte{0, 0, 1, 'a', 0xF6, 0xF7, 0xFE, 0xFF, 0xFF}[rng.IntN(9)]
		}
		return b
	}
	for range 200_000 {
		key := random(rng.IntN(22))
		if InPocket(key) {
			continue
		}
		got := EncodingBelow(key)
		if got == nil {
			if strings.Trim(string(key), "\x00") != "" && key[0] != 0 {
				t.Fatalf("nothing below %x", key)
			}
			continue
		}
		if _, rest, err := DecodeBytes(nil, got); err != nil || len(rest) > 0 || bytes.Compare(got, key) > 0 {
			t.Fatalf("below %x: %x is no encoding (%v)", key, got, err)
		}
		// An encoding near the key.
		near := append(bytes.Clone(key[:rng.IntN(len(key)+1)]), random(rng.IntN(4))...)
		if plain, _, err := DecodeBytes(nil, append(near, bytes.Repeat([]byte{0}, 9)...)); err == nil || len(plain) > 0 {
			near = plain
		}
		if enc := EncodeBytes(nil, near); bytes.Compare(enc, got) > 0 && bytes.Compare(enc, key) <= 0 && !bytes.Contains(near, bytes.Repeat([]byte{0xFF}, 8)) {
			t.Fatalf("below %x: %x, but %x, the encoding of %x, is nearer", key, got, enc, near)
		}
	}
}
