package mvcc

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// WriteType says what a commit record did to its key.
type WriteType byte

// The commit record types; the values are part of the format.
const (
	WritePut      WriteType = 1
	WriteDelete   WriteType = 2
	WriteLock     WriteType = 3 // locked and committed, nothing changed
	WriteRollback WriteType = 4 // StartTS == commit_ts: the transaction is rolled back
)

// Op is the kvproto operation of the type.
func (t WriteType) Op() kvrpcpb.Op {
	switch t {
	case WritePut:
		return kvrpcpb.Op_Put
	case WriteDelete:
		return kvrpcpb.Op_Del
	case WriteLock:
		return kvrpcpb.Op_Lock
	}
	return kvrpcpb.Op_Rollback
}

// Write is a commit record.
type Write struct {
	Type    WriteType
	StartTS uint64
	// OverlappedRollback says that a transaction whose start timestamp equals
	// this record's commit timestamp was rolled back on this key (hazard 21).
	OverlappedRollback bool
	// Protected marks a rollback record that must not be collapsed: its
	// transaction's fate is decided by it (hazard 22).
	Protected bool
	// LastChange is of WriteLock and WriteRollback records.
	LastChange LastChange
	HasShort   bool
	ShortValue []byte
}

const (
	writeHasShort byte = 1 << iota
	writeOverlapped
	writeProtected
	writeHasLastChange
	writeFlagsMax
)

// writeHeaderBytes is the length of the part that every record has.
const writeHeaderBytes = 10

// Clone returns a copy that shares no memory with w.
func (w Write) Clone() Write {
	w.ShortValue = slices.Clone(w.ShortValue)
	return w
}

// AppendWrite appends the encoding of w:
//
//	version<<4|type(1) flags(1) start_ts(8, little endian) [last change] [short value]
func AppendWrite(dst []byte, w *Write) []byte {
	var flags byte
	if w.HasShort {
		flags |= writeHasShort
	}
	if w.OverlappedRollback {
		flags |= writeOverlapped
	}
	if w.Protected {
		flags |= writeProtected
	}
	if w.LastChange.Known() {
		flags |= writeHasLastChange
	}
	dst = append(dst, recordVersion<<4|byte(w.Type), flags)
	dst = binary.LittleEndian.AppendUint64(dst, w.StartTS)
	if w.LastChange.Known() {
		dst = w.LastChange.append(dst)
	}
	if w.HasShort {
		dst = append(dst, w.ShortValue...)
	}
	return dst
}

// ParseWrite decodes a commit record. ShortValue aliases b.
func ParseWrite(b []byte) (Write, error) {
	if len(b) < writeHeaderBytes || b[0]>>4 != recordVersion || b[1] >= writeFlagsMax {
		return Write{}, fmt.Errorf("%w: commit record of %d bytes is malformed", ErrCorrupt, len(b))
	}
	w := Write{
		Type:               WriteType(b[0] & 0xF),
		StartTS:            binary.LittleEndian.Uint64(b[2:]),
		OverlappedRollback: b[1]&writeOverlapped != 0,
		Protected:          b[1]&writeProtected != 0,
		HasShort:           b[1]&writeHasShort != 0,
	}
	if w.Type < WritePut || w.Type > WriteRollback {
		return Write{}, fmt.Errorf("%w: commit record has type %d", ErrCorrupt, w.Type)
	}
	rest := b[writeHeaderBytes:]
	if b[1]&writeHasLastChange != 0 {
		d := decoder{b: rest}
		if w.LastChange = d.lastChange(); d.bad {
			return Write{}, fmt.Errorf("%w: commit record of %d bytes is malformed", ErrCorrupt, len(b))
		}
		rest = d.b
	}
	if w.HasShort {
		w.ShortValue = rest
	} else if len(rest) != 0 {
		return Write{}, fmt.Errorf("%w: commit record has %d trailing bytes", ErrCorrupt, len(rest))
	}
	return w, nil
}
