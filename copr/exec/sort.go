package exec

import (
	"fmt"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
)

// sortOp sorts in memory as long as it may, and by runs on disk beyond.
type sortOp struct {
	in     Operator
	keys   []plan.SortKey
	rows   *extSorter
	filled bool
	done   sortReport
}

// NewSort orders all rows by keys; equal ones stay in order of arrival. Where
// memory is scarce and Ctx.Spill is set, sorted runs go to disk and are merged.
func NewSort(in Operator, keys []plan.SortKey) (Operator, error) {
	rows, err := newExtSorter(in.Types(), keys)
	if err != nil {
		return nil, err
	}
	return newOperator("Sort", &sortOp{in: in, keys: keys, rows: rows}, in.Types(), in), nil
}

func (s *sortOp) open(ctx *Ctx) error {
	s.filled = false
	s.rows.reset(ctx)
	return nil
}

func (s *sortOp) close() error {
	s.done = s.rows.report
	return s.rows.free()
}

func (s *sortOp) next() (*expr.Batch, error) {
	for !s.filled {
		b, err := s.in.Next()
		if err != nil {
			return nil, err
		}
		if b != nil {
			if err := s.rows.add(b); err != nil {
				return nil, err
			}
			continue
		}
		if err := s.rows.finish(); err != nil {
			return nil, err
		}
		s.filled = true
	}
	s.done = s.rows.report
	return s.rows.next()
}

func (s *sortOp) spillStats() SpillStats { return s.done.spill }

// details are what PostgreSQL says of a sort.
func (s *sortOp) details() []string { return s.done.lines() }

// sortReport is what a sort did.
type sortReport struct {
	spill    SpillStats
	peak     int64 // bytes held in memory at most
	runs     int   // on disk, before they were merged
	prepass  int   // merges before the last one
	finished bool
}

func (r sortReport) lines() []string {
	switch {
	case !r.finished:
		return nil
	case r.runs == 0:
		return []string{fmt.Sprintf("Sort Method: quicksort  Memory: %dkB", (r.peak+1023)>>10)}
	}
	out := fmt.Sprintf("Sort Method: external merge  Disk: %dkB  Runs: %d", (r.spill.Bytes+1023)>>10, r.runs)
	if r.prepass > 0 {
		out += fmt.Sprintf("  Intermediate merges: %d", r.prepass)
	}
	return []string{out}
}
