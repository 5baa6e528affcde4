package exec

import (
	"errors"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/spill"
)

// SetKind is a set operation.
type SetKind uint8

// The set operations; UNION is NewUnionAll and NewDistinct.
const (
	Intersect SetKind = iota
	Except
)

type setOp struct {
	kind        SetKind
	all         bool
	left, right Operator
	depth       int // how often the rows were divided
	ctx         *Ctx
	table       *keyTable
	count       []int64 // by key: rows of the right side not yet used up
	seen        []bool  // by key: passed on already (not ALL)
	mem         memUser
	ids, sel    []int32

	// On disk: rows that the table has no room for, see keyFiles. Both sides are
	// divided from the moment on when it takes no more keys.
	leftDisk, rightDisk keyFiles
	pairs               []setPair
	part                Operator // over a pair of files
	stats               SpillStats
}

// setPair is a file of each side, nil = no rows.
type setPair struct{ left, right *spill.Run }

// NewSetOp is INTERSECT or EXCEPT, with ALL or without. Both sides have the
// same types; the right one is kept as a hash table. Where memory is scarce,
// rows that are not yet known wait on disk for the end of the input.
func NewSetOp(kind SetKind, all bool, left, right Operator) Operator {
	return newSetOp(kind, all, left, right, 0)
}

func newSetOp(kind SetKind, all bool, left, right Operator, depth int) Operator {
	name := [...]string{"Intersect", "Except"}[kind]
	if all {
		name += " All"
	}
	return newOperator(name, &setOp{kind: kind, all: all, left: left, right: right, depth: depth}, left.Types(), left, right)
}

func (s *setOp) open(ctx *Ctx) error {
	s.ctx, s.table, s.mem = ctx, newKeyTable(s.left.Types()), memUser{acct: ctx.Mem}
	s.count, s.seen, s.stats = nil, nil, SpillStats{}
	for {
		r, err := NextRaw(s.right)
		if err != nil || r.Batch == nil {
			return err
		}
		if _, err := s.number(r, &s.rightDisk); err != nil {
			return err
		}
		for _, id := range s.ids {
			s.count[id]++
		}
	}
}

// number puts the numbers of the rows' keys into ids. Rows whose keys the table
// has no room for go to a file of their side; the others are returned.
func (s *setOp) number(r Raw, disk *keyFiles) (Raw, error) {
	types := s.left.Types()
	vecs := colvec.OpenAllEncoded(r.Cols, types)
	var err error
	if disk.files != nil {
		if s.ids, err = s.table.FindRows(vecs, r.Sel, r.Len(), s.ids[:0]); err == nil {
			r, s.ids, err = disk.divide(r, types, s.ids, s.table.pack.hashes)
		}
		return r, err
	}
	if s.ids, err = s.table.InsertRows(vecs, r.Sel, r.Len(), s.ids[:0]); err != nil {
		return r, err
	}
	for len(s.count) < s.table.Len() {
		s.count, s.seen = append(s.count, 0), append(s.seen, false)
	}
	need := s.table.Bytes() + 9*int64(cap(s.count))
	if !spillsKeys(s.ctx, s.depth) {
		return r, s.mem.set(need)
	}
	if err := s.mem.setAnyway(need); err != nil || !s.mem.full(s.table.indexBytes()) {
		return r, err
	}
	for _, d := range []*keyFiles{&s.leftDisk, &s.rightDisk} {
		if d.files, err = newPartFiles(s.ctx, types, s.depth); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (s *setOp) close() error {
	s.table, s.count, s.seen = nil, nil, nil
	s.mem.free()
	errs := []error{s.closePart(), s.leftDisk.files.free(), s.rightDisk.files.free()}
	for _, p := range s.pairs {
		errs = append(errs, removeRuns(p.left, p.right))
	}
	s.leftDisk.files, s.rightDisk.files, s.pairs = nil, nil, nil
	return errors.Join(errs...)
}

func (s *setOp) spillStats() SpillStats { return s.stats }

func (s *setOp) nextRaw() (Raw, error) {
	if s.table == nil {
		return s.nextSpilled()
	}
	r, err := NextRaw(s.left)
	if err != nil {
		return Raw{}, err
	}
	if r.Batch == nil {
		if s.leftDisk.files == nil {
			return Raw{}, nil
		}
		if err := s.endLevel(); err != nil {
			return Raw{}, err
		}
		return s.nextSpilled()
	}
	if r, err = s.number(r, &s.leftDisk); err != nil {
		return Raw{}, err
	}
	if s.sel == nil {
		s.sel = make([]int32, 0, r.N) // nil would be all rows
	}
	s.sel = s.sel[:0]
	for k, id := range s.ids {
		if s.keep(id) {
			s.sel = append(s.sel, int32(rowAt(r.Sel, k)))
		}
	}
	return Raw{r.Batch, s.sel}, nil
}

func (s *setOp) keep(id int32) bool {
	inRight := s.count[id] > 0
	if s.all {
		if inRight {
			s.count[id]--
		}
		return inRight == (s.kind == Intersect)
	}
	if s.seen[id] || inRight != (s.kind == Intersect) {
		return false
	}
	s.seen[id] = true
	return true
}

// endLevel comes behind the last row of the left side.
func (s *setOp) endLevel() error {
	s.table, s.count, s.seen = nil, nil, nil
	s.mem.free()
	l, r := s.leftDisk.files, s.rightDisk.files
	for _, f := range []*partFiles{l, r} {
		if err := f.finish(); err != nil {
			return err
		}
		s.stats.add(f.stats)
	}
	for i := range spillParts {
		p := setPair{l.take(i), r.take(i)}
		if p.left != nil && (p.right != nil || s.kind == Except) {
			s.pairs = append(s.pairs, p)
		} else if err := removeRuns(p.left, p.right); err != nil {
			return err
		}
	}
	s.leftDisk.files, s.rightDisk.files = nil, nil
	return nil
}

// nextSpilled returns rows of the files.
func (s *setOp) nextSpilled() (Raw, error) {
	for {
		if s.part == nil {
			if len(s.pairs) == 0 {
				return Raw{}, nil
			}
			p := s.pairs[0]
			types := s.left.Types()
			right := NewBatches(types)
			if p.right != nil {
				right = newRunOperator("Spilled", types, p.right, false)
			}
			s.part = newSetOp(s.kind, s.all, newRunOperator("Spilled", types, p.left, false), right, s.depth+1)
			if err := s.part.Open(s.ctx); err != nil {
				return Raw{}, err
			}
		}
		r, err := NextRaw(s.part)
		if err != nil || r.Batch != nil {
			return r, err
		}
		s.pairs = s.pairs[1:]
		if err := s.closePart(); err != nil {
			return Raw{}, err
		}
	}
}

func (s *setOp) closePart() error {
	if s.part == nil {
		return nil
	}
	op := s.part
	s.part = nil
	err := op.Close()
	s.stats.add(op.Stats().Spill)
	return err
}
