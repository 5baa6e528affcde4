package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/copradb/copra/copr/plan"
)

// LocalService runs requests in this process; *server.Service is one.
type LocalService interface {
	Run(ctx context.Context, r *plan.Request, emit func(*plan.Event) error) error
}

// Local is the transport to stores of the same process: batches are passed by
// reference. Safe for concurrent use.
type Local struct {
	mu       sync.RWMutex
	services map[string]LocalService
	other    Transport
}

// NewLocal makes a Local transport. Addresses that it does not know go to
// other, or are unreachable if other is nil.
func NewLocal(other Transport) *Local {
	return &Local{services: map[string]LocalService{}, other: other}
}

// Set makes s the service at addr; nil removes it.
func (l *Local) Set(addr string, s LocalService) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s == nil {
		delete(l.services, addr)
		return
	}
	l.services[addr] = s
}

// Run implements Transport.
func (l *Local) Run(ctx context.Context, addr string, r *plan.Request, emit func(*plan.Event) error) error {
	l.mu.RLock()
	s := l.services[addr]
	l.mu.RUnlock()
	switch {
	case s != nil:
		return s.Run(ctx, r, emit)
	case l.other != nil:
		return l.other.Run(ctx, addr, r, emit)
	}
	return fmt.Errorf("copr: no store at %s in this process", addr)
}

// Close closes the other transport; the services are not its own.
func (l *Local) Close() error {
	if l.other == nil {
		return nil
	}
	return errors.Join(l.other.Close())
}
