package expr

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

func init() {
	for _, t := range []string{"text,text", "name,text", "bpchar,text"} {
		def("~~("+t+") bool", likeEval(false, false))
		def("!~~("+t+") bool", likeEval(true, false))
		def("~~*("+t+") bool", likeEval(false, true))
		def("!~~*("+t+") bool", likeEval(true, true))
	}
	def("like(text,text) bool", likeEval(false, false))
	def("notlike(text,text) bool", likeEval(true, false))
	def("~~(bytea,bytea) bool", likeEval(false, false))
	def("!~~(bytea,bytea) bool", likeEval(true, false))
	def("like_escape(text,text) text", fn2(func(_ *call, p, esc string) (string, error) { return likeEscape(p, esc) }))
}

// likeEscape rewrites a LIKE pattern with an escape character of its own to
// one with backslashes.
func likeEscape(p, esc string) (string, error) {
	if esc == `\` {
		return p, nil
	}
	if utf8.RuneCountInString(esc) > 1 {
		return "", pgerror.New(pgerror.InvalidEscapeSequence, "invalid escape string").
			WithHint("Escape string must be empty or one character.")
	}
	var b strings.Builder
	for i := 0; i < len(p); {
		if esc != "" && strings.HasPrefix(p[i:], esc) {
			i += len(esc)
			b.WriteByte('\\')
			if i < len(p) {
				_, n := utf8.DecodeRuneInString(p[i:])
				b.WriteString(p[i : i+n])
				i += n
			}
			continue
		}
		if p[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(p[i])
		i++
	}
	return b.String(), nil
}

// likePattern is a compiled LIKE pattern: pieces between the % signs, the first
// and last anchored unless a % is there. A piece is bytes with _ for any one
// character.
type likePattern struct {
	pieces     []likePiece
	openStart  bool
	openEnd    bool
	fold       bool
	minBytes   int
	anyPercent bool
	// more is set for a pattern that ends in an escape character: it is an
	// error when a text goes on there.
	more *likePattern
}

type likePiece struct {
	text string // literal bytes; '_' wildcards are where wild says
	wild []bool // nil = none
}

var errLikeEscape = pgerror.New(pgerror.InvalidEscapeSequence, "LIKE pattern must not end with escape character")

func compileLike(p string, fold bool) *likePattern {
	if fold {
		p = strings.ToLower(p)
	}
	m := &likePattern{fold: fold}
	if head := strings.TrimRight(p, `\`); (len(p)-len(head))%2 == 1 {
		p = p[:len(p)-1]
		m.more = compileLike(p+"_%", false)
		m.more.fold = fold
	}
	var text []byte
	var wild []bool
	hasWild := false
	flush := func() {
		if len(text) > 0 {
			piece := likePiece{text: string(text)}
			if hasWild {
				piece.wild = wild
			}
			m.pieces = append(m.pieces, piece)
			m.minBytes += len(text)
		}
		text, wild, hasWild = nil, nil, false
	}
	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '%':
			if i == 0 || !m.anyPercent && len(text) == 0 {
				m.openStart = true
			}
			flush()
			m.anyPercent, m.openEnd = true, true
			continue
		case '\\':
			i++
			text, wild = append(text, p[i]), append(wild, false)
		case '_':
			text, wild, hasWild = append(text, '_'), append(wild, true), true
		default:
			text, wild = append(text, c), append(wild, false)
		}
		m.openEnd = false
	}
	flush()
	return m
}

// matchAt matches a piece at the start of s and returns the bytes used, -1 for
// no match.
func (p *likePiece) matchAt(s string) int {
	if p.wild == nil {
		if strings.HasPrefix(s, p.text) {
			return len(p.text)
		}
		return -1
	}
	at := 0
	for i := 0; i < len(p.text); i++ {
		if at >= len(s) {
			return -1
		}
		if p.wild[i] {
			_, n := utf8.DecodeRuneInString(s[at:])
			at += n
			continue
		}
		if s[at] != p.text[i] {
			return -1
		}
		at++
	}
	return at
}

// find looks for a piece in s and returns where what follows it starts.
func (p *likePiece) find(s string) (rest int) {
	if p.wild == nil {
		if i := strings.Index(s, p.text); i >= 0 {
			return i + len(p.text)
		}
		return -1
	}
	for i := 0; i < len(s); {
		if n := p.matchAt(s[i:]); n >= 0 {
			return i + n
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		i += n
	}
	return -1
}

// matchEnd reports whether a piece matches the end of s. A piece of fixed
// characters is tried at the one place where it can start.
func (p *likePiece) matchEnd(s string) bool {
	if p.wild == nil {
		return strings.HasSuffix(s, p.text)
	}
	start := len(s)
	for i := len(p.text) - 1; i >= 0; i-- { // step back one character or byte
		if start == 0 {
			return false
		}
		if p.wild[i] {
			_, n := utf8.DecodeLastRuneInString(s[:start])
			start -= n
		} else {
			start--
		}
	}
	return p.matchAt(s[start:]) == len(s)-start
}

// matches is match, and the error of a pattern that ends too early.
func (m *likePattern) matches(s string) (bool, error) {
	if m.more == nil {
		return m.match(s), nil
	}
	if m.more.match(s) {
		return false, errLikeEscape
	}
	return false, nil
}

func (m *likePattern) match(s string) bool {
	if m.fold {
		s = lowerText(s)
	}
	if len(s) < m.minBytes {
		return false
	}
	pieces := m.pieces
	if !m.anyPercent {
		if len(pieces) == 0 {
			return s == ""
		}
		return pieces[0].matchAt(s) == len(s)
	}
	if !m.openStart && len(pieces) > 0 {
		n := pieces[0].matchAt(s)
		if n < 0 {
			return false
		}
		s, pieces = s[n:], pieces[1:]
	}
	if len(pieces) == 0 {
		return true
	}
	last := len(pieces)
	if !m.openEnd {
		last--
	}
	for i := range last {
		n := pieces[i].find(s)
		if n < 0 {
			return false
		}
		s = s[n:]
	}
	return m.openEnd || pieces[last].matchEnd(s)
}

// lowerText is lower() in the one locale we have, C.UTF-8: by Unicode.
func lowerText(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 0x80 || c >= 'A' && c <= 'Z' {
			return strings.Map(unicode.ToLower, s)
		}
	}
	return s
}

// likeMatchers gives the test of row i against its pattern; a constant pattern
// is compiled once.
func likeMatchers(text vec, t sqltypes.Type, pattern vec, fold bool) func(i int) (bool, error) {
	s := paddedReader(text, t)
	if pattern.cst {
		m := compileLike(stringsOf(pattern.arr).get(0), fold)
		return func(i int) (bool, error) { return m.matches(s(i)) }
	}
	p := reader[string](pattern)
	var last string
	var m *likePattern
	return func(i int) (bool, error) {
		if x := p(i); m == nil || x != last {
			m, last = compileLike(x, fold), x
		}
		return m.matches(s(i))
	}
}

// special is the test for the common shapes abc%, %abc and %abc%; nil for
// others.
func (m *likePattern) special(s strs) func(i int) bool {
	if m.fold || m.more != nil || len(m.pieces) != 1 || m.pieces[0].wild != nil || !m.anyPercent {
		return nil
	}
	text := m.pieces[0].text
	switch {
	case m.openStart && m.openEnd:
		return func(i int) bool { return strings.Contains(s.get(i), text) }
	case m.openStart:
		return func(i int) bool { return strings.HasSuffix(s.get(i), text) }
	}
	n := int32(len(text))
	return func(i int) bool {
		o := s.offs[i]
		return s.offs[i+1]-o >= n && string(s.data[o:o+n]) == text
	}
}

func likeEval(not, fold bool) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		match := likeMatchers(args[0], cc.args[0], args[1], fold)
		return lift(cc, args, n, sel, func(i int) (bool, bool, error) {
			ok, err := match(i)
			return ok != not, true, err
		})
	}
}

// likeNode is LIKE as a filter.
type likeNode struct {
	callNode
	not     bool
	pattern *likePattern // of a constant, compiled
	scan    *likeScan
}

func newLikeNode(c callNode) likeNode {
	l := likeNode{callNode: c, not: c.fn.Sig[0] == '!'}
	if p, ok := c.args[1].(constNode); ok && !p.v.nullConst() {
		l.pattern = compileLike(stringsOf(p.v.arr).get(0), false)
		l.scan = l.pattern.scan()
	}
	return l
}

// specialTest is the test of a constant pattern of a common shape.
func (l likeNode) specialTest(args []vec) func(i int) bool {
	if l.pattern == nil {
		return nil
	}
	return l.pattern.special(stringsOf(args[0].arr))
}

func (l likeNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	args, err := l.inputs(ctx, b, sel)
	if err != nil || args[0].nullConst() || args[1].nullConst() {
		return out, err
	}
	if args[0].cst || !args[1].cst {
		v, err := l.eval(ctx, b, sel)
		if err != nil {
			return out, err
		}
		return trueRows(v, b.N, sel, out), nil
	}
	if l.scan != nil && 8*restLen(b.N, sel) >= scanShare*b.N {
		start := len(out)
		return dropNulls(l.scan.filter(stringsOf(args[0].arr), b.N, l.not, sel, out), start, args[0]), nil
	}
	if special := l.specialTest(args); special != nil {
		start, not := len(out), l.not
		out = pick(b.N, sel, out, func(i int) bool { return special(i) != not })
		return dropNulls(out, start, args[0]), nil
	}
	match := likeMatchers(args[0], l.argTypes[0], args[1], false)
	valid := args[0].bitmap()
	out = pick(b.N, sel, out, func(i int) bool {
		if !valid.set(i) || err != nil {
			return false
		}
		ok, e := match(i)
		if e != nil {
			err = e
		}
		return ok != l.not
	})
	return out, err
}
