package exec

import "github.com/copradb/copra/copr/expr"

type unionAll struct {
	ins []Operator
	at  int
}

// NewUnionAll passes on the rows of its inputs, one input after the other. All
// have the same types.
func NewUnionAll(ins ...Operator) Operator {
	return newOperator("Append", &unionAll{ins: ins}, ins[0].Types(), ins...)
}

func (u *unionAll) open(*Ctx) error { u.at = 0; return nil }
func (u *unionAll) close() error    { return nil }

func (u *unionAll) next() (*expr.Batch, error) {
	for u.at < len(u.ins) {
		b, err := u.ins[u.at].Next()
		if err != nil || b != nil {
			return b, err
		}
		u.at++
	}
	return nil, nil
}
