package tablecodec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Decoder takes key columns apart into builders, without an allocation a row.
// Not safe for concurrent use.
type Decoder struct {
	cols    []Column
	scratch []byte
}

// NewDecoder makes a decoder of these key columns.
func NewDecoder(cols []Column) *Decoder { return &Decoder{cols: cols} }

// Decode appends each column of the key bytes b to its builder in out, which
// is parallel to the columns; a nil builder skips its column. It returns what
// follows the last column. After an error the builders may have unequal
// lengths.
func (d *Decoder) Decode(b []byte, out []*colvec.Builder) (rest []byte, err error) {
	for i := range d.cols {
		if b, err = d.column(b, &d.cols[i], out[i]); err != nil {
			return b, fmt.Errorf("key column %d: %w", i+1, err)
		}
	}
	return b, nil
}

// Skip returns what follows the columns in b, and whether one of them is NULL.
func (d *Decoder) Skip(b []byte) (rest []byte, hasNull bool, err error) {
	for i := range d.cols {
		c := &d.cols[i]
		if c.Nullable && len(b) > 0 && b[0]^mask(c) == flagNull {
			hasNull = true
		}
		if b, err = d.column(b, c, nil); err != nil {
			return b, hasNull, fmt.Errorf("key column %d: %w", i+1, err)
		}
	}
	return b, hasNull, nil
}

func mask(c *Column) byte {
	if c.Desc {
		return 0xFF
	}
	return 0
}

func (d *Decoder) column(b []byte, c *Column, out *colvec.Builder) ([]byte, error) {
	if c.Nullable {
		if len(b) == 0 {
			return b, errCut
		}
		flag := b[0] ^ mask(c)
		b = b[1:]
		switch flag {
		case flagNull:
			if out != nil {
				out.AppendNull()
			}
			return b, nil
		case flagValue:
		default:
			return b, fmt.Errorf("tablecodec: key column flag %#x does not exist", flag)
		}
	}
	kind := colvec.KindOf(c.Type)
	switch kind {
	case colvec.Bool:
		return decodeBool(b, c, out)
	case colvec.Float32, colvec.Float64:
		return decodeFloat(b, c, kind, out)
	case colvec.Decimal, colvec.Interval:
		return decodeInt128(b, c, kind, out)
	case colvec.NumericText:
		text, rest, err := decodeNumeric(d.scratch[:0], b, mask(c))
		d.scratch = text
		if err == nil && out != nil {
			out.AppendBytes(text)
		}
		return rest, err
	case colvec.Binary, colvec.String:
		return d.bytes(b, c, out)
	}
	return decodeInt(b, c, kind, out)
}

func word(b []byte, c *Column) (uint64, []byte, error) {
	if len(b) < 8 {
		return 0, b, errCut
	}
	u := binary.BigEndian.Uint64(b)
	if c.Desc {
		u = ^u
	}
	return u, b[8:], nil
}

func decodeInt(b []byte, c *Column, kind colvec.Kind, out *colvec.Builder) ([]byte, error) {
	u, rest, err := word(b, c)
	if err != nil {
		return b, err
	}
	v := int64(u ^ (1 << 63))
	switch kind {
	case colvec.Int16:
		if v != int64(int16(v)) {
			return b, fmt.Errorf("tablecodec: key value %d is no smallint", v)
		}
	case colvec.Int32, colvec.Date:
		if v != int64(int32(v)) {
			return b, fmt.Errorf("tablecodec: key value %d does not fit 32 bits", v)
		}
	}
	if out != nil {
		out.AppendInt(v)
	}
	return rest, nil
}

func decodeBool(b []byte, c *Column, out *colvec.Builder) ([]byte, error) {
	if len(b) == 0 {
		return b, errCut
	}
	v := b[0] ^ mask(c)
	if v > 1 {
		return b, fmt.Errorf("tablecodec: key value %d is no boolean", v)
	}
	if out != nil {
		out.AppendBool(v == 1)
	}
	return b[1:], nil
}

func decodeFloat(b []byte, c *Column, kind colvec.Kind, out *colvec.Builder) ([]byte, error) {
	u, rest, err := word(b, c)
	if err != nil {
		return b, err
	}
	if u&(1<<63) != 0 {
		u &^= 1 << 63
	} else {
		u = ^u
	}
	v := math.Float64frombits(u)
	if kind == colvec.Float32 && v == v && float64(float32(v)) != v {
		return b, fmt.Errorf("tablecodec: key value %g is no real", v)
	}
	if out != nil {
		out.AppendFloat(v)
	}
	return rest, nil
}

func decodeInt128(b []byte, c *Column, kind colvec.Kind, out *colvec.Builder) ([]byte, error) {
	hi, rest, err := word(b, c)
	if err != nil {
		return b, err
	}
	lo, rest, err := word(rest, c)
	if err != nil {
		return b, err
	}
	v := decimal128.New(int64(hi^(1<<63)), lo)
	if kind == colvec.Decimal {
		if out != nil {
			out.AppendDecimal(v)
		}
		return rest, nil
	}
	iv, ok := intervalOf(v)
	if !ok {
		return b, fmt.Errorf("tablecodec: a key's interval is out of range")
	}
	if out != nil {
		out.AppendInterval(iv)
	}
	return rest, nil
}

// intervalOf is an interval of the length that intervalKey gave, in whole
// days and microseconds.
func intervalOf(v decimal128.Num) (arrow.MonthDayNanoInterval, bool) {
	neg := v.Sign() < 0
	if neg {
		v = v.Negate()
	}
	hi, lo := uint64(v.HighBits()), v.LowBits()
	if hi >= microsPerDay {
		return arrow.MonthDayNanoInterval{}, false
	}
	days, micros := bits.Div64(hi, lo, microsPerDay)
	months := uint64(0)
	if days > math.MaxInt32 {
		months, days = days/30, days%30
	}
	if months > math.MaxInt32 {
		return arrow.MonthDayNanoInterval{}, false
	}
	out := arrow.MonthDayNanoInterval{Months: int32(months), Days: int32(days), Nanoseconds: int64(micros) * 1000}
	if neg {
		out.Months, out.Days, out.Nanoseconds = -out.Months, -out.Days, -out.Nanoseconds
	}
	return out, true
}

// bytes decodes groups of eight, of a descending column inverted.
func (d *Decoder) bytes(b []byte, c *Column, out *colvec.Builder) ([]byte, error) {
	src, m := b, mask(c)
	d.scratch = d.scratch[:0]
	var rest []byte
	if m == 0 {
		data, after, err := codec.DecodeBytes(d.scratch, b)
		if err != nil {
			return b, err
		}
		d.scratch, rest = data, after
	} else {
		n := invertedLen(src)
		if n < 0 {
			return b, errCut
		}
		for _, x := range src[:n] {
			d.scratch = append(d.scratch, ^x)
		}
		enc := d.scratch
		data, _, err := codec.DecodeBytes(enc[:0], enc)
		if err != nil {
			return b, err
		}
		d.scratch, rest = data, b[n:]
	}
	if out != nil {
		out.AppendBytes(d.scratch)
	}
	return rest, nil
}

// invertedLen is codec.EncodedPrefixLen for inverted bytes.
func invertedLen(b []byte) int {
	for i := 0; i+9 <= len(b); i += 9 {
		if b[i+8] != 0 {
			return i + 9
		}
	}
	return -1
}

// DecodeDatums decodes all columns of b as Datums, for places that are not
// hot. types are those of the decoder's columns.
func (d *Decoder) DecodeDatums(b []byte) (vals []sqltypes.Datum, rest []byte, err error) {
	types := make([]sqltypes.Type, len(d.cols))
	for i, c := range d.cols {
		types[i] = c.Type
	}
	bs := colvec.NewBuilders(types, 1)
	if rest, err = d.Decode(b, bs); err != nil {
		return nil, rest, err
	}
	cols, err := colvec.FinishAll(bs)
	if err != nil {
		return nil, rest, err
	}
	for i, v := range colvec.OpenAll(cols, types) {
		vals = append(vals, v.At(0, types[i]))
	}
	return vals, rest, nil
}
