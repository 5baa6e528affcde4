package exec

import (
	"sync/atomic"

	"github.com/copradb/copra/internal/pgerror"
)

// MemAccount counts the memory that a statement's operators keep. Safe for
// concurrent use. A nil account has no limit and counts nothing.
type MemAccount struct {
	limit  int64
	parent *MemAccount
	used   atomic.Int64
	peak   atomic.Int64
}

// NewMemAccount makes an account of limitBytes (0 = no limit of its own) that
// also charges parent, if there is one.
func NewMemAccount(limitBytes int64, parent *MemAccount) *MemAccount {
	return &MemAccount{limit: limitBytes, parent: parent}
}

// Grow charges bytes. Over the limit nothing is charged and the error is 53200.
func (m *MemAccount) Grow(bytes int64) error {
	if m == nil || bytes <= 0 {
		m.Shrink(-bytes)
		return nil
	}
	used := m.used.Add(bytes)
	if m.limit > 0 && used > m.limit {
		m.used.Add(-bytes)
		return pgerror.New(pgerror.OutOfMemory, "out of memory: the statement needs more than its limit of %d bytes", m.limit).
			WithDetail("%d bytes are in use, %d more were asked for.", used-bytes, bytes).
			WithHint("Let the statement read fewer rows or columns at a time, or raise its memory limit.")
	}
	if err := m.parent.Grow(bytes); err != nil {
		m.used.Add(-bytes)
		return err
	}
	for {
		peak := m.peak.Load()
		if used <= peak || m.peak.CompareAndSwap(peak, used) {
			return nil
		}
	}
}

// Shrink gives bytes back.
func (m *MemAccount) Shrink(bytes int64) {
	if m == nil || bytes == 0 {
		return
	}
	m.used.Add(-bytes)
	m.parent.Shrink(bytes)
}

// Used and Peak are the bytes charged now and at most.
func (m *MemAccount) Used() int64 { return m.used.Load() }

// Peak is the most that was charged at one time.
func (m *MemAccount) Peak() int64 { return m.peak.Load() }

// memUser is one operator's share of an account: it remembers what it has
// charged, to give all of it back at the end.
type memUser struct {
	acct *MemAccount
	held int64
}

func (u *memUser) grow(bytes int64) error {
	if err := u.acct.Grow(bytes); err != nil {
		return err
	}
	u.held += bytes
	return nil
}

// set charges the difference to what is held.
func (u *memUser) set(bytes int64) error {
	if bytes > u.held {
		return u.grow(bytes - u.held)
	}
	u.acct.Shrink(u.held - bytes)
	u.held = bytes
	return nil
}

func (u *memUser) free() {
	u.acct.Shrink(u.held)
	u.held = 0
}
