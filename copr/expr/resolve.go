package expr

import (
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// isOperatorName reports whether a registry name is an operator's.
func isOperatorName(name string) bool {
	c := name[0]
	return c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c < 0x80
}

// ResolveFunc chooses an overload as PostgreSQL does (exact match, then the
// candidates that implicit casts reach, then preferred types, then what
// unknown literals leave open). It returns the types to cast the arguments to
// and the type of the result. 42883 when nothing fits, 42725 when too much.
func ResolveFunc(name string, args []sqltypes.Type) (*Func, []sqltypes.Type, sqltypes.Type, error) {
	f, err := resolve(name, overloads(name), args)
	if err != nil {
		return nil, nil, sqltypes.Type{}, err
	}
	coerced := coerceArgs(f, args)
	return f, coerced, f.Result(coerced), nil
}

// ResolveOperator is ResolveFunc for an operator; l nil = prefix.
func ResolveOperator(op string, l, r *sqltypes.Type) (*Func, []sqltypes.Type, sqltypes.Type, error) {
	args := []sqltypes.Type{*r}
	if l != nil {
		args = []sqltypes.Type{*l, *r}
	}
	if op == "!=" {
		op = "<>"
	}
	return ResolveFunc(op, args)
}

// NewFuncCall resolves a function and casts its arguments.
func NewFuncCall(name string, args ...Expr) (Expr, error) { return newCall(name, args) }

// NewOperator resolves an operator and casts its arguments; l nil = prefix.
func NewOperator(op string, l, r Expr) (Expr, error) {
	if op == "!=" {
		op = "<>"
	}
	if l == nil {
		return newCall(op, []Expr{r})
	}
	return newCall(op, []Expr{l, r})
}

func newCall(name string, args []Expr) (Expr, error) {
	types := make([]sqltypes.Type, len(args))
	for i, a := range args {
		types[i] = a.Type()
	}
	f, coerced, _, err := ResolveFunc(name, types)
	if err != nil {
		return nil, err
	}
	return NewCall(f, args, coerced)
}

// NewCall casts args to the types that ResolveFunc returned and builds the
// call. A literal without a type that becomes numeric keeps its own scale.
func NewCall(f *Func, args []Expr, coerced []sqltypes.Type) (Expr, error) {
	out := make([]Expr, len(args))
	types := make([]sqltypes.Type, len(args))
	for i, a := range args {
		to := coerced[i]
		if c, ok := a.(*Const); ok && to == sqltypes.Numeric && c.Typ.OID == sqltypes.OIDUnknown && !c.Value.IsNull() {
			if d, err := sqltypes.ParseNumeric(c.Value.Str()); err == nil {
				to = sqltypes.NumericTypeOf(d)
			}
		}
		e, err := NewCast(a, to, Implicit)
		if err != nil {
			return nil, err
		}
		out[i], types[i] = e, e.Type()
	}
	return &Call{Fn: f, Args: out, Typ: f.Result(types)}, nil
}

func resolve(name string, candidates []*Func, args []sqltypes.Type) (*Func, error) {
	var fit []*Func
	for _, f := range candidates {
		if f.takes(len(args)) {
			fit = append(fit, f)
		}
	}
	if f := exactMatch(name, fit, args); f != nil {
		return f, nil
	}
	fit = keep(fit, func(f *Func) bool {
		for i, a := range args {
			if !implicitly(a, f.argType(i)) {
				return false
			}
		}
		return consistent(f, args)
	})
	switch len(fit) {
	case 0:
		return nil, errNoFunc(name, args)
	case 1:
		return fit[0], nil
	}
	if f := selectCandidate(fit, args); f != nil {
		return f, nil
	}
	return nil, errAmbiguous(name, args)
}

// consistent reports whether polymorphic arguments agree: all anyelement of
// one type, which anyarray has as its elements. greatest, least and nullif
// take what their caller has given a common type.
func consistent(f *Func, args []sqltypes.Type) bool {
	var elem sqltypes.Type
	for i, a := range args {
		if isUnknown(a) {
			continue
		}
		e := a
		switch f.argType(i).OID {
		case sqltypes.OIDAnyElement:
		case sqltypes.OIDAnyArray:
			var ok bool
			if e, ok = a.Elem(); !ok {
				return false
			}
		default:
			continue
		}
		if elem.OID != 0 && elem.OID != e.OID {
			return false
		}
		elem = e
	}
	return true
}

// exactMatch finds the overload with the very types given; for a binary
// operator an unknown side is taken for the other side's type.
func exactMatch(name string, fit []*Func, args []sqltypes.Type) *Func {
	want := args
	if len(args) == 2 && isOperatorName(name) && (isUnknown(args[0]) != isUnknown(args[1])) {
		want = []sqltypes.Type{args[0], args[1]}
		if isUnknown(args[0]) {
			want[0] = args[1]
		} else {
			want[1] = args[0]
		}
	}
	for _, f := range fit {
		same := true
		for i, a := range want {
			same = same && f.argType(i).OID == a.OID
		}
		if same && !(f.Variadic && len(args) == 0) {
			return f
		}
	}
	return nil
}

func isUnknown(t sqltypes.Type) bool { return t.OID == sqltypes.OIDUnknown }

func keep(fs []*Func, ok func(*Func) bool) []*Func {
	out := fs[:0:0]
	for _, f := range fs {
		if ok(f) {
			out = append(out, f)
		}
	}
	return out
}

// keepBest keeps the candidates with the highest score; all when it is 0.
func keepBest(fs []*Func, score func(*Func) int) []*Func {
	best := 0
	for _, f := range fs {
		best = max(best, score(f))
	}
	if best == 0 {
		return fs
	}
	return keep(fs, func(f *Func) bool { return score(f) == best })
}

// selectCandidate is PostgreSQL's func_select_candidate.
func selectCandidate(fit []*Func, args []sqltypes.Type) *Func {
	exact := func(f *Func) (n int) {
		for i, a := range args {
			if !isUnknown(a) && f.argType(i).OID == baseOID(a) {
				n++
			}
		}
		return n
	}
	preferred := func(f *Func) (n int) {
		for i, a := range args {
			if isUnknown(a) {
				continue
			}
			if t := f.argType(i); t.OID == baseOID(a) || t.Category() == a.Category() && t.Preferred() {
				n++
			}
		}
		return n
	}
	if fit = keepBest(fit, exact); len(fit) == 1 {
		return fit[0]
	}
	if fit = keepBest(fit, preferred); len(fit) == 1 {
		return fit[0]
	}
	known := sqltypes.Type{}
	unknowns, sameKnown := 0, true
	for _, a := range args {
		switch {
		case isUnknown(a):
			unknowns++
		case known.OID == 0:
			known = a
		case known.OID != a.OID:
			sameKnown = false
		}
	}
	if unknowns == 0 {
		return nil
	}
	if fit = byCategory(fit, args); len(fit) == 1 {
		return fit[0]
	}
	if known.OID == 0 || !sameKnown {
		return nil
	}
	all := keep(fit, func(f *Func) bool {
		for i := range args {
			if !implicitly(known, f.argType(i)) {
				return false
			}
		}
		return true
	})
	if len(all) == 1 {
		return all[0]
	}
	return nil
}

func baseOID(t sqltypes.Type) uint32 { return t.OID }

// byCategory chooses a type category for each unknown argument: string if any
// candidate takes a string there, else the one all agree on.
func byCategory(fit []*Func, args []sqltypes.Type) []*Func {
	categories := make([]byte, len(args))
	preferred := make([]bool, len(args))
	for i, a := range args {
		if !isUnknown(a) {
			continue
		}
		conflict := false
		for _, f := range fit {
			t := f.argType(i)
			switch c := t.Category(); {
			case categories[i] == 0:
				categories[i], preferred[i] = c, t.Preferred()
			case categories[i] == c:
				preferred[i] = preferred[i] || t.Preferred()
			case c == 'S':
				categories[i], preferred[i], conflict = c, t.Preferred(), false
			case categories[i] != 'S':
				conflict = true
			}
		}
		if conflict {
			return fit
		}
	}
	out := keep(fit, func(f *Func) bool {
		for i, a := range args {
			if !isUnknown(a) {
				continue
			}
			t := f.argType(i)
			if t.Category() != categories[i] || preferred[i] && !t.Preferred() {
				return false
			}
		}
		return true
	})
	if len(out) == 0 {
		return fit
	}
	return out
}

// coerceArgs are the types to cast arguments to: the declared ones, with the
// scale that follows from the argument.
func coerceArgs(f *Func, args []sqltypes.Type) []sqltypes.Type {
	out := make([]sqltypes.Type, len(args))
	for i, a := range args {
		t := f.argType(i)
		switch t.OID {
		case sqltypes.OIDAny, sqltypes.OIDAnyElement, sqltypes.OIDAnyArray:
			out[i] = a
			if isUnknown(a) {
				out[i] = polymorphicOf(f, args, t)
			}
		case sqltypes.OIDNumeric:
			out[i] = numericArg(a)
		default:
			out[i] = t
			if a.OID == t.OID {
				out[i] = a
			}
		}
	}
	return out
}

// polymorphicOf is what an unknown literal becomes beside polymorphic
// arguments: the type that the others have, or text.
func polymorphicOf(f *Func, args []sqltypes.Type, want sqltypes.Type) sqltypes.Type {
	if want.OID == sqltypes.OIDAny {
		return sqltypes.Text
	}
	for i, a := range args {
		if isUnknown(a) {
			continue
		}
		switch has := f.argType(i); {
		case has.OID == want.OID:
			return a
		case has.OID == sqltypes.OIDAnyArray && want.OID == sqltypes.OIDAnyElement:
			if e, ok := a.Elem(); ok {
				return e
			}
		case has.OID == sqltypes.OIDAnyElement && want.OID == sqltypes.OIDAnyArray:
			if arr, ok := a.ArrayType(); ok {
				return arr
			}
		}
	}
	if want.OID == sqltypes.OIDAnyArray {
		return sqltypes.TextArray
	}
	return sqltypes.Text
}

// numericArg is the numeric type that an argument becomes: integers have
// scale 0.
func numericArg(a sqltypes.Type) sqltypes.Type {
	switch {
	case a.OID == sqltypes.OIDNumeric:
		return a
	case a.IsInteger():
		return scaled(0)
	}
	return sqltypes.Numeric
}

// scaled is a numeric expression of a known scale.
func scaled(scale int32) sqltypes.Type {
	return sqltypes.Type{OID: sqltypes.OIDNumeric, Scale: scale}
}

func typeList(args []sqltypes.Type) string {
	names := make([]string, len(args))
	for i, a := range args {
		names[i] = a.Base().Name()
		if a.OID == sqltypes.OIDBpchar {
			names[i] = "character"
		}
	}
	return strings.Join(names, ", ")
}

func describeCall(name string, args []sqltypes.Type) (kind, text string) {
	if !isOperatorName(name) {
		return "function", name + "(" + typeList(args) + ")"
	}
	if len(args) == 1 {
		return "operator", name + " " + typeList(args)
	}
	return "operator", typeList(args[:1]) + " " + name + " " + typeList(args[1:])
}

func errNoFunc(name string, args []sqltypes.Type) error {
	kind, text := describeCall(name, args)
	hint := "No function matches the given name and argument types. You might need to add explicit type casts."
	if kind == "operator" {
		hint = "No operator matches the given name and argument types. You might need to add explicit type casts."
		if len(args) == 1 {
			hint = "No operator matches the given name and argument type. You might need to add an explicit type cast."
		}
	}
	message := "function " + text + " does not exist"
	if kind == "operator" {
		message = "operator does not exist: " + text
	}
	return pgerror.New(pgerror.UndefinedFunction, "%s", message).WithHint("%s", hint)
}

func errAmbiguous(name string, args []sqltypes.Type) error {
	kind, text := describeCall(name, args)
	message := "function " + text + " is not unique"
	if kind == "operator" {
		message = "operator is not unique: " + text
	}
	return pgerror.New(pgerror.AmbiguousFunction, "%s", message).
		WithHint("Could not choose a best candidate %s. You might need to add explicit type casts.", kind)
}

// CommonType is the type that CASE, COALESCE, UNION, IN, VALUES and greatest
// give their branches: PostgreSQL's select_common_type. Modifiers survive only
// where all branches agree; so numerics of different scales keep each value's
// own.
func CommonType(types []sqltypes.Type) (sqltypes.Type, error) {
	var common sqltypes.Type
	for _, t := range types {
		switch {
		case isUnknown(t):
		case common.OID == 0:
			common = t
		case common.OID == t.OID:
			if common != t {
				common = t.Base()
			}
		case common.Category() != t.Category():
			return common, pgerror.New(pgerror.DatatypeMismatch, "types %s and %s cannot be matched", common.Base().Name(), t.Base().Name())
		case !common.Preferred() && implicitly(common, t) && !implicitly(t, common):
			common = t.Base()
		default:
			common = common.Base()
		}
	}
	if common.OID == 0 {
		return sqltypes.Text, nil
	}
	for _, t := range types {
		if !implicitly(t, common) {
			return common, pgerror.New(pgerror.CannotCoerce, "could not convert type %s to %s", t.Base().Name(), common.Base().Name())
		}
	}
	return common, nil
}
