package plan

import "github.com/copradb/copra/sqlfront/ast"

// figureName is the name Postgres gives an unnamed output column.
func figureName(e ast.Expr) string {
	if n := nameOf(e); n != "" {
		return n
	}
	return "?column?"
}

func nameOf(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.ColumnRef:
		return x.Parts[len(x.Parts)-1]
	case *ast.Func:
		return x.Name
	case *ast.Cast:
		if n := nameOf(x.X); n != "" {
			return n
		}
		return x.To.Names[len(x.To.Names)-1]
	case *ast.Collate:
		return nameOf(x.X)
	case *ast.Subscript:
		return nameOf(x.X)
	case *ast.Case:
		if x.Else != nil {
			if n := nameOf(x.Else); n != "" {
				return n
			}
		}
		return "case"
	case *ast.Array:
		return "array"
	case *ast.Row:
		return "row"
	case *ast.Exists:
		return "exists"
	case *ast.Subquery:
		if x.Array {
			return "array"
		}
		s := x.Sub
		for s.L != nil {
			s = s.L
		}
		if len(s.Targets) > 0 {
			if s.Targets[0].Alias != "" {
				return s.Targets[0].Alias
			}
			return nameOf(s.Targets[0].Expr)
		}
		if s.Values != nil {
			return "column1"
		}
	}
	return ""
}
