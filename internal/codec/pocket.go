package codec

import "bytes"

// A Pocket is the range of the raw keys that share their first eight bytes and
// go on with a byte that no memcomparable encoding has there. No
// transactional key lies in it, so that a region inside it may begin and end
// at any raw key: no transactional client ever asks for it. Its own ends are
// encodings, as the neighbours' clients need them.
type Pocket struct{ Start, End []byte }

const (
	pocketPrefixBytes = 8
	// encMarkerMin is the smallest byte that ends a group of an encoding.
	encMarkerMin = 0xFF - 8
)

// PocketOf returns the pocket of a raw key, if it lies in one.
func PocketOf(key []byte) (p Pocket, ok bool) {
	if !InPocket(key) {
		return p, false
	}
	prefix := key[:pocketPrefixBytes]
	// The end is the smallest encoding that begins with the prefix.
	p.End = EncodeBytes(nil, bytes.TrimRight(prefix, "\x00"))
	// The start is an encoding that nothing but keys of sixteen bytes 0xFF can
	// follow before the prefix.
	before := bytes.Clone(prefix)
	i := len(before) - 1
	for ; i >= 0 && before[i] == 0; i-- {
		before[i] = 0xFF
	}
	if i < 0 {
		return p, true // nothing is smaller than eight zeros
	}
	before[i]--
	p.Start = EncodeBytes(nil, append(before, bytes.Repeat([]byte{0xFF}, pocketPrefixBytes)...))
	return p, true
}

// IsEncoding reports whether b looks like one memcomparable encoding and nothing
// else. It looks at the markers only.
func IsEncoding(b []byte) bool {
	return len(b) > 0 && EncodedPrefixLen(b) == len(b) && b[len(b)-1] >= encMarkerMin
}

// InPocket reports whether a boundary lies inside a pocket: it is a raw key that
// transactional clients cannot decode.
func InPocket(boundary []byte) bool {
	return len(boundary) > pocketPrefixBytes && boundary[pocketPrefixBytes] < encMarkerMin
}

// RegionDecodable reports whether transactional clients can decode the boundaries
// of a region [start, end), where a key of theirs may lie in it: a region that
// has a boundary inside a pocket must not reach out of it.
func RegionDecodable(start, end []byte) bool {
	for _, b := range [...][]byte{start, end} {
		if p, ok := PocketOf(b); ok && (bytes.Compare(start, p.Start) < 0 || len(end) == 0 || bytes.Compare(end, p.End) > 0) {
			return false
		}
	}
	return true
}

// EncodingBelow returns the last memcomparable encoding at or below a raw key,
// as far as raw keys go: between the two lie only raw keys that begin like the
// key and lack some of its last zeros or bytes from 0xF7 on, or go on with
// sixteen bytes 0xFF. It is where a region of that key begins if it may not
// begin at the key itself. It is nil if nothing is smaller.
func EncodingBelow(key []byte) []byte {
	pos, limit := 0, byte(0) // limit is the largest marker that may end the group
	for len(key)-pos > encGroupBytes && key[pos+encGroupBytes] == encMarker {
		pos += encGroupBytes + 1
	}
	var group [encGroupBytes]byte
	rest := key[pos:]
	copy(group[:], rest)
	if len(rest) > encGroupBytes {
		limit = rest[encGroupBytes]
	}
	for {
		zeros := encGroupBytes - len(bytes.TrimRight(group[:], "\x00"))
		if zeros > 0 && limit >= encMarkerMin && limit >= encMarker-byte(zeros) {
			return append(append(bytes.Clone(key[:pos]), group[:]...), limit)
		}
		if i := encGroupBytes - zeros - 1; i >= 0 {
			group[i]--
			for j := i + 1; j < encGroupBytes; j++ {
				group[j] = 0xFF
			}
			out := append(bytes.Clone(key[:pos]), group[:]...)
			out = append(out, encMarker)
			return EncodeBytes(out, bytes.Repeat([]byte{0xFF}, pocketPrefixBytes))
		}
		if pos == 0 {
			return nil
		}
		// Below a group of zeros: what ends with the group before it.
		pos -= encGroupBytes + 1
		copy(group[:], key[pos:])
		limit = encMarker - 1
	}
}
