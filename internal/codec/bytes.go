package codec

import (
	"encoding/binary"
	"errors"
	"math"
)

const (
	encGroupBytes      = 8
	encMarker     byte = 0xFF
	encPad        byte = 0x00
)

// ErrMalformed says that bytes are not an encoding of this package.
var ErrMalformed = errors.New("codec: malformed encoding")

// EncodeBytes appends the memcomparable encoding of data to dst: groups of
// eight bytes, the last one padded with zeros, each followed by a marker
// 0xFF - (number of padding bytes). The encodings order as the inputs do and
// none is a prefix of another.
func EncodeBytes(dst, data []byte) []byte {
	for {
		if len(data) >= encGroupBytes {
			dst = append(dst, data[:encGroupBytes]...)
			dst = append(dst, encMarker)
			data = data[encGroupBytes:]
			continue
		}
		pad := encGroupBytes - len(data)
		dst = append(dst, data...)
		for range pad {
			dst = append(dst, encPad)
		}
		return append(dst, encMarker-byte(pad))
	}
}

// EncodedBytesLen is the length of the encoding of n bytes.
func EncodedBytesLen(n int) int { return (n/encGroupBytes + 1) * (encGroupBytes + 1) }

// EncodedPrefixLen returns how many bytes at the start of b are one complete
// encoding, or -1 if b does not start with one. It looks at the markers only.
func EncodedPrefixLen(b []byte) int {
	for i := 0; ; i += encGroupBytes + 1 {
		if i+encGroupBytes+1 > len(b) {
			return -1
		}
		if b[i+encGroupBytes] != encMarker {
			return i + encGroupBytes + 1
		}
	}
}

// DecodeBytes appends the decoded bytes to dst and returns them with what
// follows the encoding in b.
func DecodeBytes(dst, b []byte) (data, rest []byte, err error) {
	for {
		if len(b) < encGroupBytes+1 {
			return dst, b, ErrMalformed
		}
		marker := b[encGroupBytes]
		pad := int(encMarker - marker)
		if pad > encGroupBytes {
			return dst, b, ErrMalformed
		}
		real := encGroupBytes - pad
		dst = append(dst, b[:real]...)
		for _, p := range b[real:encGroupBytes] {
			if p != encPad {
				return dst, b, ErrMalformed
			}
		}
		b = b[encGroupBytes+1:]
		if pad != 0 {
			return dst, b, nil
		}
	}
}

// EncodeInt64 appends v so that encodings order as signed integers.
func EncodeInt64(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v)^(1<<63))
}

// DecodeInt64 undoes EncodeInt64.
func DecodeInt64(b []byte) (v int64, rest []byte, err error) {
	if len(b) < 8 {
		return 0, b, ErrMalformed
	}
	return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)), b[8:], nil
}

// EncodeFloat64 appends v so that encodings order as PostgreSQL orders floats:
// -0 equals 0, NaN is above everything.
func EncodeFloat64(dst []byte, v float64) []byte {
	if v == 0 {
		v = 0 // folds -0
	}
	if v != v {
		v = math.NaN()
	}
	u := math.Float64bits(v)
	if u&(1<<63) != 0 {
		u = ^u
	} else {
		u |= 1 << 63
	}
	return binary.BigEndian.AppendUint64(dst, u)
}

// DecodeFloat64 undoes EncodeFloat64.
func DecodeFloat64(b []byte) (v float64, rest []byte, err error) {
	if len(b) < 8 {
		return 0, b, ErrMalformed
	}
	u := binary.BigEndian.Uint64(b)
	if u&(1<<63) != 0 {
		u &^= 1 << 63
	} else {
		u = ^u
	}
	return math.Float64frombits(u), b[8:], nil
}

// TSLen is the length of an encoded timestamp, in bytes.
const TSLen = 8

// EncodeTS appends ts so that later timestamps order first.
func EncodeTS(dst []byte, ts uint64) []byte { return binary.BigEndian.AppendUint64(dst, ^ts) }

// DecodeTS undoes EncodeTS for the last eight bytes of key and returns what is
// before them.
func DecodeTS(key []byte) (prefix []byte, ts uint64, err error) {
	if len(key) < TSLen {
		return nil, 0, ErrMalformed
	}
	n := len(key) - TSLen
	return key[:n], ^binary.BigEndian.Uint64(key[n:]), nil
}

// PrefixNext returns the smallest byte string that is larger than every string
// with this prefix, or nil if there is none.
func PrefixNext(prefix []byte) []byte {
	out := append([]byte(nil), prefix...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i] != 0xFF {
			out[i]++
			return out[:i+1]
		}
	}
	return nil
}
