package core

import "sync/atomic"

// leaderPauses counts who keeps leaders from coming to a store or leaving it:
// schedulers that drain a store, or that give it leaders on purpose.
type leaderPauses struct{ in, out atomic.Int32 }

// Direction is a way that leaders move, seen from a store.
type Direction int

// The directions.
const (
	LeadersIn Direction = iota
	LeadersOut
)

// PauseLeaders keeps leaders from moving to the store (or away from it) for
// balance until ResumeLeaders was called as often. It reports whether the store
// is known.
func (ss *Stores) PauseLeaders(id uint64, d Direction) bool { return ss.pause(id, d, 1) }

// ResumeLeaders undoes one PauseLeaders.
func (ss *Stores) ResumeLeaders(id uint64, d Direction) { ss.pause(id, d, -1) }

func (ss *Stores) pause(id uint64, d Direction, by int32) bool {
	s := ss.Get(id)
	if s == nil || s.pauses == nil {
		return false
	}
	if d == LeadersIn {
		s.pauses.in.Add(by)
	} else {
		s.pauses.out.Add(by)
	}
	return true
}

// LeadersPaused reports whether leaders must not move in that direction.
func (s *Store) LeadersPaused(d Direction) bool {
	switch {
	case s.pauses == nil:
		return false
	case d == LeadersIn:
		return s.pauses.in.Load() > 0
	}
	return s.pauses.out.Load() > 0
}
