package ast

// Stmt is one statement. Text is set by the parser on Statement, not here.
type Stmt interface{ stmt() }

// Statement is a parsed statement with its own text (without the final
// semicolon) and how many parameters $1…$n it mentions.
type Statement struct {
	Stmt
	Text   string
	Params int
	// Offset is how many characters of the query string come before Text: a
	// position in the query string is Offset plus a position in Text.
	Offset int
}

// TableName is a possibly qualified name of a relation (table, index …).
type TableName struct {
	Pos
	Catalog, Schema, Name string
}

// FromItem is an element of FROM.
type FromItem interface{ from() }

type (
	// TableRef is a named table (or CTE) with an optional alias.
	TableRef struct {
		Name    TableName
		Alias   string
		Columns []string
		Only    bool
	}
	// SubqueryRef is (SELECT …) AS alias (columns).
	SubqueryRef struct {
		Pos
		Sub     *Select
		Alias   string
		Columns []string
		Lateral bool
	}
	// FuncRef is a set-returning function in FROM.
	FuncRef struct {
		Pos
		Call       *Func
		Alias      string
		Columns    []string
		Ordinality bool
		Lateral    bool
	}
	// Join is l JOIN r. On and Using are exclusive; Natural has neither.
	Join struct {
		Pos
		Kind    JoinKind
		Natural bool
		L, R    FromItem
		On      Expr
		Using   []string
		Alias   string
	}
)

// JoinKind is how a join treats rows without a partner.
type JoinKind int

// The kinds of joins.
const (
	JoinInner JoinKind = iota
	JoinLeft
	JoinRight
	JoinFull
	JoinCross
)

func (*TableRef) from()    {}
func (*SubqueryRef) from() {}
func (*FuncRef) from()     {}
func (*Join) from()        {}

// Target is an item of a select list or RETURNING; a star is a ColumnRef.
type Target struct {
	Expr  Expr
	Alias string
}

// SortItem is an ORDER BY key. NullsFirst nil = Postgres's default (nulls last
// when ascending, first when descending).
type SortItem struct {
	Expr       Expr
	Desc       bool
	NullsFirst *bool
}

// CTE is one WITH item. Stmt is a *Select (others are refused by the binder).
type CTE struct {
	Pos
	Name    string
	Columns []string
	Stmt    Stmt
}

// SetOp is how two selects combine.
type SetOp int

// Set operations; SetNone is a plain select or VALUES.
const (
	SetNone SetOp = iota
	SetUnion
	SetIntersect
	SetExcept
)

// Select is SELECT, VALUES, TABLE t, or a set operation over L and R.
type Select struct {
	Pos
	With       []CTE
	Recursive  bool
	SetOp      SetOp
	SetAll     bool
	L, R       *Select
	Values     [][]Expr // VALUES lists; then Targets is empty
	Distinct   bool
	DistinctOn []Expr
	Targets    []Target
	From       []FromItem
	Where      Expr
	GroupBy    []Expr
	// GroupingSets names ROLLUP/CUBE/GROUPING SETS when used ("" = plain).
	GroupingSets string
	Having       Expr
	Windows      map[string]*Window
	OrderBy      []SortItem
	Limit        Expr
	Offset       Expr
	WithTies     bool
	Locking      []Locking
}

// Locking is FOR UPDATE/SHARE.
type Locking struct {
	Strength   string // "UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"
	Of         []string
	NoWait     bool
	SkipLocked bool
}

// Insert is INSERT INTO. Source nil = DEFAULT VALUES.
type Insert struct {
	With      []CTE
	Table     TableName
	Alias     string
	Columns   []string
	ColumnPos []int
	Source    *Select
	// Overriding is "", "system" or "user" (OVERRIDING … VALUE).
	Overriding string
	OnConflict *OnConflict
	Returning  []Target
}

// OnConflict is ON CONFLICT …; Set empty = DO NOTHING.
type OnConflict struct {
	Pos
	Columns    []string
	Constraint string
	Where      Expr // of the conflict target
	DoUpdate   bool
	Set        []Assignment
	SetWhere   Expr
}

// Assignment is col = expr, or (a, b) = row/subquery when Columns has several.
type Assignment struct {
	Pos
	Columns []string
	Value   Expr
}

// Update is UPDATE t SET … FROM … WHERE … RETURNING.
type Update struct {
	With      []CTE
	Table     TableRef
	Set       []Assignment
	From      []FromItem
	Where     Expr
	Returning []Target
}

// Delete is DELETE FROM t USING … WHERE … RETURNING.
type Delete struct {
	With      []CTE
	Table     TableRef
	Using     []FromItem
	Where     Expr
	Returning []Target
}

// ColumnDef is a column of CREATE TABLE.
type ColumnDef struct {
	Pos
	Name          string
	Type          TypeName
	NotNull       bool
	Null          bool // explicit NULL
	Default       Expr
	DefaultText   string // Default as SQL text; also the expression of a stored generated column
	PrimaryKey    bool
	Unique        bool
	Check         []Check
	Constraint    string // name of the PRIMARY KEY/UNIQUE constraint, if given
	Collation     []string
	References    *ForeignKey
	GeneratedKind string // "", "always", "by default" (identity), "stored"
	Serial        bool   // smallserial/serial/bigserial
}

// Check is CHECK (expr), Text as written.
type Check struct {
	Name string
	Expr Expr
	Text string
}

// ForeignKey is REFERENCES/FOREIGN KEY.
type ForeignKey struct {
	Pos
	Name       string
	Columns    []string
	RefTable   TableName
	RefColumns []string
}

// TableConstraint is PRIMARY KEY/UNIQUE (cols) at table level.
type TableConstraint struct {
	Pos
	Name    string
	Primary bool
	Columns []string
}

// CreateTable is CREATE TABLE. AsSelect is CREATE TABLE AS.
type CreateTable struct {
	Name        TableName
	IfNotExists bool
	Temporary   bool
	Columns     []ColumnDef
	Constraints []TableConstraint
	Checks      []Check
	Foreign     []ForeignKey
	AsSelect    *Select
}

// Drop is DROP TABLE/INDEX/SCHEMA/VIEW.
type Drop struct {
	Kind     string // "TABLE", "INDEX", "VIEW", "SCHEMA"
	Names    []TableName
	IfExists bool
	Cascade  bool
}

// CreateIndex is CREATE [UNIQUE] INDEX.
type CreateIndex struct {
	Pos
	Name         string
	Table        TableName
	Unique       bool
	IfNotExists  bool
	Concurrently bool
	Method       string
	Columns      []IndexColumn
	Include      []string
	Where        Expr
}

// IndexColumn is a column (or expression) of an index.
type IndexColumn struct {
	Pos
	Name       string // "" = expression
	Expr       Expr
	Desc       bool
	NullsFirst *bool
}

// AlterTable is ALTER TABLE with its commands by name.
type AlterTable struct {
	Name     TableName
	IfExists bool
	Commands []AlterCommand
}

// AlterCommand is one action; Kind is Postgres's word for it ("ADD COLUMN",
// "DROP COLUMN", "RENAME TO", "RENAME COLUMN", "SET NOT NULL", "ADD CONSTRAINT" …).
type AlterCommand struct {
	Pos
	Kind       string
	Column     *ColumnDef
	Name       string
	NewName    string
	Constraint *TableConstraint
	IfExists   bool // IF [NOT] EXISTS of the command
}

type (
	// Truncate is TRUNCATE.
	Truncate struct {
		Tables          []TableName
		RestartIdentity bool
	}
	// Begin is BEGIN/START TRANSACTION. Isolation "" = default, else lower case
	// ("read committed", "repeatable read", "serializable", "read uncommitted").
	Begin struct {
		Isolation string
		ReadOnly  *bool
	}
	// Commit is COMMIT/END.
	Commit struct{ Chain bool }
	// Rollback is ROLLBACK/ABORT; To names a savepoint.
	Rollback struct {
		To    string
		Chain bool
	}
	// Savepoint is SAVEPOINT; Release makes it RELEASE SAVEPOINT.
	Savepoint struct {
		Name    string
		Release bool
	}
	// Set is SET [LOCAL|SESSION] name = value; Values nil = DEFAULT. RESET comes as DEFAULT,
	// RESET ALL with Name "all", SET TRANSACTION with Name "transaction".
	Set struct {
		Pos
		Name   string
		Local  bool
		Values []Expr
		// Characteristics of SET TRANSACTION / SESSION CHARACTERISTICS.
		Tx *Begin
	}
	// Show is SHOW name ("all" for ALL).
	Show struct {
		Pos
		Name string
	}
	// Explain is EXPLAIN.
	Explain struct {
		Analyze, Verbose bool
		Format           string // "text" or what was asked for
		Options          map[string]string
		Stmt             Stmt
		StmtText         string
	}
	// Copy is COPY. Query is COPY (query) TO. Options hold lower-case names.
	Copy struct {
		Pos
		Table   TableName
		Columns []string
		Query   *Select
		From    bool
		File    string // "" = STDIN/STDOUT
		Program bool
		Options []CopyOption
		Where   Expr
	}
	// CopyOption is one COPY option; List for FORCE_QUOTE (cols) and the like.
	CopyOption struct {
		Pos
		Name  string
		Value string
		List  []string
	}
	// Prepare, Execute and Deallocate are the SQL-level prepared statements.
	Prepare struct {
		Name  string
		Types []TypeName
		Stmt  Stmt
		Text  string
	}
	// Execute runs a prepared statement.
	Execute struct {
		Name string
		Args []Expr
	}
	// Deallocate drops one ("" = ALL).
	Deallocate struct{ Name string }
	// Discard is DISCARD ALL/PLANS/TEMP/SEQUENCES.
	Discard struct{ What string }
	// Analyze is ANALYZE [tables].
	Analyze struct{ Tables []TableName }
	// Vacuum is VACUUM.
	Vacuum struct{ Tables []TableName }
	// CreateSchema and CreateDatabase name what to create.
	CreateSchema struct {
		Name        string
		IfNotExists bool
	}
	// Comment is COMMENT ON kind object IS text.
	Comment struct {
		Kind string
		Name []string
		Text *string
	}
	// DeclareCursor, Fetch and CloseCursor are SQL cursors.
	DeclareCursor struct {
		Name   string
		Hold   bool
		Scroll bool
		Binary bool
		Query  *Select
		Text   string
	}
	// Fetch is FETCH/MOVE; Count < 0 = ALL.
	Fetch struct {
		Name      string
		Direction string // "forward", "backward", "absolute", "relative"
		Count     int64
		Move      bool
	}
	// CloseCursor is CLOSE ("" = ALL).
	CloseCursor struct{ Name string }
	// Unlisten is UNLISTEN, which has nothing to do: there is no LISTEN.
	Unlisten struct{}
	// LockTable is LOCK TABLE.
	LockTable struct {
		Tables []TableName
		Mode   string
		NoWait bool
	}
)

func (*Select) stmt()        {}
func (*Insert) stmt()        {}
func (*Update) stmt()        {}
func (*Delete) stmt()        {}
func (*CreateTable) stmt()   {}
func (*Drop) stmt()          {}
func (*CreateIndex) stmt()   {}
func (*AlterTable) stmt()    {}
func (*Truncate) stmt()      {}
func (*Begin) stmt()         {}
func (*Commit) stmt()        {}
func (*Rollback) stmt()      {}
func (*Savepoint) stmt()     {}
func (*Set) stmt()           {}
func (*Show) stmt()          {}
func (*Explain) stmt()       {}
func (*Copy) stmt()          {}
func (*Prepare) stmt()       {}
func (*Execute) stmt()       {}
func (*Deallocate) stmt()    {}
func (*Discard) stmt()       {}
func (*Analyze) stmt()       {}
func (*Vacuum) stmt()        {}
func (*CreateSchema) stmt()  {}
func (*Comment) stmt()       {}
func (*DeclareCursor) stmt() {}
func (*Fetch) stmt()         {}
func (*CloseCursor) stmt()   {}
func (*LockTable) stmt()     {}
func (*Unlisten) stmt()      {}
