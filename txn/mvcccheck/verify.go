package mvcccheck

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/copradb/copra/txn/mvcc"
)

// problemsMax is how many problems are told.
const problemsMax = 10

// Options of Verify.
type Options struct {
	// Pessimistic reports whether the transaction of a start timestamp checks
	// conflicts as of a later timestamp than that. nil: none does.
	Pessimistic func(startTS uint64) bool
	// Locks are allowed; what they protect may be unfinished.
	Locks bool
}

// fate is what the records say of one transaction.
type fate struct {
	commitTS   uint64
	committed  string // a key
	rolledBack string // a key
	both       bool   // both were set
}

// Verify checks that the records are the result of transactions.
func (h *History) Verify(o Options) error {
	v := &verifier{h: h, o: o, fates: map[uint64]*fate{}}
	for _, name := range h.names() {
		k := h.Keys[name]
		k.sortRecords()
		v.key(name, k)
	}
	for _, name := range h.names() {
		v.conflicts(name, h.Keys[name])
	}
	return errors.Join(v.problems...)
}

type verifier struct {
	h        *History
	o        Options
	fates    map[uint64]*fate
	problems []error
}

func (v *verifier) add(key, format string, args ...any) {
	if len(v.problems) < problemsMax {
		v.problems = append(v.problems, fmt.Errorf("key %q: "+format+"\n%s", append(append([]any{key}, args...), v.h.Describe(key))...))
	}
}

func (v *verifier) fate(startTS uint64) *fate {
	f := v.fates[startTS]
	if f == nil {
		f = &fate{}
		v.fates[startTS] = f
	}
	return f
}

// key checks the records of one key, and what they say of transactions.
func (v *verifier) key(name string, k *Key) {
	if k.Lock != nil && !v.o.Locks {
		v.add(name, "the lock of %d (%v, primary %q) is left", k.Lock.StartTS, k.Lock.Type.Op(), k.Lock.Primary)
	}
	own := map[uint64]Record{}
	used := map[uint64]bool{}
	for i, r := range k.Records {
		if i > 0 && k.Records[i-1].CommitTS == r.CommitTS {
			v.add(name, "it has two records at %d", r.CommitTS)
		}
		if other, twice := own[r.StartTS]; twice {
			v.add(name, "transaction %d has two records, %v at %d and %v at %d", r.StartTS, other.Type.Op(), other.CommitTS, r.Type.Op(), r.CommitTS)
		}
		own[r.StartTS] = r
		if r.OverlappedRollback {
			v.rolledBack(name, r.CommitTS)
		}
		if r.Type == mvcc.WriteRollback {
			if r.CommitTS != r.StartTS {
				v.add(name, "the rollback of %d is at %d", r.StartTS, r.CommitTS)
			}
			v.rolledBack(name, r.StartTS)
			continue
		}
		if r.CommitTS <= r.StartTS {
			v.add(name, "transaction %d was committed at %d, not after its start", r.StartTS, r.CommitTS)
		}
		v.committed(name, r)
		if r.Type == mvcc.WritePut {
			_, long := k.Values[r.StartTS]
			used[r.StartTS] = !r.HasShort
			if !long && !r.HasShort {
				v.add(name, "the value that transaction %d put is gone", r.StartTS)
			}
		}
	}
	v.lastChanges(name, k)
	for _, startTS := range slices.Sorted(maps.Keys(k.Values)) {
		if !used[startTS] && (k.Lock == nil || k.Lock.StartTS != startTS) {
			v.add(name, "transaction %d has left a value of %d bytes that belongs to no record", startTS, len(k.Values[startTS]))
		}
	}
}

// lastChanges checks what records say of the last change below them: readers
// jump there and would miss a newer one. (One that is gone was collected as
// garbage, and nothing older is seen.)
func (v *verifier) lastChanges(name string, k *Key) {
	newest := uint64(0)
	for _, r := range slices.Backward(k.Records) {
		switch {
		case r.Type == mvcc.WritePut, r.Type == mvcc.WriteDelete:
			newest = r.CommitTS
		case r.LastChange.Known() && r.LastChange.TS < newest:
			v.add(name, "the record at %d (%v of %d) says that the last change below it is at %d, and there is one at %d", r.CommitTS, r.Type.Op(), r.StartTS, r.LastChange.TS, newest)
		}
	}
}

func (v *verifier) committed(name string, r Record) {
	f := v.fate(r.StartTS)
	if f.committed != "" && f.commitTS != r.CommitTS {
		v.add(name, "transaction %d was committed here at %d and on key %q at %d", r.StartTS, r.CommitTS, f.committed, f.commitTS)
	}
	f.committed, f.commitTS = name, r.CommitTS
	v.both(f, r.StartTS)
}

func (v *verifier) rolledBack(name string, startTS uint64) {
	f := v.fate(startTS)
	f.rolledBack = name
	v.both(f, startTS)
}

func (v *verifier) both(f *fate, startTS uint64) {
	if f.committed != "" && f.rolledBack != "" && !f.both {
		f.both = true
		v.add(f.rolledBack, "transaction %d was rolled back here and committed at %d on key %q", startTS, f.commitTS, f.committed)
	}
}

// conflicts looks for an optimistic transaction during which another one has
// changed or locked the key: the second of them had to fail.
func (v *verifier) conflicts(name string, k *Key) {
	var later []Record // than r, newest first; the optimistic ones
	earliest := uint64(math.MaxUint64)
	for _, r := range k.Records {
		if r.Type == mvcc.WriteRollback {
			continue
		}
		for _, l := range later {
			if earliest >= r.CommitTS {
				break
			}
			if l.StartTS < r.CommitTS {
				v.add(name, "transaction %d (committed at %d) did not notice %d, which was committed at %d while it ran", l.StartTS, l.CommitTS, r.StartTS, r.CommitTS)
			}
		}
		if v.o.Pessimistic == nil || !v.o.Pessimistic(r.StartTS) {
			later = append(later, r)
			earliest = min(earliest, r.StartTS)
		}
	}
}

// Outcome is what a client knows of its transaction.
type Outcome int

// The outcomes.
const (
	Unknown Outcome = iota
	Committed
	Failed
)

// Value is what a key has: nil is no value.
type Value struct {
	Key   string
	Value []byte
	// TS is the timestamp of a read; 0: the start timestamp.
	TS uint64
}

// Txn is what a client knows of a transaction.
type Txn struct {
	StartTS  uint64
	CommitTS uint64 // 0: not known
	Outcome  Outcome
	Writes   []Value // the last one of each key
	Reads    []Value // of what others have written
}

// Check compares what a client knows with what is stored.
func (h *History) Check(t Txn) error {
	var problems []error
	add := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("transaction %d, key %q: "+format+"\n%s", append(append([]any{t.StartTS, key}, args...), h.Describe(key))...))
	}
	for _, r := range t.Reads {
		ts := r.TS
		if ts == 0 {
			ts = t.StartTS
		}
		if ts < h.SafePoint {
			continue
		}
		value, commitTS, ok := h.Read(r.Key, ts)
		if ok != (r.Value != nil) || !bytes.Equal(value, r.Value) {
			add(r.Key, "read %q at %d, where it is %q (committed at %d)", r.Value, ts, value, commitTS)
		}
	}
	there, collected := 0, t.StartTS <= h.SafePoint
	for _, w := range t.Writes {
		r, value, ok := h.written(w.Key, t.StartTS)
		switch {
		case !ok && t.Outcome == Committed && !collected:
			add(w.Key, "it was committed, and this write is not there")
		case ok && t.Outcome == Failed:
			add(w.Key, "it has failed, as its client was told, and was committed at %d", r.CommitTS)
		case ok && t.CommitTS != 0 && t.CommitTS != r.CommitTS:
			add(w.Key, "it was committed at %d, and the client was told at %d", r.CommitTS, t.CommitTS)
		case ok && (r.Type == mvcc.WritePut) != (w.Value != nil), ok && w.Value != nil && !bytes.Equal(value, w.Value):
			add(w.Key, "it wrote %q, and %v %q is there", w.Value, r.Type.Op(), value)
		}
		if ok {
			there++
		}
	}
	if there > 0 && there < len(t.Writes) && !collected {
		add(t.Writes[0].Key, "%d of %d writes are there", there, len(t.Writes))
	}
	return errors.Join(problems...)
}

// written finds the commit record of a transaction on a key.
func (h *History) written(key string, startTS uint64) (Record, []byte, bool) {
	k := h.Keys[key]
	if k == nil {
		return Record{}, nil, false
	}
	for _, r := range k.Records {
		if r.StartTS == startTS && r.Type != mvcc.WriteRollback {
			return r, k.value(r), true
		}
	}
	return Record{}, nil, false
}
