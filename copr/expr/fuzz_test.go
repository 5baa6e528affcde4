package expr

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/copradb/copra/internal/pgerror"
)

// likeRegexp is LIKE by another way: the pattern as a regular expression.
func likeRegexp(p string) (*regexp.Regexp, bool) {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRuneInString(p[i:])
		switch {
		case r == '%':
			b.WriteString(".*")
		case r == '_':
			b.WriteByte('.')
		case r == '\\':
			if i += n; i == len(p) {
				return nil, false
			}
			_, n = utf8.DecodeRuneInString(p[i:])
			b.WriteString(regexp.QuoteMeta(p[i : i+n]))
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+n]))
		}
		i += n
	}
	re, err := regexp.Compile(b.String() + `\z`)
	return re, err == nil
}

func FuzzLike(f *testing.F) {
	for _, s := range []string{"", "abc", "aXbXc", "héllo", "a%b", "special requests"} {
		for _, p := range []string{"", "%", "a%", "%c", "%b%", "a_c", "%X_X%", "h_llo", `a\%b`, "%special%requests%", "%_", "_%_", "%a%b%c%", `a\`} {
			f.Add(s, p)
		}
	}
	f.Fuzz(func(t *testing.T, s, p string) {
		if !utf8.ValidString(s) || !utf8.ValidString(p) || len(p) > 200 {
			return
		}
		re, ok := likeRegexp(p)
		if !ok {
			_, _ = compileLike(p, false).matches(s)
			return
		}
		got, err := compileLike(p, false).matches(s)
		if err != nil || got != re.MatchString(s) {
			t.Fatalf("%q LIKE %q = %v, %v; by regexp %v", s, p, got, err, re.MatchString(s))
		}
	})
}

// FuzzTemplates: no template, pattern or text makes the formatters panic.
func FuzzTemplates(f *testing.F) {
	for _, s := range []string{"YYYY-MM-DD HH24:MI:SS.US", "FM999,990.00MI", "9.99EEEE", "RN", `"x"Day`, "IYYY-IW-ID", "a(b|c)*[^d]{2,3}$", `\d\m[[:alpha:]]\u00e9`, "%s %2$I %*L", "(", "[a"} {
		f.Add(s, "2020-01-02 03:04:05")
	}
	f.Fuzz(func(t *testing.T, template, text string) {
		if !utf8.ValidString(template) || !utf8.ValidString(text) || strings.ContainsRune(template+text, 0) || len(template) > 300 {
			return
		}
		q := func(s string) string { return quoteLiteral(s) }
		for _, sql := range []string{
			"to_char(timestamp '2020-02-05 15:04:05.678', " + q(template) + ")", "to_char(-1234.567, " + q(template) + ")",
			"to_date(" + q(text) + ", " + q(template) + ")", "to_timestamp(" + q(text) + ", " + q(template) + ")",
			"to_number(" + q(text) + ", " + q(template) + ")", "regexp_replace(" + q(text) + ", " + q(template) + ", 'x', 'g')",
			q(text) + " similar to " + q(template), "format(" + q(template) + ", 1, 'a', null)",
			"string_to_array(" + q(text) + ", " + q(template) + ")",
		} {
			e, err := bindSQL(sql, &scope{})
			if err != nil {
				continue
			}
			if _, err := EvalConst(testCtx(), e); err != nil && pgerror.Code(err) == pgerror.InternalError {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	})
}
