package sqltypes

import (
	"math"

	"github.com/cockroachdb/apd/v3"
)

// Kind is how a Datum holds its value.
type Kind uint8

// The kinds, each with the types it serves.
const (
	KindNull     Kind = iota
	KindBool          // bool
	KindInt           // int2, int4, int8, oid and reg*, date (days), time, timestamp, timestamptz (µs since 1970)
	KindFloat         // float4, float8
	KindDecimal       // numeric, any scale; NaN and infinities as apd has them
	KindString        // text-like types, arrays as PostgreSQL's text
	KindBytes         // bytea
	KindInterval      // interval
)

// IntervalValue is PostgreSQL's interval: its three fields do not mix.
type IntervalValue struct {
	Months, Days int32
	Micros       int64
}

// Datum is one value without its type. The zero Datum is NULL. A Datum is
// immutable: its decimal must not be changed.
type Datum struct {
	kind Kind
	n    int64 // int, bool, float bits, or interval micros
	s    string
	d    *apd.Decimal
	iv   [2]int32 // months, days
}

// Null is the null value.
var Null = Datum{}

// NewBool, NewInt, NewFloat, NewDecimal, NewString, NewBytes and NewInterval
// make a Datum of their kind. NewDecimal keeps d.
func NewBool(b bool) Datum {
	d := Datum{kind: KindBool}
	if b {
		d.n = 1
	}
	return d
}

// NewInt makes a KindInt Datum.
func NewInt(v int64) Datum { return Datum{kind: KindInt, n: v} }

// NewFloat makes a KindFloat Datum.
func NewFloat(v float64) Datum { return Datum{kind: KindFloat, n: int64(math.Float64bits(v))} }

// NewDecimal makes a KindDecimal Datum that keeps v.
func NewDecimal(v *apd.Decimal) Datum { return Datum{kind: KindDecimal, d: v} }

// NewString makes a KindString Datum.
func NewString(v string) Datum { return Datum{kind: KindString, s: v} }

// NewBytes makes a KindBytes Datum with a copy of v.
func NewBytes(v []byte) Datum { return Datum{kind: KindBytes, s: string(v)} }

// NewInterval makes a KindInterval Datum.
func NewInterval(v IntervalValue) Datum {
	return Datum{kind: KindInterval, n: v.Micros, iv: [2]int32{v.Months, v.Days}}
}

// Kind returns how the value is held.
func (d Datum) Kind() Kind { return d.kind }

// IsNull reports whether the value is NULL.
func (d Datum) IsNull() bool { return d.kind == KindNull }

// Bool, Int, Float, Decimal, Str, Bytes and Interval return the value of a
// Datum of that kind; of another kind the result is meaningless.
func (d Datum) Bool() bool { return d.n != 0 }

// Int returns a KindInt value.
func (d Datum) Int() int64 { return d.n }

// Float returns a KindFloat value.
func (d Datum) Float() float64 { return math.Float64frombits(uint64(d.n)) }

// Decimal returns a KindDecimal value; it must not be changed.
func (d Datum) Decimal() *apd.Decimal { return d.d }

// Str returns a KindString value.
func (d Datum) Str() string { return d.s }

// Bytes returns a copy of a KindBytes value.
func (d Datum) Bytes() []byte { return []byte(d.s) }

// Interval returns a KindInterval value.
func (d Datum) Interval() IntervalValue {
	return IntervalValue{Months: d.iv[0], Days: d.iv[1], Micros: d.n}
}
