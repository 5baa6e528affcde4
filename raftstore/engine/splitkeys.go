package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// SplitLimits say how large the pieces of a split should be. A piece ends when
// it has Bytes of keys and values, or Keys entries (0: as many as it likes).
type SplitLimits struct {
	Bytes, Keys uint64
	// CutCountMax bounds the cuts. Each may bring two boundaries more with it,
	// at the ends of its pocket.
	CutCountMax int
}

// Split is a range as SplitKeys measured it.
type Split struct {
	Keys       [][]byte // boundaries, ascending, strictly inside the range
	Bytes      uint64   // of all keys and values
	EntryCount uint64   // in all families
}

const (
	// splitRestFraction: a last piece smaller than a piece's size divided by
	// this is not worth a region of its own.
	splitRestFraction = 4
	// splitOverdueFraction: a boundary that has not been reached when a piece is
	// larger than it should be by this fraction is given up for one in the pocket.
	splitOverdueFraction = 4
)

// SplitKeys walks [start, end) of all families and returns boundaries that cut
// it into pieces, with its measure. A boundary is a valid memcomparable
// encoding: of the user key at a transactional key, EncodeBytes(raw key) at a
// raw one that is no encoding itself; or a raw key inside a pocket, whose ends
// are boundaries, too.
//
// It reads the whole range, so it belongs on a background worker.
func (e *Engine) SplitKeys(start, end []byte, l SplitLimits) (out Split, err error) {
	snap := e.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	m, err := newMergedKeys(snap, start, end)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	sp := splitter{start: start, end: end, limits: l}
	sp.limits.Bytes = max(l.Bytes, 1)
	for m.next() {
		sp.add(m.cf, m.key, uint64(len(m.key))+uint64(m.valueLen))
	}
	if m.err != nil {
		return out, fmt.Errorf("find split keys of [%x, %x): %w", start, end, m.err)
	}
	sp.finish()
	return Split{Keys: sp.keys, Bytes: sp.bytes, EntryCount: sp.entries}, nil
}

// Boundaries returns where to cut [start, end) so that a piece begins at key of
// a family: one boundary, or up to three in a pocket. For a raw key that is no
// legal boundary it is the nearest one below it. It is empty if no boundary
// inside the range belongs to the key.
func Boundaries(start, end []byte, cf kv.CF, key []byte) [][]byte {
	sp := splitter{start: start, end: end, limits: SplitLimits{Bytes: 1, CutCountMax: 1}}
	if cf == kv.CFRaw {
		if p, ok := codec.PocketOf(key); ok {
			sp.cutInPocket(p, key)
			sp.finish()
			return sp.keys
		}
		if b := codec.EncodingBelow(key); bytes.Compare(b, start) > 0 && (len(end) == 0 || bytes.Compare(b, end) < 0) {
			return [][]byte{b}
		}
		return nil
	}
	sp.propose(cf, key)
	if sp.pending != nil {
		return [][]byte{sp.pending}
	}
	return nil
}

// RawBoundaries returns the boundaries, ascending, that cut [start, end) at those
// raw keys that are inside of it; see Boundaries.
func RawBoundaries(start, end []byte, keys [][]byte) [][]byte {
	var out [][]byte
	for _, key := range keys {
		if bytes.Compare(key, start) > 0 && (len(end) == 0 || bytes.Compare(key, end) < 0) {
			out = append(out, Boundaries(start, end, kv.CFRaw, key)...)
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return slices.CompactFunc(out, bytes.Equal)
}

// splitter chooses boundaries from keys that come in the regions' order.
type splitter struct {
	start, end []byte
	limits     SplitLimits

	keys           [][]byte
	cuts           int
	bytes, entries uint64
	piece, pieceN  uint64        // bytes and entries since the last boundary
	pending        []byte        // the next boundary, if the keys have not reached it yet
	prev           []byte        // the last key, which must stay left of a new boundary
	open           *codec.Pocket // it has a cut inside, so its end must be a boundary
	fixed          bool          // the last boundary is the end of a pocket
}

func (s *splitter) add(cf kv.CF, key []byte, size uint64) {
	s.leavePocket(key)
	if s.pending == nil && s.full(1) && s.cuts < s.limits.CutCountMax {
		s.propose(cf, key)
	}
	switch {
	case s.pending == nil:
	case bytes.Compare(key, s.pending) >= 0:
		s.cut(s.pending)
		s.pending = nil
		s.cuts++
	case s.overdue() && cf == kv.CFRaw:
		if p, ok := codec.PocketOf(key); ok {
			s.pending = nil
			s.cutInPocket(p, key)
		}
	}
	s.piece += size
	s.pieceN++
	s.bytes += size
	s.entries++
	s.prev = append(s.prev[:0], key...)
}

// full reports whether the piece has reached its size divided by part.
func (s *splitter) full(part uint64) bool {
	return s.piece >= s.limits.Bytes/part || (s.limits.Keys > 0 && s.pieceN >= s.limits.Keys/part)
}

func (s *splitter) overdue() bool {
	l := &s.limits
	return s.piece >= l.Bytes+l.Bytes/splitOverdueFraction || (l.Keys > 0 && s.pieceN >= l.Keys+l.Keys/splitOverdueFraction)
}

func (s *splitter) cut(at []byte) {
	s.keys = append(s.keys, at)
	s.piece, s.pieceN, s.fixed = 0, 0, false
}

// last is where the current piece begins.
func (s *splitter) last() []byte {
	if n := len(s.keys); n > 0 {
		return s.keys[n-1]
	}
	return s.start
}

func (s *splitter) cutInPocket(p codec.Pocket, key []byte) {
	if bytes.Compare(key, s.last()) <= 0 {
		return
	}
	if bytes.Compare(p.Start, s.last()) > 0 {
		s.cut(p.Start)
	}
	s.cut(bytes.Clone(key))
	s.cuts++
	s.open = &p
}

// leavePocket ends the open pocket before a key behind it.
func (s *splitter) leavePocket(key []byte) {
	if s.open == nil || bytes.Compare(key, s.open.End) < 0 {
		return
	}
	s.cut(s.open.End)
	s.open, s.fixed = nil, true
}

// propose sets pending to the boundary of key, if it is one and lies inside
// the range behind all keys so far (the versions of one user key stay
// together). The boundary of a raw key may be larger than the key.
func (s *splitter) propose(cf kv.CF, key []byte) {
	var b []byte
	n := codec.EncodedPrefixLen(key)
	switch {
	case n >= 0 && (cf != kv.CFRaw || n == len(key)) && isEncoding(key[:n]): // raw keys of API V2 are stored encoded, too
		b = bytes.Clone(key[:n])
	case cf != kv.CFRaw:
		return
	default:
		b = codec.EncodeBytes(nil, key)
		if p, ok := codec.PocketOf(key); ok && bytes.Compare(p.Start, s.last()) <= 0 && len(s.end) > 0 && bytes.Compare(s.end, p.End) <= 0 {
			b = bytes.Clone(key) // the region lies in the pocket as a whole
		}
	}
	if bytes.Compare(b, s.start) > 0 && bytes.Compare(b, s.prev) > 0 && (len(s.end) == 0 || bytes.Compare(b, s.end) < 0) {
		s.pending = b
	}
}

func isEncoding(b []byte) bool {
	_, rest, err := codec.DecodeBytes(nil, b)
	return err == nil && len(rest) == 0
}

// finish drops a last boundary that leaves nearly nothing behind it, and closes
// the open pocket.
func (s *splitter) finish() {
	switch n := len(s.keys); {
	case s.open != nil:
		if len(s.end) == 0 || bytes.Compare(s.open.End, s.end) < 0 {
			s.cut(s.open.End)
		}
		s.open = nil
	case n > 0 && !s.fixed && !s.full(splitRestFraction):
		s.keys = s.keys[:n-1]
	}
}
