package expr

import (
	"strconv"
	"strings"

	"github.com/copradb/copra/internal/sqltypes"
)

func (c *Column) Type() sqltypes.Type   { return c.Typ }
func (c *Const) Type() sqltypes.Type    { return c.Typ }
func (p *Param) Type() sqltypes.Type    { return p.Typ }
func (c *Call) Type() sqltypes.Type     { return c.Typ }
func (*Logic) Type() sqltypes.Type      { return sqltypes.Bool }
func (c *Case) Type() sqltypes.Type     { return c.Typ }
func (c *Coalesce) Type() sqltypes.Type { return c.Typ }
func (*In) Type() sqltypes.Type         { return sqltypes.Bool }

func (c *Column) String() string {
	if c.Name != "" {
		return c.Name
	}
	return "#" + strconv.Itoa(c.Index)
}

func (p *Param) String() string { return "$" + strconv.Itoa(p.Index+1) }

func (c *Const) String() string { return constText(c.Typ, c.Value) }

// constText prints a constant as EXPLAIN does: small ints and booleans bare,
// the rest quoted with its type.
func constText(t sqltypes.Type, v sqltypes.Datum) string {
	if v.IsNull() {
		if isUnknown(t) {
			return "NULL"
		}
		return "NULL::" + t.Name()
	}
	s := sqltypes.Format(t, v)
	switch t.OID {
	case sqltypes.OIDBool:
		return strconv.FormatBool(v.Bool())
	case sqltypes.OIDInt4:
		if v.Int() >= 0 {
			return s
		}
	case sqltypes.OIDNumeric:
		if strings.Trim(s, "0123456789.") == "" && strings.Contains(s, ".") {
			return s
		}
	case sqltypes.OIDBpchar:
		s = v.Str()
	case sqltypes.OIDUnknown:
		return quoteConst(s)
	}
	name := t.Name()
	if t.OID == sqltypes.OIDNumeric {
		name = "numeric"
	}
	return quoteConst(s) + "::" + name
}

// quoteConst quotes as EXPLAIN does, with standard_conforming_strings on.
func quoteConst(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// quoteLiteral is quote_literal.
func quoteLiteral(s string) string {
	out := strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return "E'" + strings.ReplaceAll(out, `\`, `\\`) + "'"
	}
	return "'" + out + "'"
}

func list(es []Expr, sep string) string {
	parts := make([]string, len(es))
	for i, e := range es {
		parts[i] = e.String()
	}
	return strings.Join(parts, sep)
}

func (c *Call) String() string {
	switch {
	case c.Fn.Kind == KindCast:
		arg := c.Args[0].String()
		if _, call := c.Args[0].(*Call); !call || !strings.HasPrefix(arg, "(") {
			arg = "(" + arg + ")"
		}
		name := c.Typ.Name()
		if c.Typ.OID == sqltypes.OIDNumeric && c.Typ.Precision == 0 {
			name = "numeric"
		}
		return arg + "::" + name
	case c.Fn.Kind == KindOperator && len(c.Args) == 1:
		return "(" + c.Fn.Name + " " + c.Args[0].String() + ")"
	case c.Fn.Kind == KindOperator:
		return "(" + c.Args[0].String() + " " + c.Fn.Name + " " + c.Args[1].String() + ")"
	}
	switch c.Fn.Name {
	case "not":
		return "(NOT " + c.Args[0].String() + ")"
	case "isnull":
		return "(" + c.Args[0].String() + " IS NULL)"
	case "isnotnull":
		return "(" + c.Args[0].String() + " IS NOT NULL)"
	case "isdistinct":
		return "(" + list(c.Args, " IS DISTINCT FROM ") + ")"
	case "isnotdistinct":
		return "(" + list(c.Args, " IS NOT DISTINCT FROM ") + ")"
	case "istrue", "isfalse", "isunknown", "isnottrue", "isnotfalse", "isnotunknown":
		words := strings.ToUpper(strings.TrimPrefix(c.Fn.Name, "is"))
		if rest, ok := strings.CutPrefix(words, "NOT"); ok {
			words = "NOT " + rest
		}
		return "(" + c.Args[0].String() + " IS " + words + ")"
	}
	return c.functionText()
}

// functionText prints a call in a function's notation, or the words that SQL
// has for it.
func (c *Call) functionText() string {
	name := c.Fn.Name
	switch name {
	case "greatest", "least", "nullif":
		return strings.ToUpper(name) + "(" + list(c.Args, ", ") + ")"
	case "extract":
		if f, ok := c.Args[0].(*Const); ok && !f.Value.IsNull() {
			return "EXTRACT(" + f.Value.Str() + " FROM " + c.Args[1].String() + ")"
		}
	}
	if op, ok := strings.CutPrefix(name, "any_"); ok && len(c.Args) == 2 {
		return "(" + c.Args[0].String() + " " + op + " ANY (" + c.Args[1].String() + "))"
	}
	if op, ok := strings.CutPrefix(name, "all_"); ok && len(c.Args) == 2 {
		return "(" + c.Args[0].String() + " " + op + " ALL (" + c.Args[1].String() + "))"
	}
	return QuoteIdent(name) + "(" + list(c.Args, ", ") + ")"
}

func (l *Logic) String() string {
	if l.Or {
		return "(" + list(l.Args, " OR ") + ")"
	}
	return "(" + list(l.Args, " AND ") + ")"
}

func (c *Case) String() string {
	var b strings.Builder
	b.WriteString("CASE")
	for i := range c.Conds {
		b.WriteString(" WHEN " + c.Conds[i].String() + " THEN " + c.Results[i].String())
	}
	if c.Else != nil {
		b.WriteString(" ELSE " + c.Else.String())
	} else {
		b.WriteString(" ELSE " + constText(c.Typ, sqltypes.Null))
	}
	return b.String() + " END"
}

func (c *Coalesce) String() string { return "COALESCE(" + list(c.Args, ", ") + ")" }

func (x *In) String() string {
	t := x.X.Type()
	elems := make([]sqltypes.ArrayElement, len(x.Values))
	for i, v := range x.Values {
		elems[i] = sqltypes.ArrayElement{Null: v.IsNull(), Text: sqltypes.Format(t, v)}
		if t.OID == sqltypes.OIDBpchar && !v.IsNull() {
			elems[i].Text = v.Str()
		}
	}
	op := " = ANY ("
	if x.Not {
		op = " <> ALL ("
	}
	name, left := t.Base().Name(), x.X.String()
	if t.OID == sqltypes.OIDVarchar {
		name, left = "text", "("+left+")::text"
	}
	return "(" + left + op + quoteConst(sqltypes.JoinArray(sqltypes.TextArray, elems)) + "::" + name + "[]))"
}
