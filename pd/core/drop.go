package core

// Drop forgets a region until its leader reports it again, and says whether it
// was known.
func (rs *Regions) Drop(id uint64) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	e := rs.entry(id)
	if e == nil {
		return false
	}
	rs.remove(e)
	return true
}
