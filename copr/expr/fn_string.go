package expr

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

func init() {
	def("||(text,text) text", concatText)
	def("textcat(text,text) text", concatText)
	def("||(bytea,bytea) bytea", pure2(func(a, b []byte) []byte { return append(append([]byte{}, a...), b...) }))
	def("||(text,any) text", concatAny, stable)
	def("||(any,text) text", concatAny, stable)
	lengths()
	def("lower(text) text", pure1(lowerText))
	def("upper(text) text", pure1(strings.ToUpper))
	def("initcap(text) text", pure1(initcap))
	substrings()
	padding()
	def("replace(text,text,text) text", pure3(func(s, from, to string) string {
		if from == "" {
			return s
		}
		return strings.ReplaceAll(s, from, to)
	}))
	def("translate(text,text,text) text", pure3(translate))
	def("reverse(text) text", pure1(reverse))
	def("repeat(text,int4) text", fn2(func(_ *call, s string, n int32) (string, error) {
		if n <= 0 {
			return "", nil
		}
		if int64(len(s))*int64(n) > textBytesMax {
			return "", errTooLong
		}
		return strings.Repeat(s, int(n)), nil
	}))
	def("split_part(text,text,int4) text", fn3(func(_ *call, s, sep string, n int32) (string, error) { return splitPart(s, sep, n) }))
	def("starts_with(text,text) bool", pure2(strings.HasPrefix))
	def("^@(text,text) bool", pure2(strings.HasPrefix))
	def("chr(int4) text", fn1(func(_ *call, n int32) (string, error) { return chr(n) }))
	def("ascii(text) int4", pure1(func(s string) int32 {
		if s == "" {
			return 0
		}
		r, _ := utf8.DecodeRuneInString(s)
		return r
	}))
	def("to_hex(int4) text", pure1(func(n int32) string { return strconv.FormatUint(uint64(uint32(n)), 16) }))
	def("to_hex(int8) text", pure1(func(n int64) string { return strconv.FormatUint(uint64(n), 16) }))
	hashes()
	quoting()
	encodings()
	def("concat(variadic any) text", concatAll, nonStrict, stable)
	def("concat_ws(text,variadic any) text", concatWS, nonStrict, stable)
	def("format(text) text", formatEval, nonStrict, stable)
	def("format(text,variadic any) text", formatEval, nonStrict, stable)
}

// textBytesMax is PostgreSQL's largest value.
const textBytesMax = 1<<30 - 5

var errTooLong = pgerror.New(pgerror.ProgramLimitExceeded, "requested length too large")

// outText is a value as its output function prints it, in the session's zone.
func outText(cc *call, t sqltypes.Type, d sqltypes.Datum) string {
	if t.IsReg() {
		if s, err := regText(cc, t, uint32(d.Int())); err == nil {
			return s
		}
	}
	return string(sqltypes.AppendTextOpt(nil, t, d, &sqltypes.TextOptions{TimeZone: cc.ctx.zone()}))
}

// concatText joins without a string in between.
func concatText(cc *call, args []vec, n int, sel []int32) (vec, error) {
	n, sel, cst := outLen(n, sel, args...)
	a, b := reader[string](args[0]), reader[string](args[1])
	out := stringSink(cc.typ, n, func(dst []byte, p [2]string) []byte { return append(append(dst, p[0]...), p[1]...) })
	return liftInto(cc, args, n, sel, cst, out, func(i int) ([2]string, bool, error) {
		return [2]string{a(i), b(i)}, true, nil
	})
}

var concatAny = rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) {
	return sqltypes.NewString(castText(cc, 0, args[0]) + castText(cc, 1, args[1])), nil
})

// castText is a value as a cast to text gives it.
func castText(cc *call, i int, d sqltypes.Datum) string {
	switch cc.args[i].OID {
	case sqltypes.OIDBool:
		return strconv.FormatBool(d.Bool())
	case sqltypes.OIDBpchar:
		return d.Str()
	}
	return outText(cc, cc.args[i], d)
}

var concatAll = rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) {
	var b strings.Builder
	for i, a := range args {
		if !a.IsNull() {
			b.WriteString(outText(cc, cc.args[i], a))
		}
	}
	return sqltypes.NewString(b.String()), nil
})

var concatWS = rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) {
	if args[0].IsNull() {
		return sqltypes.Null, nil
	}
	var parts []string
	for i, a := range args[1:] {
		if !a.IsNull() {
			parts = append(parts, outText(cc, cc.args[i+1], a))
		}
	}
	return sqltypes.NewString(strings.Join(parts, args[0].Str())), nil
})

func lengths() {
	runes := pure1(func(s string) int32 { return int32(utf8.RuneCountInString(s)) })
	for _, n := range []string{"length", "char_length", "character_length"} {
		def(n+"(text) int4", runes)
		def(n+"(bpchar) int4", runes)
	}
	def("length(bytea) int4", pure1(func(b []byte) int32 { return int32(len(b)) }))
	def("octet_length(text) int4", pure1(func(s string) int32 { return int32(len(s)) }))
	def("octet_length(bytea) int4", pure1(func(b []byte) int32 { return int32(len(b)) }))
	def("octet_length(bpchar) int4", fn1(func(cc *call, s string) (int32, error) {
		return int32(len(s)) + max(cc.args[0].Precision-int32(utf8.RuneCountInString(s)), 0), nil
	}))
	def("bit_length(text) int4", pure1(func(s string) int32 { return int32(8 * len(s)) }))
	def("bit_length(bytea) int4", pure1(func(b []byte) int32 { return int32(8 * len(b)) }))
}

func initcap(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		word := unicode.IsLetter(r) || unicode.IsDigit(r)
		first := word && start
		start = !word
		switch {
		case first:
			return unicode.ToUpper(r)
		case word:
			return unicode.ToLower(r)
		}
		return r
	}, s)
}

var errNegativeSubstring = pgerror.New(pgerror.SubstringError, "negative substring length not allowed")

// substr is characters [from, from+n) of s, counted from 1; n < 0 must have
// been refused.
func substr(s string, from, n int64) string {
	end := from + n
	if from < 1 {
		from = 1
	}
	if end <= from {
		return ""
	}
	skip, take := from-1, end-from
	if isASCII(s) {
		if skip >= int64(len(s)) {
			return ""
		}
		return s[skip:min(int64(len(s)), skip+take)]
	}
	start := runeOffset(s, skip)
	return s[start : start+runeOffset(s[start:], take)]
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// runeOffset is the bytes of the first n characters of s.
func runeOffset(s string, n int64) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

const farAway = 1 << 40

func substrings() {
	for _, name := range []string{"substr", "substring"} {
		def(name+"(text,int4,int4) text", fn3(func(_ *call, s string, from, n int32) (string, error) {
			if n < 0 {
				return "", errNegativeSubstring
			}
			return substr(s, int64(from), int64(n)), nil
		}))
		def(name+"(text,int4) text", pure2(func(s string, from int32) string { return substr(s, int64(from), farAway) }))
		def(name+"(bytea,int4,int4) bytea", fn3(func(_ *call, s []byte, from, n int32) ([]byte, error) {
			if n < 0 {
				return nil, errNegativeSubstring
			}
			return subBytes(s, int64(from), int64(n)), nil
		}))
		def(name+"(bytea,int4) bytea", pure2(func(s []byte, from int32) []byte { return subBytes(s, int64(from), farAway) }))
	}
	def("left(text,int4) text", pure2(func(s string, n int32) string {
		if n < 0 {
			n = max(int32(utf8.RuneCountInString(s))+n, 0)
		}
		return s[:runeOffset(s, int64(n))]
	}))
	def("right(text,int4) text", pure2(func(s string, n int32) string {
		count := int32(utf8.RuneCountInString(s))
		if n < 0 {
			return s[runeOffset(s, -int64(n)):]
		}
		return s[runeOffset(s, int64(max(count-n, 0))):]
	}))
	position := func(s, sub string) int32 {
		i := strings.Index(s, sub)
		if i < 0 {
			return 0
		}
		return int32(utf8.RuneCountInString(s[:i])) + 1
	}
	def("strpos(text,text) int4", pure2(position))
	def("position(text,text) int4", pure2(position))
	def("position(bytea,bytea) int4", pure2(func(s, sub []byte) int32 { return int32(strings.Index(string(s), string(sub))) + 1 }))
	overlay := func(s, with string, from, n int32) (string, error) {
		if from <= 0 {
			return "", errNegativeSubstring
		}
		return substr(s, 1, int64(from)-1) + with + substr(s, int64(from)+int64(n), farAway), nil
	}
	def("overlay(text,text,int4,int4) text", fn4(func(_ *call, s, w string, from, n int32) (string, error) { return overlay(s, w, from, n) }))
	def("overlay(text,text,int4) text", fn3(func(_ *call, s, w string, from int32) (string, error) {
		return overlay(s, w, from, int32(utf8.RuneCountInString(w)))
	}))
	def("get_byte(bytea,int4) int4", fn2(func(_ *call, b []byte, i int32) (int32, error) {
		if i < 0 || int(i) >= len(b) {
			return 0, pgerror.New("2202E", "index %d out of valid range, 0..%d", i, len(b)-1)
		}
		return int32(b[i]), nil
	}))
}

func subBytes(s []byte, from, n int64) []byte {
	end := min(from+n, int64(len(s))+1)
	from = max(from, 1)
	if end <= from {
		return nil
	}
	return s[from-1 : end-1]
}

func padding() {
	pad := func(s string, n int32, fill string, left bool) (string, error) {
		if n > textBytesMax/4 {
			return "", errTooLong
		}
		count := int32(utf8.RuneCountInString(s))
		if n <= 0 {
			return "", nil
		}
		if count >= n || fill == "" {
			return s[:runeOffset(s, int64(n))], nil
		}
		var b strings.Builder
		if !left {
			b.WriteString(s)
		}
		runes := []rune(fill)
		for i := range n - count {
			b.WriteRune(runes[int(i)%len(runes)])
		}
		if left {
			b.WriteString(s)
		}
		return b.String(), nil
	}
	for name, left := range map[string]bool{"lpad": true, "rpad": false} {
		def(name+"(text,int4) text", fn2(func(_ *call, s string, n int32) (string, error) { return pad(s, n, " ", left) }))
		def(name+"(text,int4,text) text", fn3(func(_ *call, s string, n int32, f string) (string, error) { return pad(s, n, f, left) }))
	}
	both := func(s, set string) string { return strings.Trim(s, set) }
	for name, f := range map[string]func(string, string) string{"btrim": both, "ltrim": strings.TrimLeft, "rtrim": strings.TrimRight} {
		def(name+"(text) text", pure1(func(s string) string { return f(s, " ") }))
		def(name+"(text,text) text", pure2(f))
	}
	def("btrim(bytea,bytea) bytea", pure2(func(s, set []byte) []byte {
		for len(s) > 0 && strings.IndexByte(string(set), s[0]) >= 0 {
			s = s[1:]
		}
		for len(s) > 0 && strings.IndexByte(string(set), s[len(s)-1]) >= 0 {
			s = s[:len(s)-1]
		}
		return s
	}))
}

func translate(s, from, to string) string {
	f, t := []rune(from), []rune(to)
	return strings.Map(func(r rune) rune {
		for i, x := range f {
			if x == r {
				if i < len(t) {
					return t[i]
				}
				return -1
			}
		}
		return r
	}, s)
}

func reverse(s string) string {
	out := make([]byte, len(s))
	at := len(s)
	for _, r := range s {
		at -= utf8.RuneLen(r)
		utf8.EncodeRune(out[at:], r)
	}
	return string(out)
}

func splitPart(s, sep string, n int32) (string, error) {
	if n == 0 {
		return "", pgerror.New(pgerror.InvalidParameterValue, "field position must not be zero")
	}
	var parts []string
	switch {
	case s == "":
		return "", nil
	case sep == "":
		parts = []string{s}
	default:
		parts = strings.Split(s, sep)
	}
	i := int(n) - 1
	if n < 0 {
		i = len(parts) + int(n)
	}
	if i < 0 || i >= len(parts) {
		return "", nil
	}
	return parts[i], nil
}

func chr(n int32) (string, error) {
	switch {
	case n == 0:
		return "", pgerror.New(pgerror.ProgramLimitExceeded, "null character not permitted")
	case n < 0:
		return "", pgerror.New(pgerror.InvalidParameterValue, "character number must be positive")
	case n > unicode.MaxRune:
		return "", pgerror.New(pgerror.ProgramLimitExceeded, "requested character too large for encoding: %d", n)
	case !utf8.ValidRune(n):
		return "", pgerror.New(pgerror.ProgramLimitExceeded, "requested character not valid for encoding: %d", n)
	}
	return string(n), nil
}

func hashes() {
	sum := func(b []byte) string {
		h := md5.Sum(b)
		return hex.EncodeToString(h[:])
	}
	def("md5(text) text", pure1(func(s string) string { return sum([]byte(s)) }))
	def("md5(bytea) text", pure1(sum))
	def("sha224(bytea) bytea", pure1(func(b []byte) []byte { h := sha256.Sum224(b); return h[:] }))
	def("sha256(bytea) bytea", pure1(func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }))
	def("sha384(bytea) bytea", pure1(func(b []byte) []byte { h := sha512.Sum384(b); return h[:] }))
	def("sha512(bytea) bytea", pure1(func(b []byte) []byte { h := sha512.Sum512(b); return h[:] }))
}

func encodings() {
	def("encode(bytea,text) text", fn2(func(_ *call, b []byte, f string) (string, error) {
		switch strings.ToLower(f) {
		case "hex":
			return hex.EncodeToString(b), nil
		case "base64":
			return wrapBase64(base64.StdEncoding.EncodeToString(b)), nil
		case "escape":
			var out strings.Builder
			for _, c := range b {
				switch {
				case c == '\\':
					out.WriteString(`\\`)
				case c == 0 || c >= 0x80:
					out.WriteString(`\` + string([]byte{'0' + c>>6, '0' + c>>3&7, '0' + c&7}))
				default:
					out.WriteByte(c)
				}
			}
			return out.String(), nil
		}
		return "", errEncoding(f)
	}))
	def("decode(text,text) bytea", fn2(func(_ *call, s, f string) ([]byte, error) {
		switch strings.ToLower(f) {
		case "hex":
			d, err := sqltypes.ParseText(sqltypes.Bytea, `\x`+s)
			return d.Bytes(), err
		case "base64":
			s = strings.NewReplacer(" ", "", "\n", "", "\r", "", "\t", "").Replace(s)
			b, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return nil, badBase64(s)
			}
			return b, nil
		case "escape":
			if strings.HasPrefix(s, `\x`) {
				return nil, pgerror.New(pgerror.InvalidTextRepresentation, "invalid input syntax for type bytea")
			}
			d, err := sqltypes.ParseText(sqltypes.Bytea, s)
			return d.Bytes(), err
		}
		return nil, errEncoding(f)
	}))
	def("convert_from(bytea,name) text", fn2(func(_ *call, b []byte, enc string) (string, error) {
		if err := onlyUTF8(enc); err != nil {
			return "", err
		}
		d, err := sqltypes.ParseText(sqltypes.Text, string(b))
		return d.Str(), err
	}))
	def("convert_to(text,name) bytea", fn2(func(_ *call, s, enc string) ([]byte, error) { return []byte(s), onlyUTF8(enc) }))
}

func onlyUTF8(enc string) error {
	if e := strings.ToLower(strings.ReplaceAll(enc, "-", "")); e != "utf8" && e != "unicode" {
		return pgerror.Unsupported("encoding " + enc)
	}
	return nil
}

func badBase64(s string) error {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/' || r == '=') {
			return pgerror.New(pgerror.InvalidParameterValue, "invalid symbol \"%c\" found while decoding base64 sequence", r)
		}
	}
	return pgerror.New(pgerror.InvalidParameterValue, "invalid base64 end sequence").
		WithHint("Input data is missing padding, is truncated, or is otherwise corrupted.")
}

func errEncoding(name string) error {
	return pgerror.New(pgerror.InvalidParameterValue, "unrecognized encoding: %q", sqltypes.Quotable(name))
}

// base64LineChars is where PostgreSQL breaks base64.
const base64LineChars = 76

func wrapBase64(s string) string {
	var b strings.Builder
	for len(s) > base64LineChars {
		b.WriteString(s[:base64LineChars] + "\n")
		s = s[base64LineChars:]
	}
	return b.String() + s
}

func quoting() {
	def("quote_ident(text) text", pure1(QuoteIdent))
	def("quote_literal(text) text", pure1(quoteLiteral))
	def("quote_literal(anyelement) text", rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		return sqltypes.NewString(quoteLiteral(castText(cc, 0, a[0]))), nil
	}), stable)
	nullable := rowCall(func(cc *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		if a[0].IsNull() {
			return sqltypes.NewString("NULL"), nil
		}
		return sqltypes.NewString(quoteLiteral(castText(cc, 0, a[0]))), nil
	})
	def("quote_nullable(text) text", nullable, nonStrict)
	def("quote_nullable(anyelement) text", nullable, nonStrict, stable)
}
