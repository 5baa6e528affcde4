package expr

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/sqltypes"
)

// cmpOp is a comparison; the upper three are the negations of the lower.
type cmpOp uint8

const (
	opEQ cmpOp = iota
	opLT
	opLE
	opNE // not EQ
	opGE // not LT
	opGT // not LE
)

var cmpOps = map[string]cmpOp{"=": opEQ, "<": opLT, "<=": opLE, "<>": opNE, ">=": opGE, ">": opGT}

// base is the operation to test and whether to negate it.
func (o cmpOp) base() (cmpOp, bool) { return o % 3, o >= 3 }

// swap is the operation with its sides exchanged.
func (o cmpOp) swap() cmpOp { return [...]cmpOp{opEQ, opGT, opGE, opNE, opLE, opLT}[o] }

// holds reports whether the order c of two values satisfies o.
func (o cmpOp) holds(c int) bool {
	b, neg := o.base()
	switch b {
	case opEQ:
		return (c == 0) != neg
	case opLT:
		return (c < 0) != neg
	}
	return (c <= 0) != neg
}

// cmpPairs are the types that compare with one another without a cast.
var cmpPairs = []string{
	"bool,bool", "int2,int2", "int4,int4", "int8,int8", "int2,int4", "int4,int2", "int2,int8", "int8,int2", "int4,int8", "int8,int4",
	"float4,float4", "float8,float8", "float4,float8", "float8,float4", "numeric,numeric", "text,text", "bpchar,bpchar",
	"name,name", "name,text", "text,name", "char,char", "bytea,bytea", "oid,oid", "uuid,uuid", "xid,xid", "tid,tid", "oidvector,oidvector",
	"date,date", "time,time", "timestamp,timestamp", "timestamptz,timestamptz", "interval,interval",
	"date,timestamp", "timestamp,date", "date,timestamptz", "timestamptz,date", "timestamp,timestamptz", "timestamptz,timestamp",
	"anyarray,anyarray",
}

func init() {
	for name, op := range cmpOps {
		for _, p := range cmpPairs {
			if (p == "xid,xid" || p == "oidvector,oidvector") && op != opEQ && op != opNE {
				continue
			}
			def(name+"("+p+") bool", cmpEval(op), cmpVolatility(p))
		}
	}
}

func cmpVolatility(pair string) option {
	return func(f *Func) {
		if strings.Contains(pair, "timestamptz") && pair != "timestamptz,timestamptz" {
			f.Volatility = Stable
		}
	}
}

// isCmp reports whether f is one of the comparisons above.
func isCmp(f *Func) bool {
	return f.ReturnType == sqltypes.Bool && len(f.ArgTypes) == 2 && f.eval != nil && f.Kind == KindOperator
}

// cmpEval is a comparison as a value: the rows that pass, as bits.
func cmpEval(op cmpOp) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		n, sel, cst := outLen(n, sel, args...)
		rows, err := filterCmp(cc, op, args[0], args[1], n, sel, make([]int32, 0, restLen(n, sel)))
		if err != nil {
			return vec{}, err
		}
		out := newBits(n)
		for _, i := range rows {
			bitutil.SetBit(out, int(i))
		}
		valid := andValidity(n, args...)
		if cst && (args[0].nullConst() || args[1].nullConst()) {
			valid = []byte{0}
		}
		return vec{arr: boolArray(n, valid, out), cst: cst}, nil
	}
}

type cmpNode struct {
	callNode
	op cmpOp
}

func (c cmpNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	if c.argTypes[0].FixedScale() && c.argTypes[1].FixedScale() {
		return c.filterDecs(ctx, b, sel, out)
	}
	l, err := c.args[0].eval(ctx, b, sel)
	if err != nil {
		return out, err
	}
	r, err := c.args[1].eval(ctx, b, sel)
	if err != nil {
		return out, err
	}
	return filterCmp(&call{ctx: ctx, fn: c.fn, typ: c.typ, args: c.argTypes}, c.op, l, r, b.N, sel, out)
}

// filterCmp appends the rows where l op r.
func filterCmp(cc *call, op cmpOp, l, r vec, n int, sel, out []int32) ([]int32, error) {
	if l.nullConst() || r.nullConst() {
		return out, nil
	}
	if l.cst && r.cst { // one row decides
		if n == 1 {
			l.cst, sel = false, nil
		} else {
			one, err := filterCmp(cc, op, l, r, 1, nil, nil)
			if err != nil || len(one) == 0 {
				return out, err
			}
			return appendRows(n, sel, out), nil
		}
	}
	if l.cst {
		l, r, op = r, l, op.swap()
		cc = &call{ctx: cc.ctx, fn: cc.fn, typ: cc.typ, args: []sqltypes.Type{cc.args[1], cc.args[0]}}
	}
	start := len(out)
	out, err := cmpColumns(cc, op, l, r, n, sel, out)
	if err != nil {
		return out, err
	}
	return dropNulls(out, start, l, r), nil
}

// dropNulls removes from out[start:] the rows where an argument is NULL.
func dropNulls(out []int32, start int, args ...vec) []int32 {
	for _, a := range args {
		bm := a.bitmap()
		if bm.bits == nil {
			continue
		}
		k := start
		for _, i := range out[start:] {
			out[k] = i
			if bm.get(int(i)) {
				k++
			}
		}
		out = out[:k]
	}
	return out
}

// cmpColumns compares without regard to nulls; l is a column.
func cmpColumns(cc *call, op cmpOp, l, r vec, n int, sel, out []int32) ([]int32, error) {
	lt, rt := cc.args[0].OID, cc.args[1].OID
	if lt != rt && (cc.args[0].IsDateTime() && cc.args[1].IsDateTime()) {
		return cmpTimes(cc, op, l, r, n, sel, out)
	}
	switch a := l.arr.(type) {
	case *array.Int16, *array.Int32, *array.Int64:
		return cmpInts(op, l, r, n, sel, out), nil
	case *array.Date32:
		return cmpSlices(op, values[int32](a), values[int32](r.arr), r.cst, sel, out), nil
	case *array.Timestamp, *array.Time64:
		return cmpSlices(op, values[int64](a), values[int64](r.arr), r.cst, sel, out), nil
	case *array.Float32, *array.Float64:
		return cmpFloats(op, l, r, n, sel, out), nil
	case *array.Decimal128:
		if b, ok := r.arr.(*array.Decimal128); ok {
			return cmpDecs(op, a, b, r.cst, n, sel, out), nil
		}
	case *array.String, *array.Binary:
		if lt != sqltypes.OIDNumeric {
			if cc.args[0].IsArray() && op != opEQ && op != opNE {
				return cmpArrays(cc, op, l, r, n, sel, out)
			}
			return cmpStrings(op, stringsOf(a), stringsOf(r.arr), r.cst, n, sel, out), nil
		}
	case *array.Boolean:
		x, y := reader[bool](l), reader[bool](r)
		return pick(n, sel, out, func(i int) bool { return op.holds(cmp.Compare(b2i(x(i)), b2i(y(i)))) }), nil
	case *array.MonthDayNanoInterval:
		x, y := reader[interval](l), reader[interval](r)
		return pick(n, sel, out, func(i int) bool { return op.holds(sqltypes.CompareIntervals(x(i), y(i))) }), nil
	}
	x, y := numericReader(l.arr), numericReader(r.arr)
	return pick(n, sel, out, func(i int) bool {
		return !l.isNull(i) && !r.isNull(i) && op.holds(sqltypes.NumericCmp(x(i), y(r.at(i))))
	}), nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// cmpSlices compares values of one type with a constant or row by row. The
// loops write every row number and advance where it counts: no branch.
func cmpSlices[T cmp.Ordered](op cmpOp, a, b []T, cst bool, sel, out []int32) []int32 {
	rows := len(a)
	if sel != nil {
		rows = len(sel)
	}
	start := len(out)
	out = slices.Grow(out, rows)
	buf := out[start : start+rows]
	var k int
	if cst {
		k = cmpConst(op, a, b[0], sel, buf)
	} else {
		k = cmpPairwise(op, a, b, sel, buf)
	}
	return out[:start+k]
}

func cmpConst[T cmp.Ordered](op cmpOp, a []T, c T, sel, buf []int32) (k int) {
	base, not := op.base()
	neg := b2i(not)
	if sel == nil {
		buf = buf[:len(a)]
		switch base {
		case opEQ:
			for i, v := range a {
				buf[k] = int32(i)
				k += b2i(v == c) ^ neg
			}
		case opLT:
			for i, v := range a {
				buf[k] = int32(i)
				k += b2i(v < c) ^ neg
			}
		default:
			for i, v := range a {
				buf[k] = int32(i)
				k += b2i(v <= c) ^ neg
			}
		}
		return k
	}
	switch base {
	case opEQ:
		for _, i := range sel {
			buf[k] = i
			k += b2i(a[i] == c) ^ neg
		}
	case opLT:
		for _, i := range sel {
			buf[k] = i
			k += b2i(a[i] < c) ^ neg
		}
	default:
		for _, i := range sel {
			buf[k] = i
			k += b2i(a[i] <= c) ^ neg
		}
	}
	return k
}

func cmpPairwise[T cmp.Ordered](op cmpOp, a, b []T, sel, buf []int32) (k int) {
	base, not := op.base()
	neg := b2i(not)
	if sel == nil {
		buf, b = buf[:len(a)], b[:len(a)]
		switch base {
		case opEQ:
			for i, v := range a {
				buf[k] = int32(i)
				k += b2i(v == b[i]) ^ neg
			}
		case opLT:
			for i, v := range a {
				buf[k] = int32(i)
				k += b2i(v < b[i]) ^ neg
			}
		default:
			for i, v := range a {
				buf[k] = int32(i)
				k += b2i(v <= b[i]) ^ neg
			}
		}
		return k
	}
	for _, i := range sel {
		buf[k] = i
		switch base {
		case opEQ:
			k += b2i(a[i] == b[i]) ^ neg
		case opLT:
			k += b2i(a[i] < b[i]) ^ neg
		default:
			k += b2i(a[i] <= b[i]) ^ neg
		}
	}
	return k
}

// cmpInts compares integers of any widths.
func cmpInts(op cmpOp, l, r vec, n int, sel, out []int32) []int32 {
	if l.arr.DataType().ID() == r.arr.DataType().ID() {
		switch l.arr.(type) {
		case *array.Int16:
			return cmpSlices(op, values[int16](l.arr), values[int16](r.arr), r.cst, sel, out)
		case *array.Int32:
			return cmpSlices(op, values[int32](l.arr), values[int32](r.arr), r.cst, sel, out)
		}
		return cmpSlices(op, values[int64](l.arr), values[int64](r.arr), r.cst, sel, out)
	}
	if _, narrow := l.arr.(*array.Int32); narrow && r.cst {
		if c := intsOf(r)(0); int64(int32(c)) == c {
			return cmpSlices(op, values[int32](l.arr), []int32{int32(c)}, true, sel, out)
		}
	}
	a, b := widen(l, sqltypes.Int8), widen(r, sqltypes.Int8)
	return cmpSlices(op, values[int64](a.arr), values[int64](b.arr), r.cst, sel, out)
}

// cmpFloats compares floats; NaN equals NaN and is above all.
func cmpFloats(op cmpOp, l, r vec, n int, sel, out []int32) []int32 {
	if l.arr.DataType().ID() != r.arr.DataType().ID() {
		l, r = widenFloat(l), widenFloat(r)
	}
	if _, ok := l.arr.(*array.Float32); ok {
		return cmpFloatsOf(op, values[float32](l.arr), values[float32](r.arr), r.cst, n, sel, out)
	}
	return cmpFloatsOf(op, values[float64](l.arr), values[float64](r.arr), r.cst, n, sel, out)
}

func cmpFloatsOf[T float](op cmpOp, a, b []T, cst bool, n int, sel, out []int32) []int32 {
	if cst && b[0] == b[0] { // against a number, Go's comparisons and their negations treat NaN as the largest
		return cmpSlices(op, a, b, true, sel, out)
	}
	mb := -1
	if cst {
		mb = 0
	}
	return pick(n, sel, out, func(i int) bool { return op.holds(compareFloats(float64(a[i]), float64(b[i&mb]))) })
}

func compareFloats(a, b float64) int {
	if an, bn := math.IsNaN(a), math.IsNaN(b); an || bn {
		return b2i(an) - b2i(bn)
	}
	return cmp.Compare(a, b)
}

// cmpDecs compares decimals of any scales.
func cmpDecs(op cmpOp, l, r *array.Decimal128, cst bool, n int, sel, out []int32) []int32 {
	a, b := values[dec](l), values[dec](r)
	ls, rs := decScale(l), decScale(r)
	if cst && rs < ls {
		if c, ok := scaleUp(b[0], ls-rs); ok {
			b, rs = []dec{c}, ls
		}
	}
	if ls == rs && cst {
		return cmpDecConst(op, a, b[0], n, sel, out)
	}
	mb := -1
	if cst {
		mb = 0
	}
	return pick(n, sel, out, func(i int) bool { return op.holds(compareDecs(a[i], b[i&mb], ls, rs)) })
}

// cmpDecConst tests two words a row without a branch.
func cmpDecConst(op cmpOp, a []dec, c dec, n int, sel, out []int32) []int32 {
	rows := restLen(n, sel)
	start := len(out)
	out = slices.Grow(out, rows)
	buf := out[start : start+rows]
	base, not := op.base()
	neg, k := b2i(not), 0
	ch, cl := c.HighBits(), c.LowBits()
	one := func(i int32) {
		h, l := a[i].HighBits(), a[i].LowBits()
		buf[k] = i
		switch base {
		case opEQ:
			k += b2i(h == ch && l == cl) ^ neg
		case opLT:
			k += b2i(h < ch || h == ch && l < cl) ^ neg
		default:
			k += b2i(h < ch || h == ch && l <= cl) ^ neg
		}
	}
	if sel == nil {
		for i := range int32(n) {
			one(i)
		}
	} else {
		for _, i := range sel {
			one(i)
		}
	}
	return out[:start+k]
}

// compareDecs orders decimals of two scales.
func compareDecs(a, b dec, as, bs int32) int {
	if as == bs {
		return a.Cmp(b)
	}
	if as < bs {
		x, ok := scaleUp(a, bs-as)
		if !ok {
			return a.Sign()
		}
		return x.Cmp(b)
	}
	return -compareDecs(b, a, bs, as)
}

// cmpStrings compares by bytes, as collation C does.
func cmpStrings(op cmpOp, a, b strs, cst bool, n int, sel, out []int32) []int32 {
	base, not := op.base()
	if cst {
		c := b.get(0)
		if base == opEQ {
			return pick(n, sel, out, func(i int) bool { return (a.get(i) == c) != not })
		}
		return pick(n, sel, out, func(i int) bool { return op.holds(strings.Compare(a.get(i), c)) })
	}
	if base == opEQ {
		return pick(n, sel, out, func(i int) bool { return (a.get(i) == b.get(i)) != not })
	}
	return pick(n, sel, out, func(i int) bool { return op.holds(strings.Compare(a.get(i), b.get(i))) })
}

// cmpArrays orders arrays element by element, then by length.
func cmpArrays(cc *call, op cmpOp, l, r vec, n int, sel, out []int32) ([]int32, error) {
	x, y := reader[string](l), reader[string](r)
	var err error
	out = pick(n, sel, out, func(i int) bool {
		c, e := compareArrays(cc.args[0], x(i), y(i))
		if e != nil && err == nil {
			err = e
		}
		return op.holds(c)
	})
	return out, err
}

func compareArrays(t sqltypes.Type, a, b string) (int, error) {
	x, err := sqltypes.SplitArray(t, a)
	if err != nil {
		return 0, err
	}
	y, err := sqltypes.SplitArray(t, b)
	if err != nil {
		return 0, err
	}
	elem, _ := t.Elem()
	for i := range min(len(x), len(y)) {
		var d [2]sqltypes.Datum
		for k, e := range []sqltypes.ArrayElement{x[i], y[i]} {
			if !e.Null {
				if d[k], err = sqltypes.ParseText(elem, e.Text); err != nil {
					return 0, err
				}
			}
		}
		if c := CompareDatums(elem, d[0], d[1]); c != 0 {
			return c, nil
		}
	}
	return cmp.Compare(len(x), len(y)), nil
}

// cmpTimes compares date, timestamp and timestamptz with one another.
func cmpTimes(cc *call, op cmpOp, l, r vec, n int, sel, out []int32) ([]int32, error) {
	if _, ok := l.arr.(*array.Date32); ok && r.cst {
		ts := values[int64](r.arr)[0]
		if cc.args[1].OID == sqltypes.OIDTimestamptz {
			ts = toLocal(cc, ts)
		}
		day, rest := sqltypes.SplitTimestamp(ts)
		if ts != sqltypes.TimestampInfinity && ts != sqltypes.TimestampMinusInf && (rest == 0 || op != opEQ && op != opNE) {
			if rest != 0 && op == opLT { // days before the next midnight
				op = opLE
			} else if rest != 0 && op == opGE {
				op = opGT
			}
			return cmpSlices(op, values[int32](l.arr), []int32{int32(day)}, true, sel, out), nil
		}
	}
	zoned := cc.args[0].OID == sqltypes.OIDTimestamptz || cc.args[1].OID == sqltypes.OIDTimestamptz
	a, err := asMicros(cc, l, cc.args[0], zoned, n, sel)
	if err != nil {
		return out, err
	}
	b, err := asMicros(cc, r, cc.args[1], zoned, n, sel)
	if err != nil {
		return out, err
	}
	return cmpSlices(op, a, b, r.cst, sel, out), nil
}

// asMicros converts a column of any of the date types to timestamps.
func asMicros(cc *call, v vec, t sqltypes.Type, zoned bool, n int, sel []int32) ([]int64, error) {
	if t.OID == sqltypes.OIDTimestamptz || t.OID == sqltypes.OIDTimestamp && !zoned {
		return values[int64](v.arr), nil
	}
	to := sqltypes.Timestamp
	if zoned {
		to = sqltypes.Timestamptz
	}
	fn := castFunc(t, to, false)
	conv, err := fn.eval(&call{ctx: cc.ctx, fn: fn, typ: to, args: []sqltypes.Type{t}}, []vec{v}, n, sel)
	if err != nil {
		return nil, err
	}
	return values[int64](conv.arr), nil
}

// CompareDatums orders two values of type t, NULLs last.
func CompareDatums(t sqltypes.Type, a, b sqltypes.Datum) int {
	if a.IsNull() || b.IsNull() {
		return b2i(a.IsNull()) - b2i(b.IsNull())
	}
	switch t.Kind() {
	case sqltypes.KindBool, sqltypes.KindInt:
		return cmp.Compare(a.Int(), b.Int())
	case sqltypes.KindFloat:
		return compareFloats(a.Float(), b.Float())
	case sqltypes.KindDecimal:
		return sqltypes.NumericCmp(a.Decimal(), b.Decimal())
	case sqltypes.KindInterval:
		return sqltypes.CompareIntervals(a.Interval(), b.Interval())
	case sqltypes.KindBytes:
		return strings.Compare(string(a.Bytes()), string(b.Bytes()))
	}
	return strings.Compare(a.Str(), b.Str())
}
