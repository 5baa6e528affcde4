package agg

import "github.com/copradb/copra/internal/colvec"

// count is count(*) and count(x).
type count struct{ n []int64 }

func (c *count) Grow(groups int) { c.n = grown(c.n, groups) }
func (c *count) Bytes() int64    { return 8 * int64(cap(c.n)) }

func (c *count) Update(groups []int32, args []colvec.Vec) error {
	if len(args) == 0 || args[0].Nulls == 0 {
		for _, g := range groups {
			c.n[g]++
		}
		return nil
	}
	for i, g := range groups {
		if !args[0].IsNull(i) {
			c.n[g]++
		}
	}
	return nil
}

func (c *count) Merge(groups []int32, state []colvec.Vec) error {
	for i, g := range groups {
		c.n[g] += state[0].I64[i]
	}
	return nil
}

func (c *count) State(out []*colvec.Builder, lo, hi int) error { return c.Result(out[0], lo, hi) }

func (c *count) Result(out *colvec.Builder, lo, hi int) error {
	for _, n := range c.n[lo:hi] {
		out.AppendInt(n)
	}
	return nil
}

// boolean is bool_and (every) and bool_or.
type boolean struct {
	or  bool
	has has
	v   []bool
}

func (b *boolean) Grow(groups int) { b.has.grow(groups); b.v = grown(b.v, groups) }
func (b *boolean) Bytes() int64    { return 2 * int64(cap(b.v)) }

func (b *boolean) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		switch {
		case in.IsNull(i):
		case !b.has[g]:
			b.has[g], b.v[g] = true, in.BoolAt(i)
		case b.or:
			b.v[g] = b.v[g] || in.BoolAt(i)
		default:
			b.v[g] = b.v[g] && in.BoolAt(i)
		}
	}
	return nil
}

func (b *boolean) Merge(groups []int32, state []colvec.Vec) error { return b.Update(groups, state) }

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

// addCounts is the count of avg and of the variances.
func addCounts(dst []int64, groups []int32, v *colvec.Vec) {
	for i, g := range groups {
		dst[g] += v.I64[i]
	}
}
