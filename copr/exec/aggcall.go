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

// aggCall is one aggregate of a hashAgg.
type aggCall struct {
	call    plan.AggCall
	types   []sqltypes.Type // of the arguments
	filter  *filterList     // nil = none
	result  sqltypes.Type
	state   []sqltypes.Type
	stateAt int // of states: its first state column

	args    []int // in aggArgs
	share   *aggArgs
	counted bool // counts with the hashAgg's counter
	sumOf   int  // avg: the aggregate whose sum it uses, -1 = none

	acc      agg.Accumulator
	vecs     []colvec.Vec
	distinct *keyTable
	disk     keyFiles // of arguments that distinct has no room for
	sel      []int32
	ids      []int32
	groups   []int32
}

func newAggCall(c plan.AggCall, mode AggMode) (*aggCall, error) {
	a := &aggCall{call: c, sumOf: -1, types: make([]sqltypes.Type, len(c.Args))}
	if c.Distinct && mode != CompleteAgg {
		return nil, pgerror.New(pgerror.InternalError, "%s(DISTINCT …) cannot be computed in parts", c.Name)
	}
	for i, e := range c.Args {
		a.types[i] = e.Type()
	}
	var err error
	if a.result, a.state, err = agg.Resolve(c.Name, a.types); err != nil {
		return nil, err
	}
	if mode.mergesStates() {
		return a, nil
	}
	if c.Filter != nil {
		a.filter, err = compileFilter([]expr.Expr{c.Filter})
	}
	return a, err
}

// simple says that the aggregate takes every row.
func (a *aggCall) simple() bool { return a.filter == nil && !a.call.Distinct }

// aggArgs are the arguments of several aggregates, each evaluated once for the
// rows at hand: sum(x) and avg(x) have the same x, and in sum(x * y) x is the
// column that it is elsewhere. A choice of rows of one aggregate's own (FILTER)
// has arguments of its own.
type aggArgs struct {
	exprs []expr.Expr
	list  *exprList
	width int     // columns of the input; argument i is column width + i
	uses  [][]int // by argument: those that it has as parts
	arrs  []arrow.Array
	vecs  []colvec.Vec // encoded; Kind 0 = not yet evaluated
	plain []colvec.Vec
	mem   expr.Scratch // of vecs
}

// add returns the number of an argument.
func (g *aggArgs) add(e expr.Expr) int {
	for i, old := range g.exprs {
		if expr.Equal(old, e) && !volatile(e) {
			return i
		}
	}
	g.exprs = append(g.exprs, e)
	return len(g.exprs) - 1
}

// compile ends the adding. Arguments over an input of width columns that are
// parts of others become columns of theirs.
func (g *aggArgs) compile(width int) error {
	g.width, g.uses = width, make([][]int, len(g.exprs))
	whole := append([]expr.Expr(nil), g.exprs...)
	for i, e := range whole {
		if volatile(e) {
			continue
		}
		g.exprs[i] = expr.Rewrite(e, func(part expr.Expr) expr.Expr {
			if _, isCall := part.(*expr.Call); !isCall || part == e {
				return part
			}
			for j, other := range whole {
				if j != i && expr.Equal(other, part) {
					g.uses[i] = append(g.uses[i], j)
					return &expr.Column{Index: width + j, Typ: other.Type()}
				}
			}
			return part
		})
	}
	var err error
	g.list, err = compileAll(g.exprs)
	g.vecs, g.plain = make([]colvec.Vec, len(g.exprs)), make([]colvec.Vec, len(g.exprs))
	g.arrs = make([]arrow.Array, len(g.exprs))
	return err
}

// volatile reports whether two values of e may differ; what is evaluated
// elsewhere counts as such.
func volatile(e expr.Expr) bool {
	found := false
	expr.Walk(e, func(e expr.Expr) bool {
		if c, ok := e.(*expr.Call); ok && c.Fn.Volatility == expr.Volatile {
			found = true
		}
		if _, ok := e.(expr.External); ok {
			found = true
		}
		return !found
	})
	return found
}

// forget says that other rows are at hand now.
func (g *aggArgs) forget() {
	clear(g.vecs)
	clear(g.plain)
	clear(g.arrs)
	g.mem.Reset()
}

// batch is the input with the arguments that argument i has as parts.
func (g *aggArgs) batch(ctx *Ctx, r Raw, i int) (*expr.Batch, error) {
	if len(g.uses[i]) == 0 {
		return r.Batch, nil
	}
	for _, j := range g.uses[i] {
		if _, err := g.get(ctx, r, j, true); err != nil {
			return nil, err
		}
	}
	cols := append(make([]arrow.Array, 0, g.width+len(g.arrs)), r.Cols...)
	return &expr.Batch{N: r.N, Cols: append(cols, g.arrs...)}, nil
}

// scaled evaluates argument i for a sum that takes it in 64 bits; ok is false if
// it cannot be had so.
func (g *aggArgs) scaled(ctx *Ctx, r Raw, i int) (v colvec.Vec, ok bool, err error) {
	b, err := g.batch(ctx, r, i)
	if err != nil {
		return v, false, err
	}
	return g.list.evals[i].EvalScaled(ctx.Eval, &g.mem, b, r.Sel)
}

// get evaluates argument i for the rows r.
func (g *aggArgs) get(ctx *Ctx, r Raw, i int, encoded bool) (colvec.Vec, error) {
	if g.vecs[i].Kind == 0 {
		b, err := g.batch(ctx, r, i)
		if err != nil {
			return colvec.Vec{}, err
		}
		if g.arrs[i], err = g.list.evals[i].EvalScratch(ctx.Eval, &g.mem, b, r.Sel); err != nil {
			return colvec.Vec{}, err
		}
		g.vecs[i] = colvec.OpenEncoded(g.arrs[i], g.list.types[i])
	}
	if encoded || !g.vecs[i].Encoded {
		return g.vecs[i], nil
	}
	if g.plain[i].Kind == 0 {
		g.plain[i] = colvec.Open(g.arrs[i], g.list.types[i])
	}
	return g.plain[i], nil
}

// restart begins with no groups.
func (a *aggCall) restart() error {
	acc, err := agg.New(a.call.Name, a.types)
	if err != nil {
		return err
	}
	a.acc = acc
	if a.call.Distinct {
		a.distinct = newKeyTable(append([]sqltypes.Type{sqltypes.Int4}, a.types...))
	}
	return nil
}

// merge takes partial states.
func (a *aggCall) merge(r Raw, rows agg.Rows) error {
	cols := r.Cols[a.stateAt : a.stateAt+len(a.state)]
	if agg.TakesEncoded(a.acc) {
		return a.acc.Merge(rows, colvec.OpenAllEncoded(cols, a.state))
	}
	return a.acc.Merge(rows, colvec.OpenAll(cols, a.state))
}

// update takes the rows that pass FILTER and DISTINCT. A sum that can be made
// together with others is left to them.
func (a *aggCall) update(ctx *Ctx, r Raw, rows agg.Rows, together *agg.Sums) error {
	if a.filter != nil {
		var err error
		if r, rows, err = a.filtered(ctx, r, rows); err != nil || rows.N == 0 {
			return err
		}
	}
	if !a.simple() {
		a.share.forget()
	}
	a.vecs = a.vecs[:0]
	encoded := agg.TakesEncoded(a.acc)
	for _, i := range a.args {
		v, err := a.arg(ctx, r, i, encoded)
		if err != nil {
			return err
		}
		a.vecs = append(a.vecs, v)
	}
	if a.distinct != nil {
		var err error
		if rows, err = a.unseen(a.vecs, rows); err != nil {
			return err
		}
	}
	if a.counted && together.Take(a.acc, rows, a.vecs) {
		return nil
	}
	return a.acc.Update(rows, a.vecs)
}

// arg is argument i of the call for the rows r.
func (a *aggCall) arg(ctx *Ctx, r Raw, i int, encoded bool) (colvec.Vec, error) {
	if a.distinct == nil && agg.TakesScaled(a.acc) {
		if v, ok, err := a.share.scaled(ctx, r, i); ok || err != nil {
			return v, err
		}
	}
	return a.share.get(ctx, r, i, encoded)
}

// filtered is the rows that pass FILTER.
func (a *aggCall) filtered(ctx *Ctx, r Raw, rows agg.Rows) (Raw, agg.Rows, error) {
	if a.sel == nil {
		a.sel = make([]int32, 0, rows.N) // nil would be all rows
	}
	var err error
	if a.sel, err = a.filter.selIn(ctx, r.Batch, r.Sel, a.sel[:0]); err != nil {
		return r, rows, err
	}
	out := agg.Rows{N: len(a.sel), Sel: a.sel}
	if rows.Groups != nil {
		out.Groups = a.groupsAt(rows, a.sel)
	}
	return Raw{r.Batch, a.sel}, out, nil
}

// groupsAt is the groups of rows at the positions sel, which are among them.
func (a *aggCall) groupsAt(rows agg.Rows, sel []int32) []int32 {
	a.groups = sized(a.groups, len(sel))
	if rows.Sel == nil {
		for k, i := range sel {
			a.groups[k] = rows.Groups[i]
		}
		return a.groups
	}
	at := 0
	for k, i := range sel {
		for rows.Sel[at] != i {
			at++
		}
		a.groups[k] = rows.Groups[at]
	}
	return a.groups
}

// unseen is the rows that are the first of their group with their arguments.
func (a *aggCall) unseen(vecs []colvec.Vec, rows agg.Rows) (agg.Rows, error) {
	// The table wants columns by position.
	group := colvec.Vec{Kind: colvec.Int32, I32: rows.Groups}
	switch {
	case rows.Groups == nil:
		group.I32 = make([]int32, vecs[0].N)
	case rows.Sel != nil:
		group.I32 = make([]int32, vecs[0].N)
		for k, i := range rows.Sel {
			group.I32[i] = rows.Groups[k]
		}
	}
	group.N = len(group.I32)
	var err error
	keys := append([]colvec.Vec{group}, vecs...)
	if a.disk.files != nil {
		return agg.Rows{Sel: []int32{}}, a.divide(keys, rows)
	}
	if a.ids, err = a.distinct.InsertRows(keys, rows.Sel, rows.N, a.ids[:0]); err != nil {
		return rows, err
	}
	fresh := a.distinct.fresh
	out := agg.Rows{N: len(fresh), Sel: make([]int32, len(fresh))}
	if rows.Groups != nil {
		out.Groups = make([]int32, len(fresh))
	}
	for j, k := range fresh {
		out.Sel[j] = int32(rowAt(rows.Sel, int(k)))
		if rows.Groups != nil {
			out.Groups[j] = rows.Groups[k]
		}
	}
	return out, nil
}
