package isolation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

type edgeKind int

const (
	ww edgeKind = iota
	wr
	rw
	rt
	edgeKinds
)

func (k edgeKind) String() string { return [...]string{"ww", "wr", "rw", "rt"}[k] }

// edge is one dependency. key and value say what makes it one.
type edge struct {
	to    int
	kind  edgeKind
	key   string
	value int64
}

// graph has the transactions as its first nodes. Behind them are nodes of time,
// one for each end of a transaction: "had ended before" has as many pairs as
// there are transactions squared, and a line of nodes says the same.
type graph struct {
	out [][]edge
	n   int // transactions
}

func (g *graph) add(from int, e edge) {
	if from == e.to || slices.ContainsFunc(g.out[from], func(o edge) bool { return o.to == e.to && o.kind == e.kind }) {
		return
	}
	g.out[from] = append(g.out[from], e)
}

// buildGraph adds the dependencies of committed transactions.
func (c *checker) buildGraph() {
	c.graph = &graph{out: make([][]edge, len(c.txns)), n: len(c.txns)}
	for _, key := range slices.Sorted(maps.Keys(c.orders)) {
		c.addWrites(c.orders[key])
	}
	for i := range c.txns {
		if c.txns[i].Outcome == Committed {
			c.addReads(i)
		}
	}
	c.addRealtime()
	for i, edges := range c.graph.out {
		for _, e := range edges {
			switch {
			case i >= c.graph.n || e.kind == rt:
				c.report.Others++
			case e.kind == ww:
				c.report.WW++
			case e.kind == wr:
				c.report.WR++
			default:
				c.report.RW++
			}
		}
	}
}

// committedWriter returns who appended a value, if that counts.
func (c *checker) committedWriter(key string, value int64) (int, bool) {
	w, ok := c.writer[element{key, value}]
	return w, ok && c.txns[w].Outcome == Committed
}

func (c *checker) addWrites(o *order) {
	last, lastValue := -1, int64(0)
	for _, v := range o.values {
		w, ok := c.committedWriter(o.key, v)
		if !ok {
			continue
		}
		if last >= 0 {
			c.graph.add(last, edge{w, ww, o.key, lastValue})
		}
		last, lastValue = w, v
	}
	if last >= 0 {
		for _, w := range o.unseen {
			c.graph.add(last, edge{w, ww, o.key, lastValue})
		}
	}
}

// addReads adds what a transaction's reads depend on, and what depends on them.
// A read behind an append of its own transaction counts by what is before that.
func (c *checker) addReads(i int) {
	for _, o := range c.txns[i].Ops {
		if o.Append {
			continue
		}
		list, ord := c.outside(i, o), c.orders[o.Key]
		if n := len(list); n > 0 {
			if w, ok := c.committedWriter(o.Key, list[n-1]); ok {
				c.graph.add(w, edge{i, wr, o.Key, list[n-1]})
			}
		}
		next := ord.unseen
		for _, v := range ord.values[min(len(list), len(ord.values)):] {
			if w, ok := c.committedWriter(o.Key, v); ok && w != i {
				next = []int{w}
				break
			}
		}
		for _, w := range next {
			c.graph.add(i, edge{w, rw, o.Key, int64(len(list))})
		}
	}
}

// addRealtime adds who had ended before who began.
func (c *checker) addRealtime() {
	var ended []int
	for i := range c.txns {
		if t := &c.txns[i]; t.Outcome == Committed && t.End > 0 {
			ended = append(ended, i)
		}
	}
	slices.SortFunc(ended, func(a, b int) int { return cmp.Compare(c.txns[a].End, c.txns[b].End) })
	g := c.graph
	for n, i := range ended {
		node := g.n + n
		g.out = append(g.out, nil)
		g.out[i] = append(g.out[i], edge{to: node, kind: rt})
		if n > 0 {
			g.out[node-1] = append(g.out[node-1], edge{to: node, kind: rt})
		}
	}
	for i := range c.txns {
		t := &c.txns[i]
		if t.Outcome != Committed || t.Past || t.Begin == 0 {
			continue
		}
		// The last one that ended before t began.
		n, _ := slices.BinarySearchFunc(ended, t.Begin, func(e int, at int64) int { return cmp.Compare(c.txns[e].End, at) })
		if n > 0 {
			g.out[g.n+n-1] = append(g.out[g.n+n-1], edge{to: i, kind: rt})
		}
	}
}

// why explains an edge between transactions.
func (c *checker) why(from int, e edge) string {
	a, b := c.txns[from].Name, c.txns[e.to].Name
	switch e.kind {
	case ww:
		return fmt.Sprintf("%s –ww→ %s: %s appended to %s behind the %d of %s", a, b, b, e.key, e.value, a)
	case wr:
		return fmt.Sprintf("%s –wr→ %s: %s read the %d that %s appended to %s", a, b, b, e.value, a, e.key)
	case rw:
		return fmt.Sprintf("%s –rw→ %s: %s read %s with %d values, without that of %s", a, b, a, e.key, e.value, b)
	}
	return fmt.Sprintf("%s –rt→ %s: %s had ended (%d) before %s began (%d)", a, b, a, c.txns[from].End, b, c.txns[e.to].Begin)
}
