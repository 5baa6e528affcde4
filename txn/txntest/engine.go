// Package txntest has a kv.Engine in memory: one or several regions on one
// store, without Raft, over Pebble's in-memory file system. It is for tests of
// package txn and of whatever is built on it.
//
// Faults are scripted: Engine.OnWrite sees every batch before it is applied and
// can drop it, refuse it, or let it be applied and lose the answer; SetLeader,
// SetMaxTSSynced and Split change a region under running requests.
//
// Reads and writes check region id, epoch, term and leadership as raftstore
// does; follower reads are answered like the leader's, after Engine.OnFollowerRead.
package txntest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// Outcome is what a test makes of a write.
type Outcome int

// The outcomes. A Lost* write answers with an error that is no region error:
// the caller cannot know whether it was applied.
const (
	Apply       Outcome = iota
	Refuse              // not applied, ServerIsBusy
	LostApplied         // applied, the answer is lost
	LostDropped         // not applied, the answer is lost
)

// ErrLost is the answer of a lost write.
var ErrLost = errors.New("txntest: the answer of the write is lost")

// StoreID is the id of the engine's store; peer ids are region ids + 1000.
const StoreID = 1

type region struct {
	meta    *metapb.Region // replaced, never changed
	term    uint64
	applied uint64
	leader  bool
	synced  bool
}

// Engine is a kv.Engine in memory. Safe for concurrent use.
type Engine struct {
	// OnWrite, if set, decides about every batch. Set it before the engine is used.
	OnWrite func(regionID uint64, b *kv.Batch) Outcome
	// OnFollowerRead, if set, may fail a snapshot that is taken with ReplicaRead.
	OnFollowerRead func(o kv.SnapshotOptions) error

	db *pebble.DB

	mu      sync.RWMutex // held by writes while they apply
	regions map[uint64]*region
	nextID  uint64
}

// New returns an engine with one region for every piece of the key space that
// the plain split keys cut it into; their ids count from 1.
func New(splitKeys ...[]byte) (*Engine, error) {
	// The newest format, as stores have: the writer of old tables pools channels,
	// which must not go from one synctest bubble to another.
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), DisableWAL: true, FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		return nil, fmt.Errorf("txntest: %w", err)
	}
	e := &Engine{db: db, regions: make(map[uint64]*region)}
	var start []byte
	for _, k := range splitKeys {
		end := codec.EncodeBytes(nil, k)
		e.addRegion(start, end, 1)
		start = end
	}
	e.addRegion(start, nil, 1)
	return e, nil
}

// Close frees the engine; snapshots must be closed before.
func (e *Engine) Close() error { return e.db.Close() }

func (e *Engine) addRegion(start, end []byte, version uint64) *region {
	e.nextID++
	id := e.nextID
	r := &region{
		meta: &metapb.Region{
			Id: id, StartKey: start, EndKey: end,
			RegionEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: version},
			Peers:       []*metapb.Peer{{Id: id + 1000, StoreId: StoreID}},
		},
		term: 5, leader: true, synced: true,
	}
	e.regions[id] = r
	return r
}

// Context is a request context for the region that holds the plain key.
func (e *Engine) Context(key []byte) *kvrpcpb.Context {
	e.mu.RLock()
	defer e.mu.RUnlock()
	r := e.find(codec.EncodeBytes(nil, key))
	return &kvrpcpb.Context{RegionId: r.meta.Id, RegionEpoch: r.meta.RegionEpoch, Peer: r.meta.Peers[0]}
}

func (e *Engine) find(enc []byte) *region {
	for _, r := range e.regions {
		if inRange(r.meta, enc) {
			return r
		}
	}
	panic("txntest: the regions have a hole")
}

func inRange(m *metapb.Region, enc []byte) bool {
	return bytes.Compare(enc, m.StartKey) >= 0 && (len(m.EndKey) == 0 || bytes.Compare(enc, m.EndKey) < 0)
}

// Split cuts the region that holds the plain key at it; the right half is new.
func (e *Engine) Split(key []byte) (rightID uint64) {
	enc := codec.EncodeBytes(nil, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.find(enc)
	left := *r.meta
	epoch := &metapb.RegionEpoch{ConfVer: left.RegionEpoch.ConfVer, Version: left.RegionEpoch.Version + 1}
	right := e.addRegion(enc, left.EndKey, epoch.Version)
	right.term, right.leader, right.synced = r.term, r.leader, r.synced
	left.EndKey, left.RegionEpoch = enc, epoch
	r.meta = &left
	return right.meta.Id
}

// SetLeader makes the store's peer of the region leader in a new term, whose
// max_ts is not synchronised yet, or follower.
func (e *Engine) SetLeader(regionID uint64, leader bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.regions[regionID]
	r.term++
	r.leader, r.synced = leader, false
}

// SetMaxTSSynced says whether the region's max_ts is synchronised with PD.
func (e *Engine) SetMaxTSSynced(regionID uint64, synced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.regions[regionID].synced = synced
}

// check returns the region the context names if it fits. e.mu is held.
func (e *Engine) check(rc *kvrpcpb.Context) (*region, error) {
	r := e.regions[rc.GetRegionId()]
	switch {
	case r == nil:
		return nil, regionError(&errorpb.Error{Message: "region not found", RegionNotFound: &errorpb.RegionNotFound{RegionId: rc.GetRegionId()}})
	case !r.leader && !rc.GetReplicaRead() && !rc.GetStaleRead():
		return nil, regionError(&errorpb.Error{Message: "not leader", NotLeader: &errorpb.NotLeader{RegionId: r.meta.Id}})
	case rc.GetRegionEpoch().GetVersion() != r.meta.RegionEpoch.Version:
		return nil, regionError(&errorpb.Error{Message: "epoch not match", EpochNotMatch: &errorpb.EpochNotMatch{CurrentRegions: []*metapb.Region{r.meta}}})
	case rc.GetTerm() != 0 && rc.GetTerm() != r.term:
		return nil, regionError(&errorpb.Error{Message: "stale command", StaleCommand: &errorpb.StaleCommand{}})
	}
	return r, nil
}

func regionError(e *errorpb.Error) error { return &kv.RegionError{Err: e} }

// Snapshot implements kv.Engine.
func (e *Engine) Snapshot(ctx context.Context, rc *kvrpcpb.Context, o kv.SnapshotOptions) (kv.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if rc.GetReplicaRead() && e.OnFollowerRead != nil {
		if err := e.OnFollowerRead(o); err != nil {
			return nil, err
		}
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	r, err := e.check(rc)
	if err != nil {
		return nil, err
	}
	s := &snapshot{snap: e.db.NewSnapshot(), region: r.meta, applied: r.applied}
	if r.leader {
		s.term, s.synced = r.term, r.synced
	}
	return s, nil
}

// Write implements kv.Engine.
func (e *Engine) Write(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
	if err := ctx.Err(); err != nil {
		return regionError(&errorpb.Error{Message: "not proposed: " + err.Error(), ServerIsBusy: &errorpb.ServerIsBusy{}})
	}
	outcome := Apply
	if e.OnWrite != nil {
		outcome = e.OnWrite(rc.GetRegionId(), b)
	}
	switch outcome {
	case Refuse:
		return regionError(&errorpb.Error{Message: "refused by the test", ServerIsBusy: &errorpb.ServerIsBusy{Reason: "test"}})
	case LostDropped:
		return ErrLost
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.check(rc)
	if err != nil {
		return err
	}
	if err := e.apply(r, b); err != nil {
		return err
	}
	r.applied++
	if outcome == LostApplied {
		return ErrLost
	}
	return nil
}

func (e *Engine) apply(r *region, b *kv.Batch) error {
	w := e.db.NewBatch()
	defer func() { _ = w.Close() }()
	br := kv.ReadBatch(b.Bytes())
	for {
		op, cf, key, value, ok, err := br.Next()
		if err != nil {
			return err
		}
		if !ok {
			return w.Commit(pebble.NoSync)
		}
		if !inRange(r.meta, userPart(cf, key)) {
			panic(fmt.Sprintf("txntest: batch writes key %x outside region %d", key, r.meta.Id))
		}
		full := dataKey(cf, key)
		switch op {
		case kv.OpPut:
			err = w.Set(full, value, nil)
		case kv.OpDelete:
			err = w.Delete(full, nil)
		case kv.OpDeleteRange:
			err = w.DeleteRange(full, dataKey(cf, value), nil)
		}
		if err != nil {
			return err
		}
	}
}

// userPart is what of a key region boundaries are compared with.
func userPart(cf kv.CF, key []byte) []byte {
	if cf == kv.CFWrite || cf == kv.CFDefault {
		if n := codec.EncodedPrefixLen(key); n > 0 {
			return key[:n]
		}
	}
	return key
}

func dataKey(cf kv.CF, key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), byte(cf)), key...)
}

type snapshot struct {
	snap          *pebble.Snapshot
	region        *metapb.Region
	term, applied uint64
	synced        bool
	buf           []byte
}

func (s *snapshot) Region() *metapb.Region { return s.region }
func (s *snapshot) Term() uint64           { return s.term }
func (s *snapshot) AppliedIndex() uint64   { return s.applied }
func (s *snapshot) MaxTSSynced() bool      { return s.synced }
func (s *snapshot) Close() error           { return s.snap.Close() }

func (s *snapshot) Get(cf kv.CF, key []byte) ([]byte, io.Closer, error) {
	if !inRange(s.region, userPart(cf, key)) {
		return nil, nil, regionError(&errorpb.Error{Message: "key not in region", KeyNotInRegion: &errorpb.KeyNotInRegion{
			Key: bytes.Clone(key), RegionId: s.region.Id, StartKey: s.region.StartKey, EndKey: s.region.EndKey,
		}})
	}
	s.buf = append(append(s.buf[:0], byte(cf)), key...)
	value, closer, err := s.snap.Get(s.buf)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil, kv.ErrNotFound
	}
	return value, closer, err
}

func (s *snapshot) NewIter(cf kv.CF, o kv.IterOptions) (kv.Iterator, error) {
	lower, upper := o.Lower, o.Upper
	if bytes.Compare(lower, s.region.StartKey) < 0 {
		lower = s.region.StartKey
	}
	if len(upper) == 0 || len(s.region.EndKey) > 0 && bytes.Compare(upper, s.region.EndKey) > 0 {
		upper = s.region.EndKey
	}
	po := &pebble.IterOptions{LowerBound: dataKey(cf, lower), UpperBound: []byte{byte(cf) + 1}}
	if len(upper) > 0 {
		po.UpperBound = dataKey(cf, upper)
	}
	if bytes.Compare(po.LowerBound, po.UpperBound) > 0 {
		po.UpperBound = po.LowerBound
	}
	it, err := s.snap.NewIter(po)
	if err != nil {
		return nil, err
	}
	return &iterator{it: it, buf: []byte{byte(cf)}}, nil
}

type iterator struct {
	it  *pebble.Iterator
	buf []byte // family byte, then the key that is sought
}

func (i *iterator) First() bool { return i.it.First() }
func (i *iterator) Last() bool  { return i.it.Last() }
func (i *iterator) Next() bool  { return i.it.Next() }
func (i *iterator) Prev() bool  { return i.it.Prev() }
func (i *iterator) Valid() bool { return i.it.Valid() }
func (i *iterator) SeekGE(key []byte) bool {
	i.buf = append(i.buf[:1], key...)
	return i.it.SeekGE(i.buf)
}
func (i *iterator) SeekLT(key []byte) bool {
	i.buf = append(i.buf[:1], key...)
	return i.it.SeekLT(i.buf)
}
func (i *iterator) Key() []byte            { return i.it.Key()[1:] }
func (i *iterator) Value() ([]byte, error) { return i.it.ValueAndErr() }
func (i *iterator) Error() error           { return i.it.Error() }
func (i *iterator) Close() error           { return i.it.Close() }
