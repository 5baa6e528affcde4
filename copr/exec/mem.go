package exec

import (
	"sync/atomic"

	"github.com/copradb/copra/internal/pgerror"
)

// MemAccount counts the memory that a statement's operators keep. Safe for
// concurrent use. A nil account has no limit and counts nothing.
type MemAccount struct {
	limit   int64
	spillAt int64 // operators that can keep rows on disk do so above it; 0 = never
	parent  *MemAccount
	used    atomic.Int64
	peak    atomic.Int64
}

const (
	// spillSharePercent is the part of a limit from which on operators that can
	// spill do. The rest is for those that cannot, and for buffers of those that
	// do.
	spillSharePercent = 75
	// spillBytesMin is what an operator may keep before it spills because others
	// have taken the memory, or an eighth of the limit where that is less.
	spillBytesMin = 1 << 20
	// overdraftBytesMax is how much one operator may take above the limit for what
	// it cannot do without: the batch at hand and the buffers of its files.
	overdraftBytesMax = 16 << 20
)

// NewMemAccount makes an account of limitBytes (0 = no limit of its own) that
// also charges parent, if there is one.
func NewMemAccount(limitBytes int64, parent *MemAccount) *MemAccount {
	return &MemAccount{limit: limitBytes, spillAt: limitBytes / 100 * spillSharePercent, parent: parent}
}

// SetSpillBytes changes from which number of bytes on operators spill, three
// quarters of the limit by default. It is for before the account is used.
func (m *MemAccount) SetSpillBytes(n int64) {
	m.spillAt = n
	if m.limit > 0 {
		m.spillAt = min(n, m.limit)
	}
}

// scarce reports whether more bytes would bring this account or one above it to
// where rows are better kept on disk.
func (m *MemAccount) scarce(more int64) bool {
	for a := m; a != nil; a = a.parent {
		if a.spillAt > 0 && a.used.Load()+more > a.spillAt {
			return true
		}
	}
	return false
}

// spillMin is what an operator may keep before it spills.
func (m *MemAccount) spillMin() int64 {
	least := int64(spillBytesMin)
	for a := m; a != nil; a = a.parent {
		if a.spillAt > 0 {
			least = min(least, a.spillAt/8)
		}
	}
	return least
}

// spillRoom is how many bytes operators may keep before they spill.
func (m *MemAccount) spillRoom() int64 {
	room := int64(0)
	for a := m; a != nil; a = a.parent {
		if a.spillAt > 0 && (room == 0 || a.spillAt < room) {
			room = a.spillAt
		}
	}
	return room
}

// overdraw charges bytes whatever the limit.
func (m *MemAccount) overdraw(bytes int64) {
	for a := m; a != nil; a = a.parent {
		a.notePeak(a.used.Add(bytes))
	}
}

func (m *MemAccount) notePeak(used int64) {
	for {
		peak := m.peak.Load()
		if used <= peak || m.peak.CompareAndSwap(peak, used) {
			return
		}
	}
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
	m.notePeak(used)
	return nil
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
// charged, to give all of it back at the end. It belongs to one goroutine.
type memUser struct {
	acct *MemAccount
	held int64
	over int64 // of held, what was taken above the limit
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
	u.shrink(u.held - bytes)
	return nil
}

// growAnyway is grow for what the operator cannot do without, up to
// overdraftBytesMax above the limit.
func (u *memUser) growAnyway(bytes int64) error {
	if err := u.acct.Grow(bytes); err != nil {
		if u.over+bytes > overdraftBytesMax {
			return err
		}
		u.acct.overdraw(bytes)
		u.over += bytes
	}
	u.held += bytes
	return nil
}

// setAnyway is set by way of growAnyway.
func (u *memUser) setAnyway(bytes int64) error {
	if bytes > u.held {
		return u.growAnyway(bytes - u.held)
	}
	return u.set(bytes)
}

// full reports whether the operator should spill what it has before it keeps
// more bytes.
func (u *memUser) full(more int64) bool {
	return u.acct != nil && u.held+more >= u.acct.spillMin() && u.acct.scarce(more)
}

func (u *memUser) shrink(bytes int64) {
	u.acct.Shrink(bytes)
	u.held -= bytes
	u.over = max(0, u.over-bytes)
}

func (u *memUser) free() {
	u.acct.Shrink(u.held)
	u.held, u.over = 0, 0
}
