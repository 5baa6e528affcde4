package agg

import "github.com/copradb/copra/internal/colvec"

// Rows says which rows of columns count, and for which groups. Rows that are
// not among them may have any value.
type Rows struct {
	N      int     // how many
	Sel    []int32 // their positions; nil = the first N
	Groups []int32 // parallel to them: the group of each; nil = all are of group 0
}

// at is the position of the k-th row.
func (r *Rows) at(k int) int {
	if r.Sel == nil {
		return k
	}
	return int(r.Sel[k])
}

// group is the group of the k-th row.
func (r *Rows) group(k int) int32 {
	if r.Groups == nil {
		return 0
	}
	return r.Groups[k]
}

// part is rows lo to hi (exclusive) of r; with Sel nil, positions are counted
// from column position lo, which the second result says.
func (r *Rows) part(lo, hi int) (Rows, int) {
	out, base := Rows{N: hi - lo}, lo
	if r.Sel != nil {
		out.Sel, base = r.Sel[lo:hi], 0
	}
	if r.Groups != nil {
		out.Groups = r.Groups[lo:hi]
	}
	return out, base
}

// rowBuf is room for a choice of rows.
type rowBuf struct{ sel, groups []int32 }

// valid is the rows of r that are not NULL in v. The result is good until the
// next call.
func (b *rowBuf) valid(r Rows, v *colvec.Vec) Rows {
	if v.Nulls == 0 {
		return r
	}
	if b.sel == nil {
		b.sel = make([]int32, 0, r.N) // nil would be all rows
	}
	b.sel, b.groups = b.sel[:0], b.groups[:0]
	for k := range r.N {
		i := r.at(k)
		if v.IsNull(i) {
			continue
		}
		b.sel = append(b.sel, int32(i))
		if r.Groups != nil {
			b.groups = append(b.groups, r.Groups[k])
		}
	}
	out := Rows{N: len(b.sel), Sel: b.sel}
	if r.Groups != nil {
		out.Groups = b.groups
	}
	return out
}

// Counter counts rows by group. Aggregates over the same rows may share one
// (see Counting): then whoever has it adds the rows, once for all.
type Counter struct {
	n     []int64
	lanes *lanes
}

// Grow makes room for this many groups.
func (c *Counter) Grow(groups int) { c.n = grown(c.n, groups) }

// Bytes is about how much memory the counts take.
func (c *Counter) Bytes() int64 { return 8 * int64(cap(c.n)) }

// Add counts rows.
func (c *Counter) Add(rows Rows) {
	switch {
	case rows.Groups == nil:
		c.n[0] += int64(rows.N)
	case len(c.n) <= laneGroups && rows.N >= laneRowsMin:
		if c.lanes == nil {
			c.lanes = new(lanes)
		}
		c.lanes.count(rows.Groups)
		c.lanes.flush(len(c.n), func(g int, n int64) { c.n[g] += n })
	default:
		n := c.n
		for _, g := range rows.Groups {
			n[g]++
		}
	}
}

// Counting is an accumulator that can use a Counter of the rows that it is
// updated with.
type Counting interface {
	Accumulator
	// UseCounter is called before anything else.
	UseCounter(c *Counter)
}

// tally counts the values, by group, that are not NULL: the rows that a Counter
// has counted, less the nulls.
type tally struct {
	c      *Counter
	shared bool
	nulls  []int64 // nil until there is one
	groups int
}

// UseCounter has the rows counted by c.
func (t *tally) UseCounter(c *Counter) { t.c, t.shared = c, true }

func (t *tally) grow(groups int) {
	t.groups = groups
	if t.c == nil {
		t.c = new(Counter)
	}
	if !t.shared {
		t.c.Grow(groups)
	}
	if t.nulls != nil {
		t.nulls = grown(t.nulls, groups)
	}
}

func (t *tally) bytes() int64 {
	n := 8 * int64(cap(t.nulls))
	if !t.shared && t.c != nil {
		n += t.c.Bytes()
	}
	return n
}

// of is the count of group g.
func (t *tally) of(g int) int64 {
	if t.nulls == nil {
		return t.c.n[g]
	}
	return t.c.n[g] - t.nulls[g]
}

// add counts the values of v, valid of rows.
func (t *tally) add(rows, valid Rows, v *colvec.Vec) {
	if !t.shared {
		t.c.Add(valid)
		return
	}
	if valid.N == rows.N {
		return
	}
	if t.nulls == nil {
		t.nulls = make([]int64, t.groups)
	}
	for k := range rows.N {
		if v.IsNull(rows.at(k)) {
			t.nulls[rows.group(k)]++
		}
	}
}

// merge adds counts that were made elsewhere.
func (t *tally) merge(rows Rows, counts *colvec.Vec) {
	n := t.c.n
	if rows.Sel == nil && rows.Groups != nil {
		vals := counts.I64[:len(rows.Groups)]
		for k, g := range rows.Groups {
			n[g] += vals[k]
		}
		return
	}
	for k := range rows.N {
		n[rows.group(k)] += counts.I64[rows.at(k)]
	}
}
