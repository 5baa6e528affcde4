package parse

import (
	"strings"
	"unicode/utf8"

	mparser "github.com/multigres/multigres/go/common/parser"

	"github.com/copradb/copra/internal/pgerror"
)

// byteEscapes writes the bytes that \xHH and \ooo of E'…' strings stand for
// in their place, since the lexer takes each for a character of its own. Blanks
// behind the string keep positions, which count characters, as they were. ok is
// false where there is nothing to do.
func byteEscapes(sql string, toks []token) (out string, ok bool, err error) {
	var b strings.Builder
	done := 0
	for _, t := range toks {
		text := sql[t.pos:t.end]
		if t.kind != mparser.SCONST || text[0] != 'e' && text[0] != 'E' || strings.IndexByte(text, '\\') < 0 {
			continue
		}
		decoded := decodeBytes(text)
		if decoded == text {
			continue
		}
		if bad := invalidBytes(decoded); bad != "" {
			return "", false, pgerror.New(pgerror.CharacterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\": %s", bad)
		}
		b.WriteString(sql[done:t.pos])
		b.WriteString(decoded)
		b.WriteString(strings.Repeat(" ", utf8.RuneCountInString(text)-utf8.RuneCountInString(decoded)))
		done = t.end
	}
	if done == 0 {
		return sql, false, nil
	}
	b.WriteString(sql[done:])
	return b.String(), true, nil
}

// decodeBytes replaces the escapes of bytes that are not ASCII; the lexer does
// the others.
func decodeBytes(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' || i+1 >= len(s) {
			out = append(out, s[i])
			i++
			continue
		}
		v, n := escapedByte(s[i+1:])
		if v < utf8.RuneSelf { // an ASCII character, or another escape
			n = max(n, 1)
			out = append(out, s[i:i+1+n]...)
		} else {
			out = append(out, v)
		}
		i += 1 + n
	}
	return string(out)
}

// escapedByte is the byte that xHH or ooo at the start of s stands for, and how
// long that is; 0, 0 for anything else.
func escapedByte(s string) (v byte, n int) {
	digits, base := s, 8
	if s[0] == 'x' {
		digits, base = s[1:], 16
	}
	for n < len(digits) && n < 3-base/16 {
		d := strings.IndexByte("0123456789abcdef", digits[n]|0x20)
		if digits[n] < '0' || d < 0 || d >= base {
			break
		}
		v = v*byte(base) + byte(d)
		n++
	}
	if n > 0 && base == 16 {
		n++
	}
	return v, n
}

// invalidBytes names the first bytes of s that are no character, as many as the
// first of them announces.
func invalidBytes(s string) string {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r != utf8.RuneError || n > 1 {
			i += n
			continue
		}
		want := 1
		switch c := s[i]; {
		case c >= 0xF0:
			want = 4
		case c >= 0xE0:
			want = 3
		case c >= 0xC0:
			want = 2
		}
		if s[i] >= 0xF8 {
			want = 1
		}
		var b strings.Builder
		for _, c := range []byte(s[i:min(i+want, len(s))]) {
			const hex = "0123456789abcdef"
			b.WriteString(" 0x" + string(hex[c>>4]) + string(hex[c&15]))
		}
		return b.String()[1:]
	}
	return ""
}
