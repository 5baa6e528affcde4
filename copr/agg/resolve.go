package agg

import (
	"strings"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// Accumulator keeps one aggregate's state for every group. Groups are numbered
// from 0. Columns passed in are plain, but where TakesEncoded says that they need
// not be. Not safe for concurrent use.
type Accumulator interface {
	// Grow makes room for this many groups; new ones are empty.
	Grow(groups int)
	// Update takes rows, with the call's arguments.
	Update(rows Rows, args []colvec.Vec) error
	// Merge takes the states of other accumulators of the same call.
	Merge(rows Rows, state []colvec.Vec) error
	// State appends the states of groups lo to hi (exclusive) to out, one
	// builder for each state column.
	State(out []*colvec.Builder, lo, hi int) error
	// Result appends their results.
	Result(out *colvec.Builder, lo, hi int) error
	// Bytes is about how much memory the states take.
	Bytes() int64
}

// TakesEncoded reports whether an accumulator takes encoded columns as they are
// (see colvec), as arguments and as states.
func TakesEncoded(a Accumulator) bool { return takesEncoded(a) }

func takesEncoded(a Accumulator) bool {
	e, ok := a.(interface{ takesEncoded() bool })
	return ok && e.takesEncoded()
}

// signature is a resolved call.
type signature struct {
	result sqltypes.Type
	state  []sqltypes.Type
	make   func() Accumulator
}

// Names lists the aggregate functions.
func Names() []string {
	return []string{"count", "sum", "avg", "min", "max", "bool_and", "every", "bool_or", "any_value",
		"stddev", "stddev_samp", "stddev_pop", "variance", "var_samp", "var_pop", "string_agg", "array_agg"}
}

// IsAggregate reports whether an aggregate function has this name.
func IsAggregate(name string) bool {
	for _, n := range Names() {
		if n == name {
			return true
		}
	}
	return false
}

// Resolve returns the types of a call's result and of its state columns. A
// call that does not exist is 42883. Arguments of type unknown are for the
// binder to cast (to text) before.
func Resolve(name string, args []sqltypes.Type) (result sqltypes.Type, state []sqltypes.Type, err error) {
	s, err := resolve(name, args)
	return s.result, s.state, err
}

// New makes an accumulator of a call.
func New(name string, args []sqltypes.Type) (Accumulator, error) {
	s, err := resolve(name, args)
	if err != nil {
		return nil, err
	}
	return s.make(), nil
}

func resolve(name string, args []sqltypes.Type) (signature, error) {
	if name == "count" && len(args) <= 1 {
		return signature{sqltypes.Int8, []sqltypes.Type{sqltypes.Int8}, func() Accumulator { return &count{} }}, nil
	}
	var s signature
	ok := false
	switch {
	case name == "string_agg" && len(args) == 2:
		s, ok = resolveStringAgg(args)
	case len(args) != 1:
	case name == "sum":
		s, ok = resolveSum(args[0])
	case name == "avg":
		s, ok = resolveAvg(args[0])
	case name == "min" || name == "max":
		s, ok = resolveMinMax(name == "max", args[0])
	case name == "any_value":
		t := args[0]
		s, ok = signature{t, []sqltypes.Type{t}, func() Accumulator { return &anyValue{typ: t} }}, true
	case name == "bool_and" || name == "every" || name == "bool_or":
		if ok = args[0].OID == sqltypes.OIDBool; ok {
			or := name == "bool_or"
			s = signature{sqltypes.Bool, []sqltypes.Type{sqltypes.Bool}, func() Accumulator { return &boolean{or: or} }}
		}
	case name == "array_agg":
		s, ok = resolveArrayAgg(args[0])
	default:
		s, ok = resolveVariance(name, args[0])
	}
	if ok {
		return s, nil
	}
	names := make([]string, len(args))
	for i, t := range args {
		names[i] = t.Base().Name()
	}
	return s, pgerror.New(pgerror.UndefinedFunction, "function %s(%s) does not exist", name, strings.Join(names, ", ")).
		WithHint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

// has is which groups have seen a row.
type has []bool

func (h *has) grow(n int) { *h = grown(*h, n) }

func grown[T any](s []T, n int) []T {
	if n <= len(s) {
		return s
	}
	if n <= cap(s) {
		return s[:n]
	}
	out := make([]T, n, max(n, 2*cap(s)))
	copy(out, s)
	return out
}
