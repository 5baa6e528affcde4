package expr

import (
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// Functions written for one row are lifted to columns by fn0 … fn4: a typed
// reader for each argument and a typed sink for the result, chosen once a
// batch.

type interval = sqltypes.IntervalValue

// reader makes a function that reads row i of v.
func reader[T any](v vec) func(i int) T {
	var zero T
	var read any
	switch any(zero).(type) {
	case bool:
		b := boolsOf(v.arr)
		read = func(i int) bool { return b.get(i) }
	case int16:
		read = sliceReader(values[int16](v.arr))
	case int32:
		read = sliceReader(values[int32](v.arr))
	case int64:
		read = sliceReader(values[int64](v.arr))
	case float32:
		read = sliceReader(values[float32](v.arr))
	case float64:
		read = sliceReader(values[float64](v.arr))
	case dec:
		read = sliceReader(values[dec](v.arr))
	case string:
		s := stringsOf(v.arr)
		read = func(i int) string { return s.get(i) }
	case []byte:
		s := stringsOf(v.arr)
		read = func(i int) []byte { return s.data[s.offs[i]:s.offs[i+1]] }
	case *apd.Decimal:
		read = numericReader(v.arr)
	case interval:
		c := v.arr.(*array.MonthDayNanoInterval)
		read = func(i int) interval {
			x := c.Value(i)
			return interval{Months: x.Months, Days: x.Days, Micros: x.Nanoseconds / 1000}
		}
	default:
		panic(fmt.Sprintf("expr: no reader for %T", zero))
	}
	f := read.(func(int) T)
	if !v.cst {
		return f
	}
	if v.arr.IsNull(0) {
		return func(int) T { return zero }
	}
	c := f(0)
	return func(int) T { return c }
}

// paddedReader reads strings, those of char(n) with the blanks that they are
// stored without: LIKE, regular expressions and the bytes of a char(n) see
// them. What it returns holds until the next call.
func paddedReader(v vec, t sqltypes.Type) func(i int) string {
	read := reader[string](v)
	if t.OID != sqltypes.OIDBpchar || t.Precision == 0 {
		return read
	}
	var buf []byte
	return func(i int) string {
		s := read(i)
		buf = append(buf[:0], s...)
		for n := utf8.RuneCountInString(s); n < int(t.Precision); n++ {
			buf = append(buf, ' ')
		}
		return unsafeString(buf)
	}
}

func sliceReader[T any](s []T) func(int) T { return func(i int) T { return s[i] } }

func numericReader(arr arrow.Array) func(i int) *apd.Decimal {
	if c, ok := arr.(*array.Decimal128); ok {
		scale := decScale(arr)
		return func(i int) *apd.Decimal { return sqltypes.Dec128ToNumeric(c.Value(i), scale) }
	}
	s := stringsOf(arr)
	return func(i int) *apd.Decimal {
		d, err := sqltypes.ParseNumeric(s.get(i))
		if err != nil {
			panic("expr: a numeric column holds what isn't numeric: " + err.Error())
		}
		return d
	}
}

// sink collects results row by row, rows ascending.
type sink[T any] struct {
	put    func(i int, v T) error
	finish func(valid []byte) arrow.Array
}

func sliceSink[T any](t sqltypes.Type, n int) sink[T] {
	out := make([]T, n)
	return sink[T]{
		put:    func(i int, v T) error { out[i] = v; return nil },
		finish: func(valid []byte) arrow.Array { return fixed(t.Arrow(), out, valid) },
	}
}

// newSink makes a sink for n rows of type t.
func newSink[T any](t sqltypes.Type, n int) sink[T] {
	var zero T
	var s any
	switch any(zero).(type) {
	case bool:
		out := newBits(n)
		s = sink[bool]{
			put: func(i int, v bool) error {
				if v {
					bitutil.SetBit(out, i)
				}
				return nil
			},
			finish: func(valid []byte) arrow.Array { return boolArray(n, valid, out) },
		}
	case int16:
		s = sliceSink[int16](t, n)
	case int32:
		s = sliceSink[int32](t, n)
	case int64:
		s = sliceSink[int64](t, n)
	case float32:
		s = sliceSink[float32](t, n)
	case float64:
		s = sliceSink[float64](t, n)
	case string:
		s = stringSink(t, n, func(dst []byte, v string) []byte { return append(dst, v...) })
	case []byte:
		s = stringSink(t, n, func(dst, v []byte) []byte { return append(dst, v...) })
	case *apd.Decimal:
		s = numericSink(t, n)
	case interval:
		out := make([]arrow.MonthDayNanoInterval, n)
		s = sink[interval]{
			put:    func(i int, v interval) error { out[i] = sqltypes.ArrowInterval(v); return nil },
			finish: func(valid []byte) arrow.Array { return fixed(t.Arrow(), out, valid) },
		}
	default:
		panic(fmt.Sprintf("expr: no sink for %T", zero))
	}
	return s.(sink[T])
}

// blockTextBytesMax is what one String column of a block of rows may hold. Its
// offsets would allow 2 GiB; what functions return is not charged to the
// statement's memory while a block is being computed, so the limit is lower.
const blockTextBytesMax = 512 << 20

func errBlockText() *pgerror.Error {
	return pgerror.New(pgerror.OutOfMemory, "a block of rows has more than %d bytes of text in one column", blockTextBytesMax).
		WithHint("Select fewer or shorter values at once.")
}

func stringSink[T any](t sqltypes.Type, n int, add func([]byte, T) []byte) sink[T] {
	offs := make([]int32, n+1)
	var data []byte
	next := 0 // offs[:next+1] are filled
	return sink[T]{
		put: func(i int, v T) error {
			for ; next < i; next++ {
				offs[next+1] = int32(len(data))
			}
			data = add(data, v)
			if len(data) > blockTextBytesMax {
				return errBlockText()
			}
			next = i + 1
			offs[next] = int32(len(data))
			return nil
		},
		finish: func(valid []byte) arrow.Array {
			for ; next < n; next++ {
				offs[next+1] = int32(len(data))
			}
			return rawArray(t.Arrow(), n, valid, rawBytes(offs), data)
		},
	}
}

func numericSink(t sqltypes.Type, n int) sink[*apd.Decimal] {
	if !t.FixedScale() {
		return stringSink(t, n, func(dst []byte, v *apd.Decimal) []byte {
			return sqltypes.AppendNumeric(dst, v)
		})
	}
	out := make([]dec, n)
	return sink[*apd.Decimal]{
		put: func(i int, v *apd.Decimal) error {
			fit, err := sqltypes.FitNumeric(v, t)
			if err != nil {
				return err
			}
			out[i], _ = sqltypes.NumericToDec128(fit, t.Scale)
			return nil
		},
		finish: func(valid []byte) arrow.Array { return fixed(t.Arrow(), out, valid) },
	}
}

// lift runs f for the rows where no argument is null (strict) and collects
// what it returns; ok false = NULL. A call whose arguments are all constants
// is computed once, unless it is volatile.
func lift[R any](cc *call, args []vec, n int, sel []int32, f func(i int) (r R, ok bool, err error)) (vec, error) {
	cst := cc.fn.Volatility != Volatile
	for _, a := range args {
		if cc.fn.Strict && a.nullConst() {
			return nullVec(cc.typ), nil
		}
		cst = cst && a.cst
	}
	if cst {
		n, sel = 1, nil
	}
	return liftInto(cc, args, n, sel, cst, newSink[R](cc.typ, n), f)
}

// liftInto is lift with a sink of the caller's.
func liftInto[R any](cc *call, args []vec, n int, sel []int32, cst bool, out sink[R], f func(i int) (r R, ok bool, err error)) (vec, error) {
	var valid []byte
	if cc.fn.Strict {
		valid = andValidity(n, args...)
	}
	step := func(i int) error {
		if valid != nil && !bitutil.BitIsSet(valid, i) {
			return nil
		}
		r, ok, err := f(i)
		if err != nil {
			return err
		}
		if !ok {
			if valid == nil {
				valid = allOnes(n)
			}
			bitutil.ClearBit(valid, i)
			return nil
		}
		return out.put(i, r)
	}
	if sel == nil {
		for i := range n {
			if err := step(i); err != nil {
				return vec{}, err
			}
		}
	} else {
		for _, i := range sel {
			if err := step(int(i)); err != nil {
				return vec{}, err
			}
		}
	}
	return vec{arr: out.finish(valid), cst: cst}, nil
}

func fn0[R any](f func(*call) (R, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		return lift(cc, args, n, sel, func(int) (R, bool, error) {
			r, err := f(cc)
			return r, true, err
		})
	}
}

func fn1[A, R any](f func(*call, A) (R, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		a := reader[A](args[0])
		return lift(cc, args, n, sel, func(i int) (R, bool, error) {
			r, err := f(cc, a(i))
			return r, true, err
		})
	}
}

func fn2[A, B, R any](f func(*call, A, B) (R, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		a, b := reader[A](args[0]), reader[B](args[1])
		return lift(cc, args, n, sel, func(i int) (R, bool, error) {
			r, err := f(cc, a(i), b(i))
			return r, true, err
		})
	}
}

func fn3[A, B, C, R any](f func(*call, A, B, C) (R, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		a, b, c := reader[A](args[0]), reader[B](args[1]), reader[C](args[2])
		return lift(cc, args, n, sel, func(i int) (R, bool, error) {
			r, err := f(cc, a(i), b(i), c(i))
			return r, true, err
		})
	}
}

func fn4[A, B, C, D, R any](f func(*call, A, B, C, D) (R, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		a, b, c, d := reader[A](args[0]), reader[B](args[1]), reader[C](args[2]), reader[D](args[3])
		return lift(cc, args, n, sel, func(i int) (R, bool, error) {
			r, err := f(cc, a(i), b(i), c(i), d(i))
			return r, true, err
		})
	}
}

// Functions without errors, and ones that may return NULL.

func pure1[A, R any](f func(A) R) evalFunc {
	return fn1(func(_ *call, a A) (R, error) { return f(a), nil })
}

func pure2[A, B, R any](f func(A, B) R) evalFunc {
	return fn2(func(_ *call, a A, b B) (R, error) { return f(a, b), nil })
}

func pure3[A, B, C, R any](f func(A, B, C) R) evalFunc {
	return fn3(func(_ *call, a A, b B, c C) (R, error) { return f(a, b, c), nil })
}

func opt1[A, R any](f func(A) (R, bool, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		a := reader[A](args[0])
		return lift(cc, args, n, sel, func(i int) (R, bool, error) { return f(a(i)) })
	}
}

func opt2[A, B, R any](f func(A, B) (R, bool, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		a, b := reader[A](args[0]), reader[B](args[1])
		return lift(cc, args, n, sel, func(i int) (R, bool, error) { return f(a(i), b(i)) })
	}
}

// rowEval lifts a function over Datums, for any types.
func rowEval(f func(ctx *Ctx, args []sqltypes.Datum) (sqltypes.Datum, error)) evalFunc {
	return rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) { return f(cc.ctx, args) })
}

// rowCall lifts a function over Datums that looks at the call's types.
func rowCall(f func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		cst := cc.fn.Volatility != Volatile
		for _, a := range args {
			cst = cst && a.cst
		}
		if cst {
			n, sel = 1, nil
		}
		b := sqltypes.NewBuilder(cc.typ)
		b.Reserve(n)
		row := make([]sqltypes.Datum, len(args))
		next := 0
		for i := range n {
			if sel != nil {
				if next == len(sel) || int(sel[next]) != i {
					b.AppendNull()
					continue
				}
				next++
			}
			null := false
			for k, a := range args {
				row[k] = sqltypes.DatumAt(cc.args[k], a.arr, a.at(i))
				null = null || row[k].IsNull()
			}
			if null && cc.fn.Strict {
				b.AppendNull()
				continue
			}
			d, err := f(cc, row)
			if err != nil {
				return vec{}, err
			}
			if err := b.AppendDatum(d); err != nil {
				return vec{}, err
			}
		}
		return vec{arr: b.Finish(), cst: cst}, nil
	}
}
