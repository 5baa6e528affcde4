package agg

import "github.com/copradb/copra/internal/colvec"

// count is count(*) and count(x).
type count struct {
	tally
	buf rowBuf
}

func (c *count) Grow(groups int)    { c.grow(groups) }
func (c *count) Bytes() int64       { return c.bytes() }
func (c *count) takesEncoded() bool { return true }

func (c *count) Update(rows Rows, args []colvec.Vec) error {
	switch {
	case len(args) > 0:
		c.add(rows, c.buf.valid(rows, &args[0]), &args[0])
	case !c.shared:
		c.c.Add(rows)
	}
	return nil
}

func (c *count) Merge(rows Rows, state []colvec.Vec) error {
	c.merge(rows, &state[0])
	return nil
}

func (c *count) State(out []*colvec.Builder, lo, hi int) error { return c.Result(out[0], lo, hi) }

func (c *count) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		out.AppendInt64(c.of(g))
	}
	return nil
}

// boolean is bool_and (every) and bool_or.
type boolean struct {
	or  bool
	has has
	v   []bool
	buf rowBuf
}

func (b *boolean) Grow(groups int) { b.has.grow(groups); b.v = grown(b.v, groups) }
func (b *boolean) Bytes() int64    { return 2 * int64(cap(b.v)) }

func (b *boolean) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	rows = b.buf.valid(rows, in)
	for k := range rows.N {
		g, x := rows.group(k), in.BoolAt(rows.at(k))
		if !b.has[g] {
			b.has[g], b.v[g] = true, x
		} else if x == b.or {
			b.v[g] = x
		}
	}
	return nil
}

func (b *boolean) Merge(rows Rows, state []colvec.Vec) error { return b.Update(rows, state) }

func (b *boolean) State(out []*colvec.Builder, lo, hi int) error { return b.Result(out[0], lo, hi) }

func (b *boolean) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if b.has[g] {
			out.AppendBool(b.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}
