package parse

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	mparser "github.com/multigres/multigres/go/common/parser"

	"github.com/copradb/copra/internal/pgerror"
)

// token is one lexical token with the bytes [pos, end) of the query string.
type token struct {
	kind     int
	str      string // folded identifier, keyword in lower case, string's value, or operator
	pos, end int
}

// selfChars are the one-character tokens of PostgreSQL's lexer; anything else
// that comes as a single character is a syntax error.
const selfChars = ",()[].;:+-*/%^<>="

// opChars are the characters of operators.
const opChars = "~!@#^&|`?+-*/%<>="

// scan returns the tokens of sql, holding it to the limits.
func scan(sql string) ([]token, error) {
	lex := mparser.NewLexer(sql)
	toks := make([]token, 0, len(sql)/5+4)
	depth, prevEnd := 0, 0
	for {
		t := lex.NextToken()
		start := skipSpace(sql, prevEnd)
		if t == nil || t.Type == mparser.INVALID || lex.HasErrors() {
			return nil, lexicalError(sql, start, lex.GetErrors())
		}
		if t.Type == mparser.EOF {
			return toks, nil
		}
		tok := token{kind: t.Type, str: t.Value.Str, pos: start, end: lex.GetPosition()}
		if tok.end <= tok.pos || tok.end > len(sql) {
			return nil, syntaxErrorAt(sql, token{pos: start, end: min(start+1, len(sql))})
		}
		if t.Type > 0 && t.Type < utf8.RuneSelf {
			tok.str = sql[tok.pos:tok.end]
			if !strings.ContainsRune(selfChars, rune(t.Type)) {
				return nil, syntaxErrorAt(sql, tok)
			}
		}
		if tok.str == "" && t.Type != mparser.SCONST {
			tok.str = strings.ToLower(sql[tok.pos:tok.end])
		}
		switch {
		case t.Type == '(' || t.Type == '[':
			depth++
		case t.Type == ')' || t.Type == ']':
			depth--
		case t.Type == mparser.PARAM && (t.Value.Ival < 1 || t.Value.Ival > ParamsMax):
			return nil, pgerror.New(pgerror.UndefinedParameter, "there is no parameter %s", sql[tok.pos:tok.end]).At(charPos(sql, tok.pos))
		case t.Type == mparser.Op && strings.Trim(sql[tok.pos:tok.end], opChars) != "":
			return nil, syntaxErrorAt(sql, tok)
		case sql[tok.pos] == '$' && t.Type != mparser.PARAM && t.Type != mparser.SCONST:
			return nil, syntaxErrorAt(sql, tok)
		}
		if depth > NestingDepthMax {
			return nil, tooDeep().At(charPos(sql, tok.pos))
		}
		toks = append(toks, tok)
		prevEnd = tok.end
	}
}

func tooDeep() *pgerror.Error {
	return pgerror.New(pgerror.StatementTooComplex, "statement is nested deeper than %d levels", NestingDepthMax)
}

// dollarQuote is the start of a dollar-quoted string.
var dollarQuote = regexp.MustCompile(`^\$([A-Za-z_\x80-\x{10ffff}][A-Za-z0-9_\x80-\x{10ffff}]*)?\$`)

// skipSpace returns the first byte at or after i that is neither white space
// nor in a comment.
func skipSpace(sql string, i int) int {
	for i < len(sql) {
		switch {
		case strings.IndexByte(" \t\n\r\f\v", sql[i]) >= 0:
			i++
		case strings.HasPrefix(sql[i:], "--"):
			if n := strings.IndexAny(sql[i:], "\n\r"); n >= 0 {
				i += n
			} else {
				return len(sql)
			}
		case strings.HasPrefix(sql[i:], "/*"):
			n := commentLen(sql[i:])
			if n < 0 {
				return i
			}
			i += n
		default:
			return i
		}
	}
	return i
}

// commentLen is the length of the (nested) block comment that s starts with,
// -1 if it isn't closed.
func commentLen(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); {
		switch s[i : i+2] {
		case "/*":
			depth++
			i += 2
		case "*/":
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return -1
}

// split cuts the tokens at the semicolons between statements and drops empty
// statements. The body of a BEGIN ATOMIC function keeps its semicolons.
func split(toks []token) [][]token {
	var out [][]token
	start, paren, atomic := 0, 0, 0
	for i, t := range toks {
		switch {
		case t.kind == '(':
			paren++
		case t.kind == ')':
			paren--
		case t.kind == mparser.ATOMIC && i > 0 && toks[i-1].kind == mparser.BEGIN_P:
			atomic++
		case atomic > 0 && t.kind == mparser.CASE:
			atomic++
		case atomic > 0 && t.kind == mparser.END_P:
			atomic--
		case t.kind == ';' && paren <= 0 && atomic == 0:
			if i > start {
				out = append(out, toks[start:i])
			}
			start, paren = i+1, 0
		}
	}
	if start < len(toks) {
		out = append(out, toks[start:])
	}
	return out
}

// charPos is the 1-based character position of byte i of s.
func charPos(s string, i int) int { return utf8.RuneCountInString(s[:i]) + 1 }

// syntaxErrorAt is PostgreSQL's message for a token that doesn't belong.
func syntaxErrorAt(sql string, t token) *pgerror.Error {
	if dollarQuote.MatchString(sql[min(t.pos, len(sql)):]) {
		return pgerror.New(pgerror.SyntaxError, "unterminated dollar-quoted string at or near \"%s\"", sql[t.pos:]).At(charPos(sql, t.pos))
	}
	if t.pos >= len(sql) {
		return pgerror.New(pgerror.SyntaxError, "syntax error at end of input").At(charPos(sql, len(sql)))
	}
	return pgerror.New(pgerror.SyntaxError, "syntax error at or near \"%s\"", sql[t.pos:t.end]).At(charPos(sql, t.pos))
}

// lexicalError words an error that the lexer found in the token at byte start.
func lexicalError(sql string, start int, errs []error) *pgerror.Error {
	msg := "syntax error"
	if len(errs) > 0 {
		msg = errs[0].Error()
	}
	for _, cut := range []string{" at or near", " at position", " at line"} {
		if i := strings.Index(msg, cut); i > 0 {
			msg = msg[:i]
		}
	}
	if start >= len(sql) {
		return pgerror.New(pgerror.SyntaxError, "%s at end of input", msg).At(charPos(sql, len(sql)))
	}
	near := sql[start:]
	if !strings.HasPrefix(msg, "unterminated") {
		if i := strings.IndexAny(near, " \t\r\n;,()"); i > 0 {
			near = near[:i]
		}
	}
	return pgerror.New(pgerror.SyntaxError, "%s at or near \"%s\"", msg, near).At(charPos(sql, start))
}

// grammarError words an error of the grammar, which says only how far it had
// read: the bad token is the one that ends there.
func grammarError(sql string, toks []token, err error) *pgerror.Error {
	var at int
	msg := err.Error()
	if _, e := fmt.Sscanf(msg, "parse error at position %d:", &at); e != nil {
		return lexicalError(sql, toks[0].pos, []error{err})
	}
	last := toks[len(toks)-1]
	at += toks[0].pos
	bad := token{pos: len(sql), end: len(sql)}
	if i := skipSpace(sql, last.end); i < len(sql) && sql[i] == ';' {
		bad = token{pos: i, end: i + 1}
	}
	for _, t := range toks {
		if t.end >= at {
			bad = t
			break
		}
	}
	msg = strings.TrimSpace(msg[strings.Index(msg, ":")+1:])
	if strings.HasPrefix(msg, "syntax error") {
		return syntaxErrorAt(sql, bad)
	}
	if bad.pos >= len(sql) {
		bad = last
	}
	return pgerror.New(pgerror.SyntaxError, "%s", msg).At(charPos(sql, bad.pos))
}
