package expr

import (
	"slices"

	"github.com/copradb/copra/internal/sqltypes"
)

// Children are the arguments of a node; none for an External, whose own
// expressions belong to the layer above.
func Children(e Expr) []Expr {
	switch e := e.(type) {
	case *Call:
		return e.Args
	case *Logic:
		return e.Args
	case *Coalesce:
		return e.Args
	case *Case:
		out := slices.Concat(e.Conds, e.Results)
		if e.Else != nil {
			out = append(out, e.Else)
		}
		return out
	case *In:
		return []Expr{e.X}
	case *KeyFilter:
		return []Expr{e.X}
	}
	return nil
}

// Walk visits e and below, parents first; visit returns false to skip a node's
// arguments.
func Walk(e Expr, visit func(Expr) bool) {
	if e == nil || !visit(e) {
		return
	}
	for _, c := range Children(e) {
		Walk(c, visit)
	}
}

// Rewrite replaces nodes from the leaves up: f gets each node with its
// arguments rewritten and returns what to put there (the node itself to keep
// it). Nodes that do not change are shared with e.
func Rewrite(e Expr, f func(Expr) Expr) Expr {
	old := Children(e)
	if len(old) == 0 {
		return f(e)
	}
	args := make([]Expr, len(old))
	changed := false
	for i, c := range old {
		args[i] = Rewrite(c, f)
		changed = changed || args[i] != c
	}
	if changed {
		e = withChildren(e, args)
	}
	return f(e)
}

func withChildren(e Expr, args []Expr) Expr {
	switch e := e.(type) {
	case *Call:
		return &Call{Fn: e.Fn, Args: args, Typ: e.Typ}
	case *Logic:
		return &Logic{Or: e.Or, Args: args}
	case *Coalesce:
		return &Coalesce{Args: args, Typ: e.Typ}
	case *In:
		return &In{X: args[0], Values: e.Values, Not: e.Not}
	case *KeyFilter:
		c := *e
		c.X = args[0].(*Column)
		return &c
	case *Case:
		n := len(e.Conds)
		c := &Case{Conds: args[:n:n], Results: args[n : 2*n : 2*n], Typ: e.Typ}
		if e.Else != nil {
			c.Else = args[2*n]
		}
		return c
	}
	return e
}

// EqualDatums reports whether two values of type t are the same, NULL equal to
// NULL, and would print the same.
func EqualDatums(t sqltypes.Type, a, b sqltypes.Datum) bool {
	if a.IsNull() || b.IsNull() {
		return a.IsNull() == b.IsNull()
	}
	return a.Kind() == b.Kind() && string(sqltypes.AppendText(nil, t, a)) == string(sqltypes.AppendText(nil, t, b))
}

// Equal reports whether two expressions are the same expression. Names of
// columns, which are for EXPLAIN only, don't count.
func Equal(a, b Expr) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Type() != b.Type() {
		return false
	}
	switch x := a.(type) {
	case *Column:
		y, ok := b.(*Column)
		return ok && x.Index == y.Index
	case *Const:
		y, ok := b.(*Const)
		return ok && EqualDatums(x.Typ, x.Value, y.Value)
	case *Param:
		y, ok := b.(*Param)
		return ok && x.Index == y.Index
	case *Call:
		if y, ok := b.(*Call); !ok || x.Fn != y.Fn || x.Fn.Volatility == Volatile {
			return false
		}
	case *Logic:
		if y, ok := b.(*Logic); !ok || x.Or != y.Or {
			return false
		}
	case *Coalesce:
		if _, ok := b.(*Coalesce); !ok {
			return false
		}
	case *Case:
		y, ok := b.(*Case)
		if !ok || len(x.Conds) != len(y.Conds) || (x.Else == nil) != (y.Else == nil) {
			return false
		}
	case *In:
		y, ok := b.(*In)
		same := ok && x.Not == y.Not && slices.EqualFunc(x.Values, y.Values, func(v, w sqltypes.Datum) bool {
			return EqualDatums(x.X.Type(), v, w)
		})
		if !same {
			return false
		}
	default:
		return a == b
	}
	return slices.EqualFunc(Children(a), Children(b), Equal)
}

// Columns returns the positions of the columns that e reads, ascending.
func Columns(e Expr) []int {
	var out []int
	Walk(e, func(x Expr) bool {
		if c, ok := x.(*Column); ok && !slices.Contains(out, c.Index) {
			out = append(out, c.Index)
		}
		return true
	})
	slices.Sort(out)
	return out
}

// IsConst reports whether e reads no column and no parameter, has no subquery
// and may be computed ahead within one statement.
func IsConst(e Expr) bool {
	ok := true
	Walk(e, func(x Expr) bool {
		switch x := x.(type) {
		case *Column, *Param, External:
			ok = false
		case *Call:
			ok = ok && x.Fn.Volatility != Volatile
		}
		return ok
	})
	return ok
}

// Pushable reports whether a coprocessor can compute e: no parameters left, no
// subqueries, nothing that needs the session or is volatile.
func Pushable(e Expr) bool {
	ok := true
	Walk(e, func(x Expr) bool {
		switch x := x.(type) {
		case *Param, External:
			ok = false
		case *Call:
			ok = ok && !x.Fn.Session && x.Fn.Volatility != Volatile
		}
		return ok
	})
	return ok
}

// FoldConst computes what can be computed now: immutable calls of constants
// always, stable ones (now(), casts that depend on the time zone) when ctx is
// given, parameters when ctx has them. What fails stays, to fail only if a row
// reaches it.
func FoldConst(ctx *Ctx, e Expr) Expr {
	return Rewrite(e, func(x Expr) Expr {
		switch x := x.(type) {
		case *Param:
			if ctx != nil && x.Index < len(ctx.Params) {
				return &Const{Value: ctx.Params[x.Index], Typ: x.Typ}
			}
			return x
		case *Call:
			if x.Fn.Volatility == Volatile || x.Fn.Volatility == Stable && ctx == nil || x.Fn.Session && (ctx == nil || ctx.Session == nil) {
				return x
			}
			if x.Fn.Strict && slices.ContainsFunc(x.Args, isNullConst) {
				return &Const{Typ: x.Typ}
			}
			return foldNode(ctx, x)
		case *Logic:
			return foldLogic(x)
		case *Case:
			return foldCase(ctx, x)
		case *Coalesce:
			return foldCoalesce(x)
		case *In:
			return foldNode(ctx, x)
		}
		return x
	})
}

func isNullConst(e Expr) bool {
	c, ok := e.(*Const)
	return ok && c.Value.IsNull()
}

// foldNode computes a node whose arguments are all constants.
func foldNode(ctx *Ctx, e Expr) Expr {
	for _, c := range Children(e) {
		if _, ok := c.(*Const); !ok {
			return e
		}
	}
	v, err := evalConst(ctx, e)
	if err != nil {
		return e
	}
	return &Const{Value: v, Typ: e.Type()}
}

// foldLogic drops arguments that change nothing and stops at one that decides.
func foldLogic(l *Logic) Expr {
	var args []Expr
	for _, a := range l.Args {
		if sub, ok := a.(*Logic); ok && sub.Or == l.Or {
			args = append(args, sub.Args...)
			continue
		}
		c, ok := a.(*Const)
		if !ok || c.Value.IsNull() {
			args = append(args, a)
			continue
		}
		if c.Value.Bool() == l.Or {
			return c
		}
	}
	switch {
	case len(args) == 0:
		return &Const{Value: sqltypes.NewBool(!l.Or), Typ: sqltypes.Bool}
	case len(args) == 1:
		return args[0]
	case len(args) == len(l.Args):
		return l
	}
	return &Logic{Or: l.Or, Args: args}
}

func foldCase(ctx *Ctx, c *Case) Expr {
	out := &Case{Typ: c.Typ, Else: c.Else}
	for i, cond := range c.Conds {
		k, ok := cond.(*Const)
		if !ok {
			out.Conds, out.Results = append(out.Conds, cond), append(out.Results, c.Results[i])
			continue
		}
		if !k.Value.IsNull() && k.Value.Bool() {
			out.Else = c.Results[i]
			break
		}
	}
	switch {
	case len(out.Conds) == len(c.Conds):
		return c
	case len(out.Conds) > 0:
		return out
	case out.Else == nil:
		return &Const{Typ: c.Typ}
	}
	return out.Else
}

func foldCoalesce(c *Coalesce) Expr {
	var args []Expr
	for _, a := range c.Args {
		if isNullConst(a) {
			continue
		}
		args = append(args, a)
		if _, ok := a.(*Const); ok {
			break
		}
	}
	switch {
	case len(args) == 0:
		return &Const{Typ: c.Typ}
	case len(args) == 1:
		return args[0]
	case len(args) == len(c.Args):
		return c
	}
	return &Coalesce{Args: args, Typ: c.Typ}
}
