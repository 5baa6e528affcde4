// Package agg has the aggregate functions: their types as PostgreSQL gives
// them, and accumulators that take whole columns.
//
// An Accumulator keeps the state of one aggregate call for all groups, in
// slices indexed by group. copr/exec numbers the groups; a region's partial
// aggregation hands out the states as columns, a final one merges them:
//
//	rows ──Update──► state ──State──► state columns ──Merge──► state ──Result──► result
//	     (region)                     (Arrow)                (SQL node)
//
//	function                    state columns
//	count                       int8
//	sum, min, max, bool_and …   one of the result's type (NULL = no row yet)
//	avg                         sum, int8 count
//	stddev, variance of floats  int8 count, float8 sum, float8 squared distance
//	stddev, variance otherwise  int8 count, numeric sum, numeric sum of squares
//	string_agg                  text with the first delimiter, int4 its length
//	array_agg                   text of the elements
//
// Rows says which positions of the columns count, and for which groups, so that
// nobody gathers values for an accumulator. Aggregates over the same rows share
// what they can: a Counter of rows, a sum (ShareSum), a loop (Sums).
//
// Resolve is the one place that knows which calls exist. DISTINCT and FILTER
// are copr/exec's: an accumulator sees only the rows that count.
package agg
