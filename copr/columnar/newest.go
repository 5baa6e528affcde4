package columnar

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// versionStepsMax is how many versions of a key are stepped over before a seek.
const versionStepsMax = 8

// newest yields the newest committed versions of the keys in [lower, upper)
// (encoded), those committed above ts left out: they are named in fresh. It is a
// scan.RowSource.
type newest struct {
	snap         kv.Reader
	lower, upper []byte
	ts           uint64
	cancelled    func() error

	write, deflt kv.Iterator
	inGroup      bool
	ended        bool
	cur, key     []byte
	seek         []byte
	steps        int

	// Since the last reset: the highest commit timestamp of what was yielded or
	// found deleted, and the plain keys with a version above ts.
	maxTS uint64
	fresh []string
}

// errTooFresh says that too much has been committed above the scan's timestamp
// for a block to be of use.
var errTooFresh = errors.New("columnar: too many versions are newer than the scan")

// cancelCheckRows is how many keys are read between two looks at the context.
const cancelCheckRows = 1024

func (n *newest) close() error {
	var err error
	for _, it := range [...]*kv.Iterator{&n.write, &n.deflt} {
		if *it != nil {
			err = errors.Join(err, (*it).Close())
			*it = nil
		}
	}
	return err
}

func (n *newest) reset() { n.maxTS, n.fresh = 0, nil }

// Next implements scan.RowSource.
func (n *newest) Next() (key, value []byte, ok bool, err error) {
	if n.write == nil {
		if n.write, err = n.snap.NewIter(kv.CFWrite, kv.IterOptions{Lower: n.lower, Upper: n.upper}); err != nil {
			return nil, nil, false, err
		}
		n.write.First()
	}
	for {
		if n.steps++; n.steps%cancelCheckRows == 0 {
			if err := n.cancelled(); err != nil {
				return nil, nil, false, err
			}
		}
		if n.inGroup {
			n.leave()
		}
		if !n.write.Valid() {
			n.ended = n.write.Error() == nil
			return nil, nil, false, n.write.Error()
		}
		k := n.write.Key()
		if len(k) < codec.TSLen {
			return nil, nil, false, fmt.Errorf("%w: write key %x", mvcc.ErrCorrupt, k)
		}
		n.cur, n.inGroup = append(n.cur[:0], k[:len(k)-codec.TSLen]...), true
		if n.key, _, err = codec.DecodeBytes(n.key[:0], n.cur); err != nil {
			return nil, nil, false, fmt.Errorf("%w: write key %x", mvcc.ErrCorrupt, k)
		}
		if value, ok, err = n.version(); err != nil || ok {
			return n.key, value, ok, err
		}
	}
}

// version finds the newest Put or Delete of cur. ok is false when there is no
// row to yield.
func (n *newest) version() (value []byte, ok bool, err error) {
	for n.sameGroup() {
		_, ts, err := codec.DecodeTS(n.write.Key())
		if err != nil {
			return nil, false, err
		}
		raw, err := n.write.Value()
		if err != nil {
			return nil, false, err
		}
		w, err := mvcc.ParseWrite(raw)
		if err != nil {
			return nil, false, fmt.Errorf("key %x at %d: %w", n.cur, ts, err)
		}
		if w.Type != mvcc.WritePut && w.Type != mvcc.WriteDelete {
			n.write.Next()
			continue
		}
		if ts > n.ts {
			if len(n.fresh) >= BlockDirtyKeysMax {
				return nil, false, errTooFresh
			}
			n.fresh = append(n.fresh, string(n.key))
			return nil, false, nil
		}
		n.maxTS = max(n.maxTS, ts)
		if w.Type == mvcc.WriteDelete {
			return nil, false, nil
		}
		if w.HasShort {
			return w.ShortValue, true, nil
		}
		value, err = n.long(w.StartTS)
		return value, err == nil, err
	}
	return nil, false, n.write.Error()
}

func (n *newest) sameGroup() bool {
	if !n.write.Valid() {
		return false
	}
	k := n.write.Key()
	return len(k) == len(n.cur)+codec.TSLen && bytes.Equal(k[:len(n.cur)], n.cur)
}

// leave moves behind the versions of cur.
func (n *newest) leave() {
	n.inGroup = false
	for range versionStepsMax {
		if !n.sameGroup() {
			return
		}
		n.write.Next()
	}
	if n.sameGroup() {
		n.seek = append(codec.EncodeTS(append(n.seek[:0], n.cur...), 0), 0)
		n.write.SeekGE(n.seek)
	}
}

func (n *newest) long(startTS uint64) (value []byte, err error) {
	if n.deflt == nil {
		if n.deflt, err = n.snap.NewIter(kv.CFDefault, kv.IterOptions{Lower: n.lower, Upper: n.upper}); err != nil {
			return nil, err
		}
	}
	n.seek = codec.EncodeTS(append(n.seek[:0], n.cur...), startTS)
	if !n.deflt.SeekGE(n.seek) || !bytes.Equal(n.deflt.Key(), n.seek) {
		if err := n.deflt.Error(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: key %x has no value of transaction %d", mvcc.ErrCorrupt, n.cur, startTS)
	}
	return n.deflt.Value()
}
