package expr

import (
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/sqltypes"
)

func init() {
	def("not(bool) bool", pure1(func(b bool) bool { return !b }))
	nullTest := func(not bool) evalFunc {
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			return lift(cc, args, n, sel, func(i int) (bool, bool, error) { return args[0].isNull(i) != not, true, nil })
		}
	}
	def("isnull(any) bool", nullTest(false), nonStrict)
	def("isnotnull(any) bool", nullTest(true), nonStrict)
	boolTest := func(f func(value, null bool) bool) evalFunc {
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := reader[bool](args[0])
			return lift(cc, args, n, sel, func(i int) (bool, bool, error) { return f(v(i), args[0].isNull(i)), true, nil })
		}
	}
	def("istrue(bool) bool", boolTest(func(v, null bool) bool { return v && !null }), nonStrict)
	def("isnottrue(bool) bool", boolTest(func(v, null bool) bool { return !v || null }), nonStrict)
	def("isfalse(bool) bool", boolTest(func(v, null bool) bool { return !v && !null }), nonStrict)
	def("isnotfalse(bool) bool", boolTest(func(v, null bool) bool { return v || null }), nonStrict)
	def("isunknown(bool) bool", boolTest(func(_, null bool) bool { return null }), nonStrict)
	def("isnotunknown(bool) bool", boolTest(func(_, null bool) bool { return !null }), nonStrict)
	for _, p := range cmpPairs {
		def("isdistinct("+p+") bool", distinctEval(true), nonStrict, cmpVolatility(p))
		def("isnotdistinct("+p+") bool", distinctEval(false), nonStrict, cmpVolatility(p))
	}
	def("nullif(anyelement,anyelement) anyelement", nullifEval, nonStrict, sameAsFirst)
	def("greatest(variadic anyelement) anyelement", extreme(1), nonStrict, sameAsFirst)
	def("least(variadic anyelement) anyelement", extreme(-1), nonStrict, sameAsFirst)
}

// sameAsFirst gives a call the type of its first argument.
var sameAsFirst = returning(func(t []sqltypes.Type) sqltypes.Type {
	if len(t) == 0 {
		return sqltypes.Text
	}
	return t[0]
})

// distinctEval is IS [NOT] DISTINCT FROM: inequality where NULL is a value.
func distinctEval(distinct bool) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		n, sel, cst := outLen(n, sel, args...)
		equal := newBits(n)
		rows, err := filterCmp(cc, opEQ, args[0], args[1], n, sel, nil)
		if err != nil {
			return vec{}, err
		}
		for _, i := range rows {
			bitutil.SetBit(equal, int(i))
		}
		out := newBits(n)
		rowsOf(n, sel, func(i int) {
			l, r := args[0].isNull(i), args[1].isNull(i)
			same := l && r || !l && !r && bitmap{equal, 0}.get(i)
			bitutil.SetBitTo(out, i, same != distinct)
		})
		return vec{arr: boolArray(n, nil, out), cst: cst}, nil
	}
}

// nullifEval is NULLIF: the first argument unless it equals the second.
var nullifEval = rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) {
	if args[0].IsNull() || args[1].IsNull() {
		return args[0], nil
	}
	if cc.args[0].Kind() == sqltypes.KindDecimal || cc.args[1].Kind() == cc.args[0].Kind() {
		if CompareDatums(cc.args[0], args[0], args[1]) == 0 {
			return sqltypes.Null, nil
		}
	}
	return args[0], nil
})

// extreme is GREATEST (dir 1) or LEAST (-1): NULLs are skipped.
func extreme(dir int) evalFunc {
	return rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) {
		best := sqltypes.Null
		for i, a := range args {
			if a.IsNull() {
				continue
			}
			if best.IsNull() || CompareDatums(cc.args[i], a, best)*dir > 0 {
				best = a
			}
		}
		return best, nil
	})
}
