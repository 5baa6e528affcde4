package rowcodec

import (
	"bytes"

	"github.com/copradb/copra/internal/sqltypes"
)

// Fields are values in the form in which a row stores them, for who can make that
// form from something else than Datums.

// AppendField appends the stored form of a value, which is not NULL.
func AppendField(dst []byte, t sqltypes.Type, d sqltypes.Datum) ([]byte, error) {
	return appendDatum(dst, t, d)
}

// textDigitsMax is how many digits of a number AppendText reads: all such fit.
const textDigitsMax = 18

// AppendText appends the stored form of a value given as text, which must be
// valid UTF-8, if its type and spelling are plain. Otherwise, and if the value
// may be wrong, ok is false: sqltypes.ParseTextOpt and AppendField are to be
// asked, which give the same where both can.
func AppendText(dst []byte, t sqltypes.Type, text []byte) (out []byte, ok bool) {
	switch t.OID {
	case sqltypes.OIDInt2:
		v, ok := plainDecimal(text, 0)
		return appendInt(dst, v), ok && v == int64(int16(v))
	case sqltypes.OIDInt4:
		v, ok := plainDecimal(text, 0)
		return appendInt(dst, v), ok && v == int64(int32(v))
	case sqltypes.OIDInt8:
		v, ok := plainDecimal(text, 0)
		return appendInt(dst, v), ok
	case sqltypes.OIDNumeric:
		if t.Precision <= 0 || t.Precision > textDigitsMax || t.Scale < 0 || t.Scale > t.Precision {
			return dst, false
		}
		v, ok := plainDecimal(text, int(t.Scale))
		return appendInt(dst, v), ok && max(v, -v) < powersOfTen[t.Precision]
	case sqltypes.OIDDate:
		v, ok := sqltypes.ParseISODate(text)
		return appendInt(dst, v), ok
	case sqltypes.OIDText:
		return append(dst, text...), true
	case sqltypes.OIDVarchar:
		return append(dst, text...), fits(t, text)
	case sqltypes.OIDBpchar:
		return append(dst, bytes.TrimRight(text, " ")...), fits(t, text)
	}
	return dst, false
}

// fits: as many bytes are at most as many characters.
func fits(t sqltypes.Type, text []byte) bool {
	return t.Precision <= 0 || len(text) <= int(t.Precision)
}

var powersOfTen = func() (p [textDigitsMax + 1]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// plainDecimal reads digits with an optional sign in front and, if scale is
// positive, up to scale digits behind a point. The value is scaled.
func plainDecimal(text []byte, scale int) (v int64, ok bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	if len(text) == 0 || len(text)+scale > textDigitsMax || text[0] == '.' {
		return 0, false
	}
	after := -1 // digits behind the point
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			v = v*10 + int64(c-'0')
			if after >= 0 {
				after++
			}
		case c == '.' && after < 0 && scale > 0:
			after = 0
		default:
			return 0, false
		}
	}
	if after == 0 || after > scale {
		return 0, false
	}
	v *= powersOfTen[scale-max(after, 0)]
	if negative {
		v = -v
	}
	return v, true
}

// EncodeFields appends the row with these values, in their stored form and
// parallel to the encoder's columns, to dst; nil is NULL.
func (e *Encoder) EncodeFields(dst []byte, fields [][]byte) ([]byte, error) {
	e.body = e.body[:0]
	for i, c := range e.order {
		e.body = append(e.body, fields[c]...)
		e.ends[i] = len(e.body)
	}
	return e.assemble(dst, func(c int) bool { return fields[c] == nil })
}
