package exec

import (
	"errors"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	// mergeRunsMax bounds the runs that are merged at a time.
	mergeRunsMax = 64
	// mergeShare is the part of the spill limit that the buffers of a merge may
	// have.
	mergeShare = 4
)

// extSorter orders rows that need not fit in memory.
//
//	rows ──► memSorter ──full──► run ─┐
//	         memSorter ──full──► run ─┼─► merge, in several passes if there are
//	         memSorter ───end──► run ─┘   more than mergeRunsMax
type extSorter struct {
	memSorter
	ctx     *Ctx
	runs    []*spill.Run
	merge   *merger
	readers []*runReader // of the merge at hand
	buffers memUser
	at      int // next row of memSorter's order
	each    int // rows of a batch
	report  sortReport
}

func newExtSorter(types []sqltypes.Type, keys []plan.SortKey) (*extSorter, error) {
	m, err := newMemSorter(types, keys)
	if err != nil {
		return nil, err
	}
	return &extSorter{memSorter: *m}, nil
}

func (s *extSorter) reset(ctx *Ctx) {
	s.ctx, s.at, s.report = ctx, 0, sortReport{}
	s.buffers = memUser{acct: ctx.Mem}
	s.memSorter.reset(ctx)
}

// add keeps the rows of b.
func (s *extSorter) add(b *expr.Batch) error {
	b, err := s.withKeys(s.ctx, b)
	if err != nil {
		return err
	}
	cost := s.cost(b)
	if s.ctx.Spill != nil && s.len() > 0 && s.full(cost) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	err = s.keep(b)
	if err != nil && s.ctx.Spill != nil && s.len() > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		err = s.keep(b)
	}
	if err != nil && s.ctx.Spill != nil {
		// The batch is there, whatever the limit.
		if err = s.mem.growAnyway(cost); err == nil {
			s.rows.addUncharged(b)
		}
	}
	s.report.peak = max(s.report.peak, s.held())
	return err
}

// full reports whether the rows so far should go to disk first.
func (s *extSorter) full(more int64) bool {
	all := memUser{acct: s.mem.acct, held: s.held()}
	return all.full(more)
}

func (s *extSorter) held() int64 {
	if s.rows == nil {
		return 0
	}
	return s.mem.held + s.rows.mem.held
}

func (s *extSorter) keep(b *expr.Batch) error {
	if err := s.mem.grow(int64(b.N) * sortRowBytes); err != nil {
		return err
	}
	if err := s.rows.add(b, nil); err != nil {
		s.mem.shrink(int64(b.N) * sortRowBytes)
		return err
	}
	return nil
}

// flush writes the rows at hand as a run.
func (s *extSorter) flush() error {
	bytes := s.held()
	if err := s.sort(); err != nil {
		return err
	}
	w, err := s.ctx.Spill.Create(s.types)
	if err != nil {
		return err
	}
	each := rowsPerBatch(int64(len(s.order)), bytes)
	for lo := 0; lo < len(s.order); lo += each {
		b, err := s.batch(lo, min(lo+each, len(s.order)))
		if err == nil {
			err = w.Write(b.Cols, b.N)
		}
		if err == nil {
			err = s.ctx.check()
		}
		if err != nil {
			return errors.Join(err, w.Discard())
		}
	}
	run, err := finishRun(w, &s.report.spill)
	if err != nil {
		return err
	}
	s.runs = append(s.runs, run)
	s.report.runs++
	s.memSorter.free()
	s.memSorter.reset(s.ctx)
	return nil
}

// finish puts all rows in order.
func (s *extSorter) finish() error {
	s.report.finished = true
	if len(s.runs) == 0 {
		s.each = rowsPerBatch(int64(s.len()), s.held())
		return s.sort()
	}
	if s.len() > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	for {
		lo, hi := s.window()
		if err := s.openMerge(lo, hi); err != nil {
			return err
		}
		if hi-lo == len(s.runs) {
			return nil
		}
		if err := s.mergeWindow(lo, hi); err != nil {
			return err
		}
	}
}

// fanIn is how many runs can be merged at a time.
func (s *extSorter) fanIn() int {
	most := int64(0)
	for _, r := range s.runs {
		most = max(most, readerBytes(r))
	}
	room := s.ctx.Mem.spillRoom()
	if room == 0 {
		return mergeRunsMax
	}
	return int(max(2, min(mergeRunsMax, room/mergeShare/most)))
}

// window picks the next runs to merge: all of them if they are few enough, or
// the smallest neighbours, no more than needed. Neighbours, as runs are in order
// of arrival.
func (s *extSorter) window() (lo, hi int) {
	n, in := len(s.runs), s.fanIn()
	if n <= in {
		return 0, n
	}
	k := min(in, n-in+1)
	best := int64(-1)
	for i := 0; i+k <= n; i++ {
		sum := int64(0)
		for _, r := range s.runs[i : i+k] {
			sum += r.Bytes
		}
		if best < 0 || sum < best {
			best, lo = sum, i
		}
	}
	return lo, lo + k
}

func (s *extSorter) openMerge(lo, hi int) error {
	ins := make([]mergeInput, 0, hi-lo)
	bytes := int64(0)
	for _, run := range s.runs[lo:hi] {
		r, err := openRun(run)
		if err != nil {
			return err
		}
		s.readers = append(s.readers, r)
		bytes += readerBytes(run)
		ins = append(ins, func() (*expr.Batch, error) {
			b, err := r.next()
			if err != nil || b == nil {
				return nil, err
			}
			return PlainBatch(b, s.types), nil
		})
	}
	if err := s.buffers.setAnyway(bytes); err != nil {
		return err
	}
	keys, err := newSortKeys(s.sortedKeys())
	if err != nil {
		return err
	}
	s.merge = newMerger(s.ctx, s.types, keys, ins)
	return nil
}

// mergeWindow replaces runs by one.
func (s *extSorter) mergeWindow(lo, hi int) error {
	w, err := s.ctx.Spill.Create(s.types)
	if err != nil {
		return err
	}
	for {
		b, err := s.merge.next()
		if err == nil {
			err = s.ctx.check()
		}
		if err == nil && b != nil {
			err = w.Write(b.Cols, b.N)
		}
		if err != nil {
			return errors.Join(err, w.Discard())
		}
		if b == nil {
			break
		}
	}
	run, err := finishRun(w, &s.report.spill)
	if err != nil {
		return err
	}
	s.report.prepass++
	if err := s.closeMerge(); err != nil {
		return err
	}
	s.runs = append(append(s.runs[:lo:lo], run), s.runs[hi:]...)
	return nil
}

// closeMerge removes the runs that were merged.
func (s *extSorter) closeMerge() error {
	var errs []error
	for _, r := range s.readers {
		errs = append(errs, r.drop())
	}
	s.readers, s.merge = nil, nil
	return errors.Join(errs...)
}

// next returns the next rows in order, without the computed keys.
func (s *extSorter) next() (*expr.Batch, error) {
	var b *expr.Batch
	var err error
	if s.merge != nil {
		b, err = s.merge.next()
	} else {
		n := min(len(s.order)-s.at, s.each)
		if n == 0 {
			return nil, nil
		}
		s.at += n
		b, err = s.batch(s.at-n, s.at)
	}
	if err != nil || b == nil {
		return nil, err
	}
	return &expr.Batch{N: b.N, Cols: b.Cols[:s.ins:s.ins]}, nil
}

// free gives everything back, files included.
func (s *extSorter) free() error {
	s.memSorter.free()
	s.buffers.free()
	errs := []error{s.closeMerge()}
	for _, r := range s.runs {
		errs = append(errs, r.Remove())
	}
	s.runs = nil
	return errors.Join(errs...)
}
