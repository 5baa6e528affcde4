package expr

import (
	"github.com/apache/arrow/go/v17/arrow"
)

// Scratch is the memory of columns that their reader is done with before it
// asks for the next batch's, such as the arguments of an aggregate. It is the
// property of one operator and not safe for concurrent use.
type Scratch struct {
	held  []evec
	small [][]byte // by bytes, in use first
	used  int
}

// Reset ends the life of all columns that were computed with s.
func (s *Scratch) Reset() {
	for _, v := range s.held {
		v.release()
	}
	clear(s.held)
	s.held = s.held[:0]
	s.used = 0
}

// bytes is n bytes of any value.
func (s *Scratch) bytes(n int) []byte {
	if s.used == len(s.small) {
		s.small = append(s.small, nil)
	}
	p := &s.small[s.used]
	s.used++
	if cap(*p) < n {
		*p = make([]byte, n)
	}
	return (*p)[:n]
}

// EvalScratch is EvalEncoded for a reader that is done with the column before it
// resets s.
func (e *evaluator) EvalScratch(ctx *Ctx, s *Scratch, b *Batch, sel []int32) (arrow.Array, error) {
	v, err := evalEnc(e.n, ctx, b, sel)
	if err != nil {
		return nil, ownError(err)
	}
	if v.enc == encDec64 {
		v = v.spread(b.N, sel)
		s.held = append(s.held, v)
	}
	return v.array(e.e.Type(), b.N), nil
}

// spread gives a constant of decimals a value in each row of sel.
func (v evec) spread(n int, sel []int32) evec {
	if !v.cst {
		return v
	}
	out := evec{enc: encDec64}
	out.i64, out.mem = int64s(n)
	c := v.i64[0]
	if sel == nil {
		for i := range out.i64 {
			out.i64[i] = c
		}
	}
	for _, i := range sel {
		out.i64[i] = c
	}
	return out
}
