package expr

import (
	"fmt"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// arrayTypeOf gives an array function the type of its array argument.
func arrayTypeOf(i int) option {
	return returning(func(t []sqltypes.Type) sqltypes.Type {
		if i < len(t) && t[i].IsArray() {
			return t[i]
		}
		return sqltypes.TextArray
	})
}

type elements = []sqltypes.ArrayElement

// arrayFn lifts a function of an array's elements; a NULL array is NULL.
func arrayFn(f func(cc *call, elems elements, args []sqltypes.Datum) (sqltypes.Datum, error)) evalFunc {
	return rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) {
		if args[0].IsNull() {
			return sqltypes.Null, nil
		}
		e, err := sqltypes.SplitArray(cc.args[0], args[0].Str())
		if err != nil {
			return sqltypes.Null, err
		}
		return f(cc, e, args)
	})
}

func intOrNull(n int, ok bool) (sqltypes.Datum, error) {
	if !ok {
		return sqltypes.Null, nil
	}
	return sqltypes.NewInt(int64(n)), nil
}

// lowerBound is the subscript of the first element.
func lowerBound(t sqltypes.Type) int {
	if t.OID == sqltypes.OIDInt2Vector || t.OID == sqltypes.OIDOidVector {
		return 0
	}
	return 1
}

func init() {
	dim := func(f func(cc *call, n int) int) evalFunc {
		return arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
			return intOrNull(f(cc, len(e)), a[1].Int() == 1 && len(e) > 0)
		})
	}
	def("array_length(anyarray,int4) int4", dim(func(_ *call, n int) int { return n }))
	def("array_lower(anyarray,int4) int4", dim(func(cc *call, _ int) int { return lowerBound(cc.args[0]) }))
	def("array_upper(anyarray,int4) int4", dim(func(cc *call, n int) int { return n - 1 + lowerBound(cc.args[0]) }))
	def("cardinality(anyarray) int4", arrayFn(func(_ *call, e elements, _ []sqltypes.Datum) (sqltypes.Datum, error) {
		return intOrNull(len(e), true)
	}))
	def("array_ndims(anyarray) int4", arrayFn(func(_ *call, e elements, _ []sqltypes.Datum) (sqltypes.Datum, error) {
		return intOrNull(1, len(e) > 0)
	}))
	def("array_dims(anyarray) text", arrayFn(func(cc *call, e elements, _ []sqltypes.Datum) (sqltypes.Datum, error) {
		if len(e) == 0 {
			return sqltypes.Null, nil
		}
		low := lowerBound(cc.args[0])
		return sqltypes.NewString(fmt.Sprintf("[%d:%d]", low, low+len(e)-1)), nil
	}))
	arrayToText()
	arraySearch()
	arrayBuild()
	arrayAny()
}

func arrayToText() {
	join := arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
		if a[1].IsNull() {
			return sqltypes.Null, nil
		}
		var parts []string
		for _, x := range e {
			switch {
			case !x.Null:
				parts = append(parts, x.Text)
			case len(a) == 3 && !a[2].IsNull():
				parts = append(parts, a[2].Str())
			}
		}
		return sqltypes.NewString(strings.Join(parts, a[1].Str())), nil
	})
	def("array_to_string(anyarray,text) text", join, stable)
	def("array_to_string(anyarray,text,text) text", join, nonStrict, stable)
	split := rowCall(func(_ *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		if a[0].IsNull() {
			return sqltypes.Null, nil
		}
		return sqltypes.NewString(sqltypes.JoinArray(sqltypes.TextArray, splitText(a))), nil
	})
	def("string_to_array(text,text) _text", split, nonStrict)
	def("string_to_array(text,text,text) _text", split, nonStrict)
}

// splitText is string_to_array: a NULL separator splits into characters.
func splitText(a []sqltypes.Datum) elements {
	s := a[0].Str()
	var parts []string
	switch {
	case s == "":
	case a[1].IsNull():
		parts = strings.Split(s, "")
	case a[1].Str() == "":
		parts = []string{s}
	default:
		parts = strings.Split(s, a[1].Str())
	}
	var out elements
	for _, p := range parts {
		null := len(a) == 3 && !a[2].IsNull() && p == a[2].Str()
		out = append(out, sqltypes.ArrayElement{Text: p, Null: null})
	}
	return out
}

// elementText is a value as an element of an array.
func elementText(cc *call, t sqltypes.Type, d sqltypes.Datum) sqltypes.ArrayElement {
	if d.IsNull() {
		return sqltypes.ArrayElement{Null: true}
	}
	return sqltypes.ArrayElement{Text: outText(cc, t, d)}
}

func sameElement(a, b sqltypes.ArrayElement) bool {
	return a.Null == b.Null && (a.Null || a.Text == b.Text)
}

func arraySearch() {
	position := arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
		want := elementText(cc, cc.args[1], a[1])
		from := 0
		if len(a) == 3 {
			if a[2].IsNull() {
				return sqltypes.Null, pgerror.New(pgerror.NullValueNotAllowed, "initial position must not be null")
			}
			from = max(int(a[2].Int())-lowerBound(cc.args[0]), 0)
		}
		for i := from; i < len(e); i++ {
			if sameElement(e[i], want) {
				return intOrNull(i+lowerBound(cc.args[0]), true)
			}
		}
		return sqltypes.Null, nil
	})
	def("array_position(anyarray,anyelement) int4", position, nonStrict)
	def("array_position(anyarray,anyelement,int4) int4", position, nonStrict)
	def("array_positions(anyarray,anyelement) _int4", arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
		want := elementText(cc, cc.args[1], a[1])
		var out elements
		for i := range e {
			if sameElement(e[i], want) {
				out = append(out, sqltypes.ArrayElement{Text: sqltypes.Format(sqltypes.Int4, sqltypes.NewInt(int64(i+1)))})
			}
		}
		return sqltypes.NewString(sqltypes.JoinArray(sqltypes.TextArray, out)), nil
	}), nonStrict)
	member := func(t sqltypes.Type, s string) (map[string]bool, error) {
		e, err := sqltypes.SplitArray(t, s)
		m := map[string]bool{}
		for _, x := range e {
			if !x.Null {
				m[x.Text] = true
			}
		}
		return m, err
	}
	contains := func(l, r int) evalFunc { // l contains r
		return rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
			have, err := member(cc.args[l], a[l].Str())
			if err != nil {
				return sqltypes.Null, err
			}
			want, err := sqltypes.SplitArray(cc.args[r], a[r].Str())
			for _, x := range want {
				if x.Null || !have[x.Text] {
					return sqltypes.NewBool(false), err
				}
			}
			return sqltypes.NewBool(true), err
		})
	}
	def("@>(anyarray,anyarray) bool", contains(0, 1))
	def("<@(anyarray,anyarray) bool", contains(1, 0))
	def("&&(anyarray,anyarray) bool", rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		x, err := member(cc.args[0], a[0].Str())
		if err != nil {
			return sqltypes.Null, err
		}
		y, err := member(cc.args[1], a[1].Str())
		for k := range y {
			if x[k] {
				return sqltypes.NewBool(true), err
			}
		}
		return sqltypes.NewBool(false), err
	}))
}

func arrayBuild() {
	join := func(t sqltypes.Type, parts ...elements) (sqltypes.Datum, error) {
		var all elements
		for _, p := range parts {
			all = append(all, p...)
		}
		return sqltypes.NewString(sqltypes.JoinArray(t, all)), nil
	}
	split := func(cc *call, i int, d sqltypes.Datum) (elements, error) {
		if d.IsNull() {
			return nil, nil
		}
		return sqltypes.SplitArray(cc.args[i], d.Str())
	}
	appendElem := rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		e, err := split(cc, 0, a[0])
		if err != nil {
			return sqltypes.Null, err
		}
		return join(cc.typ, e, elements{elementText(cc, cc.args[1], a[1])})
	})
	prependElem := rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		e, err := split(cc, 1, a[1])
		if err != nil {
			return sqltypes.Null, err
		}
		return join(cc.typ, elements{elementText(cc, cc.args[0], a[0])}, e)
	})
	cat := rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		if a[0].IsNull() && a[1].IsNull() {
			return sqltypes.Null, nil
		}
		x, err := split(cc, 0, a[0])
		if err != nil {
			return sqltypes.Null, err
		}
		y, err := split(cc, 1, a[1])
		if err != nil {
			return sqltypes.Null, err
		}
		return join(cc.typ, x, y)
	})
	for name, e := range map[string]evalFunc{"array_append": appendElem, "||": appendElem} {
		def(name+"(anyarray,anyelement) anyarray", e, nonStrict, arrayTypeOf(0))
	}
	for name, e := range map[string]evalFunc{"array_prepend": prependElem, "||": prependElem} {
		def(name+"(anyelement,anyarray) anyarray", e, nonStrict, arrayTypeOf(1))
	}
	for name, e := range map[string]evalFunc{"array_cat": cat, "||": cat} {
		def(name+"(anyarray,anyarray) anyarray", e, nonStrict, arrayTypeOf(0))
	}
	def("array_remove(anyarray,anyelement) anyarray", arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
		want := elementText(cc, cc.args[1], a[1])
		var out elements
		for _, x := range e {
			if !sameElement(x, want) {
				out = append(out, x)
			}
		}
		return join(cc.typ, out)
	}), nonStrict, arrayTypeOf(0))
	def("array_replace(anyarray,anyelement,anyelement) anyarray", arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
		from, to := elementText(cc, cc.args[1], a[1]), elementText(cc, cc.args[2], a[2])
		out := append(elements(nil), e...)
		for i := range out {
			if sameElement(out[i], from) {
				out[i] = to
			}
		}
		return join(cc.typ, out)
	}), nonStrict, arrayTypeOf(0))
	def("trim_array(anyarray,int4) anyarray", arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
		n := int(a[1].Int())
		if n < 0 || n > len(e) {
			return sqltypes.Null, pgerror.New(pgerror.ArraySubscriptError, "number of elements to trim must be between 0 and %d", len(e))
		}
		return join(cc.typ, e[:len(e)-n])
	}), arrayTypeOf(0))
	// array_construct is ARRAY[…]; the binder has given the elements one type.
	def("array_construct(variadic anyelement) anyarray", rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		var out elements
		for i, d := range a {
			out = append(out, elementText(cc, cc.args[i], d))
		}
		return join(cc.typ, out)
	}), nonStrict, returning(func(t []sqltypes.Type) sqltypes.Type {
		if len(t) > 0 {
			if arr, ok := t[0].ArrayType(); ok {
				return arr
			}
		}
		return sqltypes.TextArray
	}))
	// array_get is array[subscript].
	def("array_get(anyarray,int4) anyelement", arrayFn(func(cc *call, e elements, a []sqltypes.Datum) (sqltypes.Datum, error) {
		i := int(a[1].Int()) - lowerBound(cc.args[0])
		if i < 0 || i >= len(e) || e[i].Null {
			return sqltypes.Null, nil
		}
		return sqltypes.ParseTextOpt(cc.typ, e[i].Text, cc.ctx.parseOptions())
	}), returning(func(t []sqltypes.Type) sqltypes.Type {
		if elem, ok := t[0].Elem(); ok {
			return elem
		}
		return sqltypes.Text
	}))
}

// arrayAny registers any_op(x, array) and all_op(x, array): x op ANY/ALL of an
// array's elements.
func arrayAny() {
	for op, o := range cmpOps {
		for _, all := range []bool{false, true} {
			name := "any_"
			if all {
				name = "all_"
			}
			def(name+op+"(anyelement,anyarray) bool", quantified(o, all), nonStrict)
		}
	}
}

func quantified(op cmpOp, all bool) evalFunc {
	return rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		if a[1].IsNull() {
			return sqltypes.Null, nil
		}
		elems, err := sqltypes.SplitArray(cc.args[1], a[1].Str())
		if err != nil || len(elems) == 0 {
			return sqltypes.NewBool(all), err
		}
		if a[0].IsNull() {
			return sqltypes.Null, nil
		}
		t := cc.args[0]
		unknown := false
		for _, e := range elems {
			if e.Null {
				unknown = true
				continue
			}
			d, err := sqltypes.ParseTextOpt(t.Base(), e.Text, cc.ctx.parseOptions())
			if err != nil {
				return sqltypes.Null, err
			}
			if op.holds(CompareDatums(t, a[0], d)) != all {
				return sqltypes.NewBool(!all), nil
			}
		}
		if unknown {
			return sqltypes.Null, nil
		}
		return sqltypes.NewBool(all), nil
	})
}

// NewAny builds x op ANY (array) or, with all, x op ALL (array), for the six
// comparisons.
func NewAny(op string, all bool, x, array Expr) (Expr, error) {
	if op == "!=" {
		op = "<>"
	}
	if _, ok := cmpOps[op]; !ok {
		return nil, pgerror.Unsupported("operator " + op + " with ANY or ALL")
	}
	if c, ok := array.(*Const); ok && isUnknown(c.Typ) {
		t := x.Type()
		if isUnknown(t) {
			t = sqltypes.Text
		}
		arr, ok := t.ArrayType()
		if !ok {
			return nil, pgerror.New(pgerror.UndefinedObject, "could not find array type for data type %s", t.Name())
		}
		var err error
		if array, err = NewCast(array, arr, Implicit); err != nil {
			return nil, err
		}
	}
	elem, ok := array.Type().Elem()
	if !ok {
		return nil, pgerror.New(pgerror.WrongObjectType, "op ANY/ALL (array) requires array on right side")
	}
	common, err := CommonType([]sqltypes.Type{x.Type(), elem})
	if err != nil {
		return nil, errNoFunc(op, []sqltypes.Type{x.Type(), elem})
	}
	if x, err = NewCast(x, common, Implicit); err != nil {
		return nil, err
	}
	name := "any_"
	if all {
		name = "all_"
	}
	fn := overloadBySig(name + op + "(anyelement,anyarray)")
	return &Call{Fn: fn, Args: []Expr{x, array}, Typ: sqltypes.Bool}, nil
}
