package colvec

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/sqltypes"
)

// A column of a type may come in another encoding than the type's Arrow layout,
// chosen batch by batch:
//
//	Decimal          int64 array of the unscaled values (all of them fit)
//	String, Binary   dictionary of int32 codes over an array of the plain layout
//
// Whoever does not know of encodings never meets them: operators' Next, results
// and everything that leaves the process is plain, and Open makes plain what it
// is given. OpenEncoded is for loops that use them.
//
// A dictionary has no nulls and no value twice (the codes of equal values are
// equal), and every code of a valid row is in it. Batches that share a
// dictionary share the array: Vec.DictID is then the same.

// dictType is the Arrow type of dictionary columns of each plain layout.
var (
	dictString = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	dictBinary = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.Binary}
)

// IsPlain reports whether a column has its type's own layout.
func IsPlain(a arrow.Array, t sqltypes.Type) bool {
	switch a.(type) {
	case *array.Dictionary:
		return false
	case *array.Int64:
		return KindOf(t) != Decimal
	}
	return true
}

// NewDec64 makes an encoded column of a numeric with a scale from its unscaled
// values. valid is its bitmap of nulls rows, nil without any.
func NewDec64(values []int64, valid []byte, nulls int) arrow.Array {
	c := &columnBuffers{}
	if nulls > 0 {
		c.add(valid)
	} else {
		c.count++
	}
	c.add(arrow.Int64Traits.CastToBytes(values))
	return array.MakeFromData(array.NewData(arrow.PrimitiveTypes.Int64, len(values), c.refs[:2:2], nil, nulls, 0))
}

// NewDict makes an encoded column of byte strings over a dictionary, a plain
// String or Binary array.
func NewDict(dict arrow.Array, codes []int32, valid []byte, nulls int) arrow.Array {
	c := &columnBuffers{}
	if nulls > 0 {
		c.add(valid)
	} else {
		c.count++
	}
	c.add(arrow.Int32Traits.CastToBytes(codes))
	t := dictString
	if _, ok := dict.(*array.Binary); ok {
		t = dictBinary
	}
	data := array.NewData(t, len(codes), c.refs[:2:2], nil, nulls, 0)
	data.SetDictionary(dict.Data())
	return array.NewDictionaryData(data)
}

// OpenEncoded is Open for loops that know encodings: D64 is set instead of Dec,
// or Codes and Dict instead of Off and Data. IsNull serves all; the functions
// that read values (BytesAt, AppendFrom, …) serve plain columns only, but for
// those that say otherwise.
func OpenEncoded(a arrow.Array, t sqltypes.Type) Vec {
	if IsPlain(a, t) {
		return Open(a, t)
	}
	d := a.Data()
	v := Vec{Kind: KindOf(t), N: a.Len(), Nulls: a.NullN(), shift: d.Offset(), Encoded: true}
	if v.Nulls > 0 {
		v.valid = a.NullBitmapBytes()
	}
	if x, ok := a.(*array.Int64); ok {
		v.D64 = x.Int64Values()
		return v
	}
	v.wantBytes(a)
	if v.N > 0 {
		v.Codes = arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())[d.Offset() : d.Offset()+v.N]
	}
	v.dictArr = Dictionary(a)
	dict := Open(v.dictArr, t)
	v.Dict, v.DictID = &dict, d.Dictionary()
	return v
}

// OpenAllEncoded opens the columns of a batch, encodings and all.
func OpenAllEncoded(cols []arrow.Array, types []sqltypes.Type) []Vec {
	out := make([]Vec, len(cols))
	for i := range cols {
		out[i] = OpenEncoded(cols[i], types[i])
	}
	return out
}

// Plain gives a column its type's own layout.
func Plain(a arrow.Array, t sqltypes.Type) arrow.Array {
	if IsPlain(a, t) {
		return a
	}
	v := OpenEncoded(a, t)
	b := NewBuilder(t, v.N)
	b.appendEncoded(&v, nil)
	out, err := b.Finish()
	if err != nil {
		panic(err) // sqlfront/plan and copr/server make it the statement's error
	}
	return out
}

// PlainAll gives columns their types' own layouts. It returns cols itself when
// they have them.
func PlainAll(cols []arrow.Array, types []sqltypes.Type) []arrow.Array {
	out := cols
	for i, c := range cols {
		p := Plain(c, types[i])
		if p == c {
			continue
		}
		if &out[0] == &cols[0] {
			out = append([]arrow.Array(nil), cols...)
		}
		out[i] = p
	}
	return out
}

// appendEncoded appends the values of an encoded column at the positions sel,
// a negative one NULL; nil = all.
func (b *Builder) appendEncoded(v *Vec, sel []int32) {
	one := func(i int) {
		switch {
		case v.IsNull(i):
			b.AppendNull()
		case v.D64 != nil:
			b.AppendDecimal(decimal128.FromI64(v.D64[i]))
		default:
			b.AppendBytes(v.Dict.BytesAt(int(v.Codes[i])))
		}
	}
	if sel == nil {
		for i := range v.N {
			one(i)
		}
		return
	}
	for _, i := range sel {
		if i < 0 {
			b.AppendNull()
			continue
		}
		one(int(i))
	}
}

// takeEncoded gathers rows and keeps the encoding.
func takeEncoded(a arrow.Array, t sqltypes.Type, sel []int32) arrow.Array {
	v := OpenEncoded(a, t)
	valid, nulls := v.takeValid(sel)
	mayBeNull := nulls > 0
	if v.Dict == nil {
		return NewDec64(takeValues(v.D64, sel, mayBeNull), valid, nulls)
	}
	return NewDict(Dictionary(a), takeValues(v.Codes, sel, mayBeNull), valid, nulls)
}

func takeValues[T any](src []T, sel []int32, holes bool) []T {
	out := make([]T, len(sel))
	if !holes {
		for k, i := range sel {
			out[k] = src[i]
		}
		return out
	}
	for k, i := range sel {
		if i >= 0 {
			out[k] = src[i]
		}
	}
	return out
}

// ToDec64 is the unscaled value of a decimal as an int64; ok is false if it does
// not fit.
func ToDec64(d decimal128.Num) (v int64, ok bool) {
	lo, hi := d.LowBits(), d.HighBits()
	if hi == 0 && lo <= math.MaxInt64 || hi == -1 && lo > math.MaxInt64 {
		return int64(lo), true
	}
	return 0, false
}

// DecAt is the unscaled value i of a numeric column, encoded or not.
func (v *Vec) DecAt(i int) decimal128.Num {
	if v.D64 != nil {
		return decimal128.FromI64(v.D64[i])
	}
	return v.Dec[i]
}

// Dictionary is the dictionary of a dictionary column. Arrow's own function of
// the name makes the array when it is first asked and keeps it: a race where
// goroutines share a column, as they do blocks of the columnar cache.
func Dictionary(a arrow.Array) arrow.Array { return array.MakeFromData(a.Data().Dictionary()) }

// DictArray is the dictionary of an encoded column of byte strings.
func (v *Vec) DictArray() arrow.Array { return v.dictArr }

// Dec64Vec is an encoded numeric column over unscaled values that are not an
// array's; bit i+shift of valid belongs to value i, and valid nil is no nulls.
func Dec64Vec(values []int64, valid []byte, shift int) Vec {
	v := Vec{Kind: Decimal, N: len(values), valid: valid, shift: shift, Encoded: true, D64: values}
	if valid != nil {
		v.Nulls = v.N - bitutil.CountSetBits(valid, shift, v.N)
	}
	return v
}

// ScaledVec is Dec64Vec for a numeric without a scale, for sums: value i is
// D64[i] / 10^Scale, and PostgreSQL shows it with DScale[i] decimals, or Scale if
// DScale is nil.
func ScaledVec(values []int64, scale int32, dscale []uint8, valid []byte, shift int) Vec {
	v := Dec64Vec(values, valid, shift)
	v.Kind, v.Scale, v.DScale = NumericText, scale, dscale
	return v
}
