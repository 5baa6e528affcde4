package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/codec"
	"go.etcd.io/raft/v3/raftpb"
)

// ErrMissing says that the log lacks an entry that was asked for: it was
// truncated, or never written.
var ErrMissing = errors.New("raft log: entry is missing")

// RaftState is what a region's Raft group starts from.
type RaftState struct {
	HardState      *raftpb.HardState // never nil
	TruncatedIndex uint64
	TruncatedTerm  uint64
	LastIndex      uint64 // TruncatedIndex if the log is empty
	LastTerm       uint64
}

// Entries returns the entries [lo, hi) of a region, cut off before the one
// that would make their data exceed maxBytes, but at least one. The caller
// owns them. An entry that is not there is ErrMissing.
func (l *Log) Entries(regionID, lo, hi, maxBytes uint64) (entries []*raftpb.Entry, err error) {
	if lo >= hi {
		return nil, nil
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(regionID, lo), UpperBound: entryKey(regionID, hi)})
	if err != nil {
		return nil, fmt.Errorf("raft log: read entries of region %d: %w", regionID, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var size uint64
	next := lo
	for ok := it.First(); ok; ok = it.Next() {
		index := entryIndex(it.Key())
		if index != next {
			break
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, fmt.Errorf("raft log: read entry %d of region %d: %w", index, regionID, err)
		}
		if size += uint64(len(value)); size > maxBytes && len(entries) > 0 {
			return entries, nil
		}
		e, err := decodeEntry(regionID, index, value)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
		next++
	}
	if err := it.Error(); err != nil {
		return nil, fmt.Errorf("raft log: read entries of region %d: %w", regionID, err)
	}
	if next < hi {
		return nil, fmt.Errorf("%w: index %d of region %d, wanted [%d, %d)", ErrMissing, next, regionID, lo, hi)
	}
	return entries, nil
}

// Load returns a region's state; ok is false if the log knows nothing of it.
func (l *Log) Load(regionID uint64) (st RaftState, ok bool, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: regionKey(regionID, 0), UpperBound: regionKey(regionID, endKind)})
	if err != nil {
		return st, false, fmt.Errorf("raft log: load region %d: %w", regionID, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.First() {
		return st, false, it.Error()
	}
	st, err = loadAt(it, regionID)
	return st, err == nil, err
}

// LoadAll calls fn for every region, by ascending id, until fn fails.
func (l *Log) LoadAll(fn func(regionID uint64, st RaftState) error) (err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{regionPrefix}, UpperBound: []byte{regionPrefix + 1}})
	if err != nil {
		return fmt.Errorf("raft log: load regions: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		regionID := binary.BigEndian.Uint64(it.Key()[1:])
		st, err := loadAt(it, regionID)
		if err != nil {
			return err
		}
		if err := fn(regionID, st); err != nil {
			return err
		}
		ok = it.SeekGE(regionKey(regionID, endKind))
	}
	return it.Error()
}

// loadAt reads a region's state with an iterator at the region's first key.
func loadAt(it *pebble.Iterator, regionID uint64) (RaftState, error) {
	st := RaftState{HardState: &raftpb.HardState{Term: new(uint64), Vote: new(uint64), Commit: new(uint64)}}
	for ok := true; ok && it.Key()[9] < entryKind; ok = it.Next() {
		if binary.BigEndian.Uint64(it.Key()[1:]) != regionID {
			break
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return st, fmt.Errorf("raft log: load region %d: %w", regionID, err)
		}
		good := true
		switch it.Key()[9] {
		case hardStateKind:
			good = uvarints(value, st.HardState.Term, st.HardState.Vote, st.HardState.Commit)
		case truncatedKind:
			good = uvarints(value, &st.TruncatedIndex, &st.TruncatedTerm)
		}
		if !good {
			return st, fmt.Errorf("raft log: state %d of region %d is damaged: %x", it.Key()[9], regionID, value)
		}
	}
	if err := it.Error(); err != nil {
		return st, fmt.Errorf("raft log: load region %d: %w", regionID, err)
	}
	err := loadLast(it, regionID, &st)
	return st, err
}

func loadLast(it *pebble.Iterator, regionID uint64, st *RaftState) error {
	st.LastIndex, st.LastTerm = st.TruncatedIndex, st.TruncatedTerm
	if !it.SeekLT(regionKey(regionID, endKind)) || len(it.Key()) != entryKeyBytes ||
		binary.BigEndian.Uint64(it.Key()[1:]) != regionID {
		return it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return fmt.Errorf("raft log: load last entry of region %d: %w", regionID, err)
	}
	st.LastIndex = entryIndex(it.Key())
	_, st.LastTerm, _, err = splitEntry(regionID, st.LastIndex, value)
	return err
}

// Term returns the term of one entry.
func (l *Log) Term(regionID, index uint64) (uint64, error) {
	value, closer, err := l.db.Get(entryKey(regionID, index))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, fmt.Errorf("%w: index %d of region %d", ErrMissing, index, regionID)
	}
	if err != nil {
		return 0, fmt.Errorf("raft log: read entry %d of region %d: %w", index, regionID, err)
	}
	_, term, _, err := splitEntry(regionID, index, value)
	return term, errors.Join(err, closer.Close())
}

// GetMeta returns a copy of a meta key's value.
func (l *Log) GetMeta(key []byte) (value []byte, ok bool, err error) {
	v, closer, err := l.db.Get(metaKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("raft log: read meta key %x: %w", key, err)
	}
	value = append([]byte{}, v...)
	return value, true, closer.Close()
}

// ScanMeta calls fn for the meta keys with this prefix, in order, until fn
// fails. Key and value are valid during the call.
func (l *Log) ScanMeta(prefix []byte, fn func(key, value []byte) error) (err error) {
	lower := metaKey(prefix)
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: codec.PrefixNext(lower)})
	if err != nil {
		return fmt.Errorf("raft log: scan meta keys %x: %w", prefix, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("raft log: scan meta keys %x: %w", prefix, err)
		}
		if err := fn(it.Key()[1:], v); err != nil {
			return err
		}
	}
	return it.Error()
}
