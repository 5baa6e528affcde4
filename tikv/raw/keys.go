package raw

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// The stored keys that belong to API V2: memcomparable encodings keep the
// first bytes.
var reservedStart, reservedEnd = []byte{'r', 0x00}, []byte{'r', 0x01}

// v2PrefixBytes is the length of 'r' and the keyspace.
const v2PrefixBytes = 4

// codecOf maps between request keys and stored keys of one API version.
type codecOf struct{ v2 bool }

func keyCodec(rc *kvrpcpb.Context) codecOf {
	return codecOf{v2: rc.GetApiVersion() == kvrpcpb.APIVersion_V2}
}

// stored returns the stored form of a key, or why it can't be one.
func (c codecOf) stored(key []byte) ([]byte, error) {
	if len(key) > KeyBytesMax {
		return nil, fmt.Errorf("raw key of %d bytes is too long, at most %d are possible", len(key), KeyBytesMax)
	}
	if !c.v2 {
		if inReserved(key) {
			return nil, fmt.Errorf("raw key %x begins with 'r' 0x00, which belongs to API V2 keyspaces; use an API V2 client", key)
		}
		return key, nil
	}
	if len(key) < v2PrefixBytes || !inReserved(key) {
		return nil, fmt.Errorf("raw key %x of API V2 must begin with 'r' and the 3 bytes of a keyspace id below 65536", key)
	}
	return codec.EncodeBytes(nil, key), nil
}

// plain appends the request key of a stored key.
func (c codecOf) plain(dst, stored []byte) ([]byte, error) {
	if !c.v2 {
		return append(dst, stored...), nil
	}
	out, rest, err := codec.DecodeBytes(dst, stored)
	if err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("stored raw key %x is no API V2 key", stored)
	}
	return out, nil
}

func inReserved(key []byte) bool { return bytes.HasPrefix(key, reservedStart) }

// segment is [start, end) in stored keys; an empty end is unbounded.
type segment struct{ start, end []byte }

// segments returns the parts of the request's range [start, end) that the API
// version may see, in ascending order. An empty end is unbounded; in V2 it is the
// end of start's keyspace.
func (c codecOf) segments(start, end []byte) ([]segment, error) {
	if c.v2 {
		if len(start) < v2PrefixBytes || !inReserved(start) {
			return nil, fmt.Errorf("raw range [%x, %x) of API V2 must begin with 'r' and the 3 bytes of a keyspace id below 65536", start, end)
		}
		if len(end) == 0 {
			id := binary.BigEndian.Uint32(start)
			end = binary.BigEndian.AppendUint32(nil, id+1) // 'r' is not carried into
		}
		return nonEmpty(segment{codec.EncodeBytes(nil, start), minEnd(codec.EncodeBytes(nil, end), reservedEnd)}), nil
	}
	return append(nonEmpty(segment{start, minEnd(end, reservedStart)}),
		nonEmpty(segment{maxStart(start, reservedEnd), end})...), nil
}

func nonEmpty(s segment) []segment {
	if len(s.end) > 0 && bytes.Compare(s.start, s.end) >= 0 {
		return nil
	}
	return []segment{s}
}

// minEnd and maxStart choose the tighter bound; an empty end is the largest.
func minEnd(a, b []byte) []byte {
	if len(a) == 0 || len(b) > 0 && bytes.Compare(b, a) < 0 {
		return b
	}
	return a
}

func maxStart(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}

const (
	plainValue  byte = 0
	expireValue byte = 1

	expireHeadBytes = 1 + 8
)

// encodeValue returns the stored value; ttl is in seconds, 0 is none.
func encodeValue(value []byte, ttl uint64, now time.Time) ([]byte, error) {
	if len(value) > ValueBytesMax {
		return nil, fmt.Errorf("raw value of %d bytes is too long, at most %d are possible", len(value), ValueBytesMax)
	}
	if ttl == 0 {
		out := make([]byte, 0, 1+len(value))
		return append(append(out, plainValue), value...), nil
	}
	if ttl > TTLSecondsMax {
		return nil, fmt.Errorf("raw TTL of %d s is too long, at most %d s are possible", ttl, uint64(TTLSecondsMax))
	}
	out := make([]byte, 0, expireHeadBytes+len(value))
	out = binary.BigEndian.AppendUint64(append(out, expireValue), uint64(now.Unix())+ttl)
	return append(out, value...), nil
}

// decodeValue returns the value inside a stored one and its remaining time to
// live in seconds (0: unlimited); ok is false if it has expired.
func decodeValue(stored []byte, now time.Time) (value []byte, ttl uint64, ok bool, err error) {
	switch {
	case len(stored) >= 1 && stored[0] == plainValue:
		return stored[1:], 0, true, nil
	case len(stored) >= expireHeadBytes && stored[0] == expireValue:
		expiry, at := binary.BigEndian.Uint64(stored[1:]), uint64(now.Unix())
		if expiry <= at {
			return nil, 0, false, nil
		}
		return stored[expireHeadBytes:], expiry - at, true, nil
	}
	return nil, 0, false, fmt.Errorf("stored raw value of %d bytes is damaged", len(stored))
}
