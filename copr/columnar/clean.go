package columnar

import "sync/atomic"

// generations numbers what tables are known as; see Visit.Generation.
var generations atomic.Uint64

// Generation stands for all that changes the table's data in the region without
// an entry of its log, from before the scan's snapshot on: two visits with the
// same one, and snapshots at the same applied index of the same version of the
// region, see the same rows and locks.
func (v *Visit) Generation() uint64 {
	if v == nil {
		return 0
	}
	return v.generation
}

// Clean reports whether any scan of the same ranges at the same applied index
// with a timestamp of at least maxTS returns the same rows: all are in blocks of
// which it is known when what has changed since was committed, and there is no
// lock that a later read could meet.
func (s *Scan) Clean() (maxTS uint64, ok bool) { return s.cleanTS, s.clean }

// judgeClean sets what Clean returns. later says that a lock was passed over
// because of the scan's timestamp.
func (s *Scan) judgeClean(later bool) {
	s.clean = !later && len(s.locked) == 0 && len(s.work.rest) > 0
	for i := range s.work.rest {
		g := &s.work.rest[i]
		s.clean = s.clean && g.how == byColumns && g.view.plain && g.view.newTS <= s.src.TS()
		if s.clean {
			s.cleanTS = max(s.cleanTS, g.view.maxTS, g.view.newTS)
		}
	}
}
