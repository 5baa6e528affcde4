package mvcccheck

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// Record is a commit or rollback record.
type Record struct {
	CommitTS uint64
	mvcc.Write
}

// Key is what is stored of one key.
type Key struct {
	Lock    *mvcc.Lock
	Records []Record          // newest first
	Values  map[uint64][]byte // of the default family, by start timestamp
}

// History is what is stored of all keys, by plain user key.
type History struct {
	Keys map[string]*Key
	// SafePoint is up to where garbage may have been collected. Check says
	// nothing about reads below it, and doesn't miss writes of transactions that
	// began there.
	SafePoint uint64
}

// New returns a History of no keys.
func New() *History { return &History{Keys: map[string]*Key{}} }

func (h *History) key(name string) *Key {
	k := h.Keys[name]
	if k == nil {
		k = &Key{Values: map[uint64][]byte{}}
		h.Keys[name] = k
	}
	return k
}

// AddSnapshot adds what a snapshot has of the encoded range [lower, upper); nil
// bounds are the snapshot's.
func (h *History) AddSnapshot(snap kv.Reader, lower, upper []byte) error {
	err := each(snap, kv.CFLock, lower, upper, func(key, value []byte) error {
		plain, err := plainKey(key)
		if err != nil {
			return err
		}
		l := &mvcc.Lock{}
		if err := mvcc.ParseLock(bytes.Clone(value), l); err != nil {
			return err
		}
		h.key(plain).Lock = l
		return nil
	})
	if err != nil {
		return err
	}
	err = each(snap, kv.CFWrite, lower, upper, func(key, value []byte) error {
		plain, ts, err := versionKey(key)
		if err != nil {
			return err
		}
		w, err := mvcc.ParseWrite(value)
		if err != nil {
			return err
		}
		k := h.key(plain)
		k.Records = append(k.Records, Record{ts, w.Clone()})
		return nil
	})
	if err != nil {
		return err
	}
	return each(snap, kv.CFDefault, lower, upper, func(key, value []byte) error {
		plain, ts, err := versionKey(key)
		if err != nil {
			return err
		}
		h.key(plain).Values[ts] = bytes.Clone(value)
		return nil
	})
}

// AddInfo adds what MvccGetByKey has answered for a key. In there a value that
// is empty looks like one that is gone.
func (h *History) AddInfo(key []byte, info *kvrpcpb.MvccInfo) error {
	k := h.key(string(key))
	if l := info.GetLock(); l != nil {
		k.Lock = &mvcc.Lock{StartTS: l.StartTs, Primary: l.Primary, TTL: l.Ttl, ForUpdateTS: l.ForUpdateTs}
	}
	for _, v := range info.GetValues() {
		k.Values[v.StartTs] = v.Value
	}
	for _, w := range info.GetWrites() {
		typ, ok := map[kvrpcpb.Op]mvcc.WriteType{
			kvrpcpb.Op_Put: mvcc.WritePut, kvrpcpb.Op_Del: mvcc.WriteDelete, kvrpcpb.Op_Lock: mvcc.WriteLock, kvrpcpb.Op_Rollback: mvcc.WriteRollback,
		}[w.Type]
		if !ok {
			return fmt.Errorf("mvcccheck: key %q has a record of type %v at %d", key, w.Type, w.CommitTs)
		}
		_, long := k.Values[w.StartTs]
		k.Records = append(k.Records, Record{w.CommitTs, mvcc.Write{
			Type: typ, StartTS: w.StartTs, OverlappedRollback: w.HasOverlappedRollback, HasShort: !long, ShortValue: w.ShortValue,
			LastChange: mvcc.LastChange{TS: w.LastChangeTs, Versions: w.VersionsToLastChange},
		}})
	}
	return nil
}

func each(snap kv.Reader, cf kv.CF, lower, upper []byte, f func(key, value []byte) error) (err error) {
	it, err := snap.NewIter(cf, kv.IterOptions{Lower: lower, Upper: upper})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			return err
		}
		if err := f(it.Key(), value); err != nil {
			return fmt.Errorf("mvcccheck: key %x of family %s: %w", it.Key(), cf, err)
		}
	}
	return it.Error()
}

func plainKey(enc []byte) (string, error) {
	plain, rest, err := codec.DecodeBytes(nil, enc)
	if err != nil || len(rest) > 0 {
		return "", fmt.Errorf("%d bytes behind the user key: %w", len(rest), errors.Join(err, mvcc.ErrCorrupt))
	}
	return string(plain), nil
}

func versionKey(key []byte) (plain string, ts uint64, err error) {
	enc, ts, err := codec.DecodeTS(key)
	if err != nil {
		return "", 0, err
	}
	plain, err = plainKey(enc)
	return plain, ts, err
}

// Read returns what a reader at ts finds, and when that was committed; ok is
// false for a key that does not exist there.
func (h *History) Read(key string, ts uint64) (value []byte, commitTS uint64, ok bool) {
	k := h.Keys[key]
	if k == nil {
		return nil, 0, false
	}
	for _, r := range k.Records {
		if r.CommitTS > ts {
			continue
		}
		switch r.Type {
		case mvcc.WritePut:
			return k.value(r), r.CommitTS, true
		case mvcc.WriteDelete:
			return nil, r.CommitTS, false
		}
	}
	return nil, 0, false
}

func (k *Key) value(r Record) []byte {
	if v, ok := k.Values[r.StartTS]; ok && !r.HasShort {
		return v
	}
	return r.ShortValue
}

// Count is how many keys, commit records and rollback records there are.
func (h *History) Count() (keys, commits, rollbacks int) {
	for _, k := range h.Keys {
		for _, r := range k.Records {
			if r.Type == mvcc.WriteRollback {
				rollbacks++
			} else {
				commits++
			}
		}
	}
	return len(h.Keys), commits, rollbacks
}

func (h *History) names() []string { return slices.Sorted(maps.Keys(h.Keys)) }

// Describe shows the newest records of a key, one a line.
func (h *History) Describe(key string) string {
	const shown = 20
	k := h.Keys[key]
	if k == nil {
		return fmt.Sprintf("%q: nothing\n", key)
	}
	out := fmt.Sprintf("%q:\n", key)
	if k.Lock != nil {
		out += fmt.Sprintf("  lock of %d, primary %q\n", k.Lock.StartTS, k.Lock.Primary)
	}
	for _, r := range k.Records[:min(shown, len(k.Records))] {
		out += fmt.Sprintf("  %d: %v of %d %q\n", r.CommitTS, r.Type.Op(), r.StartTS, k.value(r))
	}
	return out
}

// sortRecords is for records that came in another order than that of a snapshot.
func (k *Key) sortRecords() {
	slices.SortStableFunc(k.Records, func(a, b Record) int { return cmp.Compare(b.CommitTS, a.CommitTS) })
}
