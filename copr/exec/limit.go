package exec

import "github.com/copradb/copra/copr/expr"

// NoLimit as a limit means all rows.
const NoLimit = ^uint64(0)

type limitOp struct {
	in           Operator
	limit, skip  uint64
	left, toSkip uint64
}

// NewLimit passes on limit rows after the first offset.
func NewLimit(in Operator, limit, offset uint64) Operator {
	return newOperator("Limit", &limitOp{in: in, limit: limit, skip: offset}, in.Types(), in)
}

func (l *limitOp) open(*Ctx) error { l.left, l.toSkip = l.limit, l.skip; return nil }
func (l *limitOp) close() error    { return nil }

func (l *limitOp) next() (*expr.Batch, error) {
	for l.left > 0 {
		b, err := l.in.Next()
		if err != nil || b == nil {
			return nil, err
		}
		lo := min(l.toSkip, uint64(b.N))
		l.toSkip -= lo
		n := min(l.left, uint64(b.N)-lo)
		if n == 0 {
			continue
		}
		if l.left != NoLimit {
			l.left -= n
		}
		if n == uint64(b.N) {
			return b, nil
		}
		return sliceBatch(b, int(lo), int(lo+n)), nil
	}
	return nil, nil
}
