package exec

import (
	"errors"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
)

// joinScatterShare is the share of a batch's rows that must find a match for
// the batch to be passed on with a selection instead of being gathered.
const joinScatterShare = 4

// hashProbe joins rows of the left side with a JoinTable.
//
//	left rows ──► words ──► index ──► pairs ──► residual ──► output
//	                                              │  └─► marks of right rows
//	                                              └─► unmatched left rows, with NULLs
type hashProbe struct {
	t    *JoinTable
	left Operator
	own  bool // closes the table, too
	ctx  *Ctx
	side keySide
	find probeKeys
	hits joinHits

	cur     Raw    // left rows at hand, Batch nil = none
	hit     int    // next of hits
	at      int32  // next row of that hit
	counts  bool   // found is kept
	found   []bool // by row of cur: there is a match
	rest    bool   // only left rows without a match are still to come of cur
	drained bool   // left is at its end
	tail    int    // next right row to look at after that
	tailing bool   // this probe returns the right rows without a match
	l, r    []int32
	sel     []int32
	more    joinPairs    // too large for the last batch
	disk    spilledProbe // if the table is on disk
}

// NewHashProbe joins the rows of left with those of a table. Matches keep the
// left side's order; left rows of an outer join without a match come after
// the matches of their batch at the latest.
func NewHashProbe(left Operator, t *JoinTable) Operator {
	t.probes++
	return newOperator(t.name(), newProbe(left, t), t.outTypes, left)
}

func newProbe(left Operator, t *JoinTable) *hashProbe {
	k, residual := t.spec.Kind, t.residual != nil
	return &hashProbe{
		t: t, left: left, side: keySide{exprs: t.left, types: t.keyTypes},
		counts: k.leftOnly() && residual || k.keepsLeft(),
		l:      []int32{}, r: []int32{}, sel: []int32{}, // nil would be all rows
	}
}

// openInputs builds the table before it opens the left side.
func (p *hashProbe) openInputs(ctx *Ctx) error {
	if err := p.t.open(ctx); err != nil {
		return err
	}
	return p.left.Open(ctx)
}

func (p *hashProbe) open(ctx *Ctx) error {
	p.ctx, p.cur, p.rest, p.drained, p.tail, p.tailing = ctx, Raw{}, false, false, 0, false
	p.find = probeKeys{keys: p.t.keys}
	p.disk, p.more = spilledProbe{s: p.t.spilled}, joinPairs{}
	return nil
}

func (p *hashProbe) spillStats() SpillStats { return p.disk.stats }

func (p *hashProbe) close() error {
	p.cur, p.find, p.hits, p.more = Raw{}, probeKeys{}, joinHits{}, joinPairs{}
	err := p.closeSpilled()
	if p.own {
		return errors.Join(err, p.t.close())
	}
	return err
}

func (p *hashProbe) nextRaw() (Raw, error) {
	if p.disk.s != nil {
		return p.nextSpilled()
	}
	if len(p.more.l) > 0 {
		return p.nextMore()
	}
	for !p.drained {
		if p.cur.Batch == nil {
			ok, err := p.nextLeft()
			if err != nil {
				return Raw{}, err
			}
			if !ok {
				p.end()
				break
			}
		}
		out, err := p.advance()
		if err != nil || out.Batch != nil && out.Len() > 0 {
			return out, err
		}
	}
	return p.nextTail()
}

// end is the end of the left side: the last probe to get there returns the
// right rows that nobody matched.
func (p *hashProbe) end() {
	p.drained = true
	last := int(p.t.ended.Add(1)) == p.t.probes
	p.tailing = last && p.t.spec.Kind.keepsRight()
}

// hopeless reports whether no left row can come out.
func (p *hashProbe) hopeless() bool {
	switch p.t.spec.Kind {
	case InnerJoin, SemiJoin, RightJoin, RightSemiJoin, RightAntiJoin:
		return p.t.index.n == 0
	case AntiJoin:
		return p.t.spec.NullAware && p.t.nullKey
	}
	return false
}

// nextLeft reads left rows and looks them up; false at the end, or when
// nothing can come of them.
func (p *hashProbe) nextLeft() (bool, error) {
	if p.hopeless() {
		return false, nil
	}
	r, err := NextRaw(p.left)
	if err != nil || r.Batch == nil {
		return false, err
	}
	vecs, err := p.side.eval(p.ctx, r)
	if err != nil {
		return false, err
	}
	rows, sel := withoutNulls(vecs, r.N, r.Sel, p.sel)
	p.sel = sel
	if err := p.find.words(vecs, r.N, rows); err != nil {
		return false, err
	}
	p.t.index.find(p.find.rows, p.find.word, &p.hits)
	p.cur, p.hit, p.at = r, 0, 0
	if p.t.spec.NullAware && p.t.any && vecs[0].Nulls > 0 {
		p.cur.Sel = slices.Clone(rows) // NULL NOT IN (…) is NULL
	}
	if p.counts {
		p.found = append(p.found[:0], make([]bool, r.N)...)
	}
	return true, nil
}

// advance returns the next rows that the left rows at hand make, if any.
func (p *hashProbe) advance() (Raw, error) {
	kind := p.t.spec.Kind
	switch {
	case p.t.existsOnly():
		cur := p.cur
		p.cur = Raw{}
		return p.semi(cur, p.hits.probe, kind == SemiJoin), nil
	case kind.rightOnly():
		return Raw{}, p.markRight()
	case p.t.index.unique && p.t.residual == nil:
		return p.oneEach()
	}
	if p.rest {
		return p.unmatched()
	}
	done := p.pairs()
	if err := p.ctx.check(); err != nil {
		return Raw{}, err
	}
	if len(p.l) > 0 {
		if err := p.test(); err != nil {
			return Raw{}, err
		}
		if p.counts {
			for _, i := range p.l {
				p.found[i] = true
			}
		}
		if p.t.seen != nil {
			mark(p.t.seen, p.r)
		}
	}
	if kind.leftOnly() {
		p.l, p.r = p.l[:0], p.r[:0]
	}
	cur := p.cur
	if done && kind.keepsLeft() {
		p.rest = true
	} else if done {
		p.cur = Raw{}
	}
	if kind.leftOnly() {
		if !done {
			return Raw{}, nil
		}
		p.rowsFound(cur, true)
		return p.semi(cur, p.l, kind == SemiJoin), nil
	}
	return p.combine(cur, p.l, p.r)
}

// markRight notes the right rows that match the left rows at hand, some pairs at
// a time. A row that has a mark need not be looked at again.
func (p *hashProbe) markRight() error {
	if p.pairs() {
		defer func() { p.cur = Raw{} }()
	}
	if err := p.ctx.check(); err != nil {
		return err
	}
	if p.t.residual != nil {
		k := 0
		for i, r := range p.r {
			p.l[k], p.r[k] = p.l[i], r
			if atomic.LoadUint32(&p.t.seen[r>>5])&(1<<(r&31)) == 0 {
				k++
			}
		}
		p.l, p.r = p.l[:k], p.r[:k]
		if k == 0 {
			return nil
		}
		if err := p.test(); err != nil {
			return err
		}
	}
	mark(p.t.seen, p.r)
	return nil
}

// unmatched returns the left rows at hand that found no match, with NULLs.
func (p *hashProbe) unmatched() (Raw, error) {
	cur := p.cur
	p.cur, p.rest, p.l, p.r = Raw{}, false, p.l[:0], p.r[:0]
	p.rowsFound(cur, false)
	return p.combine(cur, p.l, p.r)
}

// rowsFound appends the left rows that found a match, or did not, to the pairs.
func (p *hashProbe) rowsFound(cur Raw, want bool) {
	eachRow(cur.N, cur.Sel, func(i int) {
		if p.found[i] == want {
			p.l, p.r = append(p.l, int32(i)), append(p.r, -1)
		}
	})
}

// semi is the rows of cur that are among hits, or are not.
func (p *hashProbe) semi(cur Raw, hits []int32, want bool) Raw {
	out := p.leftColumns(cur)
	if want {
		out.Sel = hits
		return out
	}
	rest := p.sel[:0]
	k := 0
	eachRow(cur.N, cur.Sel, func(i int) {
		if k < len(hits) && hits[k] == int32(i) {
			k++
		} else {
			rest = append(rest, int32(i))
		}
	})
	p.sel = rest
	out.Sel = rest
	return out
}

// leftColumns is r with those of its columns that are returned.
func (p *hashProbe) leftColumns(r Raw) Raw {
	out := &expr.Batch{N: r.N, Cols: make([]arrow.Array, len(p.t.out))}
	for i, c := range p.t.out {
		out.Cols[i] = r.Cols[c]
	}
	return Raw{out, r.Sel}
}

// pairs lists the next pairs of left and right rows in l and r; true if they
// are the last ones of the left rows at hand.
func (p *hashProbe) pairs() bool {
	h, x := &p.hits, p.t.index
	p.l, p.r = p.l[:0], p.r[:0]
	if x.unique {
		p.l, p.r = append(p.l, h.probe...), append(p.r, h.row...)
		return true
	}
	for ; p.hit < len(h.probe); p.hit, p.at = p.hit+1, 0 {
		left, rows := h.probe[p.hit], x.rows[h.row[p.hit]+p.at:h.row[p.hit]+h.count[p.hit]]
		room := BatchRowsMax - len(p.l)
		p.r = append(p.r, rows[:min(room, len(rows))]...)
		for range min(room, len(rows)) {
			p.l = append(p.l, left)
		}
		if len(rows) > room {
			p.at += int32(room)
			return false
		}
	}
	return true
}

// testPairs returns the numbers of the pairs that pass the residual.
func (p *hashProbe) testPairs(l, r []int32) ([]int32, error) {
	t := p.t
	b := &expr.Batch{N: len(l), Cols: make([]arrow.Array, len(t.types))}
	for _, c := range t.resCols {
		a, err := p.column(p.cur, c, l, r)
		if err != nil {
			return nil, err
		}
		b.Cols[c] = a
	}
	sel, err := t.residual.sel(p.ctx, b, p.sel[:0])
	if err == nil {
		p.sel = sel
	}
	return sel, err
}

// column gathers column c of the pairs; a negative position gives NULL.
func (p *hashProbe) column(cur Raw, c int, l, r []int32) (arrow.Array, error) {
	if n := len(p.t.spec.LeftTypes); c >= n {
		return p.t.cols[c-n].gather(r)
	}
	if cur.Batch == nil { // no left rows any more
		return nullColumn(p.t.types[c], len(l))
	}
	return colvec.Take(cur.Cols[c], p.t.types[c], l)
}

// make makes the rows of pairs.
func (p *hashProbe) make(cur Raw, l, r []int32) (Raw, error) {
	if len(l) == 0 {
		return Raw{}, nil
	}
	out := &expr.Batch{N: len(l), Cols: make([]arrow.Array, len(p.t.out))}
	for i, c := range p.t.out {
		a, err := p.column(cur, c, l, r)
		if err != nil {
			return Raw{}, err
		}
		out.Cols[i] = a
	}
	return Raw{Batch: out}, nil
}

// oneEach joins rows of which each has one match at most. If most have, the
// left columns stay as they are and the right ones are made to fit.
func (p *hashProbe) oneEach() (Raw, error) {
	cur, l, r := p.cur, p.hits.probe, p.hits.row
	p.cur = Raw{}
	if p.t.seen != nil {
		mark(p.t.seen, r)
	}
	rows := len(l)
	if p.t.spec.Kind.keepsLeft() {
		rows = cur.Len()
	}
	if rows == 0 {
		return Raw{}, nil
	}
	if rows*joinScatterShare >= cur.N && p.scatters(cur.N) {
		return p.scatter(cur, l, r)
	}
	if rows > len(l) { // some are without a match
		p.l, p.r = p.l[:0], p.r[:0]
		k := 0
		eachRow(cur.N, cur.Sel, func(i int) {
			match := int32(-1)
			if k < len(l) && l[k] == int32(i) {
				match = r[k]
				k++
			}
			p.l, p.r = append(p.l, int32(i)), append(p.r, match)
		})
		l, r = p.l, p.r
	}
	return p.combine(cur, l, r)
}

// scatter makes right columns of the left rows' positions. Rows without a
// match get NULL, or anything if they do not come out.
func (p *hashProbe) scatter(cur Raw, l, r []int32) (Raw, error) {
	keep := p.t.spec.Kind.keepsLeft()
	sel := cur.Sel
	if len(l) < cur.N {
		none := int32(0)
		if keep {
			none = -1
		} else {
			sel = l
		}
		p.r = p.r[:0]
		for range cur.N {
			p.r = append(p.r, none)
		}
		for k, i := range l {
			p.r[i] = r[k]
		}
		r = p.r
	} else {
		sel = nil
	}
	out := &expr.Batch{N: cur.N, Cols: make([]arrow.Array, len(p.t.out))}
	left := len(p.t.spec.LeftTypes)
	for i, c := range p.t.out {
		if c < left {
			out.Cols[i] = cur.Cols[c]
			continue
		}
		a, err := p.t.cols[c-left].gather(r)
		if err != nil {
			return Raw{}, err
		}
		out.Cols[i] = a
	}
	return Raw{out, sel}, nil
}

// nextTail returns right rows that found no match, those that did of a right
// semi join.
func (p *hashProbe) nextTail() (Raw, error) {
	if !p.tailing {
		return Raw{}, nil
	}
	p.r, p.tail = withMark(p.t.seen, p.t.spec.Kind == RightSemiJoin, p.tail, p.t.rows, BatchRowsMax, p.r[:0])
	p.l = p.l[:0]
	for range p.r {
		p.l = append(p.l, -1)
	}
	return p.combine(Raw{}, p.l, p.r)
}
