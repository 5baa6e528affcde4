package tablecodec

import (
	"encoding/binary"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// Column is a column of a key. Nullable columns have a flag in front; Desc is
// only for those.
type Column struct {
	Type     sqltypes.Type
	Desc     bool
	Nullable bool
}

// HandleColumns are the key columns of a primary key of these types.
func HandleColumns(types []sqltypes.Type) []Column {
	out := make([]Column, len(types))
	for i, t := range types {
		out[i] = Column{Type: t}
	}
	return out
}

// IndexColumn is a column of an index key.
func IndexColumn(t sqltypes.Type, desc bool) Column {
	return Column{Type: t, Desc: desc, Nullable: true}
}

// The flag in front of an index column.
const (
	flagValue byte = 0x01
	flagNull  byte = 0x02
)

// Lossy reports whether equal values of this type may look different, so that
// a key does not give the value back as it was. Such a key column is stored in
// the row's value too, and an index does not cover it.
func Lossy(t sqltypes.Type) bool {
	switch colvec.KindOf(t) {
	case colvec.NumericText, colvec.Interval:
		return true
	}
	return t.OID == sqltypes.OIDBpchar
}

// AppendDatum appends one column of a key. d is NULL or of c's type; NULL in a
// column that is not nullable is an error.
func AppendDatum(dst []byte, c Column, d sqltypes.Datum) ([]byte, error) {
	if d.IsNull() {
		return appendNull(dst, c)
	}
	start := len(dst)
	if c.Nullable {
		dst = append(dst, flagValue)
	}
	kind := colvec.KindOf(c.Type)
	if d.Kind() != colvec.DatumKind(kind) {
		return dst, pgerror.New(pgerror.DatatypeMismatch,
			"a value of kind %d was passed for a key column of type OID %d", d.Kind(), c.Type.OID)
	}
	var err error
	switch kind {
	case colvec.Bool:
		dst = appendBool(dst, d.Bool())
	case colvec.Float32, colvec.Float64:
		dst = codec.EncodeFloat64(dst, d.Float())
	case colvec.Decimal:
		var v decimal128.Num
		if v, err = colvec.DecimalOf(d.Decimal(), c.Type.Scale); err == nil {
			dst = appendInt128(dst, v)
		}
	case colvec.NumericText:
		dst, err = appendNumeric(dst, []byte(colvec.FormatNumeric(d.Decimal())))
	case colvec.Binary:
		dst = codec.EncodeBytes(dst, d.Bytes())
	case colvec.String:
		dst = codec.EncodeBytes(dst, comparable([]byte(d.Str()), c.Type))
	case colvec.Interval:
		iv := d.Interval()
		dst = appendInt128(dst, intervalKey(iv.Months, iv.Days, iv.Micros))
	default:
		dst = codec.EncodeInt64(dst, d.Int())
	}
	if c.Desc {
		invert(dst[start:])
	}
	return dst, err
}

// AppendVec appends value i of v, a column of c's type.
func AppendVec(dst []byte, c Column, v *colvec.Vec, i int) ([]byte, error) {
	if v.IsNull(i) {
		return appendNull(dst, c)
	}
	start := len(dst)
	if c.Nullable {
		dst = append(dst, flagValue)
	}
	var err error
	switch v.Kind {
	case colvec.Bool:
		dst = appendBool(dst, v.BoolAt(i))
	case colvec.Float32, colvec.Float64:
		dst = codec.EncodeFloat64(dst, v.FloatAt(i))
	case colvec.Decimal:
		dst = appendInt128(dst, v.Dec[i])
	case colvec.NumericText:
		dst, err = appendNumeric(dst, v.BytesAt(i))
	case colvec.Binary:
		dst = codec.EncodeBytes(dst, v.BytesAt(i))
	case colvec.String:
		dst = codec.EncodeBytes(dst, comparable(v.BytesAt(i), c.Type))
	case colvec.Interval:
		iv := v.Iv[i]
		dst = appendInt128(dst, intervalKey(iv.Months, iv.Days, iv.Nanoseconds/1000))
	default:
		dst = codec.EncodeInt64(dst, v.IntAt(i))
	}
	if c.Desc {
		invert(dst[start:])
	}
	return dst, err
}

func appendNull(dst []byte, c Column) ([]byte, error) {
	if !c.Nullable {
		return dst, pgerror.New(pgerror.NotNullViolation, "a primary key column is null")
	}
	if c.Desc {
		return append(dst, ^flagNull), nil
	}
	return append(dst, flagNull), nil
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// appendInt128 appends a 128-bit integer with its sign bit flipped.
func appendInt128(dst []byte, v decimal128.Num) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.HighBits())^(1<<63))
	return binary.BigEndian.AppendUint64(dst, v.LowBits())
}

const microsPerDay = 24 * 60 * 60 * 1_000_000

// intervalKey is the length by which PostgreSQL compares intervals, in µs:
// months have 30 days, days 24 hours.
func intervalKey(months, days int32, micros int64) decimal128.Num {
	d := decimal128.FromI64(int64(months)*30 + int64(days))
	return d.Mul(decimal128.FromI64(microsPerDay)).Add(decimal128.FromI64(micros))
}

// comparable is the part of a string that its type compares.
func comparable(s []byte, t sqltypes.Type) []byte {
	if t.OID == sqltypes.OIDBpchar {
		for len(s) > 0 && s[len(s)-1] == ' ' {
			s = s[:len(s)-1]
		}
	}
	return s
}

// AppendHandle appends the handle of a row with these primary key values.
func AppendHandle(dst []byte, types []sqltypes.Type, vals []sqltypes.Datum) ([]byte, error) {
	var err error
	for i, t := range types {
		if dst, err = AppendDatum(dst, Column{Type: t}, vals[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// AppendIndexKey appends the whole key of a row's entry in an index, and
// reports whether the key ends with the handle (then no other row can have the
// same key).
func AppendIndexKey(dst []byte, tableID, indexID int64, unique bool, cols []Column, vals []sqltypes.Datum, handle []byte) (key []byte, withHandle bool, err error) {
	dst = AppendIndexPrefix(dst, tableID, indexID)
	withHandle = !unique
	for i, c := range cols {
		if vals[i].IsNull() {
			withHandle = true
		}
		if dst, err = AppendDatum(dst, c, vals[i]); err != nil {
			return dst, false, err
		}
	}
	if withHandle {
		dst = append(dst, handle...)
	}
	return dst, withHandle, nil
}

// IndexValue is the value of an index entry, as AppendIndexKey's withHandle
// has it: the handle, or a zero byte where the key ends with the handle.
func IndexValue(handle []byte, withHandle bool) []byte {
	if withHandle {
		return []byte{0}
	}
	return handle
}

// Encoder appends keys from the columns of batches. Bind it to a batch, then
// call Append for its rows.
type Encoder struct {
	cols []Column
	vecs []colvec.Vec
}

// NewEncoder makes an encoder of key columns: a handle's (HandleColumns) or an
// index's.
func NewEncoder(cols []Column) *Encoder { return &Encoder{cols: cols} }

// Bind opens the columns of a batch; cols are parallel to the encoder's.
func (e *Encoder) Bind(cols []arrow.Array) {
	e.vecs = e.vecs[:0]
	for i, c := range e.cols {
		e.vecs = append(e.vecs, colvec.Open(cols[i], c.Type))
	}
}

// Append appends the key columns of a row of the bound batch and reports
// whether one of them is NULL.
func (e *Encoder) Append(dst []byte, row int) (out []byte, hasNull bool, err error) {
	for i := range e.cols {
		v := &e.vecs[i]
		hasNull = hasNull || v.IsNull(row)
		if dst, err = AppendVec(dst, e.cols[i], v, row); err != nil {
			return dst, hasNull, err
		}
	}
	return dst, hasNull, nil
}
