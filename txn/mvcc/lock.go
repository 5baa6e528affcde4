package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// ShortValueBytesMax is the longest value that is kept inside Lock and Write
// records; longer ones go to the default family.
const ShortValueBytesMax = 255

// recordVersion is the high half of the first byte of both record kinds.
const recordVersion = 1

// ErrCorrupt says that stored bytes are not a record of this package, or that
// a value a record points to is gone. It is never the client's fault.
var ErrCorrupt = errors.New("mvcc: corrupt data")

// LockType is what a lock will become when it is committed.
type LockType byte

// The lock types; the values are part of the format.
const (
	LockPut         LockType = 1
	LockDelete      LockType = 2
	LockLock        LockType = 3 // no change of the data: SELECT FOR UPDATE in a prewrite
	LockPessimistic LockType = 4 // taken before the prewrite; commits to nothing
	LockShared      LockType = 5 // several transactions' LockPessimistic and LockLock
)

// Op is the kvproto operation of the type.
func (t LockType) Op() kvrpcpb.Op {
	switch t {
	case LockPut:
		return kvrpcpb.Op_Put
	case LockDelete:
		return kvrpcpb.Op_Del
	case LockLock:
		return kvrpcpb.Op_Lock
	case LockPessimistic:
		return kvrpcpb.Op_PessimisticLock
	case LockShared:
		return kvrpcpb.Op_SharedLock
	}
	return kvrpcpb.Op_Rollback
}

// WriteType is the type of the commit record that the lock turns into. A
// pessimistic lock has none, and a shared one is committed holder by holder.
func (t LockType) WriteType() WriteType {
	switch t {
	case LockPut:
		return WritePut
	case LockDelete:
		return WriteDelete
	case LockLock:
		return WriteLock
	}
	panic(fmt.Sprintf("mvcc: lock type %d has no commit record", t))
}

// Lock is a key's lock. Timestamps are TSO timestamps, TTL is in milliseconds
// after the physical part of StartTS.
type Lock struct {
	Type        LockType
	StartTS     uint64
	TTL         uint64
	ForUpdateTS uint64 // not 0 in pessimistic transactions
	MinCommitTS uint64 // the transaction won't commit below it; 0 = not known
	TxnSize     uint64
	Generation  uint64 // not 0 for locks of pipelined DML, grows with each flush
	Primary     []byte // plain user key
	Secondaries [][]byte
	// RollbackTS are start timestamps of other transactions whose protected
	// rollback of this key could be overwritten by this lock's commit, whose
	// timestamp is computed and not given out by PD (hazard 21).
	RollbackTS []uint64

	// LastChange is for the commit record of a LockLock.
	LastChange LastChange

	ShortValue     []byte
	HasShort       bool
	UseAsyncCommit bool
	// WithConflict marks a pessimistic lock that was taken although a newer
	// version existed (force-lock mode): its transaction may have ended already.
	WithConflict bool
	// UseOnePC is set in memory only, while a one-phase commit is on its way.
	UseOnePC bool

	// Holders are the parts of a shared lock, by StartTS; never none.
	Holders []Lock
	// ShrinkOnly lets no more holders in: somebody waits for the key alone.
	ShrinkOnly bool
}

const (
	lockHasShort byte = 1 << iota
	lockAsync
	lockWithConflict
	lockHasRollbacks
	lockHasLastChange
	lockFlagsMax
)

// Pessimistic reports whether this is a lock of the acquire phase.
func (l *Lock) Pessimistic() bool { return l.Type == LockPessimistic }

// Expired reports whether the time to live is over at currentTS. MaxUint64
// expires every lock.
func (l *Lock) Expired(currentTS uint64) bool {
	return PhysicalMs(l.StartTS)+l.TTL < PhysicalMs(currentTS)
}

// PhysicalMs is the wall clock part of a TSO timestamp, in ms.
func PhysicalMs(ts uint64) uint64 { return ts >> 18 }

// Clone returns a copy that shares no memory with l.
func (l *Lock) Clone() *Lock {
	out := *l
	out.Primary = slices.Clone(l.Primary)
	out.ShortValue = slices.Clone(l.ShortValue)
	out.RollbackTS = slices.Clone(l.RollbackTS)
	if l.Secondaries != nil {
		out.Secondaries = make([][]byte, len(l.Secondaries))
		for i, s := range l.Secondaries {
			out.Secondaries[i] = slices.Clone(s)
		}
	}
	if l.Holders != nil {
		out.Holders = make([]Lock, len(l.Holders))
		for i := range l.Holders {
			out.Holders[i] = *l.Holders[i].Clone()
		}
	}
	return &out
}

// Info is the lock as clients see it. key is the plain user key; nothing of
// the result aliases l.
func (l *Lock) Info(key []byte) *kvrpcpb.LockInfo {
	if l.Shared() {
		return l.sharedInfo(key)
	}
	c := l.Clone()
	return &kvrpcpb.LockInfo{
		PrimaryLock:     c.Primary,
		LockVersion:     l.StartTS,
		Key:             slices.Clone(key),
		LockTtl:         l.TTL,
		TxnSize:         l.TxnSize,
		LockType:        l.Type.Op(),
		LockForUpdateTs: l.ForUpdateTS,
		UseAsyncCommit:  l.UseAsyncCommit,
		MinCommitTs:     l.MinCommitTS,
		Secondaries:     c.Secondaries,
	}
}

// AppendLock appends the encoding of l:
//
//	version<<4|type(1) flags(1) start_ts(8, little endian) uvarint(ttl)
//	uvarint(for_update_ts) uvarint(min_commit_ts) uvarint(txn_size) uvarint(generation)
//	bytes(primary) [uvarint(n) n*bytes(secondary)] [uvarint(n) n*8 rollback_ts]
//	[last change] [short value]
//
// where bytes(x) is uvarint(len x) x, and the bracketed parts are there when
// their flag is. A shared lock has a format of its own, see appendShared.
func AppendLock(dst []byte, l *Lock) []byte {
	if l.Shared() {
		return appendShared(dst, l)
	}
	var flags byte
	if l.HasShort {
		flags |= lockHasShort
	}
	if l.UseAsyncCommit {
		flags |= lockAsync
	}
	if l.WithConflict {
		flags |= lockWithConflict
	}
	if len(l.RollbackTS) > 0 {
		flags |= lockHasRollbacks
	}
	if l.LastChange.Known() {
		flags |= lockHasLastChange
	}
	dst = append(dst, recordVersion<<4|byte(l.Type), flags)
	dst = binary.LittleEndian.AppendUint64(dst, l.StartTS)
	for _, u := range [...]uint64{l.TTL, l.ForUpdateTS, l.MinCommitTS, l.TxnSize, l.Generation} {
		dst = binary.AppendUvarint(dst, u)
	}
	dst = appendBytes(dst, l.Primary)
	if l.UseAsyncCommit {
		dst = binary.AppendUvarint(dst, uint64(len(l.Secondaries)))
		for _, s := range l.Secondaries {
			dst = appendBytes(dst, s)
		}
	}
	if len(l.RollbackTS) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(l.RollbackTS)))
		for _, ts := range l.RollbackTS {
			dst = binary.LittleEndian.AppendUint64(dst, ts)
		}
	}
	if l.LastChange.Known() {
		dst = l.LastChange.append(dst)
	}
	if l.HasShort {
		dst = append(dst, l.ShortValue...)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// LockStartTS reads only the start timestamp of an encoded lock of one
// transaction; LockTxns is for any lock.
func LockStartTS(b []byte) (uint64, error) {
	if len(b) < 10 || b[0]>>4 != recordVersion || LockType(b[0]&0xF) == LockShared {
		return 0, fmt.Errorf("%w: lock record of %d bytes", ErrCorrupt, len(b))
	}
	return binary.LittleEndian.Uint64(b[2:]), nil
}

// LockHead reads the fields of an encoded lock by which resolved timestamps
// are tracked, and copies nothing. Of a shared lock it tells the type only.
func LockHead(b []byte) (typ LockType, startTS, generation uint64, err error) {
	if len(b) > 0 && b[0] == recordVersion<<4|byte(LockShared) {
		return LockShared, 0, 0, nil
	}
	if startTS, err = LockStartTS(b); err != nil {
		return 0, 0, 0, err
	}
	d := decoder{b: b[10:]}
	for range 5 { // ttl, for_update_ts, min_commit_ts, txn_size, generation
		generation = d.uvarint()
	}
	if d.bad {
		return 0, 0, 0, fmt.Errorf("%w: lock record of %d bytes is malformed", ErrCorrupt, len(b))
	}
	return LockType(b[0] & 0xF), startTS, generation, nil
}

// ParseLock decodes a lock into l. Its byte slices alias b.
func ParseLock(b []byte, l *Lock) error {
	d := decoder{b: b}
	*l = Lock{}
	head := d.byte()
	l.Type = LockType(head & 0xF)
	flags := d.byte()
	if head == recordVersion<<4|byte(LockShared) {
		return d.parseShared(flags, l)
	}
	if head>>4 != recordVersion || l.Type < LockPut || l.Type > LockPessimistic || flags >= lockFlagsMax {
		return fmt.Errorf("%w: lock record starts with %#x %#x", ErrCorrupt, head, flags)
	}
	l.HasShort = flags&lockHasShort != 0
	l.UseAsyncCommit = flags&lockAsync != 0
	l.WithConflict = flags&lockWithConflict != 0
	l.StartTS = d.fixed64()
	l.TTL, l.ForUpdateTS, l.MinCommitTS = d.uvarint(), d.uvarint(), d.uvarint()
	l.TxnSize, l.Generation = d.uvarint(), d.uvarint()
	l.Primary = d.bytes()
	if l.UseAsyncCommit {
		l.Secondaries = d.list()
	}
	if flags&lockHasRollbacks != 0 {
		l.RollbackTS = d.timestamps()
	}
	if flags&lockHasLastChange != 0 {
		l.LastChange = d.lastChange()
	}
	if l.HasShort {
		l.ShortValue, d.b = d.b, nil
	}
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%w: lock record of %d bytes is malformed", ErrCorrupt, len(b))
	}
	return nil
}

// decoder reads fields off b; after the first failure everything it returns is
// zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) fixed64() uint64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) list() [][]byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) { // each takes a byte at least
		d.fail()
		return nil
	}
	out := make([][]byte, 0, n)
	for range n {
		out = append(out, d.bytes())
	}
	return out
}

func (d *decoder) timestamps() []uint64 {
	n := d.uvarint()
	if n == 0 || n > uint64(len(d.b))/8 {
		d.fail()
		return nil
	}
	out := make([]uint64, 0, n)
	for range n {
		out = append(out, d.fixed64())
	}
	return out
}
