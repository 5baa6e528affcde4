package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// versionStepsMax is how many versions of a key are stepped over before a seek
// is made: a step within a block is some ten times cheaper than a seek.
const versionStepsMax = 8

// ScanOptions bounds a scan to the encoded keys in [Lower, Upper); nil bounds
// are the region's.
type ScanOptions struct {
	Lower, Upper []byte
	Desc         bool
	KeyOnly      bool // values are not loaded
	// LocksMax > 1 makes a *LockedError collect up to that many conflicting
	// locks of the rest of the range.
	LocksMax int
}

// Scanner walks the visible keys of a range. It merges two iterators:
//
//	write   a@9 a@5 │ b@7 │ d@8 d@6 d@2        groups of versions, newest first
//	lock            │ b   │         │ e        usually empty
//
// and takes the group (or the lock without one) that comes first. Not safe for
// concurrent use.
type Scanner struct {
	snap  kv.Reader
	o     *ReadOptions
	so    ScanOptions
	write kv.Iterator
	lock  kv.Iterator // nil when locks don't matter
	deflt kv.Iterator // made for the first long value

	started bool
	inGroup bool   // write may still stand on a version of cur
	cur     []byte // encoded key of the group
	key     []byte // cur, decoded: what Next returned
	val     []byte // copy of the value, where it could not be left in place
	seekBuf []byte

	commitTS uint64
	versions uint64 // commit records looked at
}

// Init opens the iterators. Scanners may be used again; buffers are kept.
func (s *Scanner) Init(snap kv.Reader, o *ReadOptions, so ScanOptions) error {
	*s = Scanner{snap: snap, o: o, so: so, cur: s.cur[:0], key: s.key[:0], val: s.val[:0], seekBuf: s.seekBuf[:0]}
	io := kv.IterOptions{Lower: so.Lower, Upper: so.Upper}
	var err error
	if s.write, err = snap.NewIter(kv.CFWrite, io); err != nil {
		return err
	}
	if o.IgnoreLocks {
		return nil
	}
	if s.lock, err = snap.NewIter(kv.CFLock, io); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Close frees the iterators. Call it before the snapshot's Close.
func (s *Scanner) Close() error {
	var err error
	for _, it := range [...]*kv.Iterator{&s.write, &s.lock, &s.deflt} {
		if *it != nil {
			err = errors.Join(err, (*it).Close())
			*it = nil
		}
	}
	return err
}

// CommitTS is the commit timestamp of the row Next returned; 0 when the row was
// read from a lock of a committed transaction.
func (s *Scanner) CommitTS() uint64 { return s.commitTS }

// Versions is the number of commit records the scan has looked at.
func (s *Scanner) Versions() uint64 { return s.versions }

// Next returns the next row; ok is false at the end. key is plain; both slices
// are valid until the next call. After a *LockedError the scan goes on behind
// the locked key.
func (s *Scanner) Next() (key, value []byte, ok bool, err error) {
	if err := s.start(); err != nil {
		return nil, nil, false, err
	}
	for {
		if s.inGroup {
			s.leaveGroup()
		}
		fromLock, fromWrite, err := s.pick()
		if err != nil || !fromLock && !fromWrite {
			return nil, nil, false, err
		}
		s.inGroup = fromWrite
		if fromLock {
			value, done, ok, err := s.takeLock()
			if err != nil {
				return nil, nil, false, err
			}
			if done && !ok {
				continue // the lock says the key is deleted
			}
			if done {
				s.commitTS = 0
				return s.emit(value)
			}
		}
		if !fromWrite {
			continue
		}
		var found bool
		if s.so.Desc {
			value, found, err = s.resolveDesc()
		} else {
			value, found, err = s.resolveAsc()
		}
		if err != nil {
			return nil, nil, false, err
		}
		if found {
			return s.emit(value)
		}
	}
}

func (s *Scanner) emit(value []byte) (k, v []byte, ok bool, err error) {
	if s.key, _, err = codec.DecodeBytes(s.key[:0], s.cur); err != nil {
		return nil, nil, false, fmt.Errorf("%w: key %x", ErrCorrupt, s.cur)
	}
	return s.key, value, true, nil
}

func (s *Scanner) start() error {
	if s.started {
		return nil
	}
	s.started = true
	for _, it := range [...]kv.Iterator{s.write, s.lock} {
		if it == nil {
			continue
		}
		if s.so.Desc {
			it.Last()
		} else {
			it.First()
		}
		if err := it.Error(); err != nil {
			return err
		}
	}
	return nil
}

// pick copies the key that comes next into cur and says where it is found.
func (s *Scanner) pick() (fromLock, fromWrite bool, err error) {
	var wk []byte
	if fromWrite = s.write.Valid(); fromWrite {
		k := s.write.Key()
		if len(k) < codec.TSLen {
			return false, false, fmt.Errorf("%w: write key %x", ErrCorrupt, k)
		}
		wk = k[:len(k)-codec.TSLen]
	} else if err := s.write.Error(); err != nil {
		return false, false, err
	}
	if s.lock == nil || !s.lock.Valid() {
		if s.lock != nil {
			if err := s.lock.Error(); err != nil {
				return false, false, err
			}
		}
		s.cur = append(s.cur[:0], wk...)
		return false, fromWrite, nil
	}
	lk := s.lock.Key()
	if fromWrite {
		c := bytes.Compare(lk, wk)
		if s.so.Desc {
			c = -c
		}
		fromLock, fromWrite = c <= 0, c >= 0
	} else {
		fromLock = true
	}
	if fromLock {
		wk = lk
	}
	s.cur = append(s.cur[:0], wk...)
	return fromLock, fromWrite, nil
}

// takeLock judges the lock of cur and moves the lock iterator on. done says
// that the lock itself is the answer: ok and value as for a row.
func (s *Scanner) takeLock() (value []byte, done, ok bool, err error) {
	raw, err := s.lock.Value()
	if err != nil {
		return nil, false, false, err
	}
	var l Lock
	if err := ParseLock(raw, &l); err != nil {
		return nil, false, false, fmt.Errorf("lock of key %x: %w", s.cur, err)
	}
	switch s.o.judge(s.cur, &l) {
	case lockNewer:
		err := s.o.Error(s.cur, &l)
		s.step(s.lock)
		return nil, false, false, err
	case lockConflict:
		locked, err := lockedError(s.cur, &l)
		if err != nil {
			return nil, false, false, err
		}
		s.step(s.lock)
		if err := s.moreLocks(locked); err != nil {
			return nil, false, false, err
		}
		return nil, false, false, locked
	case lockRead:
		if l.Type == LockDelete {
			s.step(s.lock)
			return nil, true, false, nil
		}
		startTS, short := l.StartTS, l.HasShort
		s.val = append(s.val[:0], l.ShortValue...)
		s.step(s.lock)
		if short || s.so.KeyOnly {
			return s.val, true, true, nil
		}
		value, err := s.long(startTS)
		return value, true, err == nil, err
	}
	s.step(s.lock)
	return nil, false, false, nil
}

func (s *Scanner) step(it kv.Iterator) bool {
	if s.so.Desc {
		return it.Prev()
	}
	return it.Next()
}

// moreLocks adds further conflicting locks to locked, so that the client can
// resolve them in one go. The lock iterator ends behind them: the rows in
// between are not lost, since such a scan is given up and begun again.
func (s *Scanner) moreLocks(locked *LockedError) error {
	for s.lock.Valid() && len(locked.More)+1 < s.so.LocksMax {
		raw, err := s.lock.Value()
		if err != nil {
			return err
		}
		var l Lock
		if err := ParseLock(raw, &l); err != nil {
			return fmt.Errorf("lock of key %x: %w", s.lock.Key(), err)
		}
		if s.o.Conflicts(s.lock.Key(), &l) {
			another, err := lockedError(s.lock.Key(), &l)
			if err != nil {
				return err
			}
			locked.More = append(locked.More, another.Info)
		}
		s.step(s.lock)
	}
	return s.lock.Error()
}

// sameGroup reports whether write stands on a version of cur.
func (s *Scanner) sameGroup() bool {
	if !s.write.Valid() {
		return false
	}
	k := s.write.Key()
	return len(k) == len(s.cur)+codec.TSLen && bytes.Equal(k[:len(s.cur)], s.cur)
}

// ts is the commit timestamp write stands on; only in a group.
func (s *Scanner) ts() uint64 {
	k := s.write.Key()
	return ^binary.BigEndian.Uint64(k[len(k)-codec.TSLen:])
}

func (s *Scanner) parse() (Write, error) {
	s.versions++
	raw, err := s.write.Value()
	if err != nil {
		return Write{}, err
	}
	w, err := ParseWrite(raw)
	if err != nil {
		return Write{}, fmt.Errorf("key %x at %d: %w", s.cur, s.ts(), err)
	}
	return w, nil
}

// leaveGroup moves write off the versions of cur, in scan direction.
func (s *Scanner) leaveGroup() {
	s.inGroup = false
	for range versionStepsMax {
		if !s.sameGroup() {
			return
		}
		s.step(s.write)
	}
	if !s.sameGroup() {
		return
	}
	if s.so.Desc {
		s.write.SeekLT(s.cur)
		return
	}
	s.seekBuf = afterVersions(s.seekBuf[:0], s.cur)
	s.write.SeekGE(s.seekBuf)
}

func (s *Scanner) seekTS(ts uint64) {
	s.seekBuf = codec.EncodeTS(append(s.seekBuf[:0], s.cur...), ts)
	s.write.SeekGE(s.seekBuf)
}

// checkNewer is what a read at the RC-check-ts level looks at first: the records
// of cur above the read timestamp. write stands on the newest one.
func (s *Scanner) checkNewer() error {
	for s.sameGroup() && s.ts() > s.o.TS {
		w, err := s.parse()
		if err != nil {
			return err
		}
		newer, ok := s.o.newerRecord(s.cur, s.ts(), &w)
		if newer != nil {
			return newer
		}
		if ok {
			s.seekTS(s.o.TS)
			break
		}
		s.write.Next()
	}
	return s.write.Error()
}

// resolveAsc finds the visible version of cur; write stands on the newest one.
func (s *Scanner) resolveAsc() (value []byte, found bool, err error) {
	if s.o.CheckTS {
		if err := s.checkNewer(); err != nil {
			return nil, false, err
		}
		if !s.sameGroup() {
			s.inGroup = false
			return nil, false, nil
		}
	}
	for steps := 0; s.ts() > s.o.TS; steps++ {
		if steps == versionStepsMax {
			s.seekTS(s.o.TS)
		} else {
			s.write.Next()
		}
		if !s.sameGroup() {
			s.inGroup = false
			return nil, false, s.write.Error()
		}
	}
	for s.sameGroup() {
		w, err := s.parse()
		if err != nil {
			return nil, false, err
		}
		switch w.Type {
		case WriteDelete:
			return nil, false, nil
		case WritePut:
			s.commitTS = s.ts()
			if w.HasShort || s.so.KeyOnly {
				return w.ShortValue, true, nil
			}
			value, err = s.long(w.StartTS)
			return value, err == nil, err
		}
		switch {
		case !w.LastChange.jump():
			s.write.Next()
		case w.LastChange.TS == 0:
			return nil, false, nil
		default:
			s.seekTS(w.LastChange.TS)
		}
	}
	s.inGroup = false
	return nil, false, s.write.Error()
}

// resolveDesc finds the visible version of cur; write stands on the oldest one
// and steps to newer ones, the last candidate being kept in val.
func (s *Scanner) resolveDesc() (value []byte, found bool, err error) {
	if s.o.CheckTS {
		return s.resolveFromAbove(math.MaxUint64)
	}
	var last Write
	for steps := 0; s.sameGroup() && s.ts() <= s.o.TS; steps++ {
		if steps == versionStepsMax {
			return s.resolveFromAbove(s.o.TS) // many versions
		}
		w, err := s.parse()
		if err != nil {
			return nil, false, err
		}
		if w.Type == WritePut || w.Type == WriteDelete {
			s.commitTS = s.ts()
			s.val = append(s.val[:0], w.ShortValue...)
			last = w
		}
		s.write.Prev()
	}
	if err := s.write.Error(); err != nil || last.Type != WritePut {
		return nil, false, err
	}
	if last.HasShort || s.so.KeyOnly {
		return s.val, true, nil
	}
	value, err = s.long(last.StartTS)
	return value, err == nil, err
}

// resolveFromAbove is resolveDesc's way where stepping up from the oldest
// version is no good.
func (s *Scanner) resolveFromAbove(ts uint64) (value []byte, found bool, err error) {
	s.seekTS(ts)
	if s.sameGroup() {
		value, found, err = s.resolveAsc()
	}
	if err = errors.Join(err, s.write.Error()); err != nil {
		s.inGroup = false
		s.write.SeekLT(s.cur)
		return nil, false, err
	}
	if found && len(value) <= ShortValueBytesMax {
		s.val = append(s.val[:0], value...)
		value = s.val
	}
	s.inGroup = false
	s.write.SeekLT(s.cur)
	return value, found, nil
}

// long loads a value from the default family. The keys asked for grow (or
// shrink) with the scan, which the engine's iterator can make use of.
func (s *Scanner) long(startTS uint64) ([]byte, error) {
	if s.deflt == nil {
		it, err := s.snap.NewIter(kv.CFDefault, kv.IterOptions{Lower: s.so.Lower, Upper: s.so.Upper})
		if err != nil {
			return nil, err
		}
		s.deflt = it
	}
	s.seekBuf = codec.EncodeTS(append(s.seekBuf[:0], s.cur...), startTS)
	if !s.deflt.SeekGE(s.seekBuf) || !bytes.Equal(s.deflt.Key(), s.seekBuf) {
		if err := s.deflt.Error(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: key %x has no value of transaction %d", ErrCorrupt, s.cur, startTS)
	}
	return s.deflt.Value()
}
