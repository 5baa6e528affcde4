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
// columns and the results; Complete does both; Merge reads states and returns
// states.
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
	// passGroupsMax is the same while it passes rows on (see partialPass).
	passGroupsMax = 1 << 13
	// aggOutputRows is the most rows of an output batch.
	aggOutputRows = 4096
)

// hashAgg groups rows. No row is gathered: expressions are evaluated for the
// selected rows, the table numbers these rows' groups, and the accumulators get
// positions and groups.
//
//	batch, selection ──groupBy──► keys ──table──► ids ─┐
//	                 ──args, each once──► vectors ─────┴─► accumulators
type hashAgg struct {
	in       Operator
	mode     AggMode
	groupBy  *exprList
	by       int // keys in front that tell groups apart
	aggs     []*aggCall
	args     aggArgs // of the aggregates that take every row
	outTypes []sqltypes.Type
	ctx      *Ctx
	mem      memUser
	table    *keyTable // nil without GROUP BY
	groups   []*colvec.Builder
	counter  *agg.Counter // rows by group; nil if nobody asks
	sums     agg.Sums
	n        int  // groups
	any      bool // a row was seen, ever
	ended    bool // the input is at its end
	ids      []int32
	fresh    []int32
	pass     partialPass
	disk     aggSpill

	// Output: the groups at hand.
	cols []arrow.Array
	at   int
	out  bool
}

// NewHashAgg groups rows and aggregates each group. Without groupBy there is
// one group, which CompleteAgg and FinalAgg return even if no row comes. In
// FinalAgg and MergeAgg only the number and the types of groupBy count: the
// input's first columns are the groups. Groups come out in order of arrival.
func NewHashAgg(in Operator, mode AggMode, groupBy []expr.Expr, aggs []plan.AggCall) (Operator, error) {
	return NewHashAggBy(in, mode, groupBy, len(groupBy), aggs)
}

// NewHashAggBy is NewHashAgg for keys that follow from the first by of them: rows
// that agree in these agree in all. Only these are looked up; a group has the
// others of its first row.
func NewHashAggBy(in Operator, mode AggMode, groupBy []expr.Expr, by int, aggs []plan.AggCall) (Operator, error) {
	if by > len(groupBy) || by == 0 && len(groupBy) > 0 {
		return nil, pgerror.New(pgerror.InternalError, "%d keys cannot be told apart by %d of them", len(groupBy), by)
	}
	h := &hashAgg{in: in, mode: mode, by: by}
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
	if mode.mergesStates() {
		if stateAt != len(in.Types()) {
			return nil, pgerror.New(pgerror.InternalError,
				"an aggregation of states expects %d columns, its input has %d", stateAt, len(in.Types()))
		}
	} else if err := h.shareArgs(); err != nil {
		return nil, err
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

// shareArgs finds what the aggregates have in common: arguments, sums and the
// count of rows.
func (h *hashAgg) shareArgs() error {
	for i, a := range h.aggs {
		if a.share = &h.args; !a.simple() {
			a.share = &aggArgs{}
		}
		for _, e := range a.call.Args {
			a.args = append(a.args, a.share.add(e))
		}
		if a.share != &h.args {
			if err := a.share.compile(len(h.in.Types())); err != nil {
				return err
			}
			continue
		}
		a.counted = true
		if a.call.Name != "avg" {
			continue
		}
		for j, b := range h.aggs[:i] {
			if b.call.Name == "sum" && b.simple() && b.args[0] == a.args[0] {
				a.sumOf = j
			}
		}
	}
	return h.args.compile(len(h.in.Types()))
}

func (h *hashAgg) open(ctx *Ctx) error {
	h.ctx, h.mem = ctx, memUser{acct: ctx.Mem}
	h.any, h.ended, h.pass, h.disk = false, false, partialPass{}, aggSpill{}
	return h.restart()
}

// restart begins with no groups.
func (h *hashAgg) restart() error {
	h.n, h.at, h.out, h.cols, h.table, h.counter = 0, 0, false, nil, nil, nil
	if len(h.groupBy.types) > 0 {
		h.table = newKeyTable(h.groupBy.types[:h.by])
	}
	h.groups = colvec.NewBuilders(h.groupBy.types, 0)
	for _, a := range h.aggs {
		if err := a.restart(); err != nil {
			return err
		}
		if a.sumOf >= 0 && agg.ShareSum(a.acc, h.aggs[a.sumOf].acc) {
			continue
		}
		if c, ok := a.acc.(agg.Counting); ok && a.counted {
			if h.counter == nil {
				h.counter = new(agg.Counter)
			}
			c.UseCounter(h.counter)
		}
	}
	return nil
}

func (h *hashAgg) close() error {
	h.table, h.groups, h.cols, h.counter = nil, nil, nil, nil
	for _, a := range h.aggs {
		a.acc, a.distinct = nil, nil
	}
	h.args.forget()
	h.mem.free()
	return h.closeDisk()
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
			if h.disk.level {
				if err := h.nextLevel(); err != nil {
					return nil, err
				}
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
		r, err := h.read()
		if err != nil {
			return err
		}
		if r.Batch == nil {
			if err := h.endLevel(); err != nil {
				return err
			}
			h.ended = len(h.disk.queue) == 0
			break
		}
		if err := h.take(r); err != nil {
			return err
		}
		if h.mode == PartialAgg && h.pass.full(h) {
			break
		}
		if h.mode.returnsStates() && h.table != nil && h.mem.full(0) {
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

// take adds rows to their groups.
func (h *hashAgg) take(r Raw) error {
	n := r.Len()
	if n == 0 {
		return nil
	}
	h.any = true
	if h.disk.full && h.table != nil {
		var err error
		if r, err = h.known(r); err != nil || len(r.Sel) == 0 {
			return err
		}
		n = len(r.Sel)
	}
	rows := agg.Rows{N: n, Sel: r.Sel}
	switch {
	case h.table == nil:
		h.grow(1)
	case h.disk.full:
		rows.Groups = h.ids
	default:
		if err := h.number(r, n); err != nil {
			return err
		}
		rows.Groups = h.ids
	}
	if h.counter != nil {
		h.counter.Add(rows)
	}
	h.args.forget()
	for _, a := range h.aggs {
		var err error
		if h.mode.mergesStates() {
			err = a.merge(r, rows)
		} else {
			err = a.update(h.ctx, r, rows, &h.sums)
		}
		if err != nil {
			return err
		}
	}
	h.sums.Add(rows)
	h.args.forget() // they may be large
	return h.charge()
}

// keyColumns are the groups' columns, encoded.
func (h *hashAgg) keyColumns(r Raw) ([]arrow.Array, error) {
	if h.mode.mergesStates() {
		return r.Cols[:len(h.groupBy.types)], nil
	}
	return h.keyList().encoded(h.ctx, r)
}

// number finds the groups of n rows.
func (h *hashAgg) number(r Raw, n int) error {
	cols, err := h.keyColumns(r)
	if err != nil {
		return err
	}
	vecs := colvec.OpenAllEncoded(cols, h.groupBy.types)
	if h.pass.on {
		h.ids = sized(h.ids, n)
		err = h.table.insertRuns(vecs[:h.by], r.Sel, n, h.n, h.ids)
	} else {
		h.ids, err = h.table.InsertRows(vecs[:h.by], r.Sel, n, h.ids[:0])
		h.pass.probed += h.table.probed
	}
	if err != nil {
		return err
	}
	h.fresh = sized(h.fresh, len(h.table.fresh))
	for j, k := range h.table.fresh {
		h.fresh[j] = int32(rowAt(r.Sel, int(k)))
	}
	for c := range vecs {
		h.groups[c].AppendSelected(&vecs[c], h.fresh)
	}
	h.grow(h.n + len(h.fresh))
	return nil
}

func (h *hashAgg) grow(groups int) {
	h.n = groups
	if h.counter != nil {
		h.counter.Grow(groups)
	}
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
	if h.counter != nil {
		n += h.counter.Bytes()
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
	if !h.spills() && !h.mode.returnsStates() || h.ctx.Spill == nil {
		return h.mem.set(n)
	}
	if err := h.mem.setAnyway(n); err != nil || h.disk.full || h.mode.returnsStates() || !h.mem.full(h.indexBytes()) {
		return err
	}
	return h.closeGroups()
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

// partialPass decides when a partial aggregation hands on its groups, and
// whether it looks for groups at all. If almost every key that it looks up is
// new, the table is of no use: each run of equal keys becomes a group at once,
// which is handed on soon. After some batches of that it tries again.
type partialPass struct {
	on     bool
	probed int // keys looked up since the last start
	left   int // flushes until the table is tried again
}

const (
	passSample  = 1 << 15 // keys to look at before deciding
	passFlushes = 256
)

// full reports whether the groups at hand are to be handed on, and decides what
// comes then.
func (p *partialPass) full(h *hashAgg) bool {
	if h.table == nil {
		return false
	}
	if p.on {
		if h.n < passGroupsMax {
			return false
		}
		p.left--
		p.on = p.left > 0
		p.probed = 0
		return true
	}
	full := h.n >= partialGroupsMax
	// A sample shows less of what comes again than a full table does.
	useless := full && h.n/3 > p.probed/4 || p.probed >= passSample && h.n > p.probed-p.probed/32
	if useless {
		p.on, p.left = true, passFlushes
	}
	if full || useless {
		p.probed = 0
	}
	return full || useless
}
