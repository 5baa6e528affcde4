package sqltypes

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/copradb/copra/internal/pgerror"
)

const nameBytesMax = 63

// ParseText reads a value of type t from PostgreSQL's text, checking and
// applying t's modifiers as an assignment does (22001 for a text too long,
// char(n) stripped of trailing blanks, numeric rounded).
func ParseText(t Type, s string) (Datum, error) { return ParseTextOpt(t, s, nil) }

// ParseTextOpt is ParseText with what the session knows.
func ParseTextOpt(t Type, s string, o *ParseOptions) (Datum, error) {
	switch t.OID {
	case OIDText, OIDVarchar, OIDBpchar:
		if !utf8.ValidString(s) {
			return Null, invalidUTF8(s)
		}
		out, err := FitString(s, t, false)
		return NewString(out), err
	case OIDBool:
		b, ok := ParseBool(s)
		if !ok {
			return Null, badSyntax("boolean", s)
		}
		return NewBool(b), nil
	case OIDInt2:
		return parseInt(s, 16, "smallint")
	case OIDInt4:
		return parseInt(s, 32, "integer")
	case OIDInt8:
		return parseInt(s, 64, "bigint")
	case OIDFloat4:
		f, err := parseFloat(s, 32)
		return NewFloat(f), err
	case OIDFloat8:
		f, err := parseFloat(s, 64)
		return NewFloat(f), err
	case OIDNumeric:
		d, err := ParseNumeric(s)
		if err == nil {
			d, err = FitNumeric(d, t)
		}
		if err != nil {
			return Null, err
		}
		return NewDecimal(d), nil
	case OIDBytea:
		b, err := parseBytea(s)
		return NewBytes(b), err
	case OIDDate:
		v, err := ParseDate(s, o)
		return NewInt(v), err
	case OIDTime:
		v, err := ParseTime(s, t.Precision, o)
		return NewInt(v), err
	case OIDTimestamp, OIDTimestamptz:
		v, err := ParseTimestamp(s, t.OID == OIDTimestamptz, t.Precision, o)
		return NewInt(v), err
	case OIDInterval:
		iv, err := ParseInterval(s, t)
		return NewInterval(iv), err
	case OIDUUID:
		return parseUUID(s)
	case OIDVoid:
		return NewString(""), nil
	case OIDRecord, OIDAny, OIDAnyArray, OIDAnyElement:
		return Null, pgerror.Unsupported("input of type " + t.Name())
	}
	return parseOther(t, s)
}

func parseOther(t Type, s string) (Datum, error) {
	if t.IsOidLike() {
		return parseOid(t, s)
	}
	if !utf8.ValidString(s) {
		return Null, invalidUTF8(s)
	}
	if elem, ok := t.Elem(); ok && t.OID != OIDName {
		text, err := normalizeArray(t, elem, s)
		return NewString(text), err
	}
	if t.OID == OIDJSON && !validJSON(s) {
		return Null, badSyntax("json", s)
	}
	out, err := FitString(s, t, false)
	return NewString(out), err
}

func invalidUTF8(s string) error {
	i := 0
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		i += n
	}
	return pgerror.New(pgerror.CharacterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\": 0x%02x", s[i])
}

// ParseBool reads a boolean's text: any unambiguous prefix of true, false,
// yes, no, on, off, and 1 and 0.
func ParseBool(s string) (value, ok bool) {
	s = strings.ToLower(trimSpace(s))
	switch s {
	case "":
		return false, false
	case "1", "on":
		return true, true
	case "0", "of", "off":
		return false, true
	}
	if strings.HasPrefix("true", s) || strings.HasPrefix("yes", s) {
		return true, true
	}
	return false, strings.HasPrefix("false", s) || strings.HasPrefix("no", s)
}

func parseInt(s string, bits int, name string) (Datum, error) {
	t := trimSpace(s)
	v, err := strconv.ParseInt(t, 10, bits)
	if err != nil {
		if err.(*strconv.NumError).Err == strconv.ErrRange {
			return Null, pgerror.New(pgerror.NumericValueOutOfRange, "value %q is out of range for type %s", Quotable(s), name)
		}
		return Null, badSyntax(name, s)
	}
	return NewInt(v), nil
}

func parseOid(t Type, s string) (Datum, error) {
	x := trimSpace(s)
	if x == "-" && t.IsReg() {
		return NewInt(0), nil
	}
	v, err := strconv.ParseInt(x, 10, 64)
	name := t.PgName()
	switch {
	case err != nil && err.(*strconv.NumError).Err != strconv.ErrRange:
		if t.IsReg() {
			return Null, pgerror.Unsupported("input of " + name + " by name here")
		}
		return Null, badSyntax(name, s)
	case err != nil || v < math.MinInt32 || v > math.MaxUint32:
		return Null, pgerror.New(pgerror.NumericValueOutOfRange, "value %q is out of range for type %s", Quotable(s), name)
	}
	return NewInt(int64(uint32(v))), nil
}

// FitString applies the length of varchar(n) and char(n), the width of name
// and "char". With explicit (a cast) a text too long is cut, else it is 22001
// unless only blanks are too many. char(n) loses its trailing blanks.
func FitString(s string, t Type, explicit bool) (string, error) {
	switch t.OID {
	case OIDName:
		return truncateBytes(s, nameBytesMax), nil
	case OIDChar:
		return CharText(CharByte(s)), nil
	case OIDBpchar, OIDVarchar:
	default:
		return s, nil
	}
	if n := int(t.Precision); n > 0 && len(s) > n {
		if cut := runeCut(s, n); cut < len(s) {
			if !explicit && strings.Trim(s[cut:], " ") != "" {
				return "", pgerror.New(pgerror.StringDataRightTruncation, "value too long for type %s", t.Name())
			}
			s = s[:cut]
		}
	}
	if t.OID == OIDBpchar {
		s = strings.TrimRight(s, " ")
	}
	return s, nil
}

// CharText is the text of a "char": empty for 0, \ooo beyond ASCII.
func CharText(b byte) string {
	switch {
	case b == 0:
		return ""
	case b >= 0x80:
		return string([]byte{'\\', '0' + b>>6, '0' + b>>3&7, '0' + b&7})
	}
	return string([]byte{b})
}

// CharByte is the byte that a text means as a "char": its first one, or that
// of \ooo.
func CharByte(s string) byte {
	switch {
	case s == "":
		return 0
	case len(s) == 4 && s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && isOctal(s[2]) && isOctal(s[3]):
		return (s[1]-'0')<<6 | (s[2]-'0')<<3 | (s[3] - '0')
	}
	return s[0]
}

// runeCut is the byte length of s's first n characters.
func runeCut(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

func truncateBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func parseBytea(s string) ([]byte, error) {
	if strings.HasPrefix(s, `\x`) {
		return parseHex(s[2:])
	}
	if strings.IndexByte(s, '\\') < 0 {
		return []byte(s), nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		switch {
		case i+1 < len(s) && s[i+1] == '\\':
			out = append(out, '\\')
			i++
		case i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '3' && isOctal(s[i+2]) && isOctal(s[i+3]):
			out = append(out, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
		default:
			return nil, pgerror.New(pgerror.InvalidTextRepresentation, "invalid input syntax for type bytea")
		}
	}
	return out, nil
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }

// parseHex reads pairs of hexadecimal digits with white space between pairs.
func parseHex(s string) ([]byte, error) {
	out := make([]byte, 0, len(s)/2)
	for i := 0; i < len(s); i++ {
		if isSpace(s[i]) {
			continue
		}
		var b [1]byte
		if i+1 == len(s) {
			if !isHex(s[i]) {
				return nil, badHexDigit(s[i:])
			}
			return nil, pgerror.New(pgerror.InvalidParameterValue, "invalid hexadecimal data: odd number of digits")
		}
		for _, at := range [2]int{i, i + 1} {
			if !isHex(s[at]) {
				return nil, badHexDigit(s[at:])
			}
		}
		_, _ = hex.Decode(b[:], []byte(s[i:i+2]))
		out = append(out, b[0])
		i++
	}
	return out, nil
}

func badHexDigit(s string) error {
	_, n := utf8.DecodeRuneInString(s)
	return pgerror.New(pgerror.InvalidParameterValue, "invalid hexadecimal digit: %q", Quotable(s[:n]))
}

func isHex(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func parseUUID(s string) (Datum, error) {
	t := s
	if strings.HasPrefix(t, "{") && strings.HasSuffix(t, "}") {
		t = t[1 : len(t)-1]
	}
	digits := make([]byte, 0, 36)
	n := 0
	for i := 0; i < len(t); i++ {
		c := t[i]
		if c == '-' && n%4 == 0 && n > 0 && n < 32 && t[i-1] != '-' {
			continue
		}
		if !isHex(c) || n == 32 {
			return Null, badSyntax("uuid", s)
		}
		if n == 8 || n == 12 || n == 16 || n == 20 {
			digits = append(digits, '-')
		}
		digits = append(digits, c|0x20)
		n++
	}
	if n != 32 {
		return Null, badSyntax("uuid", s)
	}
	return NewString(string(digits)), nil
}

// TextOptions are the session's settings that output depends on.
type TextOptions struct {
	TimeZone *time.Location // nil = UTC
	// ExtraFloatDigits is the setting: above 0 (PostgreSQL's
	// default is 1) floats print the shortest digits that read back the same.
	// FloatDigitsSet says that it was given; otherwise it is 1.
	ExtraFloatDigits int
	FloatDigitsSet   bool
	ByteaEscape      bool // bytea_output = escape
	// RegName prints the names of the reg types; nil, or false returned, prints
	// regtype's own names and numbers for the others.
	RegName func(t Type, oid uint32) (string, bool)
}

func (o *TextOptions) zone() *time.Location {
	if o == nil {
		return nil
	}
	return o.TimeZone
}

func (o *TextOptions) floatDigits() int {
	if o == nil || !o.FloatDigitsSet {
		return 1
	}
	return o.ExtraFloatDigits
}

// AppendText appends d as PostgreSQL prints a value of type t, with default
// settings; d must not be NULL.
func AppendText(dst []byte, t Type, d Datum) []byte { return AppendTextOpt(dst, t, d, nil) }

// Format is AppendText as a string.
func Format(t Type, d Datum) string { return string(AppendText(nil, t, d)) }

// AppendTextOpt is AppendText with the session's settings.
func AppendTextOpt(dst []byte, t Type, d Datum, o *TextOptions) []byte {
	switch d.kind {
	case KindNull:
		return dst
	case KindBool:
		if d.n != 0 {
			return append(dst, 't')
		}
		return append(dst, 'f')
	case KindInt:
		return appendIntKind(dst, t, d.n, o)
	case KindFloat:
		if t.OID == OIDFloat4 {
			return appendFloat(dst, d.Float(), 32, o.floatDigits())
		}
		return appendFloat(dst, d.Float(), 64, o.floatDigits())
	case KindDecimal:
		return AppendNumeric(dst, d.d)
	case KindBytes:
		return appendBytea(dst, d.s, o)
	case KindInterval:
		return AppendInterval(dst, d.Interval())
	}
	return appendPadded(dst, t, d.s)
}

func appendIntKind(dst []byte, t Type, v int64, o *TextOptions) []byte {
	switch t.OID {
	case OIDDate:
		return AppendDate(dst, v)
	case OIDTime:
		return AppendTime(dst, v)
	case OIDTimestamp:
		return AppendTimestamp(dst, v)
	case OIDTimestamptz:
		return AppendTimestamptz(dst, v, o.zone())
	case OIDRegclass, OIDRegtype, OIDRegproc, OIDRegnamespace, OIDRegrole, OIDRegprocedure, OIDRegoper, OIDRegoperator:
		return appendReg(dst, t, uint32(v), o)
	}
	return strconv.AppendInt(dst, v, 10)
}

// appendReg prints an object by name.
func appendReg(dst []byte, t Type, oid uint32, o *TextOptions) []byte {
	if oid == 0 {
		return append(dst, '-')
	}
	if o != nil && o.RegName != nil {
		if name, ok := o.RegName(t, oid); ok {
			return append(dst, name...)
		}
	}
	if t.OID == OIDRegtype {
		if named := TypeOf(oid); named.Known() {
			if oid == OIDBpchar {
				return append(dst, "character"...)
			}
			return append(dst, named.Name()...)
		}
	}
	return strconv.AppendUint(dst, uint64(oid), 10)
}

// appendPadded appends a string, a char(n) with the blanks it is stored
// without.
func appendPadded(dst []byte, t Type, s string) []byte {
	dst = append(dst, s...)
	if t.OID != OIDBpchar || t.Precision == 0 {
		return dst
	}
	for n := utf8.RuneCountInString(s); n < int(t.Precision); n++ {
		dst = append(dst, ' ')
	}
	return dst
}

func appendBytea(dst []byte, s string, o *TextOptions) []byte {
	if o == nil || !o.ByteaEscape {
		const digits = "0123456789abcdef"
		dst = append(dst, '\\', 'x')
		for i := 0; i < len(s); i++ {
			dst = append(dst, digits[s[i]>>4], digits[s[i]&15])
		}
		return dst
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			dst = append(dst, '\\', '\\')
		case c < 0x20 || c > 0x7e:
			dst = append(dst, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
