package exec

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
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
	table       *keyTable
	count       []int64 // by key: rows of the right side not yet used up
	seen        []bool  // by key: passed on already (not ALL)
	mem         memUser
	ids, sel    []int32
}

// NewSetOp is INTERSECT or EXCEPT, with ALL or without. Both sides have the
// same types; the right one is kept as a hash table.
func NewSetOp(kind SetKind, all bool, left, right Operator) Operator {
	name := [...]string{"Intersect", "Except"}[kind]
	if all {
		name += " All"
	}
	return newOperator(name, &setOp{kind: kind, all: all, left: left, right: right}, left.Types(), left, right)
}

func (s *setOp) open(ctx *Ctx) error {
	s.table, s.mem = newKeyTable(s.left.Types()), memUser{acct: ctx.Mem}
	s.count, s.seen = nil, nil
	for {
		b, err := s.right.Next()
		if err != nil || b == nil {
			return err
		}
		if err := s.insert(b, s.right); err != nil {
			return err
		}
		for _, id := range s.ids {
			s.count[id]++
		}
	}
}

// insert numbers the rows of b into ids.
func (s *setOp) insert(b *expr.Batch, from Operator) error {
	var err error
	if s.ids, err = s.table.Insert(colvec.OpenAll(b.Cols, from.Types()), b.N, s.ids[:0]); err != nil {
		return err
	}
	for len(s.count) < s.table.Len() {
		s.count, s.seen = append(s.count, 0), append(s.seen, false)
	}
	return s.mem.set(s.table.Bytes() + 9*int64(cap(s.count)))
}

func (s *setOp) close() error {
	s.table, s.count, s.seen = nil, nil, nil
	s.mem.free()
	return nil
}

func (s *setOp) next() (*expr.Batch, error) {
	b, err := s.left.Next()
	if err != nil || b == nil {
		return nil, err
	}
	if err := s.insert(b, s.left); err != nil {
		return nil, err
	}
	s.sel = s.sel[:0]
	for i, id := range s.ids {
		if s.keep(id) {
			s.sel = append(s.sel, int32(i))
		}
	}
	return takeBatch(b, s.left.Types(), s.sel)
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
