package plan

// dropProjections removes projections that only hand columns on: columns keep
// their ids, so nothing above notices, joins on both sides of one can be
// ordered together, and pruning drops what is not read.
func dropProjections(n node) node {
	n = mapInputs(n, dropProjections)
	p, ok := n.(*projectNode)
	if !ok {
		return n
	}
	for _, it := range p.items {
		if !it.passThrough() {
			return n
		}
	}
	return p.in
}
