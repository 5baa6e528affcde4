package plan

import (
	"errors"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

// builder makes operators of a Physical for one execution.
type builder struct {
	p   *Physical
	env *ExecEnv
	// filters are those that joins make for scans; nil = none.
	filters *joinFilters
	eval    *expr.Ctx // parameters with the outer values of the subquery being built
	ctes    *cteStore
	// trace, if set, remembers which operators belong to which node.
	trace *trace
	// workers run a pipeline where that is worth while; 1 = nowhere.
	workers int
	// copy is the number of the worker that is being built for, given what its
	// pipeline begins with, tables what its hash joins probe.
	copy   int
	given  map[physNode]exec.Operator
	tables map[physNode]*exec.JoinTable
}

// Running is a built statement: its root operator, and what EXPLAIN ANALYZE
// reads when it has run.
type Running struct {
	exec.Operator
	trace   *trace
	env     *ExecEnv
	ctes    *cteStore
	filters *joinFilters
}

// Close closes the operators and removes what the statement has on disk.
func (r *Running) Close() error {
	err := errors.Join(r.Operator.Close(), r.ctes.free(), r.env.Spill.Close())
	if r.env.Closed != nil {
		r.env.Closed()
	}
	return err
}

// Spilled is what the statement has written to disk so far.
func (r *Running) Spilled() spill.Stats { return r.env.Spill.Stats() }

// Build makes the operators of a plan. env.Eval.Params must have a value of
// the right type for every parameter. The operators are opened with an
// exec.Ctx whose Eval is env.Eval.
func Build(p *Physical, env *ExecEnv) (*Running, error) {
	if len(env.Eval.Params) < len(p.Params) {
		return nil, pgerror.New(pgerror.UndefinedParameter, "the plan has %d parameters, but %d values were given", len(p.Params), len(env.Eval.Params))
	}
	b := &builder{p: p, env: env, eval: env.Eval, ctes: newCTEStore(nil, nil), trace: newTrace(),
		workers: min(env.Workers, WorkersMax), filters: newJoinFilters(p, env)}
	op, err := b.result(p.root)
	if err != nil {
		return nil, err
	}
	return &Running{Operator: op, trace: b.trace, env: env, ctes: b.ctes, filters: b.filters}, nil
}

func (b *builder) build(n physNode) (exec.Operator, error) {
	if op, ok := b.given[n]; ok {
		return op, nil
	}
	op, err := n.build(b)
	if err == nil {
		b.built(n, op)
	}
	return op, err
}

// under is a builder for a subquery with more parameters.
func (b *builder) under(eval *expr.Ctx, ctes []int) *builder {
	c := &builder{p: b.p, env: b.env, eval: eval, ctes: b.ctes}
	if len(ctes) > 0 {
		c.ctes = newCTEStore(b.ctes, ctes)
	}
	return c
}

// ready puts evaluators into an expression: subqueries and the array nodes
// become externals. Parameters stay; the evaluation's Ctx has them.
func (b *builder) ready(e expr.Expr) (expr.Expr, error) {
	var failed error
	out := mapExpr(e, func(x expr.Expr) expr.Expr {
		switch y := x.(type) {
		case *physSub:
			return newSubEval(b, y)
		case *arrayExpr, *anyArray, *subscript:
			// Operands first, they may have subqueries in them.
			inner := mapOperands(x, func(a expr.Expr) expr.Expr {
				r, err := b.ready(a)
				if err != nil {
					failed = err
					return a
				}
				return r
			})
			ext, _, err := compileArrayExpr(inner)
			if err != nil {
				failed = err
				return x
			}
			return ext
		}
		return nil
	})
	if failed != nil {
		return nil, failed
	}
	return b.inSubParams(out), nil
}

// inSubParams replaces outer values by constants: below a subquery the
// operators' Ctx is the statement's, which does not have them.
func (b *builder) inSubParams(e expr.Expr) expr.Expr {
	if b.eval == b.env.Eval {
		return e
	}
	base := len(b.p.Params)
	return mapExpr(e, func(x expr.Expr) expr.Expr {
		if p, ok := x.(*expr.Param); ok && p.Index >= base && p.Index < len(b.eval.Params) {
			return &expr.Const{Value: b.eval.Params[p.Index], Typ: p.Typ}
		}
		return nil
	})
}

func mapOperands(e expr.Expr, f func(expr.Expr) expr.Expr) expr.Expr {
	switch x := e.(type) {
	case *arrayExpr:
		l, _ := mapList(x.items, f)
		return &arrayExpr{items: l, typ: x.typ}
	case *anyArray:
		return &anyArray{x: f(x.x), array: f(x.array), test: x.test, all: x.all}
	case *subscript:
		return &subscript{f(x.array), f(x.index), x.typ}
	}
	return e
}

func (b *builder) readyAll(list []expr.Expr) ([]expr.Expr, error) {
	out := make([]expr.Expr, len(list))
	for i, e := range list {
		x, err := b.ready(e)
		if err != nil {
			return nil, err
		}
		out[i] = x
	}
	return out, nil
}

func (b *builder) readyKeys(keys []coprplan.SortKey) ([]coprplan.SortKey, error) {
	out := make([]coprplan.SortKey, len(keys))
	for i, k := range keys {
		x, err := b.ready(k.Expr)
		if err != nil {
			return nil, err
		}
		k.Expr = x
		out[i] = k
	}
	return out, nil
}

func (b *builder) readyAggs(aggs []coprplan.AggCall) (out []coprplan.AggCall, err error) {
	out = append(out, aggs...)
	for i := range out {
		if out[i].Args, err = b.readyAll(out[i].Args); err != nil {
			return nil, err
		}
		if out[i].Filter != nil {
			if out[i].Filter, err = b.ready(out[i].Filter); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// constant computes a fixed expression.
func (b *builder) constant(e expr.Expr) (sqltypes.Datum, error) {
	switch x := e.(type) {
	case *expr.Const:
		return x.Value, nil
	case *expr.Param:
		if x.Index < len(b.eval.Params) {
			return b.eval.Params[x.Index], nil
		}
	}
	x, err := b.ready(e)
	if err != nil {
		return sqltypes.Null, err
	}
	return expr.EvalConst(b.eval, x)
}

// count evaluates LIMIT or OFFSET; none is def.
func (b *builder) count(e expr.Expr, def uint64, word string) (uint64, error) {
	if e == nil {
		return def, nil
	}
	d, err := b.constant(e)
	if err != nil {
		return 0, err
	}
	if d.IsNull() {
		return def, nil
	}
	if d.Int() < 0 {
		code := pgerror.InvalidRowCountInLimit
		if word == "OFFSET" {
			code = pgerror.InvalidRowCountInOffset
		}
		return 0, pgerror.New(code, "%s must not be negative", word)
	}
	return uint64(d.Int()), nil
}

func (b *builder) limits(count, offset expr.Expr) (n, off uint64, err error) {
	if n, err = b.count(count, exec.NoLimit, "LIMIT"); err != nil {
		return 0, 0, err
	}
	off, err = b.count(offset, 0, "OFFSET")
	return n, off, err
}

func (b *builder) one(in physNode) (exec.Operator, error) { return b.build(in) }

// two builds the inputs of a join: the right one is read as a whole.
func (b *builder) two(l, r physNode) (lo, ro exec.Operator, err error) {
	if lo, err = b.build(l); err != nil {
		return nil, nil, err
	}
	ro, err = b.any(r)
	return lo, ro, err
}

func (n *physValues) build(b *builder) (exec.Operator, error) {
	rows := make([][]expr.Expr, len(n.list))
	for i, r := range n.list {
		x, err := b.readyAll(r)
		if err != nil {
			return nil, err
		}
		rows[i] = x
	}
	return exec.NewValues(n.types, rows)
}

func (n *physFilter) build(b *builder) (exec.Operator, error) {
	in, err := b.one(n.in)
	if err != nil {
		return nil, err
	}
	conds, err := b.readyAll(n.conds)
	if err != nil {
		return nil, err
	}
	return exec.NewFilter(in, conds)
}

func (n *physProject) build(b *builder) (exec.Operator, error) {
	in, err := b.one(n.in)
	if err != nil {
		return nil, err
	}
	exprs, err := b.readyAll(n.exprs)
	if err != nil {
		return nil, err
	}
	return exec.NewProject(in, exprs)
}

func (n *physHashJoin) build(b *builder) (exec.Operator, error) {
	if t := b.tables[n]; t != nil {
		l, err := b.build(n.l)
		if err != nil {
			return nil, err
		}
		return exec.NewHashProbe(l, t), nil
	}
	l, r, err := b.two(n.l, n.r)
	if err != nil {
		return nil, err
	}
	spec, err := n.spec(b, r)
	if err != nil {
		return nil, err
	}
	return exec.NewHashJoin(exec.HashJoinSpec{Kind: spec.Kind, Left: l, Right: r, LeftKeys: spec.LeftKeys, RightKeys: spec.RightKeys,
		Residual: spec.Residual, NullAware: spec.NullAware, Out: spec.Out, Filters: spec.Filters})
}

// table makes the right side, for several probes.
func (n *physHashJoin) table(b *builder) (*exec.JoinTable, error) {
	r, err := b.any(n.r)
	if err != nil {
		return nil, err
	}
	spec, err := n.spec(b, r)
	if err != nil {
		return nil, err
	}
	return exec.NewJoinTable(spec)
}

func (n *physHashJoin) spec(b *builder, r exec.Operator) (spec exec.JoinTableSpec, err error) {
	spec = exec.JoinTableSpec{Kind: n.kind, Right: r, LeftTypes: n.l.base().types, NullAware: n.nullAware, Out: n.out, Filters: b.filters.of(n)}
	if spec.LeftKeys, err = b.readyAll(n.lkeys); err != nil {
		return spec, err
	}
	if spec.RightKeys, err = b.readyAll(n.rkeys); err != nil {
		return spec, err
	}
	spec.Residual, err = b.readyAll(n.residual)
	return spec, err
}

func (n *physNLJoin) build(b *builder) (exec.Operator, error) {
	l, r, err := b.two(n.l, n.r)
	if err != nil {
		return nil, err
	}
	conds, err := b.readyAll(n.conds)
	if err != nil {
		return nil, err
	}
	return exec.NewNestedLoopJoin(exec.NestedLoopSpec{Kind: n.kind, Left: l, Right: r, Conds: conds})
}

func (n *physAgg) build(b *builder) (exec.Operator, error) {
	if n.divided(b) || n.partial(b) {
		return n.parallel(b)
	}
	in, err := b.one(n.in)
	if err != nil {
		return nil, err
	}
	return n.over(b, in, n.mode)
}

func (n *physSort) build(b *builder) (exec.Operator, error) {
	keys, err := b.readyKeys(n.keys)
	if err != nil {
		return nil, err
	}
	if n.parallel(b) {
		return n.merged(b, keys)
	}
	in, err := b.one(n.in)
	if err != nil {
		return nil, err
	}
	return exec.NewSort(in, keys)
}

func (n *physTopN) build(b *builder) (exec.Operator, error) {
	keys, err := b.readyKeys(n.keys)
	if err != nil {
		return nil, err
	}
	count, off, err := b.limits(n.count, n.offset)
	if err != nil {
		return nil, err
	}
	if count > topNRowsMax || off > topNRowsMax {
		sorted, err := (&physSort{physBase: *n.in.base(), in: n.in, keys: n.keys}).build(b)
		if err != nil {
			return nil, err
		}
		return exec.NewLimit(sorted, count, off), nil
	}
	in, err := n.input(b, keys, count+off)
	if err != nil {
		return nil, err
	}
	return exec.NewTopN(in, keys, count, off)
}

// topNRowsMax is the most rows a top-N keeps; beyond it a sort is as good.
const topNRowsMax = 1 << 20

func (n *physLimit) build(b *builder) (exec.Operator, error) {
	in, err := b.one(n.in)
	if err != nil {
		return nil, err
	}
	count, off, err := b.limits(n.count, n.offset)
	if err != nil {
		return nil, err
	}
	return exec.NewLimit(in, count, off), nil
}

func (n *physDistinct) build(b *builder) (exec.Operator, error) {
	if n.divided(b) {
		c, err := n.pipelines(b)
		if err != nil {
			return nil, err
		}
		return b.gathered(n, c), nil
	}
	in, err := b.one(n.in)
	if err != nil {
		return nil, err
	}
	if n.on == nil {
		return exec.NewDistinct(in), nil
	}
	return newDistinctOn(in, n.on), nil
}

func (n *physSetOp) build(b *builder) (exec.Operator, error) {
	l, err := b.result(n.l)
	if err != nil {
		return nil, err
	}
	r, err := b.result(n.r)
	if err != nil {
		return nil, err
	}
	switch n.kind {
	case setUnion:
		u := exec.NewUnionAll(l, r)
		if n.all {
			return u, nil
		}
		return exec.NewDistinct(u), nil
	case setIntersect:
		return exec.NewSetOp(exec.Intersect, n.all, l, r), nil
	}
	return exec.NewSetOp(exec.Except, n.all, l, r), nil
}

func (n *physVirtual) build(*builder) (exec.Operator, error) {
	return exec.NewSource("Catalog Scan", n.types, func(*exec.Ctx) (exec.Source, error) {
		rows, err := n.table.Rows()
		if err != nil {
			return nil, err
		}
		return &rowSource{types: n.types, next: func() ([]sqltypes.Datum, bool) {
			if len(rows) == 0 {
				return nil, false
			}
			r := rows[0]
			rows = rows[1:]
			out := make([]sqltypes.Datum, len(n.ords))
			for i, ord := range n.ords {
				out[i] = r[ord]
			}
			return out, true
		}}, nil
	}), nil
}
