package raftlog

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	metaPrefix   byte = 'm'
	regionPrefix byte = 'r'

	hardStateKind byte = 0
	truncatedKind byte = 1
	entryKind     byte = 2
	endKind       byte = 3 // behind all keys of a region

	regionKeyBytes = 1 + 8 + 1
	entryKeyBytes  = regionKeyBytes + 8
)

func putRegionKey(dst []byte, regionID uint64, kind byte) {
	dst[0] = regionPrefix
	binary.BigEndian.PutUint64(dst[1:], regionID)
	dst[9] = kind
}

func regionKey(regionID uint64, kind byte) []byte {
	key := make([]byte, regionKeyBytes)
	putRegionKey(key, regionID, kind)
	return key
}

func putEntryKey(dst []byte, regionID, index uint64) {
	putRegionKey(dst, regionID, entryKind)
	binary.BigEndian.PutUint64(dst[regionKeyBytes:], index)
}

func entryKey(regionID, index uint64) []byte {
	key := make([]byte, entryKeyBytes)
	putEntryKey(key, regionID, index)
	return key
}

func metaKey(key []byte) []byte { return append([]byte{metaPrefix}, key...) }

// entryIndex returns the index in an entry's key.
func entryIndex(key []byte) uint64 { return binary.BigEndian.Uint64(key[regionKeyBytes:]) }

// decodeEntry decodes an entry's value; the data is copied.
func decodeEntry(regionID, index uint64, value []byte) (*raftpb.Entry, error) {
	typ, term, data, err := splitEntry(regionID, index, value)
	if err != nil {
		return nil, err
	}
	e := &raftpb.Entry{Index: &index, Term: &term, Type: typ.Enum()}
	if len(data) > 0 {
		e.Data = append([]byte(nil), data...)
	}
	return e, nil
}

func splitEntry(regionID, index uint64, value []byte) (typ raftpb.EntryType, term uint64, data []byte, err error) {
	if len(value) > 1 {
		if term, n := binary.Uvarint(value[1:]); n > 0 {
			return raftpb.EntryType(value[0]), term, value[1+n:], nil
		}
	}
	return 0, 0, nil, fmt.Errorf("raft log: entry %d of region %d is damaged: %d bytes", index, regionID, len(value))
}

// uvarints decodes len(out) numbers.
func uvarints(value []byte, out ...*uint64) bool {
	for _, p := range out {
		v, n := binary.Uvarint(value)
		if n <= 0 {
			return false
		}
		*p, value = v, value[n:]
	}
	return len(value) == 0
}
