package plan

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// windowOp computes window functions over input sorted by partition and order.
// It keeps the partition at hand, and windowRowsMin rows at least, charged to the
// statement's memory.
type windowOp struct {
	n         *physWindow
	types     []sqltypes.Type // of the input
	partition []expr.Evaluator
	order     []expr.Evaluator
	args      [][]expr.Evaluator
	in        []*expr.Batch
	rows      int // of in
	next      int // how many rows are waited for until partitions are looked for
	held      charge
}

const (
	// windowRowsMin is how many rows are computed at a time, if there are as many.
	windowRowsMin = 1 << 14
	// windowRowBytes is what a row of them takes beside its values: its bounds and
	// its keys.
	windowRowBytes = 128
)

func (n *physWindow) build(b *builder) (exec.Operator, error) {
	in, err := b.build(n.in)
	if err != nil {
		return nil, err
	}
	w := &windowOp{n: n, types: in.Types()}
	compile := func(list []expr.Expr) ([]expr.Evaluator, error) {
		l, err := b.readyAll(list)
		if err != nil {
			return nil, err
		}
		return expr.CompileAll(l)
	}
	if w.partition, err = compile(n.partition); err != nil {
		return nil, err
	}
	if w.order, err = compile(n.order); err != nil {
		return nil, err
	}
	for _, f := range n.funcs {
		a, err := compile(f.args)
		if err != nil {
			return nil, err
		}
		w.args = append(w.args, a)
	}
	u := newUnary("WindowAgg", n.types, in, w.take)
	u.reset = func() { w.in, w.rows, w.next = nil, 0, windowRowsMin }
	u.flush = w.finish
	u.free = func() { w.in = nil; w.held.free() }
	return u, nil
}

// take keeps b. When there are many rows, the partitions that are complete are
// computed.
func (w *windowOp) take(ctx *exec.Ctx, b *expr.Batch, emit func(*expr.Batch) error) error {
	if err := w.held.grow(ctx.Mem, batchBytes(b)+int64(b.N)*windowRowBytes); err != nil {
		return err
	}
	w.in = append(w.in, b)
	w.rows += b.N
	if w.rows < w.next || len(w.partition) == 0 {
		return nil
	}
	all, err := expr.ConcatBatches(w.in)
	if err != nil {
		return err
	}
	keys, err := evalKeys(ctx, w.partition, all)
	if err != nil {
		return err
	}
	last := all.N - 1 // where the last partition begins
	for last > 0 && keys[last-1] == keys[last] {
		last--
	}
	w.in, w.rows = []*expr.Batch{all}, all.N
	if last > 0 {
		if err := w.emit(ctx, expr.SliceBatch(all, 0, last), emit); err != nil {
			return err
		}
		b = expr.SliceBatch(all, last, all.N)
		w.in, w.rows = []*expr.Batch{b}, b.N
		w.held.free()
		if err := w.held.grow(ctx.Mem, batchBytes(b)+int64(b.N)*windowRowBytes); err != nil {
			return err
		}
	}
	w.next = max(windowRowsMin, 2*w.rows)
	return nil
}

// block is some whole partitions with what the functions look at.
type block struct {
	n     int
	part  []int // first row of the row's partition
	peer  []int // first row of the row's peers
	ends  []int // by row: end of its partition
	pends []int // by row: end of its peers
}

func (w *windowOp) finish(ctx *exec.Ctx, emit func(*expr.Batch) error) error {
	defer w.held.free()
	if len(w.in) == 0 {
		return nil
	}
	all, err := expr.ConcatBatches(w.in)
	w.in = nil
	if err != nil {
		return err
	}
	return w.emit(ctx, all, emit)
}

// emit computes the functions of whole partitions.
func (w *windowOp) emit(ctx *exec.Ctx, all *expr.Batch, emit func(*expr.Batch) error) error {
	blk, err := w.bounds(ctx, all)
	if err != nil {
		return err
	}
	out := &expr.Batch{N: all.N, Cols: append([]arrow.Array(nil), all.Cols...)}
	for i := range w.n.funcs {
		f := &w.n.funcs[i]
		vecs := make([]colvec.Vec, len(w.args[i]))
		for k, ev := range w.args[i] {
			a, err := ev.Eval(ctx.Eval, all, nil)
			if err != nil {
				return err
			}
			vecs[k] = colvec.Open(a, ev.Expr().Type())
		}
		col, err := w.compute(ctx, f, blk, vecs)
		if err != nil {
			return err
		}
		out.Cols = append(out.Cols, col)
	}
	for lo := 0; lo < out.N; lo += exec.BatchRowsMax {
		if err := emit(expr.SliceBatch(out, lo, min(out.N, lo+exec.BatchRowsMax))); err != nil {
			return err
		}
	}
	return nil
}

// bounds finds partitions and peers.
func (w *windowOp) bounds(ctx *exec.Ctx, all *expr.Batch) (*block, error) {
	part, err := evalKeys(ctx, w.partition, all)
	if err != nil {
		return nil, err
	}
	order, err := evalKeys(ctx, w.order, all)
	if err != nil {
		return nil, err
	}
	b := &block{n: all.N, part: make([]int, all.N), peer: make([]int, all.N), ends: make([]int, all.N), pends: make([]int, all.N)}
	for i := 1; i < all.N; i++ {
		b.part[i], b.peer[i] = b.part[i-1], b.peer[i-1]
		if part[i] != part[i-1] {
			b.part[i], b.peer[i] = i, i
		} else if order[i] != order[i-1] {
			b.peer[i] = i
		}
	}
	for i := all.N - 1; i >= 0; i-- {
		b.ends[i], b.pends[i] = i+1, i+1
		if i+1 < all.N && b.part[i+1] == b.part[i] {
			b.ends[i] = b.ends[i+1]
			if b.peer[i+1] == b.peer[i] {
				b.pends[i] = b.pends[i+1]
			}
		}
	}
	return b, nil
}

func evalKeys(ctx *exec.Ctx, evs []expr.Evaluator, all *expr.Batch) ([]string, error) {
	if len(evs) == 0 {
		return make([]string, all.N), nil
	}
	b := &expr.Batch{N: all.N}
	types := make([]sqltypes.Type, len(evs))
	for i, ev := range evs {
		a, err := ev.Eval(ctx.Eval, all, nil)
		if err != nil {
			return nil, err
		}
		types[i] = ev.Expr().Type()
		b.Cols = append(b.Cols, a)
	}
	return rowKeys(b, types, nil)
}

// compute makes one function's column.
func (w *windowOp) compute(ctx *exec.Ctx, f *windowCall, b *block, args []colvec.Vec) (arrow.Array, error) {
	if f.agg {
		return w.aggregate(ctx, f, b, args)
	}
	out := colvec.NewBuilder(f.typ, b.n)
	dense := int64(0)
	for i := range b.n {
		row, size := i-b.part[i], b.ends[i]-b.part[i]
		switch f.name {
		case "row_number":
			out.AppendInt(int64(row + 1))
		case "rank":
			out.AppendInt(int64(b.peer[i] - b.part[i] + 1))
		case "dense_rank":
			if row == 0 {
				dense = 0
			}
			if b.peer[i] == i {
				dense++
			}
			out.AppendInt(dense)
		case "percent_rank":
			r := 0.0
			if size > 1 {
				r = float64(b.peer[i]-b.part[i]) / float64(size-1)
			}
			out.AppendFloat(r)
		case "cume_dist":
			out.AppendFloat(float64(b.pends[i]-b.part[i]) / float64(size))
		case "ntile":
			if err := appendNtile(out, &args[0], i, row, size); err != nil {
				return nil, err
			}
		case "lag", "lead":
			appendLag(out, f, b, args, i)
		default:
			if err := appendValue(out, f, b, args, i); err != nil {
				return nil, err
			}
		}
	}
	return out.Finish()
}

// appendNtile gives the first size % n buckets one row more.
func appendNtile(out *colvec.Builder, arg *colvec.Vec, i, row, size int) error {
	if arg.IsNull(i) {
		out.AppendNull()
		return nil
	}
	n := int(arg.IntAt(i))
	if n <= 0 {
		return pgerror.New("22014", "argument of ntile must be greater than zero")
	}
	each, more := size/n, size%n
	bucket := 0
	if big := more * (each + 1); row < big {
		bucket = row / (each + 1)
	} else {
		bucket = more + (row-big)/max(each, 1)
	}
	out.AppendInt(int64(bucket + 1))
	return nil
}

func appendLag(out *colvec.Builder, f *windowCall, b *block, args []colvec.Vec, i int) {
	off := 1
	if len(args) > 1 {
		if args[1].IsNull(i) {
			out.AppendNull()
			return
		}
		off = int(args[1].IntAt(i))
	}
	at := i - off
	if f.name == "lead" {
		at = i + off
	}
	switch {
	case at >= b.part[i] && at < b.ends[i]:
		out.AppendFrom(&args[0], at)
	case len(args) == 3:
		out.AppendFrom(&args[2], i)
	default:
		out.AppendNull()
	}
}

func appendValue(out *colvec.Builder, f *windowCall, b *block, args []colvec.Vec, i int) error {
	lo, hi := b.frame(f.frame, i)
	at := lo
	switch f.name {
	case "last_value":
		at = hi - 1
	case "nth_value":
		if args[1].IsNull(i) {
			out.AppendNull()
			return nil
		}
		n := int(args[1].IntAt(i))
		if n <= 0 {
			return pgerror.New("22016", "argument of nth_value must be greater than zero")
		}
		at = lo + n - 1
	}
	if at < lo || at >= hi {
		out.AppendNull()
		return nil
	}
	out.AppendFrom(&args[0], at)
	return nil
}

// frame is the rows [lo, hi) of row i's frame.
func (b *block) frame(f frame, i int) (lo, hi int) {
	lo, hi = b.part[i], b.ends[i]
	switch f.start.kind {
	case currentRow:
		if lo = b.peer[i]; f.rows {
			lo = i
		}
	case offsetPreceding:
		lo = max(b.part[i], i-f.start.n)
	case offsetFollowing:
		lo = min(b.ends[i], i+f.start.n)
	}
	switch f.end.kind {
	case currentRow:
		if hi = b.pends[i]; f.rows {
			hi = i + 1
		}
	case offsetPreceding:
		hi = max(b.part[i], i-f.end.n+1)
	case offsetFollowing:
		hi = min(b.ends[i], i+f.end.n+1)
	}
	return lo, max(lo, hi)
}

// aggregate runs an aggregate over each row's frame. A frame that starts where
// the partition does only grows, so its state is carried on; another is
// computed anew for each row.
func (w *windowOp) aggregate(ctx *exec.Ctx, f *windowCall, b *block, args []colvec.Vec) (arrow.Array, error) {
	types := make([]sqltypes.Type, len(f.args))
	for i, a := range f.args {
		types[i] = a.Type()
	}
	out := colvec.NewBuilder(f.typ, b.n)
	var acc agg.Accumulator
	from, upto := -1, -1
	for i := range b.n {
		if ctx.Err() != nil {
			return nil, canceled(ctx)
		}
		lo, hi := b.frame(f.frame, i)
		if acc == nil || lo != from || hi < upto {
			var err error
			if acc, err = agg.New(f.name, types); err != nil {
				return nil, err
			}
			acc.Grow(1)
			from, upto = lo, lo
		}
		if hi > upto {
			if err := updateRows(acc, args, upto, hi); err != nil {
				return nil, err
			}
			upto = hi
		}
		if err := acc.Result(out, 0, 1); err != nil {
			return nil, err
		}
	}
	return out.Finish()
}

// updateRows feeds rows [lo, hi) into group 0.
func updateRows(acc agg.Accumulator, args []colvec.Vec, lo, hi int) error {
	sel := make([]int32, hi-lo)
	for i := range sel {
		sel[i] = int32(lo + i)
	}
	return acc.Update(agg.Rows{N: len(sel), Sel: sel}, args)
}
