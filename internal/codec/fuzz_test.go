package codec

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"testing"
)

// FuzzBytes: any string comes back, encodings order as the strings do and none
// is a prefix of another; what is no encoding is refused.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{"", "\x00", "a", "12345678", "123456789", "\xff\xff\xff\xff\xff\xff\xff\xff", "abcdefgh\x00", "12345678\xff\xff\xff\xff\xff\xff\xff\xff"} {
		f.Add([]byte(s), []byte("12345678"), []byte("rest"))
		f.Add([]byte("1234567"), []byte(s), []byte{0xFF})
		f.Add(EncodeBytes(nil, []byte(s)), []byte(s), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, a, b, rest []byte) {
		ea, eb := EncodeBytes(nil, a), EncodeBytes(nil, b)
		if len(ea) != EncodedBytesLen(len(a)) || EncodedPrefixLen(append(bytes.Clone(ea), rest...)) != len(ea) {
			t.Errorf("the encoding of %x has %d bytes, want %d", a, len(ea), EncodedBytesLen(len(a)))
		}
		got, left, err := DecodeBytes(nil, append(bytes.Clone(ea), rest...))
		if err != nil || !bytes.Equal(got, a) || !bytes.Equal(left, rest) {
			t.Errorf("%x ++ %x came back as %x, %x, %v", a, rest, got, left, err)
		}
		if bytes.Compare(ea, eb) != bytes.Compare(a, b) {
			t.Errorf("%x and %x: the encodings order otherwise", a, b)
		}
		if !bytes.Equal(a, b) && (bytes.HasPrefix(ea, eb) || bytes.HasPrefix(eb, ea)) {
			t.Errorf("%x and %x: one encoding begins the other", a, b)
		}
		// a as an encoding: refused, or the one encoding of what it decodes to.
		if got, left, err := DecodeBytes(nil, a); err == nil {
			if !bytes.Equal(append(EncodeBytes(nil, got), left...), a) {
				t.Errorf("%x decodes to %x, which is encoded otherwise", a, got)
			}
		} else if !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
	})
}

// FuzzTS: the key of a version comes apart again, and newer versions order first.
func FuzzTS(f *testing.F) {
	f.Add([]byte("k"), uint64(1), uint64(2))
	f.Add([]byte(nil), uint64(0), uint64(math.MaxUint64))
	f.Add([]byte("\xff\xff"), uint64(1<<63), uint64(1<<63-1))
	f.Fuzz(func(t *testing.T, key []byte, a, b uint64) {
		enc := EncodeBytes(nil, key)
		va, vb := EncodeTS(bytes.Clone(enc), a), EncodeTS(bytes.Clone(enc), b)
		prefix, ts, err := DecodeTS(va)
		if err != nil || ts != a || !bytes.Equal(prefix, enc) {
			t.Errorf("%x at %d came back as %x at %d, %v", enc, a, prefix, ts, err)
		}
		if bytes.Compare(va, vb) != cmp.Compare(b, a) {
			t.Errorf("versions %d and %d order wrongly", a, b)
		}
		if prefix, ts, err := DecodeTS(key); err != nil && !errors.Is(err, ErrMalformed) || err == nil && !bytes.Equal(EncodeTS(bytes.Clone(prefix), ts), key) {
			t.Errorf("%x is %x at %d, %v", key, prefix, ts, err)
		}
	})
}

// FuzzNumbers: integers and floats come back and order as they should.
func FuzzNumbers(f *testing.F) {
	f.Add(int64(0), int64(-1), 0.0, math.Copysign(0, -1))
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), math.Inf(-1), math.NaN())
	f.Fuzz(func(t *testing.T, i, j int64, x, y float64) {
		ei, ej := EncodeInt64(nil, i), EncodeInt64(nil, j)
		if got, rest, err := DecodeInt64(append(bytes.Clone(ei), 7)); err != nil || got != i || len(rest) != 1 {
			t.Errorf("%d came back as %d, %v", i, got, err)
		}
		if bytes.Compare(ei, ej) != cmp.Compare(i, j) {
			t.Errorf("%d and %d order wrongly", i, j)
		}
		ex, ey := EncodeFloat64(nil, x), EncodeFloat64(nil, y)
		if got, _, err := DecodeFloat64(ex); err != nil || got != x && (got == got || x == x) {
			t.Errorf("%v came back as %v, %v", x, got, err)
		}
		if x == x && y == y && bytes.Compare(ex, ey) != cmp.Compare(x, y) || x != x && bytes.Compare(ex, ey) < 0 {
			t.Errorf("%v and %v order wrongly", x, y)
		}
	})
}

// FuzzPrefixNext: it is above everything with the prefix, and nothing without it
// lies between.
func FuzzPrefixNext(f *testing.F) {
	f.Add([]byte("a\xff"), []byte("a\xff\xff"))
	f.Add([]byte("\xff"), []byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, prefix, key []byte) {
		next := PrefixNext(prefix)
		within := bytes.Compare(key, prefix) >= 0 && (next == nil || bytes.Compare(key, next) < 0)
		if within != bytes.HasPrefix(key, prefix) {
			t.Errorf("prefix %x, next %x, key %x", prefix, next, key)
		}
	})
}

// FuzzPocket: the ends of a raw key's pocket are encodings around it, and a
// region from one to the other can be decoded by transactional clients.
func FuzzPocket(f *testing.F) {
	for _, k := range []string{"usertable:1", "\x00\x00\x00\x00\x00\x00\x00\x00\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\x01", "abc\x00\x00\x00\x00\x00x", "short"} {
		f.Add([]byte(k))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		p, ok := PocketOf(key)
		if ok != InPocket(key) {
			t.Fatalf("%x: in a pocket: %t", key, !ok)
		}
		if !ok {
			return
		}
		for _, end := range [][]byte{p.Start, p.End} {
			if len(end) == 0 {
				continue
			}
			if _, rest, err := DecodeBytes(nil, end); err != nil || len(rest) != 0 {
				t.Errorf("%x: its pocket ends at %x: %v", key, end, err)
			}
		}
		if bytes.Compare(p.Start, key) >= 0 || len(p.End) > 0 && bytes.Compare(key, p.End) >= 0 {
			t.Errorf("%x is not in [%x, %x)", key, p.Start, p.End)
		}
		if !RegionDecodable(p.Start, p.End) || !RegionDecodable(p.Start, key) || !RegionDecodable(key, p.End) {
			t.Errorf("%x: regions of its pocket are refused", key)
		}
	})
}
