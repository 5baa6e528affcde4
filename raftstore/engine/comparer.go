package engine

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// metaPrefix is the first byte of meta keys; it differs from every family's.
const metaPrefix = 'm'

// keyPrefixBundle is how many key prefixes a columnar block compresses
// against a common one.
const keyPrefixBundle = 16

// ComparerName is stored in every table and manifest; changing what the
// comparer does needs another name.
const ComparerName = "copra.v1"

// Comparer orders keys as bytes.Compare does. It differs from Pebble's default
// only in Split.
//
// Pebble asks that prefixes order before suffixes. That holds because the
// complete encodings found by codec.EncodedPrefixLen are prefix-free: if one
// key's prefix P is a proper prefix of another key, the scan over the markers
// of that key stops at P, too, so both have the same prefix. Removing leading
// bytes of a prefix does not give a valid prefix here (the family is the first
// byte); Pebble needs that only for synthetic prefixes, which copra never
// uses.
var Comparer = &pebble.Comparer{
	Name:                 ComparerName,
	Compare:              bytes.Compare,
	Equal:                bytes.Equal,
	ComparePointSuffixes: bytes.Compare,
	CompareRangeSuffixes: bytes.Compare,
	AbbreviatedKey:       pebble.DefaultComparer.AbbreviatedKey,
	FormatKey:            pebble.DefaultComparer.FormatKey,
	Separator:            pebble.DefaultComparer.Separator,
	Successor:            pebble.DefaultComparer.Successor,
	Split:                split,
	ImmediateSuccessor:   immediateSuccessor,
}

// split returns the length of the key without its timestamp.
func split(key []byte) int {
	if len(key) == 0 || !versioned(key[0]) {
		return len(key)
	}
	if n := codec.EncodedPrefixLen(key[1:]); n >= 0 {
		return 1 + n
	}
	return len(key)
}

// versioned reports whether keys with this first byte end in a timestamp.
func versioned(first byte) bool { return first == byte(kv.CFDefault) || first == byte(kv.CFWrite) }

// immediateSuccessor appends the smallest prefix that is larger than prefix.
func immediateSuccessor(dst, prefix []byte) []byte {
	if len(prefix) > 1 && versioned(prefix[0]) && codec.EncodedPrefixLen(prefix[1:]) == len(prefix)-1 {
		// A complete encoding: whatever is appended belongs to the suffix, so
		// the next prefix has a larger marker. The marker is not 0xFF, or the
		// encoding would go on.
		dst = append(dst, prefix...)
		dst[len(dst)-1]++
		return dst
	}
	return append(append(dst, prefix...), 0x00)
}

// cfKey appends the disk key of a family's key.
func cfKey(dst []byte, cf kv.CF, key []byte) []byte {
	return append(append(dst, byte(cf)), key...)
}

// cfEnd appends the disk key of an exclusive upper bound; an empty end is the
// end of the family.
func cfEnd(dst []byte, cf kv.CF, end []byte) []byte {
	if len(end) == 0 {
		return append(dst, byte(cf)+1)
	}
	return cfKey(dst, cf, end)
}
