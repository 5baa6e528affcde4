// Package parse turns SQL text into copra's syntax tree (sqlfront/ast).
//
//	text ─► scan: tokens with byte positions, limits, strange characters
//	     ─► split at the semicolons between statements
//	     ─► grammar (github.com/multigres/multigres, a port of PostgreSQL's)
//	     ─► convert: grammar tree ─► ast, positions found again in the tokens
//
// The grammar library is seen nowhere else, so that it can be replaced here.
// It keeps no source positions and has no limits of its own: both come from the
// token scan. The converter walks the tree in the order of the source and looks
// for each name, operator and literal from where the last one was found; what
// isn't found has position 0, which costs an error message its caret and
// nothing more.
//
// Syntax errors are 42601 in PostgreSQL's words with the position of the bad
// token's first character; statements and clauses that copra has no node for
// are refused by name with 0A000.
//
// Trees are immutable and may be shared: Cache keeps them by text. Read
// convert.go next.
package parse
