package rowcodec

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	version     = 1
	flagWide    = 1
	headerBytes = 4

	// ColumnsMax is the most columns of a row, RowBytesMax the most bytes of
	// its value.
	ColumnsMax  = 1600
	RowBytesMax = 6 << 20
)

// Column is a column to be stored.
type Column struct {
	ID   uint32
	Type sqltypes.Type
}

// Encoder writes rows of these columns. It keeps scratch memory: not safe for
// concurrent use.
type Encoder struct {
	cols  []Column
	order []int // positions in cols by ascending id
	ends  []int
	body  []byte
	vecs  []colvec.Vec
}

// NewEncoder makes an encoder of columns in any order; ids must differ.
func NewEncoder(cols []Column) *Encoder {
	e := &Encoder{cols: cols, order: make([]int, len(cols)), ends: make([]int, len(cols))}
	for i := range e.order {
		e.order[i] = i
	}
	slices.SortFunc(e.order, func(a, b int) int { return int(int64(cols[a].ID) - int64(cols[b].ID)) })
	return e
}

// Encode appends the row with these values, which are parallel to the
// encoder's columns, to dst.
func (e *Encoder) Encode(dst []byte, vals []sqltypes.Datum) ([]byte, error) {
	e.body = e.body[:0]
	var err error
	for i, c := range e.order {
		if d := vals[c]; !d.IsNull() {
			if e.body, err = appendDatum(e.body, e.cols[c].Type, d); err != nil {
				return dst, err
			}
		}
		e.ends[i] = len(e.body)
	}
	return e.assemble(dst, func(c int) bool { return vals[c].IsNull() })
}

// Bind opens the columns of a batch; cols are parallel to the encoder's.
func (e *Encoder) Bind(cols []arrow.Array) {
	e.vecs = e.vecs[:0]
	for i, c := range e.cols {
		e.vecs = append(e.vecs, colvec.Open(cols[i], c.Type))
	}
}

// EncodeRow appends a row of the bound batch to dst.
func (e *Encoder) EncodeRow(dst []byte, row int) ([]byte, error) {
	e.body = e.body[:0]
	for i, c := range e.order {
		if v := &e.vecs[c]; !v.IsNull(row) {
			e.body = appendVec(e.body, v, row)
		}
		e.ends[i] = len(e.body)
	}
	return e.assemble(dst, func(c int) bool { return e.vecs[c].IsNull(row) })
}

func (e *Encoder) assemble(dst []byte, isNull func(col int) bool) ([]byte, error) {
	if len(e.cols) > ColumnsMax {
		return dst, pgerror.New(pgerror.TooManyColumns, "a row can have at most %d columns", ColumnsMax)
	}
	if len(e.body) > RowBytesMax {
		return dst, pgerror.New(pgerror.ProgramLimitExceeded,
			"row is too big: %d bytes, the maximum is %d", len(e.body), RowBytesMax)
	}
	wide := len(e.body) > math.MaxUint16
	if n := len(e.order); n > 0 && e.cols[e.order[n-1]].ID > math.MaxUint8 {
		wide = true
	}
	flags := byte(0)
	if wide {
		flags = flagWide
	}
	dst = append(dst, version, flags, byte(len(e.order)), byte(len(e.order)>>8))
	for _, c := range e.order {
		if wide {
			dst = binary.LittleEndian.AppendUint32(dst, e.cols[c].ID)
		} else {
			dst = append(dst, byte(e.cols[c].ID))
		}
	}
	var bits byte
	for i, c := range e.order {
		if isNull(c) {
			bits |= 1 << (i & 7)
		}
		if i&7 == 7 || i == len(e.order)-1 {
			dst = append(dst, bits)
			bits = 0
		}
	}
	for _, end := range e.ends {
		if wide {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(end))
		} else {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(end))
		}
	}
	return append(dst, e.body...), nil
}

func appendDatum(dst []byte, t sqltypes.Type, d sqltypes.Datum) ([]byte, error) {
	kind := colvec.KindOf(t)
	if d.Kind() != colvec.DatumKind(kind) {
		return dst, pgerror.New(pgerror.DatatypeMismatch,
			"a value of kind %d was passed for a column of type OID %d", d.Kind(), t.OID)
	}
	switch kind {
	case colvec.Bool:
		return appendBool(dst, d.Bool()), nil
	case colvec.Float32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(d.Float()))), nil
	case colvec.Float64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(d.Float())), nil
	case colvec.Decimal:
		v, err := colvec.DecimalOf(d.Decimal(), t.Scale)
		return appendDecimal(dst, v), err
	case colvec.NumericText:
		return append(dst, colvec.FormatNumeric(d.Decimal())...), nil
	case colvec.Binary:
		return append(dst, d.Bytes()...), nil
	case colvec.Interval:
		iv := d.Interval()
		return appendInterval(dst, iv.Months, iv.Days, iv.Micros), nil
	case colvec.String:
		return append(dst, d.Str()...), nil
	}
	return appendInt(dst, d.Int()), nil
}

func appendVec(dst []byte, v *colvec.Vec, i int) []byte {
	switch v.Kind {
	case colvec.Bool:
		return appendBool(dst, v.BoolAt(i))
	case colvec.Float32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(v.F32[i]))
	case colvec.Float64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.F64[i]))
	case colvec.Decimal:
		return appendDecimal(dst, v.Dec[i])
	case colvec.Interval:
		iv := v.Iv[i]
		return appendInterval(dst, iv.Months, iv.Days, iv.Nanoseconds/1000)
	case colvec.NumericText, colvec.String, colvec.Binary:
		return append(dst, v.BytesAt(i)...)
	}
	return appendInt(dst, v.IntAt(i))
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendInt(dst []byte, v int64) []byte {
	switch {
	case v == 0:
		return dst
	case v == int64(int8(v)):
		return append(dst, byte(v))
	case v == int64(int16(v)):
		return binary.LittleEndian.AppendUint16(dst, uint16(v))
	case v == int64(int32(v)):
		return binary.LittleEndian.AppendUint32(dst, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(v))
}

func appendDecimal(dst []byte, v decimal128.Num) []byte {
	lo := int64(v.LowBits())
	if v.HighBits() == lo>>63 {
		return appendInt(dst, lo)
	}
	dst = binary.LittleEndian.AppendUint64(dst, v.LowBits())
	return binary.LittleEndian.AppendUint64(dst, uint64(v.HighBits()))
}

func appendInterval(dst []byte, months, days int32, micros int64) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(months))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(days))
	return binary.LittleEndian.AppendUint64(dst, uint64(micros))
}
