package expr

import "strings"

// negations are the operators that are NOT one another, in both directions.
var negations = func() map[string]string {
	m := map[string]string{"~~": "!~~", "=": "<>", "<": ">=", "<=": ">", "isnull": "isnotnull"}
	for a, b := range m {
		m[b] = a
	}
	return m
}()

// negated rewrites NOT (x) so that a filter can be made of it: a comparison
// becomes its opposite, AND an OR. It is the same with three values, and the
// same arguments are computed for the same rows.
func negated(e *Call) (Expr, bool) {
	if e.Fn.Sig != "not(bool)" {
		return nil, false
	}
	switch x := e.Args[0].(type) {
	case *Logic:
		args := make([]Expr, len(x.Args))
		for i, a := range x.Args {
			args[i] = &Call{Fn: e.Fn, Args: []Expr{a}, Typ: e.Typ}
		}
		return &Logic{Or: !x.Or, Args: args}, true
	case *In:
		if len(x.Values) > 0 {
			return &In{X: x.X, Values: x.Values, Not: !x.Not}, true
		}
	case *Call:
		name, ok := negations[x.Fn.Name]
		if !ok {
			return nil, false
		}
		if f, ok := FuncBySig(name + strings.TrimPrefix(x.Fn.Sig, x.Fn.Name)); ok && f.Kind == x.Fn.Kind && f.Volatility == x.Fn.Volatility {
			return &Call{Fn: f, Args: x.Args, Typ: x.Typ}, true
		}
	}
	return nil, false
}
