package mvcc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// Getter does point gets on one snapshot. The first get uses an iterator that
// is bounded to its key (an engine can then ask its bloom filters), later ones
// share an unbounded one. Not safe for concurrent use.
type Getter struct {
	snap   kv.Reader
	o      *ReadOptions
	iter   kv.Iterator
	bound  bool // iter is bounded to one key
	closer io.Closer
	enc    []byte
	buf    []byte
	upper  []byte
}

// Init starts reading from snap; buffers of an earlier use are kept.
func (g *Getter) Init(snap kv.Reader, o *ReadOptions) {
	*g = Getter{snap: snap, o: o, enc: g.enc[:0], buf: g.buf[:0], upper: g.upper[:0]}
}

// Close frees what the last value lives in. Call it before the snapshot's Close.
func (g *Getter) Close() error {
	err := g.release()
	if g.iter != nil {
		err = errors.Join(err, g.iter.Close())
		g.iter = nil
	}
	return err
}

func (g *Getter) release() error {
	if g.closer == nil {
		return nil
	}
	err := g.closer.Close()
	g.closer = nil
	return err
}

// Get returns the value of the plain key visible at the read timestamp and the
// timestamp it was committed at. The value is valid until the next Get or
// Close. A lock in the way is a *LockedError.
func (g *Getter) Get(key []byte) (value []byte, commitTS uint64, ok bool, err error) {
	if err := g.release(); err != nil {
		return nil, 0, false, err
	}
	g.enc = codec.EncodeBytes(g.enc[:0], key)
	if !g.o.IgnoreLocks {
		value, done, ok, err := g.checkLock()
		if err != nil || done {
			return value, 0, ok, err
		}
	}
	if err := g.seek(); err != nil {
		return nil, 0, false, err
	}
	return g.visible()
}

// checkLock looks at the key's lock. done says that the answer is in the lock.
func (g *Getter) checkLock() (value []byte, done, ok bool, err error) {
	raw, closer, err := g.snap.Get(kv.CFLock, g.enc)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, false, false, nil
	}
	if err != nil {
		return nil, false, false, err
	}
	defer func() { _ = closer.Close() }()
	var l Lock
	if err := ParseLock(raw, &l); err != nil {
		return nil, false, false, fmt.Errorf("lock of key %x: %w", g.enc, err)
	}
	switch g.o.judge(g.enc, &l) {
	case lockConflict, lockNewer:
		return nil, false, false, g.o.Error(g.enc, &l)
	case lockRead:
		if l.Type == LockDelete {
			return nil, true, false, nil
		}
		if l.HasShort {
			return append([]byte{}, l.ShortValue...), true, true, nil
		}
		value, err := g.long(l.StartTS)
		return value, true, err == nil, err
	}
	return nil, false, false, nil
}

// seek puts the iterator on the first record at or below the read timestamp.
func (g *Getter) seek() error {
	if g.iter != nil && g.bound {
		if err := g.iter.Close(); err != nil {
			g.iter = nil
			return err
		}
		g.iter = nil
	}
	if g.iter == nil {
		var o kv.IterOptions
		if g.bound = !g.bound; g.bound {
			g.upper = afterVersions(g.upper[:0], g.enc)
			o.Lower, o.Upper = g.enc, g.upper
		}
		iter, err := g.snap.NewIter(kv.CFWrite, o)
		if err != nil {
			return err
		}
		g.iter = iter
	}
	if g.o.CheckTS {
		return g.checkNewer()
	}
	g.seekTS(g.o.TS)
	return g.iter.Error()
}

func (g *Getter) seekTS(ts uint64) {
	g.buf = codec.EncodeTS(append(g.buf[:0], g.enc...), ts)
	g.iter.SeekGE(g.buf)
}

// checkNewer steps from the newest record down to the read timestamp.
func (g *Getter) checkNewer() error {
	for g.seekTS(math.MaxUint64); g.iter.Valid(); g.iter.Next() {
		prefix, commitTS, err := codec.DecodeTS(g.iter.Key())
		if err != nil || commitTS <= g.o.TS || !bytes.Equal(prefix, g.enc) {
			return err
		}
		raw, err := g.iter.Value()
		if err != nil {
			return err
		}
		w, err := ParseWrite(raw)
		if err != nil {
			return fmt.Errorf("key %x at %d: %w", g.enc, commitTS, err)
		}
		newer, ok := g.o.newerRecord(g.enc, commitTS, &w)
		if newer != nil {
			return newer
		}
		if ok {
			g.seekTS(g.o.TS)
			break
		}
	}
	return g.iter.Error()
}

func (g *Getter) visible() (value []byte, commitTS uint64, ok bool, err error) {
	for g.iter.Valid() {
		prefix, commitTS, err := codec.DecodeTS(g.iter.Key())
		if err != nil || !bytes.Equal(prefix, g.enc) {
			return nil, 0, false, err
		}
		raw, err := g.iter.Value()
		if err != nil {
			return nil, 0, false, err
		}
		w, err := ParseWrite(raw)
		if err != nil {
			return nil, 0, false, fmt.Errorf("key %x at %d: %w", g.enc, commitTS, err)
		}
		switch w.Type {
		case WriteDelete:
			return nil, 0, false, nil
		case WritePut:
			if w.HasShort {
				return w.ShortValue, commitTS, true, nil
			}
			value, err := g.long(w.StartTS)
			return value, commitTS, err == nil, err
		}
		switch {
		case !w.LastChange.jump():
			g.iter.Next()
		case w.LastChange.TS == 0:
			return nil, 0, false, nil
		default:
			g.seekTS(w.LastChange.TS)
		}
	}
	return nil, 0, false, g.iter.Error()
}

func (g *Getter) long(startTS uint64) ([]byte, error) {
	g.buf = codec.EncodeTS(append(g.buf[:0], g.enc...), startTS)
	value, closer, err := g.snap.Get(kv.CFDefault, g.buf)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, fmt.Errorf("%w: key %x has no value of transaction %d", ErrCorrupt, g.enc, startTS)
	}
	if err != nil {
		return nil, err
	}
	g.closer = closer
	return value, nil
}

// afterVersions appends the smallest key that is larger than every version of
// the encoded key.
func afterVersions(dst, enc []byte) []byte {
	dst = codec.EncodeTS(append(dst, enc...), 0)
	return append(dst, 0)
}
