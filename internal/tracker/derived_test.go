package tracker

import (
	"context"
	"testing"
)

// unknownContext is a context that the context package does not know: what is derived
// from it is told of its end by a goroutine, which may begin to run late.
type unknownContext struct {
	context.Context
	done chan struct{}
}

func (f *unknownContext) Done() <-chan struct{} { return f.done }

// TestDerivedContextOutlivesRequest: who derives a context from a request's may
// look at the request's after it has ended, as the context package's goroutine
// does.
func TestDerivedContextOutlivesRequest(t *testing.T) {
	parent := &unknownContext{context.Background(), make(chan struct{})}
	tr := Begin(parent)
	ctx := tr.Context()
	other := tr.Under(parent)
	for _, c := range []context.Context{ctx, other} {
		child, cancel := context.WithCancel(c)
		defer cancel()
		if From(child) != tr {
			t.Error("the derived context has no tracker")
		}
	}
	if again := tr.Under(context.Background()); again == other {
		t.Error("a context that others were derived from is used again")
	}
	tr.Free()
	for range 100 {
		next := Begin(context.Background())
		if next == tr {
			t.Fatal("the tracker is used again")
		}
		next.Free()
	}
	for _, c := range []context.Context{ctx, other} {
		if c.Done() != (<-chan struct{})(parent.done) || c.Err() != nil {
			t.Error("the request's context has changed after its end")
		}
	}
}
