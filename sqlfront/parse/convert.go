package parse

import (
	"math"
	"strings"
	"unicode/utf8"

	mparser "github.com/multigres/multigres/go/common/parser"
	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// converter turns one statement's grammar tree into ours. next is the first
// token that no node has claimed yet. Refusals panic with *pgerror.Error,
// caught in run.
type converter struct {
	text   string
	base   int // byte of the query string where text starts
	offset int // characters before it
	toks   []token
	next   int
	ascii  bool
	depth  int
	params int
	// the last position computed: runeAt characters come before byte byteAt
	byteAt, runeAt int
}

// claimTokensMax is how far ahead claim looks, so that a name that isn't in
// the source costs little.
const claimTokensMax = 256

// refuse ends the conversion: copra has no node for feature.
func refuse(feature string) { panic(pgerror.Unsupported(feature)) }

func (c *converter) enter() {
	c.depth++
	if c.depth > NestingDepthMax {
		panic(tooDeep())
	}
}

func (c *converter) leave() { c.depth-- }

// at is the position in the statement's text of token i.
func (c *converter) at(i int) ast.Pos {
	if i < 0 || i >= len(c.toks) {
		return 0
	}
	b := c.toks[i].pos - c.base
	if c.ascii {
		return ast.Pos(b + 1)
	}
	if b >= c.byteAt {
		c.runeAt += utf8.RuneCountInString(c.text[c.byteAt:b])
	} else {
		c.runeAt -= utf8.RuneCountInString(c.text[b:c.byteAt])
	}
	c.byteAt = b
	return ast.Pos(c.runeAt + 1)
}

// claim finds the next token for which ok is true and claims it. Where there is
// none it claims nothing and the position is 0.
func (c *converter) claim(ok func(t *token) bool) ast.Pos {
	for i := c.next; i < min(len(c.toks), c.next+claimTokensMax); i++ {
		if ok(&c.toks[i]) {
			c.next = i + 1
			return c.at(i)
		}
	}
	return 0
}

// word claims the next identifier or keyword that reads so.
func (c *converter) word(w string) ast.Pos {
	if w == "" {
		return 0
	}
	return c.claim(func(t *token) bool {
		return t.str == w && t.kind >= utf8.RuneSelf && t.kind != mparser.SCONST && t.kind != mparser.Op
	})
}

// op claims the next operator that reads so ("<>" also as "!=").
func (c *converter) op(o string) ast.Pos {
	return c.claim(func(t *token) bool {
		return t.str == o && t.kind != mparser.SCONST && t.kind != mparser.IDENT || o == "<>" && t.kind == mparser.NOT_EQUALS
	})
}

// str claims the next string constant with this value.
func (c *converter) str(v string) ast.Pos {
	return c.claim(func(t *token) bool { return t.kind == mparser.SCONST && t.str == v })
}

// here is the position of the next unclaimed token.
func (c *converter) here() ast.Pos { return c.at(c.next) }

// peek reports whether the next unclaimed token reads so.
func (c *converter) peek(s string) bool {
	return c.next < len(c.toks) && c.toks[c.next].str == s && c.toks[c.next].kind != mparser.SCONST
}

// textFrom is the statement's text from token i on.
func (c *converter) textFrom(i int) string {
	if i >= len(c.toks) {
		return ""
	}
	return c.text[c.toks[i].pos-c.base:]
}

func items(l *mast.NodeList) []mast.Node {
	if l == nil {
		return nil
	}
	return l.Items
}

func names(l *mast.NodeList) []string {
	var out []string
	for _, n := range items(l) {
		s, ok := n.(*mast.String)
		if !ok {
			refuse("a subscript or field in this name")
		}
		out = append(out, s.SVal)
	}
	return out
}

// isNil sees through typed nil pointers of the grammar's interfaces.
func isNil(n mast.Node) bool {
	if n == nil {
		return true
	}
	switch x := n.(type) {
	case *mast.SelectStmt:
		return x == nil
	case *mast.NodeList:
		return x == nil
	}
	return false
}

func (c *converter) tableName(r *mast.RangeVar) ast.TableName {
	t := ast.TableName{Catalog: r.CatalogName, Schema: r.SchemaName, Name: r.RelName}
	for _, part := range []string{t.Catalog, t.Schema, t.Name} {
		if p := c.word(part); t.Pos == 0 {
			t.Pos = p
		}
	}
	return t
}

// qualified makes a TableName of a list of one to three names.
func (c *converter) qualified(parts []string) ast.TableName {
	r := &mast.RangeVar{}
	switch len(parts) {
	case 1:
		r.RelName = parts[0]
	case 2:
		r.SchemaName, r.RelName = parts[0], parts[1]
	case 3:
		r.CatalogName, r.SchemaName, r.RelName = parts[0], parts[1], parts[2]
	default:
		panic(pgerror.New(pgerror.SyntaxError, "improper relation name (too many dotted names): %s", strings.Join(parts, ".")))
	}
	return c.tableName(r)
}

func (c *converter) typeName(t *mast.TypeName) ast.TypeName {
	if t.Setof {
		refuse("SETOF")
	}
	if t.PctType {
		refuse("%TYPE")
	}
	out := ast.TypeName{Pos: c.here(), Names: names(t.Names), ArrayDims: len(items(t.ArrayBounds))}
	for _, m := range items(t.Typmods) {
		v, ok := intOf(m)
		if !ok || v < math.MinInt32 || v > math.MaxInt32 {
			panic(pgerror.New(pgerror.InvalidParameterValue, "type modifiers must be simple constants").At(int(out.Pos)))
		}
		out.Mods = append(out.Mods, int32(v))
	}
	if n := len(out.Names); n > 0 && out.Names[n-1] == "interval" && len(out.Mods) > 0 {
		if out.Mods[0] != mast.INTERVAL_FULL_RANGE {
			out.IntervalFields = out.Mods[0]
		}
		out.Mods = out.Mods[1:]
	}
	return out
}

// intOf is the integer that a literal node holds.
func intOf(n mast.Node) (int64, bool) {
	switch x := n.(type) {
	case *mast.Integer:
		return int64(x.IVal), true
	case *mast.A_Const:
		if x.Val != nil {
			return intOf(x.Val)
		}
	case *mast.A_Expr:
		if x.Lexpr == nil && len(items(x.Name)) == 1 && x.Name.Items[0].(*mast.String).SVal == "-" {
			v, ok := intOf(x.Rexpr)
			return -v, ok
		}
	}
	return 0, false
}
