package exec

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
)

type distinct struct {
	in    Operator
	table *keyTable
	mem   memUser
	ids   []int32
	sel   []int32
}

// NewDistinct passes on the first of each set of equal rows.
func NewDistinct(in Operator) Operator {
	return newOperator("Distinct", &distinct{in: in}, in.Types(), in)
}

func (d *distinct) open(ctx *Ctx) error {
	d.table, d.mem = newKeyTable(d.in.Types()), memUser{acct: ctx.Mem}
	return nil
}

func (d *distinct) close() error {
	d.table = nil
	d.mem.free()
	return nil
}

func (d *distinct) next() (*expr.Batch, error) {
	b, err := d.in.Next()
	if err != nil || b == nil {
		return nil, err
	}
	if d.sel, err = newRows(d.table, colvec.OpenAll(b.Cols, d.in.Types()), b.N, &d.ids, d.sel[:0]); err != nil {
		return nil, err
	}
	if err := d.mem.set(d.table.Bytes()); err != nil {
		return nil, err
	}
	return takeBatch(b, d.in.Types(), d.sel)
}

// newRows inserts rows and appends to sel those whose key is new.
func newRows(t *keyTable, cols []colvec.Vec, n int, ids *[]int32, sel []int32) ([]int32, error) {
	next := int32(t.Len())
	var err error
	if *ids, err = t.Insert(cols, n, (*ids)[:0]); err != nil {
		return sel, err
	}
	for i, id := range *ids {
		if id == next {
			next++
			sel = append(sel, int32(i))
		}
	}
	return sel, nil
}
