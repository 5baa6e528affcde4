package exec

import (
	"errors"

	"github.com/copradb/copra/internal/colvec"
)

type distinct struct {
	in    Operator
	ctx   *Ctx
	depth int // how often the rows were divided
	table *keyTable
	mem   memUser
	ids   []int32
	sel   []int32

	// On disk: rows that the table has no room for, see keyFiles.
	disk  keyFiles
	queue partQueue
	part  Operator // over a file
	stats SpillStats
}

// NewDistinct passes on the first of each set of equal rows, as they come. Where
// memory is scarce, rows that are not yet known wait on disk for the end of the
// input.
func NewDistinct(in Operator) Operator { return newDistinct(in, 0) }

func newDistinct(in Operator, depth int) Operator {
	return newOperator("Distinct", &distinct{in: in, depth: depth}, in.Types(), in)
}

func (d *distinct) open(ctx *Ctx) error {
	d.ctx, d.table, d.mem = ctx, newKeyTable(d.in.Types()), memUser{acct: ctx.Mem}
	d.stats = SpillStats{}
	return nil
}

func (d *distinct) close() error {
	d.table = nil
	d.mem.free()
	errs := []error{d.closePart(), d.disk.files.free(), d.queue.free()}
	d.disk.files = nil
	return errors.Join(errs...)
}

func (d *distinct) spillStats() SpillStats { return d.stats }

func (d *distinct) nextRaw() (Raw, error) {
	if d.table == nil {
		return d.nextSpilled()
	}
	r, err := NextRaw(d.in)
	if err != nil {
		return Raw{}, err
	}
	if r.Batch == nil {
		if d.disk.files == nil {
			return Raw{}, nil
		}
		if err := d.endLevel(); err != nil {
			return Raw{}, err
		}
		return d.nextSpilled()
	}
	vecs := colvec.OpenAllEncoded(r.Cols, d.in.Types())
	if d.disk.files != nil {
		if d.ids, err = d.table.FindRows(vecs, r.Sel, r.Len(), d.ids[:0]); err == nil {
			_, _, err = d.disk.divide(r, d.in.Types(), d.ids, d.table.pack.hashes)
		}
		return Raw{r.Batch, []int32{}}, err
	}
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
	return Raw{r.Batch, d.sel}, d.charge()
}

// charge accounts for the table, and closes it when it is too large.
func (d *distinct) charge() error {
	if !spillsKeys(d.ctx, d.depth) {
		return d.mem.set(d.table.Bytes())
	}
	if err := d.mem.setAnyway(d.table.Bytes()); err != nil || !d.mem.full(d.table.indexBytes()) {
		return err
	}
	var err error
	d.disk.files, err = newPartFiles(d.ctx, d.in.Types(), d.depth)
	return err
}

// endLevel comes behind the last row of the input.
func (d *distinct) endLevel() error {
	f := d.disk.files
	d.table = nil
	d.mem.free()
	if err := f.finish(); err != nil {
		return err
	}
	d.stats.add(f.stats)
	d.queue.push(f)
	d.disk.files = nil
	return nil
}

// nextSpilled returns rows of the files.
func (d *distinct) nextSpilled() (Raw, error) {
	for {
		if d.part == nil {
			if len(d.queue) == 0 {
				return Raw{}, nil
			}
			p := d.queue.pop()
			d.part = newDistinct(newRunOperator("Spilled", d.in.Types(), p.run, false), p.depth)
			if err := d.part.Open(d.ctx); err != nil {
				return Raw{}, errors.Join(err, p.run.Remove())
			}
		}
		r, err := NextRaw(d.part)
		if err != nil || r.Batch != nil {
			return r, err
		}
		if err := d.closePart(); err != nil {
			return Raw{}, err
		}
	}
}

func (d *distinct) closePart() error {
	if d.part == nil {
		return nil
	}
	op := d.part
	d.part = nil
	err := op.Close()
	d.stats.add(op.Stats().Spill)
	return err
}
