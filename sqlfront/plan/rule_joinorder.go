package plan

import (
	"math"
	"math/bits"

	"github.com/copradb/copra/copr/expr"
)

// joinDPMax is the number of relations up to which all join orders are
// compared; beyond it the cheapest next pair is taken.
const joinDPMax = 10

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
	classes []*eqClass
	masks   []uint // leaves that each remaining condition needs
	best    map[uint]*joinChoice
	rowsOf  map[uint]float64
}

// joinChoice is the cheapest tree found for a set of leaves.
type joinChoice struct {
	l, r uint // 0 for a leaf
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
	for _, l := range g.leaves {
		g.cols = append(g.cols, colsOf(l.columns()))
	}
	g.classify()
	for _, e := range g.conds {
		g.masks = append(g.masks, g.maskOf(e))
	}
	g.best, g.rowsOf = map[uint]*joinChoice{}, map[uint]float64{}
	for i := range g.leaves {
		g.best[1<<i] = &joinChoice{}
	}
	all := uint(1)<<len(g.leaves) - 1
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

func (g *joinGraph) maskOf(e expr.Expr) uint {
	var m uint
	need := colsIn(e)
	for i, c := range g.cols {
		if need.intersects(c) {
			m |= 1 << i
		}
	}
	return m
}

func (g *joinGraph) leafOf(c ColID) int {
	for i, s := range g.cols {
		if s.has(c) {
			return i
		}
	}
	return -1
}

// exhaustive fills best for every subset, smaller ones first.
func (g *joinGraph) exhaustive(all uint) {
	for set := uint(1); set <= all; set++ {
		if bits.OnesCount(set) < 2 {
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

func (g *joinGraph) try(l, r uint) {
	c := g.cost(l, r)
	if b := g.best[l|r]; b == nil || c < b.cost {
		g.best[l|r] = &joinChoice{l: l, r: r, cost: c}
	}
}

// cost of joining two sets: building a hash table costs twice probing it; a
// pair without an equality is a nested loop.
func (g *joinGraph) cost(l, r uint) float64 {
	rl, rr := g.rows(l), g.rows(r)
	c := g.best[l].cost + g.best[r].cost + g.rows(l|r)
	if !g.connected(l, r) {
		return c + rl*rr
	}
	return c + 2*math.Min(rl, rr) + math.Max(rl, rr)
}

func (g *joinGraph) connected(l, r uint) bool {
	for _, c := range g.classes {
		m := g.classMask(c)
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

func (g *joinGraph) classMask(c *eqClass) uint {
	var m uint
	for _, id := range c.cols {
		if i := g.leafOf(id); i >= 0 {
			m |= 1 << i
		}
	}
	return m
}

// rows estimates a set's join, whatever the order.
func (g *joinGraph) rows(set uint) float64 {
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
		if m := g.masks[i]; m&^set == 0 && bits.OnesCount(m) > 1 {
			r *= g.o.condSel(nil, e)
		}
	}
	r = math.Max(1, r*g.correlated(set))
	g.rowsOf[set] = r
	return r
}

// classSel divides by the distinct values of all members but the one with the
// fewest.
func (g *joinGraph) classSel(c *eqClass, set uint) float64 {
	sel, least, n := 1.0, math.Inf(1), 0
	seen := uint(0)
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
func (g *joinGraph) correlated(set uint) float64 {
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

func (g *joinGraph) keyCorrection(sc *scanNode, leaf int, set uint, n int, ord func(int) int) float64 {
	product := 1.0
	for k := 0; k < n; k++ {
		id := ColID(0)
		for i, o := range sc.ords {
			if o == ord(k) {
				id = sc.cols[i]
			}
		}
		joined := false
		for _, c := range g.classes {
			if id != 0 && c.has(id) && g.classMask(c)&set&^(1<<leaf) != 0 {
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
func (g *joinGraph) greedy(all uint) {
	var sets []uint
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
func (g *joinGraph) build(set uint, used map[int]bool) (node, float64) {
	c := g.best[set]
	if c.l == 0 {
		i := bits.TrailingZeros(set)
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

func (g *joinGraph) member(c *eqClass, set uint) ColID {
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
