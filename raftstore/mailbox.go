package raftstore

import "sync"

// mailbox holds what waits to be handled by a peer's Raft worker. Its owner
// schedules the peer after each put.
type mailbox struct {
	mu     sync.Mutex
	mails  []any
	closed bool
}

// put takes a mail; false means that the peer is gone.
func (m *mailbox) put(v any) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.mails = append(m.mails, v)
	return true
}

// putRequest is put for requests of clients, which must not pile up.
func (m *mailbox) putRequest(v any) (ok, full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, false
	}
	if len(m.mails) >= mailCountMax {
		return false, true
	}
	m.mails = append(m.mails, v)
	return true, false
}

// swap takes all mails and leaves buf, emptied, in their place.
func (m *mailbox) swap(buf []any) []any {
	clear(buf)
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.mails
	m.mails = buf[:0]
	return out
}

// trim gives back the room of mails while there are none.
func (m *mailbox) trim() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mails) == 0 {
		m.mails = nil
	}
}

// close refuses all further mail and returns what was left.
func (m *mailbox) close() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	out := m.mails
	m.mails = nil
	return out
}
