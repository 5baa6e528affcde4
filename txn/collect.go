package txn

import (
	"context"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// Limits of one Collect, which is one entry of the Raft log.
const (
	// CollectKeysMax is how many keys it looks at.
	CollectKeysMax = 512
	// CollectRecordsMax is how many commit records it drops.
	CollectRecordsMax = 2048
	// CollectBatchBytesMax is how large its entry gets, up to one record more.
	CollectBatchBytesMax = 256 << 10
)

// Collected is what a Collect has done.
type Collected struct {
	Records uint64 // commit records that are dropped
	Values  uint64 // of these, those with a value in the default family
	Bytes   uint64 // of the entry that went into the log
	// Done is how many of the keys, from the first on, have nothing left.
	Done int
	// Locked are keys that were left alone: they have a lock that should have been
	// resolved before the safe point came to it.
	Locked int
}

// Collect drops what no read at or above safePoint can see of the encoded keys,
// which lie in one region. It is a write like others: under latches, decided by
// the leader in one term, and replicated, so that all replicas stay alike. The
// caller brings safe points of PD's only: every lock with start_ts < safePoint
// was resolved.
//
// The deletes of a key go into the log in any order but for one: a Delete record
// goes last, for without it what is older would be seen again.
func (s *Store) Collect(ctx context.Context, rc *kvrpcpb.Context, safePoint uint64, encoded [][]byte) (Collected, error) {
	var out Collected
	if safePoint == 0 {
		return out, invalid("garbage collection without a safe point")
	}
	plain := make([][]byte, len(encoded))
	for i, enc := range encoded {
		plain[i] = plainKey(enc)
	}
	err := s.exec(ctx, cmdGC, rc, 0, plain, func(c *command) error {
		c.batch.SetSafePoint(safePoint)
		for i := range c.keys {
			full, err := c.collect(i, safePoint, &out)
			if err != nil {
				return err
			}
			if full {
				break
			}
			out.Done = i + 1
		}
		out.Bytes = uint64(c.batch.Size())
		return nil
	})
	if err != nil {
		return Collected{}, err
	}
	return out, nil
}

// collect puts the deletes for key i into the batch. full says that the batch
// has no room for all of them.
func (c *command) collect(i int, safePoint uint64, out *Collected) (full bool, err error) {
	enc := c.keys[i]
	if err := keyNotInRegion(c.snap, c.plain[i], enc); err != nil {
		return false, err
	}
	l, err := c.r.LoadLock(enc)
	if err != nil {
		return false, err
	}
	if l != nil && slices.Min(l.Txns()) < safePoint {
		out.Locked++
		return false, nil
	}
	g := mvcc.Garbage{SafePoint: safePoint}
	last := uint64(0) // the Delete that goes when all that is older has gone
	commitTS, w, ok, err := c.r.SeekWrite(enc, safePoint)
	for ; ok && err == nil; commitTS, w, ok, err = c.r.NextWrite(enc) {
		switch g.Judge(commitTS, w.Type) {
		case mvcc.Keep:
			continue
		case mvcc.DropLast:
			last = commitTS
			continue
		}
		if out.Records >= CollectRecordsMax || c.batch.Size() >= CollectBatchBytesMax {
			return true, nil
		}
		c.dropRecord(enc, commitTS, &w, out)
	}
	if err == nil && last != 0 {
		c.dropRecord(enc, last, &mvcc.Write{Type: mvcc.WriteDelete}, out)
	}
	return false, err
}

func (c *command) dropRecord(enc []byte, commitTS uint64, w *mvcc.Write, out *Collected) {
	c.kbuf = codec.EncodeTS(append(c.kbuf[:0], enc...), commitTS)
	c.batch.Delete(kv.CFWrite, c.kbuf)
	out.Records++
	if key, ok := mvcc.LongValueKey(c.kbuf[:0], enc, w); ok {
		c.kbuf = key
		c.batch.Delete(kv.CFDefault, key)
		out.Values++
	}
}
