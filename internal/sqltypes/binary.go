package sqltypes

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
)

func badBinary(t Type) error {
	return pgerror.New(pgerror.InvalidBinaryRepresentation, "incorrect binary data format for type %s", t.Name())
}

// ParseBinary reads a value of type t in the binary format of PostgreSQL's
// wire, applying t's modifiers.
func ParseBinary(t Type, b []byte) (Datum, error) {
	if n := fixedBinarySize(t); n > 0 && len(b) != n {
		return Null, badBinary(t)
	}
	switch t.OID {
	case OIDBool:
		return NewBool(b[0] != 0), nil
	case OIDInt2:
		return NewInt(int64(int16(binary.BigEndian.Uint16(b)))), nil
	case OIDInt4:
		return NewInt(int64(int32(binary.BigEndian.Uint32(b)))), nil
	case OIDInt8:
		return NewInt(int64(binary.BigEndian.Uint64(b))), nil
	case OIDFloat4:
		return NewFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(b)))), nil
	case OIDFloat8:
		return NewFloat(math.Float64frombits(binary.BigEndian.Uint64(b))), nil
	case OIDDate:
		return dateFromBinary(int64(int32(binary.BigEndian.Uint32(b))))
	case OIDTime:
		v := int64(binary.BigEndian.Uint64(b))
		if v < 0 || v > MicrosPerDay {
			return Null, pgerror.New(pgerror.DatetimeFieldOverflow, "time out of range")
		}
		return NewInt(RoundMicros(v, t.Precision)), nil
	case OIDTimestamp, OIDTimestamptz:
		return stampFromBinary(t, int64(binary.BigEndian.Uint64(b)))
	case OIDInterval:
		iv := IntervalValue{
			Micros: int64(binary.BigEndian.Uint64(b)),
			Days:   int32(binary.BigEndian.Uint32(b[8:])),
			Months: int32(binary.BigEndian.Uint32(b[12:])),
		}
		return NewInterval(FitInterval(iv, t)), nil
	case OIDNumeric:
		return numericFromBinary(t, b)
	case OIDBytea:
		return NewBytes(b), nil
	case OIDUUID:
		var buf [36]byte
		return NewString(string(appendUUID(buf[:0], b))), nil
	}
	if t.IsOidLike() {
		return NewInt(int64(binary.BigEndian.Uint32(b))), nil
	}
	if elem, ok := t.Elem(); ok && t.OID != OIDName {
		return arrayFromBinary(t, elem, b)
	}
	s := string(b)
	if t.OID == OIDChar {
		if len(b) != 1 {
			return Null, badBinary(t)
		}
		return NewString(CharText(b[0])), nil
	}
	if !utf8.ValidString(s) {
		return Null, invalidUTF8(s)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return Null, pgerror.New(pgerror.CharacterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\": 0x00")
	}
	return parseOther(t, s)
}

func fixedBinarySize(t Type) int {
	switch t.OID {
	case OIDName, OIDTid, OIDACLItem, OIDChar:
		return 0
	case OIDVoid, OIDAny, OIDAnyElement:
		return 0
	}
	return int(t.Size())
}

func dateFromBinary(v int64) (Datum, error) {
	switch v {
	case DateInfinity, DateMinusInfinity:
		return NewInt(v), nil
	}
	if v += PostgresEpochDays; !DateInRange(v) {
		return Null, pgerror.New(pgerror.DatetimeFieldOverflow, "date out of range")
	}
	return NewInt(v), nil
}

func stampFromBinary(t Type, v int64) (Datum, error) {
	switch {
	case v == TimestampInfinity || v == TimestampMinusInf:
		return NewInt(v), nil
	case v > math.MaxInt64-PostgresEpochMicros || !TimestampInRange(v+PostgresEpochMicros):
		return Null, pgerror.New(pgerror.DatetimeFieldOverflow, "timestamp out of range")
	}
	return NewInt(RoundMicros(v+PostgresEpochMicros, t.Precision)), nil
}

func appendUUID(dst, b []byte) []byte {
	for i, n := range [5]int{4, 2, 2, 2, 6} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, b[:n])
		b = b[n:]
	}
	return dst
}

// Signs of a numeric on the wire.
const (
	wireNegative = 0x4000
	wireNaN      = 0xC000
	wireInf      = 0xD000
	wireMinusInf = 0xF000
)

func numericFromBinary(t Type, b []byte) (Datum, error) {
	if len(b) < 8 {
		return Null, badBinary(t)
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	weight := int32(int16(binary.BigEndian.Uint16(b[2:])))
	sign := binary.BigEndian.Uint16(b[4:])
	scale := int32(binary.BigEndian.Uint16(b[6:]))
	if n < 0 || len(b) != 8+2*n || scale > numericScaleMax {
		return Null, badBinary(t)
	}
	var d *apd.Decimal
	switch sign {
	case wireNaN:
		d = nan()
	case wireInf, wireMinusInf:
		d = inf(sign == wireMinusInf)
	case 0, wireNegative:
		d = &apd.Decimal{Negative: sign == wireNegative}
		for i := range n {
			digit := binary.BigEndian.Uint16(b[8+2*i:])
			if digit > 9999 {
				return Null, badBinary(t)
			}
			d.Coeff.Mul(&d.Coeff, apd.NewBigInt(10000))
			d.Coeff.Add(&d.Coeff, apd.NewBigInt(int64(digit)))
		}
		d.Exponent = (weight - int32(n) + 1) * decDigits
		d = rescale(d, scale, false)
		d = noNegativeZero(d)
	default:
		return Null, badBinary(t)
	}
	d, err := FitNumeric(d, t)
	if err != nil {
		return Null, err
	}
	return NewDecimal(d), nil
}

// appendNumericWire appends a numeric whose decimal digits are given.
func appendNumericWire(dst, digits []byte, negative bool, scale int32) []byte {
	for len(digits) > 0 && digits[0] == '0' {
		digits = digits[1:]
	}
	var groups []byte
	var buf [256]byte
	groups = buf[:0]
	intDigits := int32(len(digits)) - scale
	weight := floorDiv(int64(intDigits)-1, decDigits)
	lead := int(int64(intDigits) - weight*decDigits) // digits in the first group
	at := lead - decDigits
	for at < len(digits) {
		v := uint16(0)
		for i := range decDigits {
			v *= 10
			if j := at + i; j >= 0 && j < len(digits) {
				v += uint16(digits[j] - '0')
			}
		}
		groups = binary.BigEndian.AppendUint16(groups, v)
		at += decDigits
	}
	for len(groups) > 0 && groups[len(groups)-1] == 0 && groups[len(groups)-2] == 0 {
		groups = groups[:len(groups)-2]
	}
	if len(groups) == 0 {
		weight, negative = 0, false
	}
	sign := uint16(0)
	if negative {
		sign = wireNegative
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(groups)/2))
	dst = binary.BigEndian.AppendUint16(dst, uint16(int16(weight)))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	dst = binary.BigEndian.AppendUint16(dst, uint16(scale))
	return append(dst, groups...)
}

func appendNumericBinary(dst []byte, d *apd.Decimal) []byte {
	special, scale := uint16(0), byte(0x20) // the scale PostgreSQL sends with infinities
	switch {
	case d.Form == apd.Infinite && d.Negative:
		special = wireMinusInf
	case d.Form == apd.Infinite:
		special = wireInf
	case d.Form != apd.Finite:
		special, scale = wireNaN, 0
	default:
		var buf [128]byte
		digits := d.Coeff.Append(buf[:0], 10)
		for range d.Exponent {
			digits = append(digits, '0')
		}
		return appendNumericWire(dst, digits, d.Negative, NumericScale(d))
	}
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, special)
	return append(dst, 0, scale)
}

// AppendBinary appends d in the wire's binary format of type t; d must not be
// NULL.
func AppendBinary(dst []byte, t Type, d Datum) []byte {
	switch d.kind {
	case KindNull:
		return dst
	case KindBool:
		return append(dst, byte(d.n))
	case KindInt:
		return appendIntBinary(dst, t, d.n)
	case KindFloat:
		if t.OID == OIDFloat4 {
			return appendFloat32Binary(dst, float32(d.Float()))
		}
		return appendFloat64Binary(dst, d.Float())
	case KindDecimal:
		return appendNumericBinary(dst, d.d)
	case KindInterval:
		return appendIntervalBinary(dst, d.Interval())
	case KindBytes:
		return append(dst, d.s...)
	}
	return appendStringBinary(dst, t, d.s)
}

// Every NaN is sent as C's NAN.
const (
	nan32Bits = 0x7fc00000
	nan64Bits = 0x7ff8000000000000
)

func appendFloat32Binary(dst []byte, f float32) []byte {
	if f != f {
		return binary.BigEndian.AppendUint32(dst, nan32Bits)
	}
	return binary.BigEndian.AppendUint32(dst, math.Float32bits(f))
}

func appendFloat64Binary(dst []byte, f float64) []byte {
	if f != f {
		return binary.BigEndian.AppendUint64(dst, nan64Bits)
	}
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(f))
}

func appendIntervalBinary(dst []byte, iv IntervalValue) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(iv.Micros))
	dst = binary.BigEndian.AppendUint32(dst, uint32(iv.Days))
	return binary.BigEndian.AppendUint32(dst, uint32(iv.Months))
}

func appendIntBinary(dst []byte, t Type, v int64) []byte {
	switch t.OID {
	case OIDInt2:
		return binary.BigEndian.AppendUint16(dst, uint16(v))
	case OIDInt8, OIDTime:
		return binary.BigEndian.AppendUint64(dst, uint64(v))
	case OIDTimestamp, OIDTimestamptz:
		if v != TimestampInfinity && v != TimestampMinusInf {
			v -= PostgresEpochMicros
		}
		return binary.BigEndian.AppendUint64(dst, uint64(v))
	case OIDDate:
		if v != DateInfinity && v != DateMinusInfinity {
			v -= PostgresEpochDays
		}
	}
	return binary.BigEndian.AppendUint32(dst, uint32(v))
}

func appendStringBinary(dst []byte, t Type, s string) []byte {
	if t.OID == OIDUUID {
		for i := 0; i+1 < len(s); i++ {
			if s[i] == '-' {
				continue
			}
			dst = append(dst, unhex(s[i])<<4|unhex(s[i+1]))
			i++
		}
		return dst
	}
	if t.OID == OIDChar {
		return append(dst, CharByte(s))
	}
	if elem, ok := t.Elem(); ok && t.OID != OIDName {
		return appendArrayBinary(dst, t, elem, s)
	}
	return appendPadded(dst, t, s)
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// appendArrayBinary writes one dimension: PostgreSQL's array_send.
func appendArrayBinary(dst []byte, t, elem Type, s string) []byte {
	elems, err := SplitArray(t, s)
	if err != nil {
		panic("sqltypes: an array value isn't an array's text: " + err.Error())
	}
	lower := uint32(1)
	if t.OID == OIDInt2Vector || t.OID == OIDOidVector {
		lower = 0
	}
	hasNull := uint32(0)
	for _, e := range elems {
		if e.Null {
			hasNull = 1
		}
	}
	dims := uint32(1)
	if len(elems) == 0 {
		dims = 0
	}
	dst = binary.BigEndian.AppendUint32(dst, dims)
	dst = binary.BigEndian.AppendUint32(dst, hasNull)
	dst = binary.BigEndian.AppendUint32(dst, elem.OID)
	if dims == 0 {
		return dst
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(elems)))
	dst = binary.BigEndian.AppendUint32(dst, lower)
	for _, e := range elems {
		if e.Null {
			dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32)
			continue
		}
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		if d, err := ParseText(elem, e.Text); err == nil {
			dst = AppendBinary(dst, elem, d)
		} else { // a name of a reg type, which only a session can read
			dst = append(dst, e.Text...)
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst
}

func arrayFromBinary(t, elem Type, b []byte) (Datum, error) {
	if len(b) < 12 {
		return Null, badBinary(t)
	}
	dims, oid := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[8:])
	if oid != elem.OID {
		return Null, pgerror.New(pgerror.DatatypeMismatch, "binary data has array element type %d (%s) instead of expected %d (%s)",
			oid, TypeOf(oid).Name(), elem.OID, elem.Name())
	}
	if dims == 0 && len(b) == 12 {
		return NewString(JoinArray(t, nil)), nil
	}
	if dims != 1 {
		return Null, pgerror.Unsupported("array of several dimensions")
	}
	if len(b) < 20 {
		return Null, badBinary(t)
	}
	n := binary.BigEndian.Uint32(b[12:])
	b = b[20:]
	if uint64(n)*4 > uint64(len(b)) {
		return Null, badBinary(t)
	}
	elems := make([]ArrayElement, n)
	for i := range elems {
		if len(b) < 4 {
			return Null, badBinary(t)
		}
		size := binary.BigEndian.Uint32(b)
		b = b[4:]
		if size == math.MaxUint32 {
			elems[i].Null = true
			continue
		}
		if uint64(size) > uint64(len(b)) {
			return Null, badBinary(t)
		}
		d, err := ParseBinary(elem, b[:size])
		if err != nil {
			return Null, err
		}
		elems[i].Text = Format(elem, d)
		b = b[size:]
	}
	if len(b) != 0 {
		return Null, badBinary(t)
	}
	return NewString(JoinArray(t, elems)), nil
}
