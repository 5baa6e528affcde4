package exec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// AggMode says which half of an aggregation an operator does.
type AggMode uint8

// The modes. Partial reads rows and returns the group columns, then the state
// columns of each aggregate (copr/agg); Final reads that and returns the group
// columns and the results; Complete does both.
const (
	PartialAgg AggMode = iota
	FinalAgg
	CompleteAgg
	MergeAgg
)

// mergesStates and returnsStates say what of a mode's input and output are
// states.
func (m AggMode) mergesStates() bool  { return m == FinalAgg || m == MergeAgg }
func (m AggMode) returnsStates() bool { return m == PartialAgg || m == MergeAgg }

const (
	// partialGroupsMax is how many groups a partial aggregation keeps before it
	// hands them on and starts again: the final one merges them anyway.
	partialGroupsMax = 1 << 17
	// aggOutputRows is the most rows of an output batch.
	aggOutputRows = 4096
)

type hashAgg struct {
	in       Operator
	mode     AggMode
	groupBy  *exprList
	aggs     []*aggCall
	outTypes []sqltypes.Type
	ctx      *Ctx
	mem      memUser
	table    *keyTable // nil without GROUP BY
	groups   []*colvec.Builder
	n        int  // groups
	any      bool // a row was seen, ever
	ended    bool // the input is at its end
	ids      []int32

	// Output: the groups at hand.
	cols []arrow.Array
	at   int
	out  bool
}

// aggCall is one aggregate of a hashAgg.
type aggCall struct {
	call     plan.AggCall
	args     *exprList
	filter   *filterList // nil = none
	result   sqltypes.Type
	state    []sqltypes.Type
	stateAt  int // of states: its first state column
	acc      agg.Accumulator
	distinct *keyTable
	ids, sel []int32
	groups   []int32
}

// NewHashAgg groups rows and aggregates each group. Without groupBy there is
// one group, which CompleteAgg and FinalAgg return even if no row comes. In
// FinalAgg and MergeAgg only the number and the types of groupBy count: the input's first
// columns are the groups. Groups come out in order of arrival.
func NewHashAgg(in Operator, mode AggMode, groupBy []expr.Expr, aggs []plan.AggCall) (Operator, error) {
	h := &hashAgg{in: in, mode: mode}
	if mode.mergesStates() {
		h.groupBy = &exprList{types: in.Types()[:len(groupBy)]}
	} else {
		list, err := compileAll(groupBy)
		if err != nil {
			return nil, err
		}
		h.groupBy = list
	}
	h.outTypes = append(h.outTypes, h.groupBy.types...)
	stateAt := len(groupBy)
	for _, c := range aggs {
		a, err := newAggCall(c, mode)
		if err != nil {
			return nil, err
		}
		a.stateAt = stateAt
		stateAt += len(a.state)
		h.aggs = append(h.aggs, a)
		if mode.returnsStates() {
			h.outTypes = append(h.outTypes, a.state...)
		} else {
			h.outTypes = append(h.outTypes, a.result)
		}
	}
	if mode.mergesStates() && stateAt != len(in.Types()) {
		return nil, pgerror.New(pgerror.InternalError,
			"an aggregation of states expects %d columns, its input has %d", stateAt, len(in.Types()))
	}
	return newOperator(aggName(mode, len(groupBy)), h, h.outTypes, in), nil
}

func aggName(mode AggMode, keys int) string {
	name := "HashAggregate"
	if keys == 0 {
		name = "Aggregate"
	}
	return [...]string{"Partial ", "Finalize ", "", "Merge "}[mode] + name
}

func newAggCall(c plan.AggCall, mode AggMode) (*aggCall, error) {
	a := &aggCall{call: c}
	if c.Distinct && mode != CompleteAgg {
		return nil, pgerror.New(pgerror.InternalError, "%s(DISTINCT …) cannot be computed in parts", c.Name)
	}
	types := make([]sqltypes.Type, len(c.Args))
	for i, e := range c.Args {
		types[i] = e.Type()
	}
	var err error
	if a.result, a.state, err = agg.Resolve(c.Name, types); err != nil {
		return nil, err
	}
	if mode.mergesStates() {
		a.args = &exprList{types: types}
		return a, nil
	}
	if a.args, err = compileAll(c.Args); err != nil {
		return nil, err
	}
	if c.Filter != nil {
		a.filter, err = compileFilter([]expr.Expr{c.Filter})
	}
	return a, err
}

func (h *hashAgg) open(ctx *Ctx) error {
	h.ctx, h.mem = ctx, memUser{acct: ctx.Mem}
	h.any, h.ended = false, false
	return h.restart()
}

// restart begins with no groups.
func (h *hashAgg) restart() error {
	h.n, h.at, h.out, h.cols, h.table = 0, 0, false, nil, nil
	if len(h.groupBy.types) > 0 {
		h.table = newKeyTable(h.groupBy.types)
	}
	h.groups = colvec.NewBuilders(h.groupBy.types, 0)
	for _, a := range h.aggs {
		acc, err := agg.New(a.call.Name, a.args.types)
		if err != nil {
			return err
		}
		a.acc = acc
		if a.call.Distinct {
			a.distinct = newKeyTable(append([]sqltypes.Type{sqltypes.Int4}, a.args.types...))
		}
	}
	return nil
}

func (h *hashAgg) close() error {
	h.table, h.groups, h.cols = nil, nil, nil
	for _, a := range h.aggs {
		a.acc, a.distinct = nil, nil
	}
	h.mem.free()
	return nil
}

func (h *hashAgg) next() (*expr.Batch, error) {
	for {
		if h.out {
			if b, err := h.emit(); err != nil || b != nil {
				return b, err
			}
			if h.ended {
				return nil, nil
			}
			if err := h.restart(); err != nil {
				return nil, err
			}
		}
		if err := h.fill(); err != nil {
			return nil, err
		}
		if !h.out {
			return nil, nil
		}
	}
}

// fill reads rows until the groups at hand are to be handed out.
func (h *hashAgg) fill() error {
	for {
		b, err := h.in.Next()
		if err != nil {
			return err
		}
		if b == nil {
			h.ended = true
			break
		}
		if err := h.take(b); err != nil {
			return err
		}
		if h.mode == PartialAgg && h.n >= partialGroupsMax {
			break
		}
	}
	if h.table == nil && h.n == 0 && !h.mode.returnsStates() && !h.any {
		h.grow(1)
	}
	if h.n == 0 {
		return nil
	}
	var err error
	h.cols, err = colvec.FinishAll(h.groups)
	h.out = true
	return err
}

// take adds the rows of a batch to their groups.
func (h *hashAgg) take(b *expr.Batch) error {
	h.any = true
	if err := h.number(b); err != nil {
		return err
	}
	for _, a := range h.aggs {
		var err error
		if h.mode.mergesStates() {
			end := a.stateAt + len(a.state)
			err = a.acc.Merge(h.ids, colvec.OpenAll(b.Cols[a.stateAt:end], a.state))
		} else {
			err = a.update(h.ctx, b, h.in.Types(), h.ids)
		}
		if err != nil {
			return err
		}
	}
	return h.charge()
}

// number finds the group of each row of b.
func (h *hashAgg) number(b *expr.Batch) error {
	if h.table == nil {
		h.ids = append(h.ids[:0], make([]int32, b.N)...)
		h.grow(1)
		return nil
	}
	var vecs []colvec.Vec
	var err error
	if h.mode.mergesStates() {
		vecs = colvec.OpenAll(b.Cols[:len(h.groupBy.types)], h.groupBy.types)
	} else if vecs, err = h.groupBy.eval(h.ctx, b); err != nil {
		return err
	}
	if h.ids, err = h.table.Insert(vecs, b.N, h.ids[:0]); err != nil {
		return err
	}
	next := int32(h.n)
	for i, id := range h.ids {
		if id != next {
			continue
		}
		next++
		for c := range vecs {
			h.groups[c].AppendFrom(&vecs[c], i)
		}
	}
	h.grow(h.table.Len())
	return nil
}

func (h *hashAgg) grow(groups int) {
	h.n = groups
	for _, a := range h.aggs {
		a.acc.Grow(groups)
	}
}

// charge accounts for all that is kept.
func (h *hashAgg) charge() error {
	n := int64(0)
	if h.table != nil {
		n += h.table.Bytes()
	}
	for _, g := range h.groups {
		n += int64(g.Bytes())
	}
	for _, a := range h.aggs {
		n += a.acc.Bytes()
		if a.distinct != nil {
			n += a.distinct.Bytes()
		}
	}
	return h.mem.set(n)
}

// update takes the rows that pass FILTER and DISTINCT.
func (a *aggCall) update(ctx *Ctx, b *expr.Batch, in []sqltypes.Type, ids []int32) error {
	if a.filter != nil {
		var err error
		if a.sel, err = a.filter.sel(ctx, b, a.sel[:0]); err != nil || len(a.sel) == 0 {
			return err
		}
		if len(a.sel) < b.N {
			if b, err = takeBatch(b, in, a.sel); err != nil {
				return err
			}
			a.groups = a.groups[:0]
			for _, i := range a.sel {
				a.groups = append(a.groups, ids[i])
			}
			ids = a.groups
		}
	}
	vecs, err := a.args.eval(ctx, b)
	if err != nil {
		return err
	}
	if a.distinct == nil {
		return a.acc.Update(ids, vecs)
	}
	return a.updateDistinct(b, vecs, ids)
}

// updateDistinct passes on the first row of each group and argument.
func (a *aggCall) updateDistinct(b *expr.Batch, vecs []colvec.Vec, ids []int32) error {
	keys := append([]colvec.Vec{{Kind: colvec.Int32, N: b.N, I32: ids}}, vecs...)
	sel, err := newRows(a.distinct, keys, b.N, &a.ids, nil)
	if err != nil {
		return err
	}
	groups := make([]int32, len(sel))
	for i, row := range sel {
		groups[i] = ids[row]
	}
	taken := make([]colvec.Vec, len(vecs))
	for c := range vecs {
		bld := colvec.NewBuilder(a.args.types[c], len(sel))
		bld.AppendSelected(&vecs[c], sel)
		col, err := bld.Finish()
		if err != nil {
			return err
		}
		taken[c] = colvec.Open(col, a.args.types[c])
	}
	return a.acc.Update(groups, taken)
}

// emit returns the next of the groups at hand, nil behind the last.
func (h *hashAgg) emit() (*expr.Batch, error) {
	lo, hi := h.at, min(h.at+aggOutputRows, h.n)
	if lo == hi {
		return nil, nil
	}
	h.at = hi
	keys := sliceBatch(&expr.Batch{N: h.n, Cols: h.cols}, lo, hi)
	for _, a := range h.aggs {
		types := a.state
		if !h.mode.returnsStates() {
			types = []sqltypes.Type{a.result}
		}
		bs := colvec.NewBuilders(types, hi-lo)
		var err error
		if h.mode.returnsStates() {
			err = a.acc.State(bs, lo, hi)
		} else {
			err = a.acc.Result(bs[0], lo, hi)
		}
		if err != nil {
			return nil, err
		}
		cols, err := colvec.FinishAll(bs)
		if err != nil {
			return nil, err
		}
		keys.Cols = append(keys.Cols, cols...)
	}
	return keys, nil
}
