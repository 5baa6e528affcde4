package parse

import (
	"runtime"
	"strings"
	"unicode/utf8"

	mparser "github.com/multigres/multigres/go/common/parser"
	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// Limits of a query string.
const (
	// QueryBytesMax is the longest query string that is parsed.
	QueryBytesMax = 16 << 20
	// NestingDepthMax is how deep parentheses and expressions may nest.
	NestingDepthMax = 1000
	// ParamsMax is the highest parameter number, as in the wire protocol.
	ParamsMax = 65535
)

// Parse splits a query string into its statements and parses each. An empty
// string gives no statement. Positions of errors count characters of sql.
func Parse(sql string) ([]*ast.Statement, error) {
	if len(sql) > QueryBytesMax {
		return nil, pgerror.New(pgerror.ProgramLimitExceeded, "query string of %d bytes is longer than %d", len(sql), QueryBytesMax).
			WithHint("Load data with COPY, or split the statement.")
	}
	if !utf8.ValidString(sql) {
		return nil, pgerror.New(pgerror.CharacterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\"")
	}
	if strings.IndexByte(sql, 0) >= 0 {
		return nil, pgerror.New(pgerror.CharacterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\": 0x00")
	}
	toks, err := scan(sql)
	if err != nil {
		return nil, err
	}
	if text, changed, err := byteEscapes(sql, toks); err != nil {
		return nil, err
	} else if changed {
		sql = text
		if toks, err = scan(sql); err != nil {
			return nil, err
		}
	}
	var out []*ast.Statement
	for _, seg := range split(toks) {
		st, err := parseOne(sql, seg)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// parseOne parses the statement that the tokens toks make up.
func parseOne(sql string, toks []token) (*ast.Statement, error) {
	base := toks[0].pos
	text := sql[base:toks[len(toks)-1].end]
	tree, err := mparser.ParseSQL(text)
	if err != nil {
		// once more with a space at the end: it tells an error at the last token
		// from one at the end of input
		if _, again := mparser.ParseSQL(text + " "); again != nil {
			err = again
		}
		return nil, grammarError(sql, toks, err)
	}
	if len(tree) != 1 || tree[0] == nil {
		return nil, syntaxErrorAt(sql, toks[0])
	}
	c := &converter{text: text, base: base, toks: toks, ascii: isASCII(text)}
	c.offset = utf8.RuneCountInString(sql[:base])
	st := &ast.Statement{Text: text, Offset: c.offset}
	st.Stmt, err = c.run(tree[0])
	if err != nil {
		return nil, err
	}
	if _, ok := st.Stmt.(*ast.Prepare); !ok {
		st.Params = c.params
	}
	return st, nil
}

// run converts one statement; what cannot be converted unwinds as *pgerror.Error,
// or as a failed assertion about the shape of the grammar's tree.
func (c *converter) run(node mast.Stmt) (st ast.Stmt, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*pgerror.Error)
			if _, shape := r.(*runtime.TypeAssertionError); shape {
				e, ok = pgerror.Unsupported("this form of "+c.command()), true
			}
			if !ok {
				panic(r)
			}
			if e.Position > 0 {
				e.Position += c.offset
			}
			st, err = nil, e
		}
	}()
	return c.stmt(node), nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Expr parses an expression on its own, as the catalog keeps defaults and
// checks.
func Expr(text string) (ast.Expr, error) {
	const prefix = "SELECT ("
	stmts, err := Parse(prefix + text + ")")
	if err != nil {
		return nil, err
	}
	if len(stmts) == 1 {
		if sel, ok := stmts[0].Stmt.(*ast.Select); ok && len(sel.Targets) == 1 && sel.From == nil && sel.Where == nil {
			return sel.Targets[0].Expr, nil
		}
	}
	return nil, pgerror.New(pgerror.SyntaxError, "%q is not an expression", text)
}
