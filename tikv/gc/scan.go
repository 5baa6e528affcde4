package gc

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/mvcc"
)

// scan walks the commit records of a region in chunks, each under a snapshot of
// the data engine of its own, so that none is held for long.
type scan struct {
	safePoints *txn.SafePoints
	cursor     []byte // encoded key to go on at
	next       uint64 // the least safe point at which what was seen has garbage again

	// Of the last chunk.
	found    [][]byte // encoded keys that have garbage
	keysSeen uint64
	bytes    int

	key []byte // the current one
	g   mvcc.Garbage
	bad bool // the current key has garbage

	// Of all chunks.
	records  uint64
	bytesAll int
	later    forecast
}

// forecast counts how much garbage a region will have at which safe point, in
// steps between two timestamps.
type forecast struct {
	from, step uint64
	counts     [forecastSteps]uint64
}

const forecastSteps = 64

func newForecast(from, to uint64) forecast {
	return forecast{from: from, step: max((to-min(from, to))/(forecastSteps-1), 1)}
}

func (f *forecast) add(safePoint uint64) {
	i := (safePoint - min(f.from, safePoint)) / f.step
	f.counts[min(i, forecastSteps-1)]++
}

// reaches is the safe point at which there will be n records of garbage;
// MaxUint64: there won't be.
func (f *forecast) reaches(n uint64) uint64 {
	sum := uint64(0)
	for i, c := range f.counts {
		if sum += c; sum >= n {
			return f.from + uint64(i+1)*f.step
		}
	}
	return math.MaxUint64
}

// chunk reads on, up to end (empty: unbounded). done says that it came there.
func (s *scan) chunk(data *engine.Engine, end []byte) (done bool, err error) {
	s.found, s.keysSeen, s.bytes, s.key = nil, 0, 0, s.key[:0]
	snap := data.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	it, err := snap.NewIter(kv.CFWrite, kv.IterOptions{Lower: s.cursor, Upper: end})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		enc, commitTS, err := codec.DecodeTS(it.Key())
		if err != nil {
			return false, fmt.Errorf("commit record %x: %w", it.Key(), err)
		}
		if !bytes.Equal(enc, s.key) {
			s.leave()
			if s.bytes >= scanChunkBytesMax || len(s.found) >= txn.CollectKeysMax {
				s.cursor = slices.Clone(enc)
				return false, it.Error()
			}
			s.enter(enc)
		}
		value, err := it.Value()
		if err != nil {
			return false, err
		}
		w, err := mvcc.ParseWrite(value)
		if err != nil {
			return false, fmt.Errorf("key %x at %d: %w", enc, commitTS, err)
		}
		s.bytes += len(it.Key()) + len(value)
		s.records++
		if s.g.Judge(commitTS, w.Type) != mvcc.Keep {
			s.bad = true
		}
		if s.bad && commitTS <= s.g.SafePoint {
			// The rest doesn't matter, but for a Put that may be kept: with it in mind
			// the next visit comes too early at worst.
			s.g.Judge(0, mvcc.WritePut)
			ok = it.SeekGE(codec.EncodeTS(slices.Clone(s.key), 0))
			if ok && bytes.HasPrefix(it.Key(), s.key) {
				ok = it.Next()
			}
			continue
		}
		ok = it.Next()
	}
	s.leave()
	return true, it.Error()
}

func (s *scan) enter(enc []byte) {
	s.key = append(s.key[:0], enc...)
	s.g.Reset(s.safePoints.At(enc))
	s.bad = false
	s.keysSeen++
}

func (s *scan) leave() {
	if len(s.key) == 0 {
		return
	}
	if s.bad {
		s.found = append(s.found, slices.Clone(s.key))
	}
	s.next = min(s.next, s.g.NextSafePoint())
}

func findPeer(l raftstore.LeaderState) *metapb.Peer {
	for _, p := range l.Region.GetPeers() {
		if p.GetId() == l.PeerID {
			return p
		}
	}
	return nil
}
