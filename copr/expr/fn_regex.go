package expr

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	regexCacheEntriesMax = 512
	regexSourceBytesMax  = 64 << 10
)

type regexKey struct{ pattern, flags string }

var regexCache = struct {
	sync.Mutex
	m map[regexKey]*regexp.Regexp
}{m: map[regexKey]*regexp.Regexp{}}

// compileRegex translates one of PostgreSQL's advanced regular expressions to
// Go's, with its flags. Back references and look-around are refused by name.
func compileRegex(pattern, flags string) (*regexp.Regexp, error) {
	key := regexKey{pattern, flags}
	regexCache.Lock()
	re := regexCache.m[key]
	regexCache.Unlock()
	if re != nil {
		return re, nil
	}
	re, err := buildRegex(pattern, flags)
	if err != nil {
		return nil, err
	}
	regexCache.Lock()
	defer regexCache.Unlock()
	if len(regexCache.m) >= regexCacheEntriesMax {
		clear(regexCache.m)
	}
	regexCache.m[key] = re
	return re, nil
}

type regexFlags struct {
	fold, newline, lines, expanded, literal bool
	global                                  bool
}

func parseRegexFlags(s string, f *regexFlags, allowGlobal bool) error {
	for _, c := range s {
		switch c {
		case 'g':
			if !allowGlobal {
				return errRegexOption(c)
			}
			f.global = true
		case 'i':
			f.fold = true
		case 'c':
			f.fold = false
		case 'n', 'm':
			f.newline, f.lines = true, true
		case 'p':
			f.newline, f.lines = true, false
		case 'w':
			f.newline, f.lines = false, true
		case 's':
			f.newline, f.lines = false, false
		case 'x':
			f.expanded = true
		case 't':
			f.expanded = false
		case 'q':
			f.literal = true
		case 'e', 'b':
		default:
			return errRegexOption(c)
		}
	}
	return nil
}

func errRegexOption(c rune) error {
	return pgerror.New(pgerror.InvalidParameterValue, "invalid regular expression option: \"%c\"", c)
}

func errRegex(msg string) error {
	return pgerror.New(pgerror.InvalidRegularExpression, "invalid regular expression: %s", msg)
}

func buildRegex(pattern, flags string) (*regexp.Regexp, error) {
	if len(pattern) > regexSourceBytesMax {
		return nil, pgerror.New(pgerror.ProgramLimitExceeded, "regular expression is longer than %d bytes", regexSourceBytesMax)
	}
	var f regexFlags
	if err := parseRegexFlags(flags, &f, true); err != nil {
		return nil, err
	}
	switch { // director and embedded options
	case strings.HasPrefix(pattern, "***="):
		pattern, f.literal = pattern[4:], true
	case strings.HasPrefix(pattern, "***:"):
		pattern = pattern[4:]
	}
	if strings.HasPrefix(pattern, "(?") && !f.literal {
		if i := strings.IndexByte(pattern, ')'); i > 2 && isLetters(pattern[2:i]) {
			if err := parseRegexFlags(pattern[2:i], &f, false); err != nil {
				return nil, errRegex("invalid embedded option")
			}
			pattern = pattern[i+1:]
		}
	}
	src, lazy := regexp.QuoteMeta(pattern), false
	if !f.literal {
		t := regexTranslator{src: pattern, flags: f}
		if err := t.run(); err != nil {
			return nil, err
		}
		src, lazy = t.out.String(), t.lazy
	}
	head := "(?"
	if f.fold {
		head += "i"
	}
	if f.lines {
		head += "m"
	}
	if !f.newline {
		head += "s"
	}
	if head != "(?" {
		src = head + ")" + src
	}
	re, err := regexp.Compile(src)
	if err != nil {
		return nil, errRegex(regexMessage(err))
	}
	if !lazy { // POSIX: the longest match
		re.Longest()
	}
	return re, nil
}

func isLetters(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

func regexMessage(err error) string {
	se, ok := err.(*syntax.Error)
	if !ok {
		return err.Error()
	}
	switch se.Code {
	case syntax.ErrMissingBracket:
		return "brackets [] not balanced"
	case syntax.ErrMissingParen, syntax.ErrUnexpectedParen:
		return "parentheses () not balanced"
	case syntax.ErrMissingRepeatArgument, syntax.ErrInvalidRepeatOp:
		return "quantifier operand invalid"
	case syntax.ErrInvalidRepeatSize:
		return "invalid repetition count(s)"
	case syntax.ErrInvalidCharRange:
		return "invalid character range"
	case syntax.ErrTrailingBackslash, syntax.ErrInvalidEscape:
		return "invalid escape \\ sequence"
	}
	return se.Code.String()
}

type regexTranslator struct {
	src   string
	flags regexFlags
	out   strings.Builder
	lazy  bool // a non-greedy quantifier is there
}

func (t *regexTranslator) run() error {
	s := t.src
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\\':
			n, err := t.escape(s[i:], false)
			if err != nil {
				return err
			}
			i += n
		case c == '[':
			n, err := t.bracket(s[i:])
			if err != nil {
				return err
			}
			i += n
		case c == '(' && strings.HasPrefix(s[i:], "(?"):
			switch {
			case strings.HasPrefix(s[i:], "(?:"):
				t.out.WriteString("(?:")
				i += 3
			case strings.HasPrefix(s[i:], "(?#"):
				end := strings.IndexByte(s[i:], ')')
				if end < 0 {
					return errRegex("parentheses () not balanced")
				}
				i += end + 1
			case len(s) > i+2 && strings.IndexByte("=!<", s[i+2]) >= 0:
				return pgerror.Unsupported("look-around in a regular expression")
			default:
				return errRegex("quantifier operand invalid")
			}
		case c == '*' || c == '+' || c == '?' || c == '}':
			if c == '?' && i > 0 && strings.IndexByte("*+?}", s[i-1]) >= 0 && (i < 2 || s[i-2] != '\\') {
				t.lazy = true
			}
			t.out.WriteByte(c)
			i++
		case c == '{' && (i+1 == len(s) || s[i+1] < '0' || s[i+1] > '9'):
			t.out.WriteString(`\{`)
			i++
		case c == '{' && !balanced(s[i:]):
			return errRegex("braces {} not balanced")
		case t.flags.expanded && (c == ' ' || c >= '\t' && c <= '\r'):
			i++
		case t.flags.expanded && c == '#':
			for i < len(s) && s[i] != '\n' {
				i++
			}
		case c == '$' && !t.flags.lines:
			t.out.WriteString(`\z`)
			i++
		default:
			t.out.WriteByte(c)
			i++
		}
	}
	return nil
}

// balanced reports whether a bound such as {2,3} is closed.
func balanced(s string) bool {
	end := strings.TrimLeft(s[1:], "0123456789,")
	return strings.HasPrefix(end, "}")
}

// escape translates the escape at the start of s and returns its length.
func (t *regexTranslator) escape(s string, inBracket bool) (int, error) {
	if len(s) == 1 {
		return 0, errRegex(`invalid escape \ sequence`)
	}
	c := s[1]
	write := func(x string) (int, error) {
		t.out.WriteString(x)
		return 2, nil
	}
	switch c {
	case 'd', 'D', 's', 'S', 'w', 'W':
		return write(map[byte]string{
			'd': `\d`, 'D': `\D`, 's': `\s`, 'S': `\S`, 'w': `\w`, 'W': `\W`,
		}[c])
	case 'a', 'f', 'n', 'r', 't', 'v':
		return write(`\` + s[1:2])
	case 'b':
		return write(`\x08`)
	case 'B':
		return write(`\\`)
	case 'e':
		return write(`\x1b`)
	case '0':
		return write(`\x00`)
	case 'u', 'U', 'x':
		return t.codePoint(s)
	case 'c':
		if len(s) < 3 {
			return 0, errRegex(`invalid escape \ sequence`)
		}
		t.out.WriteString(regexp.QuoteMeta(string(rune(s[2] & 31))))
		return 3, nil
	}
	if !inBracket {
		switch c {
		case 'A':
			return write(`\A`)
		case 'Z':
			return write(`\z`)
		case 'y', 'm', 'M':
			return write(`\b`)
		case 'Y':
			return write(`\B`)
		}
		if c >= '1' && c <= '9' {
			return 0, pgerror.Unsupported("back reference in a regular expression")
		}
	}
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
		return 0, errRegex(`invalid escape \ sequence`)
	}
	_, n := utf8.DecodeRuneInString(s[1:])
	t.out.WriteString(quoteRegexRune(s[1 : 1+n]))
	return 1 + n, nil
}

func quoteRegexRune(c string) string {
	if len(c) == 1 && strings.ContainsAny(c, `\.+*?()|[]{}^$-&~#`) {
		return `\` + c
	}
	return c
}

func (t *regexTranslator) codePoint(s string) (int, error) {
	digits := map[byte]int{'u': 4, 'U': 8, 'x': 8}[s[1]]
	n := 0
	for n < digits && 2+n < len(s) && strings.IndexByte("0123456789abcdefABCDEF", s[2+n]) >= 0 {
		n++
	}
	if n == 0 || s[1] != 'x' && n != digits {
		return 0, errRegex(`invalid escape \ sequence`)
	}
	t.out.WriteString(`\x{` + s[2:2+n] + `}`)
	return 2 + n, nil
}

// bracket translates the bracket expression at the start of s.
func (t *regexTranslator) bracket(s string) (int, error) {
	if strings.HasPrefix(s, "[[:<:]]") || strings.HasPrefix(s, "[[:>:]]") {
		t.out.WriteString(`\b`)
		return len("[[:<:]]"), nil
	}
	t.out.WriteByte('[')
	i := 1
	if i < len(s) && s[i] == '^' {
		t.out.WriteByte('^')
		if t.flags.newline {
			t.out.WriteString(`\n`)
		}
		i++
	}
	for first := true; i < len(s); first = false {
		switch c := s[i]; {
		case c == ']' && !first:
			t.out.WriteByte(']')
			return i + 1, nil
		case c == '[' && i+1 < len(s) && strings.IndexByte(":.=", s[i+1]) >= 0:
			end := strings.Index(s[i+2:], s[i+1:i+2]+"]")
			if end < 0 {
				return 0, errRegex("brackets [] not balanced")
			}
			name := s[i+2 : i+2+end]
			if s[i+1] == ':' {
				t.out.WriteString("[:" + name + ":]")
			} else if utf8.RuneCountInString(name) == 1 {
				t.out.WriteString(quoteRegexRune(name))
			} else {
				return 0, errRegex("invalid collating element")
			}
			i += end + 4
		case c == '\\':
			n, err := t.escape(s[i:], true)
			if err != nil {
				return 0, err
			}
			i += n
		case c == '[' || c == ']' || c == '&' || c == '~' || c == '^' && !first:
			t.out.WriteString(`\` + s[i:i+1])
			i++
		default:
			t.out.WriteByte(c)
			i++
		}
	}
	return 0, errRegex("brackets [] not balanced")
}

func init() {
	for op, mode := range map[string][2]bool{"~": {false, false}, "!~": {true, false}, "~*": {false, true}, "!~*": {true, true}} {
		for _, l := range []string{"text", "name", "bpchar"} {
			def(op+"("+l+",text) bool", regexMatch(mode[0], mode[1]))
		}
	}
	def("regexp_replace(text,text,text) text", fn3(func(_ *call, s, p, r string) (string, error) { return regexReplace(s, p, r, "") }))
	def("regexp_replace(text,text,text,text) text", fn4(func(_ *call, s, p, r, f string) (string, error) { return regexReplace(s, p, r, f) }))
	sub := opt2(func(s, p string) (string, bool, error) { return regexSubstring(s, p, "") })
	def("substring(text,text) text", sub)
	def("regexp_substr(text,text) text", sub)
	def("regexp_match(text,text) _text", opt2(func(s, p string) (string, bool, error) { return regexCaptures(s, p, "") }))
	def("regexp_match(text,text,text) _text", rowCall(func(_ *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		out, ok, err := regexCaptures(a[0].Str(), a[1].Str(), a[2].Str())
		if err != nil || !ok {
			return sqltypes.Null, err
		}
		return sqltypes.NewString(out), nil
	}))
	def("regexp_like(text,text) bool", fn2(func(_ *call, s, p string) (bool, error) { return regexLike(s, p, "") }))
	def("regexp_like(text,text,text) bool", fn3(func(_ *call, s, p, f string) (bool, error) { return regexLike(s, p, f) }))
	count := func(s, p, f string) (int32, error) {
		re, _, err := regexWithFlags(p, f, false)
		if err != nil {
			return 0, err
		}
		return int32(len(re.FindAllStringIndex(s, -1))), nil
	}
	def("regexp_count(text,text) int4", fn2(func(_ *call, s, p string) (int32, error) { return count(s, p, "") }))
	def("regexp_split_to_array(text,text) _text", fn2(func(_ *call, s, p string) (string, error) { return regexSplit(s, p, "") }))
	def("regexp_split_to_array(text,text,text) _text", fn3(func(_ *call, s, p, f string) (string, error) { return regexSplit(s, p, f) }))
	def("similar_to_escape(text) text", fn1(func(_ *call, p string) (string, error) { return similarPattern(p, `\`) }))
	def("similar_to_escape(text,text) text", fn2(func(_ *call, p, e string) (string, error) { return similarPattern(p, e) }))
	def("substring(text,text,text) text", rowCall(func(_ *call, a []sqltypes.Datum) (sqltypes.Datum, error) {
		p, err := similarPattern(a[1].Str(), a[2].Str())
		if err != nil {
			return sqltypes.Null, err
		}
		s, ok, err := regexSubstring(a[0].Str(), p, "")
		if err != nil || !ok {
			return sqltypes.Null, err
		}
		return sqltypes.NewString(s), nil
	}))
}

func regexMatch(not, fold bool) evalFunc {
	flags := ""
	if fold {
		flags = "i"
	}
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		s, p := paddedReader(args[0], cc.args[0]), reader[string](args[1])
		var re *regexp.Regexp
		var last string
		return lift(cc, args, n, sel, func(i int) (bool, bool, error) {
			if x := p(i); re == nil || x != last {
				c, err := compileRegex(x, flags)
				if err != nil {
					return false, false, err
				}
				re, last = c, x
			}
			return re.MatchString(s(i)) != not, true, nil
		})
	}
}

func regexWithFlags(pattern, flags string, global bool) (*regexp.Regexp, regexFlags, error) {
	var f regexFlags
	if err := parseRegexFlags(flags, &f, global); err != nil {
		return nil, f, err
	}
	re, err := compileRegex(pattern, strings.ReplaceAll(flags, "g", ""))
	return re, f, err
}

func regexLike(s, p, flags string) (bool, error) {
	if strings.Contains(flags, "g") {
		return false, pgerror.New(pgerror.InvalidParameterValue, `regexp_like() does not support the "global" option`)
	}
	re, _, err := regexWithFlags(p, flags, false)
	if err != nil {
		return false, err
	}
	return re.MatchString(s), nil
}

// regexSubstring is the first parenthesised part of the match, or all of it.
func regexSubstring(s, p, flags string) (string, bool, error) {
	re, err := compileRegex(p, flags)
	if err != nil {
		return "", false, err
	}
	m := re.FindStringSubmatchIndex(s)
	if m == nil {
		return "", false, nil
	}
	k := 0
	if re.NumSubexp() > 0 {
		k = 1
	}
	if m[2*k] < 0 {
		return "", false, nil
	}
	return s[m[2*k]:m[2*k+1]], true, nil
}

func regexCaptures(s, p, flags string) (string, bool, error) {
	if strings.Contains(flags, "g") {
		return "", false, pgerror.New(pgerror.InvalidParameterValue, `regexp_match() does not support the "global" option`).
			WithHint("Use the regexp_matches function instead.")
	}
	re, _, err := regexWithFlags(p, flags, false)
	if err != nil {
		return "", false, err
	}
	m := re.FindStringSubmatchIndex(s)
	if m == nil {
		return "", false, nil
	}
	return sqltypes.JoinArray(sqltypes.TextArray, matchElements(s, m)), true, nil
}

// matchElements are a match's captures, or the match when there are none.
func matchElements(s string, m []int) []sqltypes.ArrayElement {
	if len(m) > 2 {
		m = m[2:]
	}
	var out []sqltypes.ArrayElement
	for i := 0; i < len(m); i += 2 {
		if m[i] < 0 {
			out = append(out, sqltypes.ArrayElement{Null: true})
			continue
		}
		out = append(out, sqltypes.ArrayElement{Text: s[m[i]:m[i+1]]})
	}
	return out
}

func regexReplace(s, p, repl, flags string) (string, error) {
	if flags != "" && flags[0] >= '0' && flags[0] <= '9' {
		return "", pgerror.New(pgerror.InvalidParameterValue, "invalid regular expression option: %q", sqltypes.Quotable(flags[:1])).
			WithHint("If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly.")
	}
	re, f, err := regexWithFlags(p, flags, true)
	if err != nil {
		return "", err
	}
	limit := 1
	if f.global {
		limit = -1
	}
	var out strings.Builder
	at := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, limit) {
		out.WriteString(s[at:m[0]])
		expandReplacement(&out, repl, s, m)
		at = m[1]
	}
	out.WriteString(s[at:])
	return out.String(), nil
}

// expandReplacement writes repl with \1 … \9 and \& filled in.
func expandReplacement(out *strings.Builder, repl, s string, m []int) {
	for i := 0; i < len(repl); i++ {
		if repl[i] != '\\' || i+1 == len(repl) {
			out.WriteByte(repl[i])
			continue
		}
		i++
		switch c := repl[i]; {
		case c == '&':
			out.WriteString(s[m[0]:m[1]])
		case c >= '1' && c <= '9':
			if k := 2 * int(c-'0'); k < len(m) && m[k] >= 0 {
				out.WriteString(s[m[k]:m[k+1]])
			}
		case c == '\\':
			out.WriteByte('\\')
		default:
			out.WriteByte('\\')
			out.WriteByte(c)
		}
	}
}

func regexSplit(s, p, flags string) (string, error) {
	re, _, err := regexWithFlags(p, flags, false)
	if err != nil {
		return "", err
	}
	var out []sqltypes.ArrayElement
	at := 0
	for _, m := range re.FindAllStringIndex(s, -1) {
		if m[1] == m[0] && (m[0] == 0 || m[0] == len(s)) {
			continue
		}
		out = append(out, sqltypes.ArrayElement{Text: s[at:m[0]]})
		at = m[1]
	}
	out = append(out, sqltypes.ArrayElement{Text: s[at:]})
	return sqltypes.JoinArray(sqltypes.TextArray, out), nil
}

// similarPattern turns a SIMILAR TO pattern into a regular expression, as
// similar_to_escape does.
func similarPattern(p, esc string) (string, error) {
	if utf8.RuneCountInString(esc) > 1 {
		return "", pgerror.New(pgerror.InvalidEscapeSequence, "invalid escape string").
			WithHint("Escape string must be empty or one character.")
	}
	var b strings.Builder
	b.WriteString("^(?:")
	inClass, quotes := false, 0
	for i := 0; i < len(p); {
		_, n := utf8.DecodeRuneInString(p[i:])
		c := p[i : i+n]
		switch {
		case esc != "" && c == esc:
			if i += n; i == len(p) {
				b.WriteString(`\`)
				break
			}
			_, n = utf8.DecodeRuneInString(p[i:])
			if p[i] == '"' && !inClass {
				switch quotes {
				case 0:
					b.WriteString("){1,1}?(")
				case 1:
					b.WriteString("){1,1}(?:")
				default:
					return "", pgerror.New("2200C", "SQL regular expression may not contain more than two escape-double-quote separators")
				}
				quotes++
			} else {
				b.WriteString(`\` + p[i:i+n])
			}
		case inClass:
			if c == `\` {
				b.WriteByte('\\')
			}
			b.WriteString(c)
			inClass = c != "]"
		case c == "[":
			b.WriteString(c)
			inClass = true
		case c == "%":
			b.WriteString(".*")
		case c == "_":
			b.WriteByte('.')
		case c == "(":
			b.WriteString("(?:")
		case c == `\` || c == "." || c == "^" || c == "$":
			b.WriteString(`\` + c)
		default:
			b.WriteString(c)
		}
		i += n
	}
	b.WriteString(")$")
	return b.String(), nil
}
