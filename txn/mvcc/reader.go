package mvcc

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// Reader looks up locks and commit records of single keys, for the Percolator
// actions. Keys are encoded (codec.EncodeBytes). Not safe for concurrent use.
type Reader struct {
	snap kv.Reader
	iter kv.Iterator
	buf  []byte
}

// Init starts reading from snap; buffers of an earlier use are kept.
func (r *Reader) Init(snap kv.Reader) { r.snap, r.iter = snap, nil }

// Close frees the iterators. It must be called before the snapshot's Close.
func (r *Reader) Close() error {
	if r.iter == nil {
		return nil
	}
	err := r.iter.Close()
	r.iter, r.snap = nil, nil
	return err
}

// LoadLock returns the lock of the key, or nil. The lock owns its memory.
func (r *Reader) LoadLock(enc []byte) (*Lock, error) {
	value, closer, err := r.snap.Get(kv.CFLock, enc)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = closer.Close() }()
	var l Lock
	if err := ParseLock(slices.Clone(value), &l); err != nil {
		return nil, fmt.Errorf("lock of key %x: %w", enc, err)
	}
	return &l, nil
}

// SeekWrite returns the newest commit record with commit_ts <= ts. The
// record's value is valid until the next call.
func (r *Reader) SeekWrite(enc []byte, ts uint64) (commitTS uint64, w Write, ok bool, err error) {
	if r.iter == nil {
		if r.iter, err = r.snap.NewIter(kv.CFWrite, kv.IterOptions{}); err != nil {
			return 0, Write{}, false, err
		}
	}
	r.buf = codec.EncodeTS(append(r.buf[:0], enc...), ts)
	if !r.iter.SeekGE(r.buf) {
		return 0, Write{}, false, r.iter.Error()
	}
	return r.current(enc)
}

// NextWrite is SeekWrite for the record after the one last returned.
func (r *Reader) NextWrite(enc []byte) (commitTS uint64, w Write, ok bool, err error) {
	if !r.iter.Next() {
		return 0, Write{}, false, r.iter.Error()
	}
	return r.current(enc)
}

func (r *Reader) current(enc []byte) (commitTS uint64, w Write, ok bool, err error) {
	prefix, commitTS, err := codec.DecodeTS(r.iter.Key())
	if err != nil {
		return 0, Write{}, false, fmt.Errorf("%w: write key %x", ErrCorrupt, r.iter.Key())
	}
	if !bytes.Equal(prefix, enc) {
		return 0, Write{}, false, nil
	}
	value, err := r.iter.Value()
	if err != nil {
		return 0, Write{}, false, err
	}
	if w, err = ParseWrite(value); err != nil {
		return 0, Write{}, false, fmt.Errorf("key %x at %d: %w", enc, commitTS, err)
	}
	return commitTS, w, true, nil
}

// GetWrite returns the record of the value that is visible at ts: ok is false
// when there is none or it is deleted. The record's value is valid until the
// next call.
func (r *Reader) GetWrite(enc []byte, ts uint64) (commitTS uint64, w Write, ok bool, err error) {
	commitTS, w, ok, err = r.SeekWrite(enc, ts)
	for ok && err == nil {
		switch w.Type {
		case WritePut:
			return commitTS, w, true, nil
		case WriteDelete:
			return 0, Write{}, false, nil
		}
		switch {
		case !w.LastChange.jump():
			commitTS, w, ok, err = r.NextWrite(enc)
		case w.LastChange.TS == 0:
			return 0, Write{}, false, nil
		default:
			commitTS, w, ok, err = r.SeekWrite(enc, w.LastChange.TS)
		}
	}
	return 0, Write{}, false, err
}

// LoadValue returns a copy of the value that a Put record stands for; never
// nil without an error.
func (r *Reader) LoadValue(enc []byte, w Write) ([]byte, error) {
	if w.HasShort {
		return append([]byte{}, w.ShortValue...), nil
	}
	r.buf = codec.EncodeTS(append(r.buf[:0], enc...), w.StartTS)
	value, closer, err := r.snap.Get(kv.CFDefault, r.buf)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: key %x has no value of transaction %d", ErrCorrupt, enc, w.StartTS)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = closer.Close() }()
	return append([]byte{}, value...), nil
}

// Fate is how a transaction ended on one key.
type Fate byte

// The fates.
const (
	FateNone       Fate = iota // no record: undecided here
	FateCommitted              // committed at CommitTS
	FateRolledBack             // a rollback record, or the overlapped flag on another record
)

// TxnRecord is what the write family knows of a transaction on one key.
type TxnRecord struct {
	Fate     Fate
	CommitTS uint64
	// Overlapped is, with FateNone, the record of another transaction whose
	// commit_ts equals the start_ts asked for: a rollback has to be kept as a
	// flag on it.
	Overlapped *Write
}

// TxnRecord finds the record of the transaction startTS. It walks all records
// from the newest to startTS, since a commit record lies under commit_ts, which
// is not known.
func (r *Reader) TxnRecord(enc []byte, startTS uint64) (TxnRecord, error) {
	commitTS, w, ok, err := r.SeekWrite(enc, math.MaxUint64)
	for ; ok && err == nil && commitTS >= startTS; commitTS, w, ok, err = r.NextWrite(enc) {
		if w.StartTS == startTS {
			if w.Type == WriteRollback {
				return TxnRecord{Fate: FateRolledBack}, nil
			}
			return TxnRecord{Fate: FateCommitted, CommitTS: commitTS}, nil
		}
		if commitTS == startTS {
			if w.OverlappedRollback {
				return TxnRecord{Fate: FateRolledBack}, nil
			}
			c := w.Clone()
			return TxnRecord{Overlapped: &c}, nil
		}
	}
	return TxnRecord{}, err
}
