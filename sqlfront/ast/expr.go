package ast

// Expr is an expression as written.
type Expr interface{ Position() int }

// Pos is embedded by every node that knows where it stands.
type Pos int

// Position returns the 1-based character offset, 0 if unknown.
func (p Pos) Position() int { return int(p) }

// TypeName is a type as written: Names is the (qualified) name in Postgres's
// internal spelling where the grammar rewrites it (int4, varchar, bpchar,
// timestamptz …), Mods its modifiers, ArrayDims its number of dimensions.
type TypeName struct {
	Pos
	Names     []string
	Mods      []int32
	ArrayDims int
	// IntervalFields is the mask of INTERVAL YEAR TO MONTH etc.; 0 = all.
	IntervalFields int32
}

type (
	// ColumnRef is a, t.a, s.t.a; Star is t.* or * (Parts without the star).
	ColumnRef struct {
		Pos
		Parts []string
		Star  bool
	}
	// IntLit is an integer literal that fits int64.
	IntLit struct {
		Pos
		Value int64
	}
	// NumLit is a numeric literal in its own digits ("1.50", "1e3", or an
	// integer too large for int64).
	NumLit struct {
		Pos
		Text string
	}
	// StringLit is a string constant of yet unknown type.
	StringLit struct {
		Pos
		Value string
	}
	// BoolLit is TRUE or FALSE.
	BoolLit struct {
		Pos
		Value bool
	}
	// NullLit is NULL.
	NullLit struct{ Pos }
	// BitLit is B'…' or X'…', prefix letter included as Postgres keeps it.
	BitLit struct {
		Pos
		Text string
	}
	// Param is $N.
	Param struct {
		Pos
		N int
	}
	// Cast is x::t, CAST(x AS t) and typed literals (DATE '…').
	Cast struct {
		Pos
		X  Expr
		To TypeName
	}
	// Binary is an operator with two operands: "+", "=", "||", "~" …
	// Like, ilike and similar come as Like. Schema is for OPERATOR(s.op).
	Binary struct {
		Pos
		Schema string
		Op     string
		L, R   Expr
	}
	// Unary is a prefix operator: "-", "+", "~", "@" …
	Unary struct {
		Pos
		Op string
		X  Expr
	}
	// Logic is AND or OR over two or more operands.
	Logic struct {
		Pos
		Or   bool
		Args []Expr
	}
	// Not is NOT x.
	Not struct {
		Pos
		X Expr
	}
	// IsNull is x IS [NOT] NULL.
	IsNull struct {
		Pos
		X   Expr
		Not bool
	}
	// IsBool is x IS [NOT] TRUE/FALSE/UNKNOWN; Value nil = UNKNOWN.
	IsBool struct {
		Pos
		X     Expr
		Value *bool
		Not   bool
	}
	// IsDistinct is x IS [NOT] DISTINCT FROM y.
	IsDistinct struct {
		Pos
		L, R Expr
		Not  bool
	}
	// Between is x [NOT] BETWEEN [SYMMETRIC] lo AND hi.
	Between struct {
		Pos
		X, Lo, Hi Expr
		Not, Sym  bool
	}
	// In is x [NOT] IN (list) or x [NOT] IN (subquery); x may be a Row.
	In struct {
		Pos
		X    Expr
		List []Expr
		Sub  *Select
		Not  bool
	}
	// Like is x [NOT] LIKE/ILIKE/SIMILAR TO pattern [ESCAPE e].
	Like struct {
		Pos
		X, Pattern, Escape Expr // Escape nil = default
		Not, Fold, Similar bool
	}
	// AnyAll is x op ANY/ALL (array or subquery).
	AnyAll struct {
		Pos
		Op    string
		All   bool
		X     Expr
		Array Expr
		Sub   *Select
	}
	// Exists is EXISTS (subquery).
	Exists struct {
		Pos
		Sub *Select
	}
	// Subquery is a scalar subquery; Array makes it ARRAY(subquery).
	Subquery struct {
		Pos
		Sub   *Select
		Array bool
	}
	// Row is ROW(…) or (a, b).
	Row struct {
		Pos
		Items []Expr
	}
	// Array is ARRAY[…].
	Array struct {
		Pos
		Items []Expr
	}
	// Subscript is x[i].
	Subscript struct {
		Pos
		X, Index Expr
	}
	// Case is CASE [arg] WHEN … THEN … ELSE … END.
	Case struct {
		Pos
		Arg   Expr
		Whens []When
		Else  Expr
	}
	// When is one arm of a Case.
	When struct{ Cond, Result Expr }
	// Func is a function or aggregate call. Special syntax comes under the
	// name Postgres's grammar gives it (extract, substring, position, overlay,
	// btrim, timezone, coalesce, nullif, greatest, least), and current_date,
	// current_timestamp, current_user … as calls without arguments.
	Func struct {
		Pos
		Schema   string
		Name     string
		Args     []Expr
		Star     bool // count(*)
		Distinct bool
		OrderBy  []SortItem
		Filter   Expr
		Over     *Window // nil = not a window call
		Variadic bool
	}
	// Window is OVER (…) or OVER name.
	Window struct {
		Pos
		Name        string
		PartitionBy []Expr
		OrderBy     []SortItem
		Frame       string // as written, "" = default
	}
	// Collate is x COLLATE c.
	Collate struct {
		Pos
		X    Expr
		Name []string
	}
	// Default is DEFAULT inside VALUES or SET.
	Default struct{ Pos }
)
