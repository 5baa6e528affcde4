package txn

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/latch"
	"github.com/copradb/copra/txn/mvcc"
)

// command is one write request on its way: the latches it holds, the snapshot
// it decides by, and the batch it will write. Commands are pooled.
type command struct {
	s       *Store
	tracker *tracker.Tracker // of the request; nil: nobody counts
	rc      kvrpcpb.Context  // a copy: replica flags off, term set for the write
	startTS uint64

	guard latch.Guard
	plain [][]byte // user keys, as the request has them
	keys  [][]byte // the same, encoded; in arena
	arena []byte

	snap kv.Snapshot
	r    mvcc.Reader

	batch     kv.Batch
	kbuf      []byte
	vbuf      []byte
	published [][]byte // encoded keys in the memory lock table
	released  []release
	acquired  []acquisition
	left      []leaving
}

// release is a lock the batch deletes.
type release struct {
	key               []byte // encoded; nil: others share the lock still
	startTS, commitTS uint64
	pessimistic       bool
}

// acquisition is a lock the batch puts on a key, for those who wait for it: a
// new one, or a shared one whose holders change.
type acquisition struct {
	key  []byte // encoded
	lock *mvcc.Lock
}

// leaving is a shared lock that transactions are taken out of. It is written
// when the command is done with the key.
type leaving struct {
	key  []byte // encoded
	lock *mvcc.Lock
	last release // of the transaction that left last
}

// exec runs body for the keys of one request: under their latches, with a
// snapshot, and then writes what body put into the batch. When body fails
// nothing is written. name labels the metrics.
func (s *Store) exec(ctx context.Context, name cmd, rc *kvrpcpb.Context, startTS uint64, keys [][]byte, body func(c *command) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	began := time.Now()
	defer func() { s.metrics.observe(name, time.Since(began)) }()
	s.metrics.keys[name].Observe(float64(len(keys)))

	c := s.commands.Get().(*command)
	c.tracker = tracker.From(ctx)
	defer c.end()
	if err := c.begin(ctx, name, rc, startTS, keys); err != nil {
		return err
	}
	if err := body(c); err != nil {
		return err
	}
	c.settle()
	// Its client has given up on it, and may be asking again: what waited so long
	// is not to be written behind its back.
	if ms := rc.GetMaxExecutionDurationMs(); ms > 0 && time.Since(began) > time.Duration(min(ms, execMsMax))*time.Millisecond {
		return busy(deadlineExceeded)
	}
	return c.write()
}

const (
	// deadlineExceeded are words that clients know.
	deadlineExceeded = "deadline is exceeded"
	// execMsMax bounds max_execution_duration_ms: a day is for ever.
	execMsMax = 24 * 3600_000
)

func (c *command) begin(ctx context.Context, name cmd, rc *kvrpcpb.Context, startTS uint64, keys [][]byte) error {
	if rc != nil {
		c.rc = *rc
	}
	c.rc.ReplicaRead, c.rc.StaleRead = false, false
	c.allowOnDisk(diskFullOpts[name])
	c.startTS = startTS
	if mvcc.PhysicalMs(startTS) > uint64(c.s.now().UnixMilli())+MaxTSAheadMsMax {
		return invalid("start timestamp %d is more than %d ms ahead of this store's clock; timestamps come from PD", startTS, MaxTSAheadMsMax)
	}
	if err := c.setKeys(keys); err != nil {
		return err
	}
	was := c.tracker.Enter(tracker.Latch)
	err := c.s.latches.Acquire(ctx, &c.guard, c.keys)
	c.tracker.Enter(tracker.Snapshot)
	if err == nil {
		c.snap, err = c.s.engine.Snapshot(ctx, &c.rc, kv.SnapshotOptions{})
	}
	c.tracker.Enter(was)
	if err != nil {
		return err
	}
	c.r.Init(c.snap)
	// What is checked now may be written only while the same leader leads.
	c.rc.Term = c.snap.Term()
	if takesLocks(name) && len(keys) > 0 {
		return c.s.checkSafePoint(keys[0], startTS)
	}
	return nil
}

func (c *command) setKeys(keys [][]byte) error {
	size := 0
	for _, k := range keys {
		if len(k) == 0 || len(k) > c.s.limits.KeyBytesMax {
			return errAbort("a key has %d bytes, allowed are 1 to %d", len(k), c.s.limits.KeyBytesMax)
		}
		size += codec.EncodedBytesLen(len(k))
	}
	c.arena = slices.Grow(c.arena[:0], size)
	c.plain = append(c.plain[:0], keys...)
	for _, k := range keys {
		from := len(c.arena)
		c.arena = codec.EncodeBytes(c.arena, k)
		c.keys = append(c.keys, c.arena[from:len(c.arena):len(c.arena)])
	}
	return nil
}

// write replicates the batch and then tells those who wait. It runs under the
// store's context and not the request's: the latches and memory locks may go
// only when it is certain that the batch is applied or never will be. (An
// unknown outcome is left only when leadership is lost, when the term protects
// the next command, or when the store closes.)
func (c *command) write() error {
	if c.batch.Len() == 0 {
		return nil
	}
	s := c.s
	size := c.batch.Size()
	if size > s.limits.EntryBytesMax {
		return &kv.RegionError{Err: &errorpb.Error{
			Message:           "the request's writes exceed the size of a raft entry; send smaller batches",
			RaftEntryTooLarge: &errorpb.RaftEntryTooLarge{RegionId: c.rc.RegionId, EntrySize: uint64(size)},
		}}
	}
	if s.pendingBytes.Add(int64(size)) > int64(s.limits.PendingWriteBytesMax)+int64(size) {
		s.pendingBytes.Add(-int64(size))
		return busy("too many bytes wait to be written")
	}
	c.closeSnapshot()
	err := s.engine.Write(c.tracker.Under(s.ctx), &c.rc, &c.batch)
	s.pendingBytes.Add(-int64(size))
	if err != nil {
		if kv.AsRegionError(err) != nil {
			return err
		}
		return undetermined(err)
	}
	c.notify()
	return nil
}

// notify wakes waiters; the latches are still held, so nobody can slip in
// between a release and its wake-up.
func (c *command) notify() {
	s := c.s
	for _, r := range c.released {
		if r.key != nil {
			s.waiters.Released(r.key, r.startTS, r.commitTS)
		}
		if r.pessimistic {
			s.detector.CleanUp(r.startTS)
		}
	}
	for _, a := range c.acquired {
		s.waiters.Acquired(a.key, func() *kvrpcpb.LockInfo { return a.lock.Info(plainKey(a.key)) })
	}
}

func (c *command) closeSnapshot() {
	if c.snap == nil {
		return
	}
	if err := c.r.Close(); err != nil {
		c.s.log.Warn("closing a command's iterators", "region", c.rc.RegionId, "err", err)
	}
	if err := c.snap.Close(); err != nil {
		c.s.log.Warn("closing a command's snapshot", "region", c.rc.RegionId, "err", err)
	}
	c.snap = nil
}

// end gives everything back and puts the command into the pool.
func (c *command) end() {
	c.closeSnapshot()
	c.s.mem.Withdraw(c.published)
	c.guard.Release()
	c.batch.Reset()
	clear(c.plain)
	clear(c.acquired)
	clear(c.left)
	c.rc, c.tracker = kvrpcpb.Context{}, nil
	c.plain, c.keys, c.published = c.plain[:0], c.keys[:0], c.published[:0]
	c.released, c.acquired, c.left = c.released[:0], c.acquired[:0], c.left[:0]
	c.s.commands.Put(c)
}

// The writes a command is made of. enc is an encoded key.

// putLock writes l; fresh says that a transaction did not hold the key before.
func (c *command) putLock(enc []byte, l *mvcc.Lock, fresh bool) {
	c.vbuf = mvcc.AppendLock(c.vbuf[:0], l)
	c.batch.Put(kv.CFLock, enc, c.vbuf)
	if fresh && c.s.waiters.Len() > 0 {
		c.acquired = append(c.acquired, acquisition{key: enc, lock: l.Clone()})
	}
}

func (c *command) putWrite(enc []byte, commitTS uint64, w *mvcc.Write) {
	c.kbuf = codec.EncodeTS(append(c.kbuf[:0], enc...), commitTS)
	c.vbuf = mvcc.AppendWrite(c.vbuf[:0], w)
	c.batch.Put(kv.CFWrite, c.kbuf, c.vbuf)
}

func (c *command) deleteWrite(enc []byte, commitTS uint64) {
	c.kbuf = codec.EncodeTS(append(c.kbuf[:0], enc...), commitTS)
	c.batch.Delete(kv.CFWrite, c.kbuf)
}

func (c *command) putValue(enc []byte, startTS uint64, value []byte) {
	c.kbuf = codec.EncodeTS(append(c.kbuf[:0], enc...), startTS)
	c.batch.Put(kv.CFDefault, c.kbuf, value)
}

func (c *command) deleteValue(enc []byte, startTS uint64) {
	c.kbuf = codec.EncodeTS(append(c.kbuf[:0], enc...), startTS)
	c.batch.Delete(kv.CFDefault, c.kbuf)
}

// unlock takes the transaction's lock l off the key, whose lock record is rec:
// l itself, or a shared lock. commitTS is 0 when it was not committed.
func (c *command) unlock(enc []byte, rec, l *mvcc.Lock, commitTS uint64) {
	r := release{
		key: enc, startTS: l.StartTS, commitTS: commitTS,
		pessimistic: l.Pessimistic() || l.ForUpdateTS != 0,
	}
	if !rec.Shared() {
		c.batch.Delete(kv.CFLock, enc)
		c.released = append(c.released, r)
		return
	}
	rec.RemoveHolder(r.startTS) // l is gone with it
	if n := len(c.left); n > 0 && c.left[n-1].lock == rec {
		c.left[n-1].last = r
	} else {
		c.left = append(c.left, leaving{key: enc, lock: rec, last: r})
	}
	// The key stays locked; only the detector has to know.
	r.key = nil
	c.released = append(c.released, r)
}

// settle writes the shared locks that have lost holders.
func (c *command) settle() {
	for _, s := range c.left {
		if len(s.lock.Holders) > 0 {
			c.putLock(s.key, s.lock, true)
			continue
		}
		c.batch.Delete(kv.CFLock, s.key)
		c.released = append(c.released, s.last)
	}
}

// plainKey decodes an encoded key that this package encoded itself.
func plainKey(enc []byte) []byte {
	key, rest, err := codec.DecodeBytes(nil, enc)
	if err != nil || len(rest) != 0 {
		panic("txn: a lock's key is not a memcomparable encoding")
	}
	return key
}

// inRegion reports whether the encoded key is in the snapshot's region.
func inRegion(snap kv.Snapshot, enc []byte) bool {
	r := snap.Region()
	return bytes.Compare(enc, r.StartKey) >= 0 && (len(r.EndKey) == 0 || bytes.Compare(enc, r.EndKey) < 0)
}

func keyNotInRegion(snap kv.Snapshot, key, enc []byte) error {
	if inRegion(snap, enc) {
		return nil
	}
	r := snap.Region()
	return &kv.RegionError{Err: &errorpb.Error{
		Message:        "key is not in the region",
		KeyNotInRegion: &errorpb.KeyNotInRegion{Key: slices.Clone(key), RegionId: r.Id, StartKey: r.StartKey, EndKey: r.EndKey},
	}}
}
