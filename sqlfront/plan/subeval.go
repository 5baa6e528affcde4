package plan

import (
	"context"
	"errors"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

// subMemoEntriesMax and subMemoRowsMax bound what a subquery remembers of the
// outer values it has seen.
const (
	subMemoEntriesMax = 1 << 16
	subMemoRowsMax    = 1 << 20
)

// subEval evaluates a subquery for the rows of a batch: once for each distinct
// set of outer values, hence once at all if it depends on none. It belongs to
// one operator tree, which one goroutine runs.
type subEval struct {
	*physSub
	b    *builder
	memo map[string]*subResult
	rows int // remembered
	test expr.Evaluator
	// hash finds rows of x = ANY by key; nil where the test is another.
	hash *anyHash
}

// subResult is what a run of the plan gave.
type subResult struct {
	value   sqltypes.Datum // of a scalar, EXISTS or ARRAY
	batches []*expr.Batch  // of ANY
	keys    map[string]bool
	null    bool // a key was NULL
	n       int
}

func newSubEval(b *builder, s *physSub) *subEval {
	return &subEval{physSub: s, b: b, memo: map[string]*subResult{}}
}

// EvalBatch implements expr.External.
func (s *subEval) EvalBatch(ctx *expr.Ctx, in *expr.Batch, sel []int32) (arrow.Array, error) {
	out := make([]sqltypes.Datum, in.N)
	err := eachRow(in.N, sel, func(i int) error {
		d, err := s.row(ctx, in, i)
		out[i] = d
		return err
	})
	if err != nil {
		return nil, err
	}
	return sqltypes.ArrayOf(s.typ, out), nil
}

func (s *subEval) row(ctx *expr.Ctx, in *expr.Batch, i int) (sqltypes.Datum, error) {
	key, eval, err := s.outerValues(ctx, in, i)
	if err != nil {
		return sqltypes.Null, err
	}
	res, ok := s.memo[string(key)]
	if !ok {
		if res, err = s.run(ctx, eval); err != nil {
			return sqltypes.Null, err
		}
		if len(s.memo) < subMemoEntriesMax && s.rows+res.n < subMemoRowsMax {
			s.memo[string(key)] = res
			s.rows += res.n
		}
	}
	if s.kind != subAny {
		return res.value, nil
	}
	return s.any(ctx, res, in, i)
}

// outerValues reads the values that the plan depends on; key identifies them.
func (s *subEval) outerValues(ctx *expr.Ctx, in *expr.Batch, i int) (key []byte, eval *expr.Ctx, err error) {
	if len(s.outer) == 0 {
		return nil, s.b.evalWith(ctx), nil
	}
	eval = s.b.evalWith(ctx)
	for _, r := range s.outer {
		d := sqltypes.DatumAt(r.typ, in.Cols[r.pos], i)
		eval.Params[r.slot] = d
		if key, err = tablecodec.AppendDatum(key, tablecodec.IndexColumn(r.typ, false), d); err != nil {
			return nil, nil, err
		}
		if tablecodec.Lossy(r.typ) && !d.IsNull() {
			// Equal values that look different may give different results.
			key = append(sqltypes.AppendText(key, r.typ, d), 0)
		}
	}
	return key, eval, nil
}

// evalWith is the statement's context with room for all outer values.
func (b *builder) evalWith(ctx *expr.Ctx) *expr.Ctx {
	c := *ctx
	c.Params = make([]sqltypes.Datum, b.p.slots)
	copy(c.Params, b.eval.Params)
	return &c
}

func contextOf(ctx *expr.Ctx) context.Context {
	if ctx.Context != nil {
		return ctx.Context
	}
	return context.Background()
}

// run executes the plan with these outer values.
func (s *subEval) run(ctx *expr.Ctx, eval *expr.Ctx) (_ *subResult, err error) {
	sub := s.b.under(eval, s.ctes)
	defer func() { err = errors.Join(err, s.b.freeCTEs(sub)) }()
	op, err := sub.build(s.plan)
	if err != nil {
		return nil, err
	}
	ectx := &exec.Ctx{Context: contextOf(ctx), Eval: ctx, Mem: s.b.env.Mem, Spill: s.b.env.Spill}
	switch s.kind {
	case subScalar:
		return scalarResult(ectx, op)
	case subExists:
		found, err := anyRow(ectx, op)
		return &subResult{value: sqltypes.NewBool(found)}, err
	}
	batches, err := exec.Collect(ectx, op)
	if err != nil {
		return nil, err
	}
	if s.kind == subArray {
		return s.arrayResult(batches), nil
	}
	res := &subResult{batches: batches}
	for _, b := range batches {
		res.n += b.N
	}
	return res, s.index(res)
}

func scalarResult(ctx *exec.Ctx, op exec.Operator) (res *subResult, err error) {
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := op.Open(ctx); err != nil {
		return nil, err
	}
	res = &subResult{}
	n := 0
	for {
		b, err := op.Next()
		if err != nil {
			return nil, err
		}
		if b == nil {
			return res, nil
		}
		if n == 0 {
			res.value = sqltypes.DatumAt(op.Types()[0], b.Cols[0], 0)
		}
		if n += b.N; n > 1 {
			return nil, pgerror.New(pgerror.CardinalityViolation, "more than one row returned by a subquery used as an expression")
		}
	}
}

// anyRow stops at the first row.
func anyRow(ctx *exec.Ctx, op exec.Operator) (found bool, err error) {
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := op.Open(ctx); err != nil {
		return false, err
	}
	b, err := op.Next()
	return b != nil, err
}

func (s *subEval) arrayResult(batches []*expr.Batch) *subResult {
	elem := s.plan.base().types[0]
	var row []sqltypes.Datum
	for _, b := range batches {
		for i := range b.N {
			row = append(row, sqltypes.DatumAt(elem, b.Cols[0], i))
		}
	}
	return &subResult{value: joinElements(s.typ, elem, row)}
}

// anyHash looks rows of x = ANY (subquery) up by key.
type anyHash struct {
	x   expr.Evaluator // over no columns: outer values are parameters
	col tablecodec.Column
	typ sqltypes.Type
}

// index prepares res for probing, if the test is column = outer expression.
func (s *subEval) index(res *subResult) error {
	if s.test == nil {
		test, err := s.b.ready(s.physSub.test)
		if err != nil {
			return err
		}
		if s.test, err = expr.Compile(test); err != nil {
			return err
		}
		if s.hash, err = newAnyHash(test); err != nil {
			return err
		}
	}
	if s.hash == nil {
		return nil
	}
	res.keys = map[string]bool{}
	var key []byte
	for _, b := range res.batches {
		for i := range b.N {
			d := sqltypes.DatumAt(s.hash.typ, b.Cols[0], i)
			if d.IsNull() {
				res.null = true
				continue
			}
			var err error
			if key, err = tablecodec.AppendDatum(key[:0], s.hash.col, d); err != nil {
				return err
			}
			res.keys[string(key)] = true
		}
	}
	return nil
}

func newAnyHash(test expr.Expr) (*anyHash, error) {
	c, ok := test.(*expr.Call)
	if !ok || opName(c) != "=" {
		return nil, nil
	}
	x, y := c.Args[0], c.Args[1]
	if _, ok := y.(*expr.Column); !ok {
		x, y = y, x
	}
	col, ok := y.(*expr.Column)
	if !ok || col.Index != 0 || !fixed(x) || x.Type().OID != col.Typ.OID || x.Type().Scale != col.Typ.Scale {
		return nil, nil
	}
	ev, err := expr.Compile(x)
	return &anyHash{x: ev, col: tablecodec.IndexColumn(col.Typ, false), typ: col.Typ}, err
}

// any tests one outer row against the rows of the subquery.
func (s *subEval) any(ctx *expr.Ctx, res *subResult, in *expr.Batch, i int) (sqltypes.Datum, error) {
	eval := s.b.evalWith(ctx)
	for _, r := range slices.Concat(s.outer, s.testOuter) {
		eval.Params[r.slot] = sqltypes.DatumAt(r.typ, in.Cols[r.pos], i)
	}
	if s.hash != nil {
		return s.probe(eval, res)
	}
	unknown := false
	for _, b := range res.batches {
		col, err := s.test.Eval(eval, b, nil)
		if err != nil {
			return sqltypes.Null, err
		}
		for k := range b.N {
			d := sqltypes.DatumAt(sqltypes.Bool, col, k)
			if d.IsNull() {
				unknown = true
			} else if d.Bool() {
				return d, nil
			}
		}
	}
	if unknown {
		return sqltypes.Null, nil
	}
	return sqltypes.NewBool(false), nil
}

func (s *subEval) probe(eval *expr.Ctx, res *subResult) (sqltypes.Datum, error) {
	if len(res.keys) == 0 && !res.null {
		return sqltypes.NewBool(false), nil
	}
	x, err := s.hash.x.Eval(eval, &expr.Batch{N: 1}, nil)
	if err != nil {
		return sqltypes.Null, err
	}
	d := sqltypes.DatumAt(s.hash.typ, x, 0)
	if d.IsNull() {
		return sqltypes.Null, nil
	}
	key, err := tablecodec.AppendDatum(nil, s.hash.col, d)
	if err != nil {
		return sqltypes.Null, err
	}
	switch {
	case res.keys[string(key)]:
		return sqltypes.NewBool(true), nil
	case res.null:
		return sqltypes.Null, nil
	}
	return sqltypes.NewBool(false), nil
}
