package mvcc

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/copradb/copra/internal/codec"
)

var locks = []Lock{
	{Type: LockPut, StartTS: 1, Primary: []byte("p"), HasShort: true, ShortValue: []byte{}},
	{Type: LockDelete, StartTS: math.MaxUint64, TTL: 3000, ForUpdateTS: 9, MinCommitTS: 8, TxnSize: 7, Generation: 6, Primary: bytes.Repeat([]byte("k"), 300)},
	{Type: LockPessimistic, StartTS: 4, ForUpdateTS: 5, Primary: []byte{}, WithConflict: true},
	{
		Type: LockPut, StartTS: 4, Primary: []byte("p"), UseAsyncCommit: true, MinCommitTS: 10,
		Secondaries: [][]byte{[]byte("a"), {}, []byte("long secondary key")}, RollbackTS: []uint64{11, 12}, HasShort: true, ShortValue: []byte("value"),
	},
	{Type: LockLock, StartTS: 4, Primary: []byte("p"), UseAsyncCommit: true, Secondaries: [][]byte{}},
	{Type: LockLock, StartTS: 9, Primary: []byte("p"), LastChange: LastChange{TS: math.MaxUint64, Versions: 300}, HasShort: true, ShortValue: []byte("v")},
	{Type: LockPessimistic, StartTS: 9, Primary: []byte("p"), LastChange: NoChange},
	{Type: LockShared, Holders: []Lock{{Type: LockLock, StartTS: 1, Primary: []byte("p"), LastChange: NoChange}}},
	{Type: LockShared, ShrinkOnly: true, Holders: []Lock{
		{Type: LockPessimistic, StartTS: 1, ForUpdateTS: 3, Primary: []byte("p")},
		{Type: LockLock, StartTS: math.MaxUint64, TTL: 5, Primary: []byte{}, TxnSize: 6},
	}},
}

func TestLockRoundTrip(t *testing.T) {
	for _, l := range locks {
		b := AppendLock(nil, &l)
		var got Lock
		if err := ParseLock(b, &got); err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("%+v became %+v, %v", l, got, err)
		}
		if ts, err := LockStartTS(b); l.Shared() != errors.Is(err, ErrCorrupt) || ts != l.StartTS {
			t.Errorf("start_ts of %+v is %d, %v", l, ts, err)
		}
		if txns, err := LockTxns(nil, b); err != nil || !slices.Equal(txns, l.Txns()) {
			t.Errorf("transactions of %+v are %d, %v", l, txns, err)
		}
		if typ, ts, gen, err := LockHead(b); err != nil || typ != l.Type || ts != l.StartTS || gen != l.Generation {
			t.Errorf("head of %+v is %d %d %d, %v", l, typ, ts, gen, err)
		}
		if c := got.Clone(); !reflect.DeepEqual(*c, got) {
			t.Errorf("clone of %+v is %+v", got, c)
		}
		for n := range len(b) - len(l.ShortValue) {
			if err := ParseLock(b[:n], &got); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%+v cut to %d of %d bytes: %v", l, n, len(b), err)
			}
		}
	}
}

func FuzzLock(f *testing.F) {
	for _, l := range locks {
		f.Add(AppendLock(nil, &l))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var l, again Lock
		err := ParseLock(b, &l)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
		txns, errTxns := LockTxns(nil, b)
		typ, start, gen, errHead := LockHead(b)
		if err != nil {
			return // the short cuts may see less of what is wrong
		}
		if errTxns != nil || !slices.Equal(txns, l.Txns()) {
			t.Errorf("%x: transactions %d, %v", b, txns, errTxns)
		}
		if errHead != nil || typ != l.Type || start != l.StartTS || gen != l.Generation {
			t.Errorf("%x: head %d %d %d, %v", b, typ, start, gen, errHead)
		}
		if info := l.Info([]byte("k")); info.LockType != l.Type.Op() || len(info.SharedLockInfos) != len(l.Holders) {
			t.Errorf("%x: info %v", b, info)
		}
		if err := ParseLock(AppendLock(nil, &l), &again); err != nil || !reflect.DeepEqual(l, again) {
			t.Errorf("%x: %+v became %+v, %v", b, l, again, err)
		}
	})
}

var writes = []Write{
	{Type: WritePut, StartTS: 1, HasShort: true, ShortValue: []byte("v")},
	{Type: WritePut, StartTS: 1, HasShort: true, ShortValue: []byte{}},
	{Type: WritePut, StartTS: 1, OverlappedRollback: true},
	{Type: WriteRollback, StartTS: math.MaxUint64, Protected: true},
	{Type: WriteDelete},
	{Type: WriteLock, StartTS: 2},
	{Type: WriteLock, StartTS: 2, LastChange: LastChange{TS: 1, Versions: 1 << 40}},
	{Type: WriteRollback, StartTS: 2, LastChange: NoChange},
	{Type: WriteLock, StartTS: 2, LastChange: NoChange, HasShort: true, ShortValue: []byte("v")},
}

func TestWriteRoundTrip(t *testing.T) {
	for _, w := range writes {
		b := AppendWrite(nil, &w)
		got, err := ParseWrite(b)
		if err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("%+v became %+v, %v", w, got, err)
		}
		for n := range writeHeaderBytes {
			if _, err := ParseWrite(b[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%+v cut to %d bytes: %v", w, n, err)
			}
		}
	}
	if _, err := ParseWrite(append(AppendWrite(nil, &writes[4]), 'x')); !errors.Is(err, ErrCorrupt) {
		t.Errorf("trailing byte: %v", err)
	}
}

func FuzzWrite(f *testing.F) {
	for _, w := range writes {
		f.Add(AppendWrite(nil, &w))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseWrite(b)
		if err != nil {
			return
		}
		// Not byte by byte: a number may have been written longer than it is.
		if again, err := ParseWrite(AppendWrite(nil, &w)); err != nil || !reflect.DeepEqual(again, w) {
			t.Errorf("%x: %+v became %+v, %v", b, w, again, err)
		}
	})
}

func FuzzIsEncodingOf(f *testing.F) {
	f.Add([]byte("12345678"), []byte("12345678"))
	f.Add([]byte("123456789"), []byte("12345678"))
	f.Add([]byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if got := IsEncodingOf(codec.EncodeBytes(nil, a), b); got != bytes.Equal(a, b) {
			t.Errorf("IsEncodingOf(encoding of %x, %x) = %t", a, b, got)
		}
		if IsEncodingOf(a, b) != bytes.Equal(a, codec.EncodeBytes(nil, b)) {
			t.Errorf("IsEncodingOf(%x, %x)", a, b)
		}
	})
}

func TestExpired(t *testing.T) {
	l := Lock{StartTS: 100 << 18, TTL: 50}
	for ts, want := range map[uint64]bool{100 << 18: false, 150<<18 + 5: false, 151 << 18: true, math.MaxUint64: true, 0: false} {
		if l.Expired(ts) != want {
			t.Errorf("expired at %d: %t", ts, !want)
		}
	}
}

// FuzzLockRoundTrip: a lock of any fields comes back, alone and as a part of a
// shared lock.
func FuzzLockRoundTrip(f *testing.F) {
	f.Add(byte(1), uint64(1), uint64(2), uint64(3), uint64(4), uint64(5), uint64(6), []byte("p"), []byte("s"), uint64(7), uint64(8), uint64(9), []byte("v"), byte(0xFF))
	f.Add(byte(4), uint64(math.MaxUint64), uint64(0), uint64(1<<63), uint64(0), uint64(0), uint64(0), []byte{}, []byte{}, uint64(0), uint64(0), uint64(1), []byte{}, byte(0))
	f.Fuzz(func(t *testing.T, typ byte, start, ttl, forUpdate, minCommit, size, gen uint64, primary, secondary []byte, rolled, changeTS, versions uint64, value []byte, flags byte) {
		l := Lock{
			Type: LockPut + LockType(typ)%4, StartTS: start, TTL: ttl, ForUpdateTS: forUpdate, MinCommitTS: minCommit,
			TxnSize: size, Generation: gen, Primary: primary, UseAsyncCommit: flags&1 != 0, WithConflict: flags&2 != 0,
		}
		if flags&1 != 0 {
			l.Secondaries = [][]byte{secondary, primary}
		}
		if flags&4 != 0 {
			l.RollbackTS = []uint64{rolled, start}
		}
		if versions > 0 {
			l.LastChange = LastChange{TS: changeTS, Versions: versions}
		}
		if flags&8 != 0 {
			l.HasShort, l.ShortValue = true, value
		}
		all := []Lock{l}
		if l.Type == LockLock || l.Type == LockPessimistic {
			second := l
			second.StartTS = start / 2
			shared := Lock{Type: LockShared, ShrinkOnly: flags&16 != 0}
			shared.PutHolder(l)
			shared.PutHolder(second)
			all = append(all, shared)
		}
		for i := range all {
			var got Lock
			if err := ParseLock(AppendLock(nil, &all[i]), &got); err != nil || !reflect.DeepEqual(got, all[i]) {
				t.Errorf("%+v came back as %+v, %v", all[i], got, err)
			}
		}
	})
}

// FuzzWriteRoundTrip: a commit record of any fields comes back.
func FuzzWriteRoundTrip(f *testing.F) {
	f.Add(byte(0), uint64(1), uint64(2), uint64(3), []byte("v"), byte(0xFF))
	f.Add(byte(3), uint64(math.MaxUint64), uint64(0), uint64(1), []byte{}, byte(0))
	f.Fuzz(func(t *testing.T, typ byte, start, changeTS, versions uint64, value []byte, flags byte) {
		w := Write{Type: WritePut + WriteType(typ)%4, StartTS: start, OverlappedRollback: flags&1 != 0, Protected: flags&2 != 0}
		if versions > 0 {
			w.LastChange = LastChange{TS: changeTS, Versions: versions}
		}
		if flags&4 != 0 {
			w.HasShort, w.ShortValue = true, value
		}
		if got, err := ParseWrite(AppendWrite(nil, &w)); err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("%+v came back as %+v, %v", w, got, err)
		}
	})
}
