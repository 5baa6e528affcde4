package plan

import (
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
)

// Open opens the operators.
func (r *Running) Open(ctx *exec.Ctx) (err error) {
	defer contain(&err)
	return r.Operator.Open(ctx)
}

// Next returns the next batch.
func (r *Running) Next() (b *expr.Batch, err error) {
	defer contain(&err)
	return r.Operator.Next()
}

// contain ends the statement with the error that a kernel raised by a panic:
// some have no other way to say that a block of rows outgrew its limit. Any
// other panic is a broken invariant and goes on.
func contain(err *error) {
	switch p := recover().(type) {
	case nil:
	case *pgerror.Error:
		*err = p
	default:
		panic(p)
	}
}
