package exec

import (
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

func (d *distinct) nextRaw() (Raw, error) {
	r, err := NextRaw(d.in)
	if err != nil || r.Batch == nil {
		return Raw{}, err
	}
	vecs := colvec.OpenAllEncoded(r.Cols, d.in.Types())
	if d.ids, err = d.table.InsertRows(vecs, r.Sel, r.Len(), d.ids[:0]); err != nil {
		return Raw{}, err
	}
	if d.sel == nil {
		d.sel = make([]int32, 0, r.Len()) // nil would be all rows
	}
	d.sel = d.sel[:0]
	for _, k := range d.table.fresh {
		d.sel = append(d.sel, int32(rowAt(r.Sel, int(k))))
	}
	return Raw{r.Batch, d.sel}, d.mem.set(d.table.Bytes())
}
