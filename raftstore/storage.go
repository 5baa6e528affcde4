package raftstore

import (
	"errors"
	"fmt"

	"github.com/copradb/copra/raftstore/raftlog"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// peerStorage is the raft.Storage of one peer: what is durable of its log.
// Only the Raft worker that drives the peer uses it.
type peerStorage struct {
	regionID uint64
	log      *raftlog.Log

	hardState *raftpb.HardState
	confState *raftpb.ConfState

	truncatedIndex, truncatedTerm uint64
	// last is the last durable entry; written is the last entry handed to the
	// log writer, which may be behind a longer, conflicting tail on disk.
	last, written uint64

	cache entryCache

	snap snapshotSource
}

var _ raft.Storage = (*peerStorage)(nil)

func newPeerStorage(regionID uint64, log *raftlog.Log, cache entryCache, st raftlog.RaftState, cs *raftpb.ConfState) *peerStorage {
	return &peerStorage{
		regionID: regionID, log: log, cache: cache, hardState: st.HardState, confState: cs,
		truncatedIndex: st.TruncatedIndex, truncatedTerm: st.TruncatedTerm,
		last: st.LastIndex, written: st.LastIndex,
	}
}

func (s *peerStorage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hardState, s.confState, nil
}

func (s *peerStorage) FirstIndex() (uint64, error) { return s.truncatedIndex + 1, nil }
func (s *peerStorage) LastIndex() (uint64, error)  { return s.last, nil }

func (s *peerStorage) Term(i uint64) (uint64, error) {
	switch {
	case i < s.truncatedIndex:
		return 0, raft.ErrCompacted
	case i == s.truncatedIndex:
		return s.truncatedTerm, nil
	case i > s.last:
		return 0, raft.ErrUnavailable
	}
	if e := s.cache.get(i); e != nil {
		return e.GetTerm(), nil
	}
	term, err := s.log.Term(s.regionID, i)
	if err != nil {
		return 0, s.broken(err)
	}
	return term, nil
}

func (s *peerStorage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= s.truncatedIndex {
		return nil, raft.ErrCompacted
	}
	if hi > s.last+1 {
		return nil, raft.ErrUnavailable
	}
	if ents, ok := s.cache.slice(lo, hi, maxSize); ok {
		return ents, nil
	}
	if s.cache.first() > lo && s.cache.first() < hi {
		hi = s.cache.first() // the rest comes from the cache with the next call
	}
	ents, err := s.log.Entries(s.regionID, lo, hi, maxSize)
	if err != nil {
		return nil, s.broken(err)
	}
	return ents, nil
}

// broken turns a hole in the log into what it is: the end.
func (s *peerStorage) broken(err error) error {
	if errors.Is(err, raftlog.ErrMissing) {
		panic(fmt.Sprintf("raftstore: the log of region %d (%d, %d] has a hole: %v", s.regionID, s.truncatedIndex, s.last, err))
	}
	return err
}

// Snapshot returns the snapshot that was made, once, or asks for one.
func (s *peerStorage) Snapshot() (*raftpb.Snapshot, error) {
	if snap := s.snap.take(s.truncatedIndex); snap != nil {
		return snap, nil
	}
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// truncate forgets the entries up to index.
func (s *peerStorage) truncate(index, term uint64) {
	s.truncatedIndex, s.truncatedTerm = index, term
	s.cache.dropTo(index)
}

// reset puts a snapshot in place of the log.
func (s *peerStorage) reset(index, term uint64) {
	s.truncatedIndex, s.truncatedTerm = index, term
	s.last, s.written = index, index
	s.cache.clear()
}
