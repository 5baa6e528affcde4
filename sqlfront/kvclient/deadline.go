package kvclient

import (
	"context"
	"sync"
	"time"
)

// deadline is a context with a time limit like context.WithTimeout's, for calls
// that hardly ever wait: it makes its timer when somebody asks for Done.
type deadline struct {
	context.Context // the caller's
	at              time.Time

	mu      sync.Mutex
	stopped bool
	armed   context.Context // nil: nobody waits yet
	cancel  context.CancelFunc
}

func newDeadline(ctx context.Context, timeout time.Duration) *deadline {
	return &deadline{Context: ctx, at: time.Now().Add(timeout)}
}

// Deadline implements context.Context.
func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

// Done implements context.Context.
func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed == nil {
		d.armed, d.cancel = context.WithDeadline(d.Context, d.at)
		if d.stopped {
			d.cancel()
		}
	}
	return d.armed.Done()
}

// Err implements context.Context.
func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch err := d.Context.Err(); {
	case d.armed != nil:
		return d.armed.Err()
	case err != nil:
		return err
	case d.stopped:
		return context.Canceled
	case !time.Now().Before(d.at):
		return context.DeadlineExceeded
	}
	return nil
}

// stop ends the context: the call is over.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	if d.cancel != nil {
		d.cancel()
	}
}
