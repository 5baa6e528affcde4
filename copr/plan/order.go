package plan

import "github.com/copradb/copra/internal/sqltypes"

// Unordered reports whether the order in which the scan's rows come cannot be
// seen in the answer, so that pieces of a region may be read in any order, at
// the same time, and each give a partial answer of its own: aggregations of
// which no state and no group depends on it. (A sum of floats does, and which
// of 1.0 and 1.00 names their group.)
func (p *Plan) Unordered() bool {
	last := len(p.Nodes) - 1
	for _, n := range p.Nodes[:last] {
		switch n.(type) {
		case *TableScan, *IndexScan, *Selection, *Projection:
		default:
			return false // a limit takes the first rows
		}
	}
	a, ok := p.Nodes[last].(*Aggregation)
	if !ok {
		return false
	}
	for _, e := range a.GroupBy {
		if !exact(e.Type()) {
			return false
		}
	}
	for i := range a.Aggs {
		if !a.Aggs[i].unordered() {
			return false
		}
	}
	return true
}

// unordered reports whether the aggregate's state is the same whatever order
// its rows come in.
func (c *AggCall) unordered() bool {
	switch c.Name {
	case "count", "bool_and", "bool_or", "every":
		return true
	case "min", "max", "sum", "avg":
		for _, e := range c.Args {
			if !exact(e.Type()) {
				return false
			}
		}
		return true
	}
	return false
}

// exact are types whose equal values look the same, and add up to the same in
// any order.
func exact(t sqltypes.Type) bool {
	switch t.OID {
	case sqltypes.OIDFloat4, sqltypes.OIDFloat8, sqltypes.OIDInterval:
		return false
	case sqltypes.OIDNumeric:
		return t.FixedScale()
	case sqltypes.OIDBpchar:
		return t.Precision > 0
	}
	return true
}
