// Package ast is copra's own syntax tree of the SQL statements it knows. The
// parser adapter (sqlfront/parse) fills it from the grammar library's tree and
// refuses by name what has no node here, so nothing above depends on that
// library. Positions are 1-based character offsets into the statement's text,
// 0 where the position is unknown.
package ast
