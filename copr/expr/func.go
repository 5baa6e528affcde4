package expr

import (
	"fmt"
	"strings"
	"sync"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// Volatility says when a function's result may change, as pg_proc's
// provolatile.
type Volatility uint8

// The volatilities.
const (
	Immutable Volatility = iota
	Stable               // constant within a statement
	Volatile
)

// FuncKind is how a Func is written in SQL.
type FuncKind uint8

// The kinds.
const (
	KindFunction FuncKind = iota
	KindOperator          // Name is the operator; one argument = prefix
	KindCast              // the target is the Call's type
)

// Func is one overload of a function, an operator or a cast.
type Func struct {
	Name string
	// Sig is unique and stable between versions: a plan names a function by it.
	Sig      string
	ArgTypes []sqltypes.Type
	// Variadic: the last argument type stands for one or more arguments.
	Variadic   bool
	ReturnType sqltypes.Type
	// Strict functions are NULL where an argument is, without being called.
	Strict     bool
	Volatility Volatility
	Kind       FuncKind
	// Session functions need Ctx.Session and are never pushed down.
	Session bool

	// retType refines ReturnType by the arguments' types (scales); nil = as is.
	retType func(args []sqltypes.Type) sqltypes.Type
	eval    evalFunc
}

// evalFunc computes a function for the rows of sel (nil = all n).
type evalFunc func(cc *call, args []vec, n int, sel []int32) (vec, error)

// call is one call's surroundings while it is evaluated.
type call struct {
	ctx  *Ctx
	fn   *Func
	typ  sqltypes.Type   // of the result
	args []sqltypes.Type // of the arguments
}

// Result is the type of a call with arguments of the given types.
func (f *Func) Result(args []sqltypes.Type) sqltypes.Type {
	if f.retType != nil {
		return f.retType(args)
	}
	return f.ReturnType
}

// argType is the declared type of argument i.
func (f *Func) argType(i int) sqltypes.Type {
	if i >= len(f.ArgTypes) {
		return f.ArgTypes[len(f.ArgTypes)-1]
	}
	return f.ArgTypes[i]
}

// takes reports whether f can be called with n arguments.
func (f *Func) takes(n int) bool {
	return n == len(f.ArgTypes) || f.Variadic && n >= len(f.ArgTypes)
}

var registry = struct {
	sync.RWMutex
	byName map[string][]*Func
	bySig  map[string]*Func
}{byName: map[string][]*Func{}, bySig: map[string]*Func{}}

// Def describes a function that another package adds with RegisterFunc.
type Def struct {
	Name       string
	Args       []sqltypes.Type
	Variadic   bool
	Ret        sqltypes.Type
	Strict     bool
	Volatility Volatility
	Session    bool // needs Ctx.Session
	// Eval computes one row; with Strict no argument is NULL.
	Eval func(ctx *Ctx, args []sqltypes.Datum) (sqltypes.Datum, error)
}

// RegisterFunc adds a function that computes row by row, such as one that
// needs the catalog. It is called from init functions; a signature that exists
// already panics.
func RegisterFunc(d Def) *Func {
	f := &Func{
		Name: d.Name, ArgTypes: d.Args, Variadic: d.Variadic, ReturnType: d.Ret,
		Strict: d.Strict, Volatility: d.Volatility, Session: d.Session,
		eval: rowEval(d.Eval),
	}
	f.Sig = signature(f)
	addFunc(f)
	return f
}

func addFunc(f *Func) {
	registry.Lock()
	defer registry.Unlock()
	if registry.bySig[f.Sig] != nil {
		panic("expr: function " + f.Sig + " is registered twice")
	}
	registry.bySig[f.Sig] = f
	registry.byName[f.Name] = append(registry.byName[f.Name], f)
}

func signature(f *Func) string {
	var b strings.Builder
	b.WriteString(f.Name)
	b.WriteByte('(')
	for i, t := range f.ArgTypes {
		if i > 0 {
			b.WriteByte(',')
		}
		if f.Variadic && i == len(f.ArgTypes)-1 {
			b.WriteString("variadic ")
		}
		b.WriteString(t.PgName())
	}
	b.WriteByte(')')
	return b.String()
}

// FuncBySig finds the function that a plan names.
func FuncBySig(sig string) (*Func, bool) {
	registry.RLock()
	f := registry.bySig[sig]
	registry.RUnlock()
	if f != nil {
		return f, true
	}
	return castBySig(sig)
}

// Funcs lists every function and operator, for pg_proc and pg_operator.
func Funcs() []*Func {
	registry.RLock()
	defer registry.RUnlock()
	out := make([]*Func, 0, len(registry.bySig))
	for _, fs := range registry.byName {
		out = append(out, fs...)
	}
	return out
}

// HasFunc reports whether any overload has that name.
func HasFunc(name string) bool {
	registry.RLock()
	defer registry.RUnlock()
	return len(registry.byName[name]) > 0
}

func overloads(name string) []*Func {
	registry.RLock()
	defer registry.RUnlock()
	return registry.byName[name]
}

type option func(*Func)

func stable(f *Func)    { f.Volatility = Stable }
func volatile(f *Func)  { f.Volatility = Volatile }
func nonStrict(f *Func) { f.Strict = false }

// returning sets how the result's type follows from the arguments'.
func returning(fn func([]sqltypes.Type) sqltypes.Type) option {
	return func(f *Func) { f.retType = fn }
}

// def registers a built-in: "name(type,…) type" with pg_type's names; a last
// argument of "variadic type" repeats. Functions are strict and immutable
// unless options say otherwise.
func def(decl string, eval evalFunc, opts ...option) {
	head, ret, ok := strings.Cut(decl, ") ")
	name, args, ok2 := strings.Cut(head, "(")
	if name == "" { // an operator that starts with a parenthesis does not exist
		ok = false
	}
	if !ok || !ok2 {
		panic("expr: bad declaration " + decl)
	}
	f := &Func{Name: name, ReturnType: typeNamed(ret), Strict: true, eval: eval}
	if c := name[0]; c != '_' && (c < 'a' || c > 'z') {
		f.Kind = KindOperator
	}
	for a := range strings.SplitSeq(args, ",") {
		if a == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(a, "variadic "); ok {
			f.Variadic, a = true, rest
		}
		f.ArgTypes = append(f.ArgTypes, typeNamed(a))
	}
	for _, o := range opts {
		o(f)
	}
	f.Sig = signature(f)
	addFunc(f)
}

func typeNamed(name string) sqltypes.Type {
	t, err := sqltypes.ByName([]string{name}, nil, 0)
	if err != nil {
		panic(fmt.Sprintf("expr: a declaration names type %q", name))
	}
	return t.Base()
}

// errNoSession is returned where Ctx.Session is missing.
func errNoSession(name string) error {
	return pgerror.New(pgerror.FeatureNotSupported, "%s cannot be evaluated outside a SQL session", name)
}
