package exec

import "sync"

// Shared lets several pipelines read one operator: each of its batches goes to
// the one that asks first.
type Shared struct {
	in Operator

	mu     sync.Mutex // in runs by one goroutine at a time
	opened bool
	ended  bool
	err    error
}

// NewShared shares in. The first reader opens it; whoever runs the readers'
// pipelines closes it.
func NewShared(in Operator) *Shared { return &Shared{in: in} }

// Reader is a leaf of one more pipeline.
func (s *Shared) Reader() Operator {
	return newOperator(s.in.Name(), &sharedReader{s: s}, s.in.Types())
}

type sharedReader struct {
	s   *Shared
	ctx *Ctx
}

func (r *sharedReader) open(ctx *Ctx) error {
	r.ctx = ctx
	ctx.worker.wait()
	return r.s.open(ctx)
}

func (r *sharedReader) close() error { return nil }

func (r *sharedReader) nextRaw() (Raw, error) {
	r.ctx.worker.wait()
	b, err := r.s.next()
	if err != nil {
		return Raw{}, err
	}
	return b, r.ctx.worker.work()
}

func (s *Shared) open(ctx *Ctx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened {
		s.opened, s.ended = true, false
		s.err = s.in.Open(ctx.alone())
	}
	return s.err
}

func (s *Shared) next() (Raw, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.ended {
		return Raw{}, s.err
	}
	r, err := NextRaw(s.in)
	s.err, s.ended = err, r.Batch == nil
	return r.own(), err
}

func (s *Shared) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = false
	return s.in.Close()
}
