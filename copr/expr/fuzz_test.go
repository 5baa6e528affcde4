package expr

import (
	"regexp"
	"slices"
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
		if scan := compileLike(p, false).scan(); scan != nil {
			checkLikeScan(t, scan, re, s)
		}
	})
}

// checkLikeScan looks for the pattern in a column of pieces of s.
func checkLikeScan(t *testing.T, scan *likeScan, re *regexp.Regexp, s string) {
	col := strs{offs: []int32{1}, data: []byte("x")}
	var texts []string
	for i := range s + "." {
		for _, x := range []string{s[:min(i, len(s))], s, s[min(i, len(s)):]} {
			texts = append(texts, x)
			col.data = append(col.data, x...)
			col.offs = append(col.offs, int32(len(col.data)))
		}
		if i > 20 {
			break
		}
	}
	var rows, sel, want, wantNot []int32
	for i, x := range texts {
		if re.MatchString(x) {
			rows = append(rows, int32(i))
		}
		if i%3 != 1 {
			sel = append(sel, int32(i))
			if re.MatchString(x) {
				want = append(want, int32(i))
			} else {
				wantNot = append(wantNot, int32(i))
			}
		}
	}
	n := len(texts)
	if got := scan.filter(col, n, false, nil, nil); !slices.Equal(got, rows) {
		t.Fatalf("%q in %q: rows %v, want %v", scan.piece, texts, got, rows)
	}
	if got := scan.filter(col, n, true, nil, nil); !slices.Equal(got, minusRows(n, nil, rows, nil)) {
		t.Fatalf("not %q in %q: rows %v, without %v", scan.piece, texts, got, rows)
	}
	if got := scan.filter(col, n, false, sel, nil); !slices.Equal(got, want) {
		t.Fatalf("%q in %q of %v: rows %v, want %v", scan.piece, texts, sel, got, want)
	}
	if got := scan.filter(col, n, true, sel, slices.Clone(sel)[:0]); !slices.Equal(got, wantNot) {
		t.Fatalf("not %q in %q of %v: rows %v, want %v", scan.piece, texts, sel, got, wantNot)
	}
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
