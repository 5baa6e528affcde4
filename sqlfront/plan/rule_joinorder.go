package plan

import (
	"math"
	"math/bits"

	"github.com/copradb/copra/copr/expr"
)

// joinDPMax is the number of relations up to which all join orders are
// compared; beyond it the cheapest next pair is taken.
const joinDPMax = 10

// joinLeavesMax is the most relations that are ordered together, the bits of a
// set; a larger FROM is ordered in parts.
const joinLeavesMax = 60

// reorder orders inner joins. A tree of inner joins becomes a graph: its
// leaves, the classes of columns that equalities make equal, and the other
// conditions. The cheapest tree (bushy ones included) is found bottom up over
// sets of leaves; its cost is what the hash joins build, probe and return.
func (o *optimizer) reorder(n node) node {
	j, ok := n.(*joinNode)
	if !ok {
		return mapInputs(n, o.reorder)
	}
	if j.kind == joinSemi || j.kind == joinAnti {
		if sunk := o.sinkSemi(j); sunk != nil {
			return o.reorder(sunk)
		}
	}
	if j.kind != joinInner || j.lateral {
		return mapInputs(n, o.reorder)
	}
	g := &joinGraph{o: o}
	g.flatten(j)
	if len(g.leaves) > joinLeavesMax {
		return mapInputs(n, o.reorder)
	}
	for i := range g.leaves {
		g.leaves[i] = o.reorder(g.leaves[i])
	}
	return g.order()
}

// sinkSemi moves a semi or anti join that is about one leaf of the inner joins
// below it down to that leaf, if its right side is no larger than the leaf.
func (o *optimizer) sinkSemi(j *joinNode) node {
	in, ok := j.l.(*joinNode)
	if !ok || in.kind != joinInner || in.lateral {
		return nil
	}
	need := colSet{}
	for _, e := range j.on {
		exprCols(e, need)
	}
	right := colsOf(j.r.columns())
	for c := range right {
		delete(need, c)
	}
	need.addAll(freeCols(j.r))
	return o.sinkInto(in, j, need)
}

func (o *optimizer) sinkInto(n node, j *joinNode, need colSet) node {
	in, ok := n.(*joinNode)
	if !ok || in.kind != joinInner || in.lateral {
		if len(need) == 0 || o.rows(j.r) > o.rows(n) {
			return nil
		}
		return j.withInputs([]node{n, j.r})
	}
	for side, c := range []node{in.l, in.r} {
		if !need.within(colsOf(c.columns())) {
			continue
		}
		s := o.sinkInto(c, j, need)
		if s == nil {
			return nil
		}
		ins := []node{in.l, in.r}
		ins[side] = s
		return in.withInputs(ins)
	}
	return nil
}

// joinGraph is a set of relations to be joined.
type joinGraph struct {
	o       *optimizer
	leaves  []node
	cols    []colSet // of each leaf
	conds   []expr.Expr
	leaf    map[ColID]int // which leaf a column comes from
	classes []*eqClass
	inClass []uint64 // leaves that each class has members in
	masks   []uint64 // leaves that each remaining condition needs
	best    map[uint64]*joinChoice
	rowsOf  map[uint64]float64
}

// joinChoice is the cheapest tree found for a set of leaves.
type joinChoice struct {
	l, r uint64 // 0 for a leaf
	cost float64
}

func (g *joinGraph) flatten(n node) {
	if j, ok := n.(*joinNode); ok && j.kind == joinInner && !j.lateral {
		g.flatten(j.l)
		g.flatten(j.r)
		g.conds = append(g.conds, j.on...)
		return
	}
	g.leaves = append(g.leaves, n)
}

func (g *joinGraph) order() node {
	g.leaf = map[ColID]int{}
	for i, l := range g.leaves {
		g.cols = append(g.cols, colsOf(l.columns()))
		for _, c := range l.columns() {
			g.leaf[c] = i
		}
	}
	g.classify()
	for _, c := range g.classes {
		var m uint64
		for _, id := range c.cols {
			m |= 1 << g.leaf[id]
		}
		g.inClass = append(g.inClass, m)
	}
	for _, e := range g.conds {
		g.masks = append(g.masks, g.maskOf(e))
	}
	g.best, g.rowsOf = map[uint64]*joinChoice{}, map[uint64]float64{}
	for i := range g.leaves {
		g.best[1<<i] = &joinChoice{}
	}
	all := uint64(1)<<len(g.leaves) - 1
	if len(g.leaves) <= joinDPMax {
		g.exhaustive(all)
	} else {
		g.greedy(all)
	}
	n, _ := g.build(all, map[int]bool{})
	return n
}

// classify takes equalities between columns of two leaves into classes; what
// mentions an outer column or one leaf alone stays a condition.
func (g *joinGraph) classify() {
	var between, rest []expr.Expr
	for _, e := range g.conds {
		_, l, r, ok := columnEquality(e)
		if ok && g.leafOf(l.Index) >= 0 && g.leafOf(r.Index) >= 0 && g.leafOf(l.Index) != g.leafOf(r.Index) {
			between = append(between, e)
		} else {
			rest = append(rest, e)
		}
	}
	g.classes, _ = eqClasses(between)
	g.conds = rest
}

func (g *joinGraph) maskOf(e expr.Expr) uint64 {
	var m uint64
	need := colsIn(e)
	for i, c := range g.cols {
		if need.intersects(c) {
			m |= 1 << i
		}
	}
	return m
}

// leafOf is the leaf that has a column, -1 for an outer column.
func (g *joinGraph) leafOf(c ColID) int {
	if i, ok := g.leaf[c]; ok {
		return i
	}
	return -1
}

// exhaustive fills best for every subset, smaller ones first.
func (g *joinGraph) exhaustive(all uint64) {
	for set := uint64(1); set <= all; set++ {
		if bits.OnesCount64(set) < 2 {
			continue
		}
		for l := (set - 1) & set; l > 0; l = (l - 1) & set {
			r := set &^ l
			if l < r {
				continue // each pair once
			}
			g.try(l, r)
		}
	}
}

func (g *joinGraph) try(l, r uint64) {
	c := g.cost(l, r)
	if b := g.best[l|r]; b == nil || c < b.cost {
		g.best[l|r] = &joinChoice{l: l, r: r, cost: c}
	}
}

// cost of joining two sets: building a hash table costs twice probing it; a
// pair without an equality is a nested loop.
func (g *joinGraph) cost(l, r uint64) float64 {
	rl, rr := g.rows(l), g.rows(r)
	c := g.best[l].cost + g.best[r].cost + g.rows(l|r)
	if !g.connected(l, r) {
		return c + rl*rr
	}
	return c + 2*math.Min(rl, rr) + math.Max(rl, rr)
}

func (g *joinGraph) connected(l, r uint64) bool {
	for _, m := range g.inClass {
		if m&l != 0 && m&r != 0 {
			return true
		}
	}
	for i, e := range g.conds {
		if m := g.masks[i]; m&l != 0 && m&r != 0 && m&^(l|r) == 0 {
			if call, ok := e.(*expr.Call); ok && opName(call) == "=" {
				return true
			}
		}
	}
	return false
}

// rows estimates a set's join, whatever the order.
func (g *joinGraph) rows(set uint64) float64 {
	if r, ok := g.rowsOf[set]; ok {
		return r
	}
	r := 1.0
	for i := range g.leaves {
		if set&(1<<i) != 0 {
			r *= g.o.rows(g.leaves[i])
		}
	}
	for _, c := range g.classes {
		r *= g.classSel(c, set)
	}
	for i, e := range g.conds {
		if m := g.masks[i]; m&^set == 0 && bits.OnesCount64(m) > 1 {
			r *= g.spanningSel(e)
		}
	}
	r = math.Max(1, r*g.correlated(set))
	g.rowsOf[set] = r
	return r
}

// spanningSel is the selectivity of a condition over several relations. What
// an OR asks of each relation alone has been pushed down to it (rule_or.go) and
// must not count twice.
func (g *joinGraph) spanningSel(e expr.Expr) float64 {
	if l, ok := e.(*expr.Logic); ok && l.Or {
		return selSub
	}
	return g.o.condSel(nil, e)
}

// classSel divides by the distinct values of all members but the one with the
// fewest.
func (g *joinGraph) classSel(c *eqClass, set uint64) float64 {
	sel, least, n := 1.0, math.Inf(1), 0
	seen := uint64(0)
	for _, id := range c.cols {
		i := g.leafOf(id)
		if i < 0 || set&(1<<i) == 0 || seen&(1<<i) != 0 {
			continue
		}
		seen |= 1 << i
		d := g.o.distinct(g.leaves[i], id)
		sel /= d
		least = math.Min(least, d)
		n++
	}
	if n < 2 {
		return 1
	}
	return sel * least
}

// correlated corrects for unique keys of several columns: their columns'
// distinct values multiply to more than there are rows.
func (g *joinGraph) correlated(set uint64) float64 {
	f := 1.0
	for i, n := range g.leaves {
		sc, ok := n.(*scanNode)
		if !ok || set&(1<<i) == 0 {
			continue
		}
		for _, ix := range uniqueKeys(sc.table) {
			if len(ix.Columns) < 2 {
				continue
			}
			if c := g.keyCorrection(sc, i, set, len(ix.Columns), func(k int) int { return ix.Columns[k].Column }); c > 1 {
				f *= c
				break
			}
		}
	}
	return f
}

func (g *joinGraph) keyCorrection(sc *scanNode, leaf int, set uint64, n int, ord func(int) int) float64 {
	product := 1.0
	for k := 0; k < n; k++ {
		id := ColID(0)
		for i, o := range sc.ords {
			if o == ord(k) {
				id = sc.cols[i]
			}
		}
		joined := false
		for i, c := range g.classes {
			if id != 0 && c.has(id) && g.inClass[i]&set&^(1<<leaf) != 0 {
				joined = true
			}
		}
		if !joined {
			return 1
		}
		product *= g.o.columnDistinct(id)
	}
	return product / g.o.tableRows(sc.table)
}

// greedy joins the pair with the smallest result until one set is left,
// preferring pairs that a condition connects.
func (g *joinGraph) greedy(all uint64) {
	var sets []uint64
	for i := range g.leaves {
		sets = append(sets, 1<<i)
	}
	for len(sets) > 1 {
		bi, bj, bc := -1, -1, math.Inf(1)
		for i := range sets {
			for j := i + 1; j < len(sets); j++ {
				c := g.rows(sets[i] | sets[j])
				if !g.connected(sets[i], sets[j]) {
					c = c*1e6 + 1e12
				}
				if c < bc {
					bi, bj, bc = i, j, c
				}
			}
		}
		l, r := sets[bi], sets[bj]
		g.best[l|r] = &joinChoice{l: l, r: r, cost: g.cost(l, r)}
		sets[bi] = l | r
		sets = append(sets[:bj], sets[bj+1:]...)
	}
}

// build makes the tree of a set. used are the conditions already placed. The
// larger side becomes the left one: the right side is what a hash join builds.
func (g *joinGraph) build(set uint64, used map[int]bool) (node, float64) {
	c := g.best[set]
	if c.l == 0 {
		i := bits.TrailingZeros64(set)
		return g.leafWithClasses(i), g.rows(set)
	}
	l, lr := g.build(c.l, used)
	r, rr := g.build(c.r, used)
	if lr < rr {
		l, r = r, l
	}
	var on []expr.Expr
	for _, cl := range g.classes {
		a, b := g.member(cl, c.l), g.member(cl, c.r)
		if a != 0 && b != 0 {
			on = append(on, cl.equate(g.o.q, a, b))
		}
	}
	for i, e := range g.conds {
		if !used[i] && g.masks[i]&^set == 0 {
			used[i] = true
			on = append(on, e)
		}
	}
	return &joinNode{kind: joinInner, l: l, r: r, on: on, est: g.rows(set)}, g.rows(set)
}

func (g *joinGraph) member(c *eqClass, set uint64) ColID {
	for _, id := range c.cols {
		if i := g.leafOf(id); i >= 0 && set&(1<<i) != 0 {
			return id
		}
	}
	return 0
}

// leafWithClasses compares the members of a class that are in one leaf.
func (g *joinGraph) leafWithClasses(i int) node {
	n := g.leaves[i]
	var conds []expr.Expr
	for _, c := range g.classes {
		first := ColID(0)
		for _, id := range c.cols {
			if !g.cols[i].has(id) {
				continue
			}
			if first == 0 {
				first = id
				continue
			}
			conds = append(conds, c.equate(g.o.q, first, id))
		}
	}
	if len(conds) == 0 {
		return n
	}
	return g.o.pushdown(n, conds)
}
