package mvcc

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// HoldersMax is the number of transactions that may share a key's lock: each
// coming and going writes the whole record.
const HoldersMax = 1024

// sharedShrinkOnly is the flag of a shared lock's record.
const (
	sharedShrinkOnly byte = 1 << iota
	sharedFlagsMax
)

// Shared reports whether this is the lock of several transactions, which are
// in Holders; the other fields of such a lock are empty, its StartTS is 0.
func (l *Lock) Shared() bool { return l != nil && l.Type == LockShared }

// Of returns the lock that the transaction has by this record: l itself, its
// part in a shared lock, or nil.
func (l *Lock) Of(startTS uint64) *Lock {
	switch {
	case l == nil:
		return nil
	case l.Shared():
		if i, ok := l.holder(startTS); ok {
			return &l.Holders[i]
		}
		return nil
	case l.StartTS == startTS:
		return l
	}
	return nil
}

// Txns lists the transactions that have the lock; l may be nil.
func (l *Lock) Txns() []uint64 {
	switch {
	case l == nil:
		return nil
	case !l.Shared():
		return []uint64{l.StartTS}
	}
	out := make([]uint64, len(l.Holders))
	for i := range l.Holders {
		out[i] = l.Holders[i].StartTS
	}
	return out
}

func (l *Lock) holder(startTS uint64) (int, bool) {
	return slices.BinarySearchFunc(l.Holders, startTS, func(h Lock, ts uint64) int {
		switch {
		case h.StartTS < ts:
			return -1
		case h.StartTS > ts:
			return 1
		}
		return 0
	})
}

// PutHolder adds a holder to a shared lock, or replaces what the transaction
// has in it. h is a LockPessimistic or, prewritten, a LockLock.
func (l *Lock) PutHolder(h Lock) {
	if h.Type != LockPessimistic && h.Type != LockLock {
		panic(fmt.Sprintf("mvcc: a holder of a shared lock of type %d", h.Type))
	}
	i, found := l.holder(h.StartTS)
	if found {
		l.Holders[i] = h
		return
	}
	l.Holders = slices.Insert(l.Holders, i, h)
}

// RemoveHolder takes the transaction's part out of a shared lock.
func (l *Lock) RemoveHolder(startTS uint64) {
	if i, ok := l.holder(startTS); ok {
		l.Holders = slices.Delete(l.Holders, i, i+1)
	}
}

// appendShared appends the encoding of a shared lock:
//
//	version<<4|5 (1) flags(1) uvarint(n) n*bytes(lock record), by start_ts
func appendShared(dst []byte, l *Lock) []byte {
	var flags byte
	if l.ShrinkOnly {
		flags |= sharedShrinkOnly
	}
	dst = append(dst, recordVersion<<4|byte(LockShared), flags)
	dst = binary.AppendUvarint(dst, uint64(len(l.Holders)))
	var one []byte
	for i := range l.Holders {
		one = AppendLock(one[:0], &l.Holders[i])
		dst = appendBytes(dst, one)
	}
	return dst
}

// parseShared decodes what follows the first two bytes.
func (d *decoder) parseShared(flags byte, l *Lock) error {
	if flags >= sharedFlagsMax {
		return fmt.Errorf("%w: shared lock record has flags %#x", ErrCorrupt, flags)
	}
	l.ShrinkOnly = flags&sharedShrinkOnly != 0
	records := d.list()
	if d.bad || len(d.b) != 0 || len(records) == 0 {
		return fmt.Errorf("%w: shared lock record is malformed", ErrCorrupt)
	}
	l.Holders = make([]Lock, len(records))
	for i, b := range records {
		h := &l.Holders[i]
		if err := ParseLock(b, h); err != nil {
			return err
		}
		if h.Type != LockLock && h.Type != LockPessimistic || i > 0 && l.Holders[i-1].StartTS >= h.StartTS {
			return fmt.Errorf("%w: shared lock record has a holder of type %d, start_ts %d out of place", ErrCorrupt, h.Type, h.StartTS)
		}
	}
	return nil
}

// LockTxns appends to dst the start timestamps of the transactions that have
// the encoded lock, without decoding the rest of it.
func LockTxns(dst []uint64, b []byte) ([]uint64, error) {
	if len(b) < 2 || LockType(b[0]&0xF) != LockShared {
		ts, err := LockStartTS(b)
		if err != nil {
			return dst, err
		}
		return append(dst, ts), nil
	}
	if b[0]>>4 != recordVersion {
		return dst, fmt.Errorf("%w: lock record of %d bytes", ErrCorrupt, len(b))
	}
	d := decoder{b: b[2:]}
	for _, one := range d.list() {
		ts, err := LockStartTS(one)
		if err != nil {
			return dst, err
		}
		dst = append(dst, ts)
	}
	if d.bad {
		return dst, fmt.Errorf("%w: shared lock record of %d bytes is malformed", ErrCorrupt, len(b))
	}
	return dst, nil
}

// sharedInfo is a shared lock as clients see it: everything is in the holders.
func (l *Lock) sharedInfo(key []byte) *kvrpcpb.LockInfo {
	info := &kvrpcpb.LockInfo{LockType: kvrpcpb.Op_SharedLock, Key: slices.Clone(key)}
	for i := range l.Holders {
		info.SharedLockInfos = append(info.SharedLockInfos, l.Holders[i].Info(key))
	}
	return info
}
