package mvcc

import (
	"math"

	"github.com/copradb/copra/internal/codec"
)

// Garbage decides which commit records of one key no read at or above a safe
// point can see. It is given them newest first:
//
//	above the safe point             kept
//	Lock and Rollback below          garbage, protected and flagged ones too
//	the newest Put at or below       kept: it is what the safe point sees
//	the newest Delete below          garbage, once nothing older is left
//	others at the safe point         kept: transactions that began there may go on
//	everything older than these      garbage
//
// What a rollback record guards against, a late request of its transaction, is
// refused by the store instead, if that began below the safe point; see txn's
// safePoints. The zero value with
// SafePoint set is ready for a key; Reset begins the next one.
type Garbage struct {
	SafePoint uint64
	// Later, if not nil, is told each safe point at which one more record will be
	// garbage.
	Later func(safePoint uint64)

	covered bool   // the version that the safe point sees is passed
	above   uint64 // commit_ts of the last record, if that is kept and above; or 0
	next    uint64
}

// Verdict is what becomes of a record.
type Verdict byte

// The verdicts.
const (
	Keep     Verdict = iota
	Drop             // garbage
	DropLast         // a Delete: garbage as soon as the key has nothing older
)

// Reset begins another key, which may have another safe point.
func (g *Garbage) Reset(safePoint uint64) { *g = Garbage{SafePoint: safePoint, Later: g.Later} }

// Judge is called for the records of a key from the newest on, or from the
// newest at or below the safe point on.
func (g *Garbage) Judge(commitTS uint64, t WriteType) Verdict {
	if commitTS > g.SafePoint {
		g.noteOlder()
		g.above = commitTS
		if t != WritePut {
			g.note(commitTS + 1)
		}
		return Keep
	}
	if commitTS == g.SafePoint && t != WritePut {
		// Of a transaction that began at the safe point, and may go on, this says that
		// it was rolled back: by its type, or by its flag.
		g.covered = t == WriteDelete
		g.note(commitTS + 1)
		return Keep
	}
	switch {
	case g.covered, t == WriteLock, t == WriteRollback:
		return Drop
	case t == WriteDelete:
		g.covered = true
		return DropLast
	}
	g.covered = true
	g.noteOlder()
	return Keep
}

// noteOlder notes that the last record above the safe point has an older one
// that is kept: that is garbage when the safe point comes to the newer one.
func (g *Garbage) noteOlder() {
	if g.above != 0 {
		g.note(g.above)
	}
}

func (g *Garbage) note(ts uint64) {
	if g.Later != nil {
		g.Later(ts)
	}
	if g.next == 0 || ts < g.next {
		g.next = ts
	}
}

// NextSafePoint is the smallest safe point at which the key, as judged, will
// have garbage again; MaxUint64 if none will do.
func (g *Garbage) NextSafePoint() uint64 {
	if g.next == 0 {
		return math.MaxUint64
	}
	return g.next
}

// LongValueKey appends the key of a dropped record's value in the default family.
// ok is false if it has none there.
func LongValueKey(dst, enc []byte, w *Write) (key []byte, ok bool) {
	if w.Type != WritePut || w.HasShort {
		return dst, false
	}
	return codec.EncodeTS(append(dst, enc...), w.StartTS), true
}
