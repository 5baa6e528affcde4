package mvcc

import "encoding/binary"

// LastChange says, in a record that changes no data, where the newest Put or
// Delete record below it is, so that readers jump over long runs of such
// records instead of stepping. The zero value is "not known": what records of
// builds before it say.
type LastChange struct {
	TS uint64 // its commit timestamp; 0 with Versions > 0: there is none
	// Versions is about how many records have to be stepped over to get there.
	Versions uint64
}

// NoChange says that there is no Put or Delete below.
var NoChange = LastChange{Versions: 1}

// Known reports whether it says anything.
func (c LastChange) Known() bool { return c.Versions > 0 }

// behind is what a record directly above one with c says; c is known.
func (c LastChange) behind(steps uint64) LastChange {
	if c.TS != 0 {
		c.Versions += steps
	}
	return c
}

// jump reports whether it is better to seek than to step: nothing below, or far.
func (c LastChange) jump() bool { return c.Known() && (c.TS == 0 || c.Versions >= versionStepsMax) }

// append appends ts(8, little endian) uvarint(versions).
func (c LastChange) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, c.TS)
	return binary.AppendUvarint(dst, c.Versions)
}

// lastChange reads what append wrote; an unknown one is never stored.
func (d *decoder) lastChange() LastChange {
	c := LastChange{TS: d.fixed64(), Versions: d.uvarint()}
	if c.Versions == 0 {
		d.fail()
	}
	return c
}

// LastChange returns what a record above (commitTS, w), which is the newest
// record of the key, is to say: w itself if it changes data, what w says
// otherwise, and if that is nothing, what is found by stepping on.
func (r *Reader) LastChange(enc []byte, commitTS uint64, w *Write) (LastChange, error) {
	if c := lastChangeAbove(commitTS, w, 1); c.Known() {
		return c, nil
	}
	at, next, ok, err := r.SeekWrite(enc, commitTS)
	for steps := uint64(1); ok && err == nil; steps++ {
		if c := lastChangeAbove(at, &next, steps); c.Known() {
			return c, nil
		}
		at, next, ok, err = r.NextWrite(enc)
	}
	return NoChange, err
}

// lastChangeAbove is what (commitTS, w) says to a record that is steps above it.
func lastChangeAbove(commitTS uint64, w *Write, steps uint64) LastChange {
	switch {
	case w.Type == WritePut, w.Type == WriteDelete:
		return LastChange{TS: commitTS, Versions: steps}
	case w.LastChange.Known():
		return w.LastChange.behind(steps)
	}
	return LastChange{}
}

// LastChangeHint is LastChange without any stepping: it may not be known.
func LastChangeHint(commitTS uint64, w *Write) LastChange { return lastChangeAbove(commitTS, w, 1) }
