// Package answers measures answers while they are made: each has a limit, and
// all of a store share one, so that many large reads at a time cannot fill its
// memory (hazard 16).
package answers

// Budget is what all answers together may occupy.
type Budget interface {
	// Take counts bytes in, beside those that the same answer has taken before, or
	// reports that there is no room for them.
	Take(bytes, before int64) bool
	Release(bytes int64)
}

// Verdict says whether an answer may grow.
type Verdict int

// The verdicts. Busy is for now, TooLarge for good: a shorter answer would be
// taken for all there is.
const (
	OK Verdict = iota
	Busy
	TooLarge
)

// BusyReason tells a client what to do about Busy.
const BusyReason = "the answers that clients have not read yet exceed their memory; read them, or ask for less at a time"

// stepBytes are taken from the shared budget at a time.
const stepBytes = 1 << 20

// Meter measures one answer. Shared may be nil.
type Meter struct {
	BytesMax int
	Shared   Budget

	bytes, taken int
}

// Add counts bytes that the answer is about to get.
func (m *Meter) Add(n int) Verdict {
	if m.bytes += n; m.bytes > m.BytesMax {
		return TooLarge
	}
	if m.Shared == nil || m.bytes < m.taken+stepBytes {
		return OK
	}
	step := m.bytes - m.taken
	if !m.Shared.Take(int64(step), int64(m.taken)) {
		return Busy
	}
	m.taken += step
	return OK
}

// Bytes is the answer's size.
func (m *Meter) Bytes() int { return m.bytes }

// Release ends the making of the answer: who sends it counts it from now on.
func (m *Meter) Release() {
	if m.taken > 0 {
		m.Shared.Release(int64(m.taken))
		m.taken = 0
	}
}
