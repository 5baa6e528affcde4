package expr

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// formatWidthMax bounds a width in format().
const formatWidthMax = 1 << 24

// formatState is one format() call while it is worked off.
type formatState struct {
	cc   *call
	args []sqltypes.Datum
	next int // the next argument, args[0] is the format
	out  strings.Builder
}

var formatEval = rowCall(func(cc *call, args []sqltypes.Datum) (sqltypes.Datum, error) {
	if args[0].IsNull() {
		return sqltypes.Null, nil
	}
	f := &formatState{cc: cc, args: args, next: 1}
	s := args[0].Str()
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			f.out.WriteString(s)
			return sqltypes.NewString(f.out.String()), nil
		}
		f.out.WriteString(s[:i])
		rest, err := f.spec(s[i+1:])
		if err != nil {
			return sqltypes.Null, err
		}
		s = rest
	}
})

var errFormatEnd = pgerror.New(pgerror.InvalidParameterValue, "unterminated format() type specifier").
	WithHint(`For a single "%%" use "%%%%".`)

// number reads digits at the start of s.
func formatNumber(s string) (n int, rest string, ok bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	n, err := strconv.Atoi(s[:i])
	return n, s[i:], err == nil && i > 0
}

// spec works off what follows a %: [position$][-][width]type.
func (f *formatState) spec(s string) (rest string, err error) {
	if strings.HasPrefix(s, "%") {
		f.out.WriteByte('%')
		return s[1:], nil
	}
	position, width, left := 0, 0, false
	if n, r, ok := formatNumber(s); ok {
		if strings.HasPrefix(r, "$") {
			if n == 0 {
				return "", pgerror.New(pgerror.InvalidParameterValue, "format specifies argument 0, but arguments are numbered from 1")
			}
			position, s = n, r[1:]
		}
	}
	for strings.HasPrefix(s, "-") {
		left, s = true, s[1:]
	}
	if n, r, ok := formatNumber(s); ok {
		width, s = n, r
	} else if strings.HasPrefix(s, "*") {
		if s, width, err = f.starWidth(s[1:]); err != nil {
			return "", err
		}
		if width < 0 {
			left, width = true, -width
		}
	}
	if width > formatWidthMax {
		return "", errTooLong
	}
	if s == "" {
		return "", errFormatEnd
	}
	if position == 0 {
		position = f.next
		f.next++
	} else {
		f.next = position + 1
	}
	if c := s[0]; c != 's' && c != 'I' && c != 'L' {
		_, n := utf8.DecodeRuneInString(s)
		return "", pgerror.New(pgerror.InvalidParameterValue, "unrecognized format() type specifier %q", sqltypes.Quotable(s[:n])).
			WithHint(`For a single "%%" use "%%%%".`)
	}
	if position >= len(f.args) {
		return "", pgerror.New(pgerror.InvalidParameterValue, "too few arguments for format()")
	}
	text, err := f.value(s[0], position)
	if err != nil {
		return "", err
	}
	pad := strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
	if left {
		f.out.WriteString(text + pad)
	} else {
		f.out.WriteString(pad + text)
	}
	return s[1:], nil
}

func (f *formatState) starWidth(s string) (rest string, width int, err error) {
	at := f.next
	if n, r, ok := formatNumber(s); ok && strings.HasPrefix(r, "$") {
		at, s = n, r[1:]
	} else {
		f.next++
	}
	if at >= len(f.args) {
		return "", 0, pgerror.New(pgerror.InvalidParameterValue, "too few arguments for format()")
	}
	if f.args[at].IsNull() {
		return s, 0, nil
	}
	width, err = strconv.Atoi(outText(f.cc, f.cc.args[at], f.args[at]))
	if err != nil {
		return "", 0, pgerror.New(pgerror.InvalidTextRepresentation, "invalid input syntax for type integer: %q",
			sqltypes.Quotable(outText(f.cc, f.cc.args[at], f.args[at])))
	}
	return s, width, nil
}

func (f *formatState) value(kind byte, i int) (string, error) {
	if f.args[i].IsNull() {
		switch kind {
		case 'I':
			return "", pgerror.New(pgerror.NullValueNotAllowed, "null values cannot be formatted as an SQL identifier")
		case 'L':
			return "NULL", nil
		}
		return "", nil
	}
	s := outText(f.cc, f.cc.args[i], f.args[i])
	switch kind {
	case 'I':
		return QuoteIdent(s), nil
	case 'L':
		return quoteLiteral(s), nil
	}
	return s, nil
}
