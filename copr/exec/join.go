package exec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// JoinKind says which rows a join returns.
type JoinKind uint8

// The kinds. A semi join returns the left rows that have a match, an anti join
// those that have none; both return left columns only. The right ones (hash
// joins only) do the same for the right rows.
const (
	InnerJoin JoinKind = iota
	LeftJoin
	RightJoin
	FullJoin
	SemiJoin
	AntiJoin
	RightSemiJoin
	RightAntiJoin
)

// String is how EXPLAIN shows it.
func (k JoinKind) String() string {
	return [...]string{"", " Left", " Right", " Full", " Semi", " Anti", " Right Semi", " Right Anti"}[k]
}

func (k JoinKind) leftOnly() bool  { return k == SemiJoin || k == AntiJoin }
func (k JoinKind) rightOnly() bool { return k == RightSemiJoin || k == RightAntiJoin }
func (k JoinKind) keepsLeft() bool { return k == LeftJoin || k == FullJoin }

// keepsRight reports whether right rows come out at the end, for which it is
// marked which of them have found a match.
func (k JoinKind) keepsRight() bool { return k == RightJoin || k == FullJoin || k.rightOnly() }

// matcher finds for left rows the right rows that may join.
type matcher interface {
	// build takes the whole right side.
	build(ctx *Ctx, right *expr.Batch) error
	// start takes the next left batch.
	start(ctx *Ctx, left *expr.Batch) error
	// pairs appends the next pairs of positions, at most about max; done says
	// that these were the left batch's last.
	pairs(l, r []int32, max int) (lo, ro []int32, done bool)
	bytes() int64
}

// joiner is what all joins do once a matcher names the pairs: test the rest of
// the condition, remember who found a match, fill up outer rows.
//
//	left batch ──start──► matcher ──pairs──► residual ──► matches ──► output
//	                         ▲                               └─► unmatched rows, with NULLs
//	right side ──build───────┘
type joiner struct {
	kind        JoinKind
	left, right Operator
	types       []sqltypes.Type // left's, then right's
	match       matcher
	residual    *filterList // nil = none
	nullAware   bool        // a residual that is NULL is a match
	ctx         *Ctx
	mem         memUser

	inner    *expr.Batch // the right side
	innerV   []colvec.Vec
	innerHit []bool // keepsRight: right rows that found a match
	cur      *expr.Batch
	curV     []colvec.Vec
	hit      []bool // left rows of cur that found a match
	done     bool   // no pairs left in cur
	drained  bool   // left is at its end
	tail     int    // next right row to look at after that
	l, r     []int32
	sel      []int32
}

func newJoiner(kind JoinKind, left, right Operator, m matcher, residual []expr.Expr) (*joiner, error) {
	j := &joiner{kind: kind, left: left, right: right, match: m}
	j.types = append(append(j.types, left.Types()...), right.Types()...)
	if len(residual) > 0 {
		var err error
		if j.residual, err = compileFilter(residual); err != nil {
			return nil, err
		}
	}
	return j, nil
}

func (j *joiner) outTypes() []sqltypes.Type {
	if j.kind.leftOnly() {
		return j.left.Types()
	}
	return j.types
}

func (j *joiner) open(ctx *Ctx) error {
	j.ctx, j.mem = ctx, memUser{acct: ctx.Mem}
	j.cur, j.drained, j.tail = nil, false, 0
	var err error
	if j.inner, err = concat(j.right, &j.mem); err != nil {
		return err
	}
	j.innerV = colvec.OpenAll(j.inner.Cols, j.right.Types())
	if j.kind.keepsRight() {
		j.innerHit = make([]bool, j.inner.N)
	}
	if err := j.match.build(ctx, j.inner); err != nil {
		return err
	}
	return j.mem.grow(j.match.bytes() + int64(len(j.innerHit)))
}

func (j *joiner) close() error {
	j.inner, j.innerV, j.innerHit, j.cur, j.curV = nil, nil, nil, nil, nil
	j.mem.free()
	return nil
}

// concat reads all of an operator into one batch.
func concat(in Operator, mem *memUser) (*expr.Batch, error) {
	bs := colvec.NewBuilders(in.Types(), 0)
	out := &expr.Batch{}
	for {
		b, err := in.Next()
		if err != nil {
			return nil, err
		}
		if b == nil {
			break
		}
		if err := mem.grow(batchBytes(b)); err != nil {
			return nil, err
		}
		for c, v := range colvec.OpenAll(b.Cols, in.Types()) {
			for i := range b.N {
				bs[c].AppendFrom(&v, i)
			}
		}
		out.N += b.N
	}
	var err error
	out.Cols, err = colvec.FinishAll(bs)
	return out, err
}

func (j *joiner) next() (*expr.Batch, error) {
	for !j.drained {
		if j.cur == nil {
			if ok, err := j.nextLeft(); err != nil {
				return nil, err
			} else if !ok {
				break
			}
		}
		if j.done {
			b, err := j.finishLeft()
			j.cur = nil
			if err != nil || b != nil {
				return b, err
			}
			continue
		}
		b, err := j.advance()
		if err != nil || b != nil {
			return b, err
		}
	}
	j.drained = true
	return j.finishRight()
}

// nextLeft reads a left batch; false at the end, or when nothing can join.
func (j *joiner) nextLeft() (bool, error) {
	if j.inner.N == 0 && (j.kind == InnerJoin || j.kind == SemiJoin || j.kind == RightJoin) {
		return false, nil
	}
	b, err := j.left.Next()
	if err != nil || b == nil {
		return false, err
	}
	j.cur, j.curV, j.done = b, colvec.OpenAll(b.Cols, j.left.Types()), false
	j.hit = append(j.hit[:0], make([]bool, b.N)...)
	return true, j.match.start(j.ctx, b)
}

// advance tests the next pairs and returns the rows that they make, if any.
func (j *joiner) advance() (*expr.Batch, error) {
	j.l, j.r, j.done = j.match.pairs(j.l[:0], j.r[:0], BatchRowsMax)
	if err := j.ctx.check(); err != nil || len(j.l) == 0 {
		return nil, err
	}
	var joined *expr.Batch
	var err error
	if j.residual != nil {
		if joined, err = j.combine(j.l, j.r); err != nil {
			return nil, err
		}
		if j.nullAware {
			j.sel, err = j.residual.selNotFalse(j.ctx, joined, j.sel[:0])
		} else {
			j.sel, err = j.residual.sel(j.ctx, joined, j.sel[:0])
		}
		if err != nil {
			return nil, err
		}
		for _, i := range j.sel {
			j.mark(int(i))
		}
	} else {
		for i := range j.l {
			j.mark(i)
		}
	}
	switch {
	case j.kind.leftOnly():
		return nil, nil
	case j.residual == nil:
		return j.combine(j.l, j.r)
	case len(j.sel) == 0:
		return nil, nil
	}
	return takeBatch(joined, j.types, j.sel)
}

func (j *joiner) mark(pair int) {
	j.hit[j.l[pair]] = true
	if j.innerHit != nil {
		j.innerHit[j.r[pair]] = true
	}
}

// combine makes rows of left and right positions; a negative one gives NULLs.
func (j *joiner) combine(l, r []int32) (*expr.Batch, error) {
	out := &expr.Batch{N: len(l), Cols: make([]arrow.Array, 0, len(j.types))}
	for side, vecs := range [][]colvec.Vec{j.curV, j.innerV} {
		sel, types := l, j.left.Types()
		if side == 1 {
			sel, types = r, j.right.Types()
		}
		for c := range types {
			b := colvec.NewBuilder(types[c], len(sel))
			if vecs == nil { // no left batch any more: all NULL
				for range sel {
					b.AppendNull()
				}
			} else {
				b.AppendSelected(&vecs[c], sel)
			}
			a, err := b.Finish()
			if err != nil {
				return nil, err
			}
			out.Cols = append(out.Cols, a)
		}
	}
	return out, nil
}

// finishLeft returns what is due for the rows of the left batch as a whole.
func (j *joiner) finishLeft() (*expr.Batch, error) {
	want := j.kind == SemiJoin
	if !want && j.kind != AntiJoin && !j.kind.keepsLeft() {
		return nil, nil
	}
	j.sel = j.sel[:0]
	for i, hit := range j.hit {
		if hit == want {
			j.sel = append(j.sel, int32(i))
		}
	}
	if len(j.sel) == 0 {
		return nil, nil
	}
	if j.kind.leftOnly() {
		return takeBatch(j.cur, j.left.Types(), j.sel)
	}
	j.r = j.r[:0]
	for range j.sel {
		j.r = append(j.r, -1)
	}
	return j.combine(j.sel, j.r)
}

// finishRight returns right rows that found no match.
func (j *joiner) finishRight() (*expr.Batch, error) {
	if !j.kind.keepsRight() {
		return nil, nil
	}
	j.curV = nil
	j.l, j.r = j.l[:0], j.r[:0]
	for ; j.tail < j.inner.N && len(j.r) < BatchRowsMax; j.tail++ {
		if !j.innerHit[j.tail] {
			j.l, j.r = append(j.l, -1), append(j.r, int32(j.tail))
		}
	}
	if len(j.r) == 0 {
		return nil, nil
	}
	return j.combine(j.l, j.r)
}

// nullColumn is n NULLs.
func nullColumn(t sqltypes.Type, n int) (arrow.Array, error) {
	b := colvec.NewBuilder(t, n)
	for range n {
		b.AppendNull()
	}
	return b.Finish()
}
