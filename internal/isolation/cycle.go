package isolation

import (
	"fmt"
	"slices"
	"strings"
)

// search is for one kind of cycle, or for two where one edge more makes the
// difference.
type search struct {
	kinds []edgeKind
	// spread keeps two rw edges from following each other.
	spread bool
	// with is the kind of edge that every cycle must have.
	with edgeKind
}

var searches = []search{
	{kinds: []edgeKind{ww}, with: ww},                       // G0
	{kinds: []edgeKind{ww, wr}, with: wr},                   // G1c
	{kinds: []edgeKind{ww, wr, rw}, spread: true, with: rw}, // G-single, G-nonadjacent
	{kinds: []edgeKind{ww, wr, rw}, with: rw},               // G2-item, or what is above
}

// startsMax bounds from how many edges of one group a shortest cycle is sought.
const startsMax = 200

// findCycles looks into every group of transactions that depend on each other
// by the edges of a search, first without and then with those of real time. It
// takes time in proportion to the graph as long as there are no cycles; the only
// ones in valid histories are those of the last search.
func (c *checker) findCycles() {
	for _, realtime := range []bool{false, true} {
		found := map[string]bool{}
		for _, s := range searches {
			if realtime {
				s.kinds = append(slices.Clip(s.kinds), rt)
			}
			g := c.graph.project(s)
			for _, group := range components(g.out) {
				cycle := g.cycle(group, s.with)
				if cycle == nil || (realtime && !slices.ContainsFunc(cycle, func(s step) bool { return s.from >= c.graph.n })) {
					continue
				}
				kind := classify(cycle)
				if realtime {
					kind = kind.Realtime()
				}
				var members []int
				for _, s := range cycle {
					members = append(members, s.from)
				}
				slices.Sort(members)
				if id := fmt.Sprint(members); !found[id] { // by a search for something worse
					found[id] = true
					c.addCycle(kind, cycle)
				}
			}
		}
	}
}

// step is an edge with where it comes from.
type step struct {
	from int
	edge
}

func classify(cycle []step) Kind {
	var count [edgeKinds]int
	adjacent := false
	for i, s := range cycle {
		count[s.kind]++
		if next := cycle[(i+1)%len(cycle)]; s.kind == rw && next.kind == rw {
			adjacent = true
		}
	}
	switch {
	case count[rw] > 1 && adjacent:
		return G2Item
	case count[rw] > 1:
		return GNonadjacent
	case count[rw] == 1:
		return GSingle
	case count[wr] > 0:
		return G1c
	}
	return G0
}

func (c *checker) addCycle(kind Kind, cycle []step) {
	// Lines of time nodes become one edge between transactions.
	first := slices.IndexFunc(cycle, func(s step) bool { return s.from < c.graph.n })
	cycle = append(slices.Clone(cycle[first:]), cycle[:first]...)
	var short []step
	for _, s := range cycle {
		if s.from >= c.graph.n {
			short[len(short)-1].to = s.to
			continue
		}
		short = append(short, s)
	}
	var txns []int
	var lines []string
	for _, s := range short {
		txns = append(txns, s.from)
		lines = append(lines, "  "+c.why(s.from, s.edge))
	}
	c.add(kind, txns, "a cycle of %d transactions\n%s", len(txns), strings.Join(lines, "\n"))
}

// projection is the part of a graph that a search walks on. Where two rw edges
// may not follow each other there are two nodes for each of the graph: v where
// it was reached otherwise, v + n where by rw. So every cycle of the projection
// is one that is sought.
type projection struct {
	out [][]edge
	n   int
}

func (g *graph) project(s search) *projection {
	p := &projection{n: len(g.out)}
	p.out = make([][]edge, p.n)
	if s.spread {
		p.out = make([][]edge, 2*p.n)
	}
	for v, edges := range g.out {
		for _, e := range edges {
			switch {
			case !slices.Contains(s.kinds, e.kind):
			case !s.spread:
				p.out[v] = append(p.out[v], e)
			case e.kind == rw:
				e.to += p.n
				p.out[v] = append(p.out[v], e)
			default:
				p.out[v] = append(p.out[v], e)
				p.out[v+p.n] = append(p.out[v+p.n], e)
			}
		}
	}
	return p
}

// cycle returns a short cycle inside of a group that has an edge of the kind; if
// that is rw, then with a single one of them if there is such a cycle.
func (p *projection) cycle(group []int, with edgeKind) []step {
	in := make(map[int]bool, len(group))
	for _, v := range group {
		in[v] = true
	}
	var best []step
	for _, once := range []bool{true, false} {
		if once && with != rw {
			continue
		}
		starts := 0
		for _, v := range group {
			for _, e := range p.out[v] {
				if e.kind != with || !in[e.to] || starts == startsMax {
					continue
				}
				starts++
				back := p.path(in, e.to, v, once)
				if back != nil && (best == nil || len(back)+1 < len(best)) {
					best = append([]step{{v, e}}, back...)
				}
			}
		}
		if best != nil {
			break
		}
	}
	for i := range best {
		best[i].from %= p.n
		best[i].to %= p.n
	}
	return best
}

// path is a shortest path inside of a group.
func (p *projection) path(in map[int]bool, start, goal int, withoutRW bool) []step {
	came := map[int]step{start: {}}
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		v := queue[0]
		for _, e := range p.out[v] {
			if !in[e.to] || (withoutRW && e.kind == rw) {
				continue
			}
			if _, seen := came[e.to]; seen {
				continue
			}
			came[e.to] = step{v, e}
			if e.to != goal {
				queue = append(queue, e.to)
				continue
			}
			var path []step
			for at := goal; at != start; at = came[at].from {
				path = append(path, came[at])
			}
			slices.Reverse(path)
			return path
		}
	}
	return nil
}

// components are the strongly connected ones of more than one node: Tarjan's
// algorithm, without recursion, because histories are long.
func components(out [][]edge) (groups [][]int) {
	type frame struct{ node, next int }
	index, low := make([]int, len(out)), make([]int, len(out)) // index 0: not visited
	onStack := make([]bool, len(out))
	var stack []int
	var work []frame
	count := 0
	enter := func(v int) {
		count++
		index[v], low[v] = count, count
		stack, onStack[v] = append(stack, v), true
		work = append(work, frame{node: v})
	}
	for root := range out {
		if index[root] == 0 {
			enter(root)
		}
		for len(work) > 0 {
			f := &work[len(work)-1]
			v := f.node
			if f.next < len(out[v]) {
				to := out[v][f.next].to
				f.next++
				switch {
				case index[to] == 0:
					enter(to)
				case onStack[to]:
					low[v] = min(low[v], index[to])
				}
				continue
			}
			work = work[:len(work)-1]
			if len(work) > 0 {
				parent := work[len(work)-1].node
				low[parent] = min(low[parent], low[v])
			}
			if low[v] != index[v] {
				continue
			}
			at := len(stack) - 1
			for stack[at] != v {
				at--
			}
			if group := slices.Clone(stack[at:]); len(group) > 1 {
				slices.Sort(group)
				groups = append(groups, group)
			}
			for _, w := range stack[at:] {
				onStack[w] = false
			}
			stack = stack[:at]
		}
	}
	return groups
}
