package expr

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// Evaluator computes an expression over batches, whose columns may be encoded
// (see colvec). It has no state of its own and may be used from several
// goroutines at once.
type Evaluator interface {
	Expr() Expr
	// Eval returns a column of b.N rows; sel nil = all rows, else the ascending
	// positions to compute, and the other rows are unspecified. The column is
	// plain, and may share memory with b.
	Eval(ctx *Ctx, b *Batch, sel []int32) (arrow.Array, error)
	// EvalEncoded is Eval for a reader that knows encodings: a column that is
	// passed on stays as it is, decimals that fit are computed in 64 bits.
	EvalEncoded(ctx *Ctx, b *Batch, sel []int32) (arrow.Array, error)
	// EvalScratch is EvalEncoded into memory that is used again after s.Reset.
	EvalScratch(ctx *Ctx, s *Scratch, b *Batch, sel []int32) (arrow.Array, error)
	// EvalScaled computes a numeric without a scale whose values have few
	// decimals for a sum, whose decimals are the most of its arguments': see
	// colvec.ScaledVec. ok is false where only the others can compute it.
	EvalScaled(ctx *Ctx, s *Scratch, b *Batch, sel []int32) (v colvec.Vec, ok bool, err error)
}

// node is a compiled expression.
type node interface {
	eval(ctx *Ctx, b *Batch, sel []int32) (vec, error)
}

// filterNode is a node that can write the rows where it is true by itself.
type filterNode interface {
	filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error)
}

type evaluator struct {
	e Expr
	n node
}

// exprDepthMax bounds the nesting of an expression.
const exprDepthMax = 5000

// Compile prepares an expression for evaluation.
func Compile(e Expr) (Evaluator, error) {
	n, err := compile(e, 0)
	if err != nil {
		return nil, err
	}
	return &evaluator{e, n}, nil
}

// CompileAll compiles each of es.
func CompileAll(es []Expr) ([]Evaluator, error) {
	out := make([]Evaluator, len(es))
	for i, e := range es {
		ev, err := Compile(e)
		if err != nil {
			return nil, err
		}
		out[i] = ev
	}
	return out, nil
}

func (e *evaluator) Expr() Expr { return e.e }

func (e *evaluator) Eval(ctx *Ctx, b *Batch, sel []int32) (arrow.Array, error) {
	v, err := e.n.eval(ctx, b, sel)
	if err != nil {
		return nil, ownError(err)
	}
	return v.expand(b.N), nil
}

// ownError copies an error, since many here are shared values and callers add
// positions to theirs.
func ownError(err error) error {
	if e, ok := err.(*pgerror.Error); ok {
		c := *e
		return &c
	}
	return err
}

// EvalConst computes an expression without columns.
func EvalConst(ctx *Ctx, e Expr) (sqltypes.Datum, error) { return evalConst(ctx, e) }

func evalConst(ctx *Ctx, e Expr) (sqltypes.Datum, error) {
	if c, ok := e.(*Const); ok {
		return c.Value, nil
	}
	n, err := compile(e, 0)
	if err != nil {
		return sqltypes.Null, err
	}
	v, err := n.eval(ctx, &Batch{N: 1}, nil)
	if err != nil {
		return sqltypes.Null, ownError(err)
	}
	return sqltypes.DatumAt(e.Type(), v.arr, 0), nil
}

// compile makes the node of an expression. What is over one column of byte
// strings is computed by dictionary, as large a part of it as possible.
func compile(e Expr, depth int) (node, error) {
	if col, ok := dictable(e); ok {
		n, err := compileNode(e, depth, compileParts)
		return dictNode{node: n, typ: e.Type(), index: col.Index, cache: &dictCache{}}, err
	}
	return compileNode(e, depth, compile)
}

// compileParts is compile for what is below such a part.
func compileParts(e Expr, depth int) (node, error) { return compileNode(e, depth, compileParts) }

func compileNode(e Expr, depth int, compile func(Expr, int) (node, error)) (node, error) {
	if depth > exprDepthMax {
		return nil, pgerror.New(pgerror.StatementTooComplex, "expression is nested more than %d levels deep", exprDepthMax)
	}
	sub := func(es []Expr) ([]node, error) {
		out := make([]node, len(es))
		for i, x := range es {
			n, err := compile(x, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = n
		}
		return out, nil
	}
	switch e := e.(type) {
	case *Column:
		return colNode{e.Index, e.Type()}, nil
	case *Const:
		return newConstNode(e), nil
	case *Param:
		return paramNode{e}, nil
	case *Call:
		if x, ok := negated(e); ok {
			return compileNode(x, depth+1, compile)
		}
		args, err := sub(e.Args)
		if err != nil {
			return nil, err
		}
		return newCallNode(e, args), nil
	case *Logic:
		args, err := sub(e.Args)
		if err != nil {
			return nil, err
		}
		return newLogicNode(e.Or, args), nil
	case *Case:
		all := append(append([]Expr{}, e.Conds...), e.Results...)
		if e.Else != nil {
			all = append(all, e.Else)
		}
		nodes, err := sub(all)
		if err != nil {
			return nil, err
		}
		return newCaseNode(e.Typ, nodes[:len(e.Conds)], nodes[len(e.Conds):]), nil
	case *Coalesce:
		args, err := sub(e.Args)
		return coalesceNode{typ: e.Typ, args: args}, err
	case *In:
		e = withoutScaleCast(e)
		x, err := compile(e.X, depth+1)
		if err != nil {
			return nil, err
		}
		return newInNode(e, x), nil
	case *KeyFilter:
		return newKeyFilterNode(e)
	case External:
		return externalNode{e}, nil
	}
	return nil, pgerror.New(pgerror.InternalError, "expr: no evaluation for %T", e)
}

type colNode struct {
	index int
	typ   sqltypes.Type
}

type paramNode struct{ p *Param }

func (p paramNode) eval(ctx *Ctx, _ *Batch, _ []int32) (vec, error) {
	if ctx == nil || p.p.Index >= len(ctx.Params) {
		return vec{}, pgerror.New(pgerror.UndefinedParameter, "there is no parameter $%d", p.p.Index+1)
	}
	d := ctx.Params[p.p.Index]
	if !d.IsNull() && d.Kind() != p.p.Typ.Kind() {
		panic(fmt.Sprintf("expr: parameter $%d of type %s has a value of kind %d", p.p.Index+1, p.p.Typ.Name(), d.Kind()))
	}
	b := sqltypes.NewBuilder(p.p.Typ)
	if err := b.AppendDatum(d); err != nil {
		return vec{}, err
	}
	return vec{arr: b.Finish(), cst: true}, nil
}

type externalNode struct{ e External }

func (x externalNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	arr, err := x.e.EvalBatch(ctx, b, sel)
	return vec{arr: arr}, err
}

type callNode struct {
	fn       *Func
	args     []node
	typ      sqltypes.Type
	argTypes []sqltypes.Type
}

func newCallNode(e *Call, args []node) node {
	types := make([]sqltypes.Type, len(e.Args))
	for i, a := range e.Args {
		types[i] = a.Type()
	}
	c := callNode{fn: e.Fn, args: args, typ: e.Typ, argTypes: types}
	if op, ok := cmpOps[e.Fn.Name]; ok && e.Fn.Kind == KindOperator && len(args) == 2 && isCmp(e.Fn) {
		n := cmpNode{callNode: c, op: op}
		if r, ok := asRange(n); ok {
			return r
		}
		return n
	}
	if d, ok := newDecNode(c); ok {
		return d
	}
	switch e.Fn.Sig {
	case "~~(text,text)", "!~~(text,text)":
		return newLikeNode(c)
	case "isnull(any)", "isnotnull(any)":
		return nullTestNode{callNode: c, not: e.Fn.Name == "isnotnull"}
	case "not(bool)":
		return notNode{c}
	}
	return c
}

func (c callNode) inputs(ctx *Ctx, b *Batch, sel []int32) ([]vec, error) {
	args := make([]vec, len(c.args))
	for i, a := range c.args {
		v, err := a.eval(ctx, b, sel)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	return args, nil
}

func (c callNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	args, err := c.inputs(ctx, b, sel)
	if err != nil {
		return vec{}, err
	}
	if c.fn.Strict {
		for _, a := range args {
			if a.nullConst() {
				return nullVec(c.typ), nil
			}
		}
	}
	return c.fn.eval(&call{ctx: ctx, fn: c.fn, typ: c.typ, args: c.argTypes}, args, b.N, sel)
}

// Filter appends to out the rows of sel (nil = all) for which ev, a boolean,
// is true. out may be sel[:0].
func Filter(ctx *Ctx, ev Evaluator, b *Batch, sel, out []int32) ([]int32, error) {
	if e, ok := ev.(*evaluator); ok {
		out, err := filter(ctx, e.n, b, sel, out)
		if err != nil {
			return out, ownError(err)
		}
		return out, nil
	}
	arr, err := ev.Eval(ctx, b, sel)
	if err != nil {
		return out, err
	}
	return trueRows(vec{arr: arr}, b.N, sel, out), nil
}

func filter(ctx *Ctx, n node, b *Batch, sel, out []int32) ([]int32, error) {
	if f, ok := n.(filterNode); ok {
		return f.filter(ctx, b, sel, out)
	}
	v, err := n.eval(ctx, b, sel)
	if err != nil {
		return out, err
	}
	return trueRows(v, b.N, sel, out), nil
}

// trueRows appends the rows where a boolean column is true.
func trueRows(v vec, n int, sel, out []int32) []int32 {
	bits, valid := boolsOf(v.arr), vec{arr: v.arr}.bitmap()
	if v.cst {
		if valid.set(0) && bits.get(0) {
			return appendRows(n, sel, out)
		}
		return out
	}
	if sel == nil {
		for i := range n {
			if bits.get(i) && valid.set(i) {
				out = append(out, int32(i))
			}
		}
		return out
	}
	for _, i := range sel {
		if bits.get(int(i)) && valid.set(int(i)) {
			out = append(out, i)
		}
	}
	return out
}

// appendRows appends all rows of sel (nil = 0 … n-1).
func appendRows(n int, sel, out []int32) []int32 {
	if sel != nil {
		return append(out, sel...)
	}
	for i := range n {
		out = append(out, int32(i))
	}
	return out
}

// notNode is NOT.
type notNode struct{ callNode }

func (x notNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	v, err := x.args[0].eval(ctx, b, sel)
	if err != nil {
		return out, err
	}
	bits, valid := boolsOf(v.arr), vec{arr: v.arr}.bitmap()
	return pick(b.N, sel, out, func(i int) bool {
		i = v.at(i)
		return !bits.get(i) && valid.set(i)
	}), nil
}

// pick appends the rows where f is true.
func pick(n int, sel, out []int32, f func(i int) bool) []int32 {
	if sel == nil {
		for i := range n {
			if f(i) {
				out = append(out, int32(i))
			}
		}
		return out
	}
	for _, i := range sel {
		if f(int(i)) {
			out = append(out, i)
		}
	}
	return out
}

// nullTestNode is IS [NOT] NULL.
type nullTestNode struct {
	callNode
	not bool
}

func (x nullTestNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	v, err := evalEnc(x.args[0], ctx, b, sel)
	if err != nil {
		return vec{}, err
	}
	defer v.release()
	if v.cst {
		isTrue := v.isNullConst() != x.not
		return constVec(sqltypes.Bool, sqltypes.NewBool(isTrue)), nil
	}
	out, valid := newBits(b.N), v.validity()
	for i := range b.N {
		if valid.set(i) == x.not {
			bitutil.SetBit(out, i)
		}
	}
	return vec{arr: boolArray(b.N, nil, out)}, nil
}

func (x nullTestNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	v, err := evalEnc(x.args[0], ctx, b, sel)
	if err != nil {
		return out, err
	}
	defer v.release()
	valid := v.validity()
	if v.cst || valid.bits == nil {
		if v.isNullConst() != x.not {
			return appendRows(b.N, sel, out), nil
		}
		return out, nil
	}
	if x.not {
		start := len(out)
		return dropUnset(appendRows(b.N, sel, out), start, valid), nil
	}
	return pick(b.N, sel, out, func(i int) bool { return !valid.get(i) }), nil
}
