package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Offline looks into a store that is stopped, and repairs it. Its databases
// must be open and belong to nobody else.
type Offline struct {
	id     uint64
	engine *engine.Engine
	log    *raftlog.Log
}

// NewOffline makes the tool for the store with this id.
func NewOffline(storeID uint64, e *engine.Engine, l *raftlog.Log) *Offline {
	return &Offline{id: storeID, engine: e, log: l}
}

// OfflineRegion is what a stopped store holds of one region. The data engine
// may be behind the log; it catches up at the next start.
type OfflineRegion struct {
	Region *metapb.Region
	State  raft_serverpb.PeerState
	PeerID uint64 // of this store; 0 in a tombstone
	// The Raft log: (TruncatedIndex, LastIndex], of which Commit is known to be
	// committed and AppliedIndex is in the data.
	Term, Vote, Commit, AppliedIndex                   uint64
	TruncatedIndex, TruncatedTerm, LastIndex, LastTerm uint64
	// FailedStores are those that Recover has marked.
	FailedStores []uint64
	ApproxBytes  uint64
	// Problem says what does not fit together, or is empty.
	Problem string
}

// Regions lists what the store holds, by region id, tombstones included.
func (o *Offline) Regions() (out []OfflineRegion, err error) {
	err = o.engine.ScanMeta([]byte{regionStateKind}, func(key, value []byte) error {
		st, err := decodeRegionState(key, value)
		if err != nil {
			return err
		}
		r, err := o.region(st)
		out = append(out, r)
		return err
	})
	return out, err
}

// Region returns one region; ok is false if the store never had it.
func (o *Offline) Region(id uint64) (r OfflineRegion, ok bool, err error) {
	key := metaKey(regionStateKind, id)
	value, ok, err := o.engine.GetMeta(key)
	if err != nil || !ok {
		return r, false, err
	}
	st, err := decodeRegionState(key, value)
	if err != nil {
		return r, false, err
	}
	r, err = o.region(st)
	return r, true, err
}

func (o *Offline) region(st *raft_serverpb.RegionLocalState) (r OfflineRegion, err error) {
	id := st.Region.GetId()
	r = OfflineRegion{Region: st.Region, State: st.State, PeerID: peerOnStore(st.Region, o.id).GetId()}
	value, hasApply, err := o.engine.GetMeta(metaKey(applyStateKind, id))
	if err != nil {
		return r, err
	}
	if hasApply {
		applied, err := decodeApplyState(id, value)
		if err != nil {
			return r, err
		}
		r.AppliedIndex = applied.index
	}
	rs, hasLog, err := o.log.Load(id)
	if err != nil {
		return r, err
	}
	if hasLog {
		r.Term, r.Vote, r.Commit = rs.HardState.GetTerm(), rs.HardState.GetVote(), rs.HardState.GetCommit()
		r.TruncatedIndex, r.TruncatedTerm, r.LastIndex, r.LastTerm = rs.TruncatedIndex, rs.TruncatedTerm, rs.LastIndex, rs.LastTerm
	}
	if value, ok, err := o.log.GetMeta(metaKey(recoverKind, id)); err != nil {
		return r, err
	} else if ok {
		if r.FailedStores, err = decodeFailedStores(id, value); err != nil {
			return r, err
		}
	}
	if st.State == raft_serverpb.PeerState_Tombstone {
		return r, nil
	}
	r.Problem = offlineProblem(&r, hasApply, hasLog)
	r.ApproxBytes, err = o.engine.ApproxSize(r.Region.StartKey, r.Region.EndKey)
	return r, err
}

func offlineProblem(r *OfflineRegion, hasApply, hasLog bool) string {
	switch {
	case r.PeerID == 0:
		return "the region has no peer on this store"
	case !hasApply:
		return "there is no apply state"
	case !hasLog && r.AppliedIndex != initialIndex:
		return "there is no log"
	case hasLog && r.AppliedIndex < r.TruncatedIndex:
		return fmt.Sprintf("applied index %d is before the log, which begins behind %d", r.AppliedIndex, r.TruncatedIndex)
	case hasLog && r.LastIndex > 0 && r.AppliedIndex > r.LastIndex:
		return fmt.Sprintf("applied index %d is behind the end of the log, %d", r.AppliedIndex, r.LastIndex)
	}
	return ""
}

// OfflineEntry is one entry of a Raft log, made readable.
type OfflineEntry struct {
	Index, Term uint64
	Kind        string // write, conf-change, an admin command's name, or empty (a new leader's first)
	Bytes       int
	Detail      string
}

// offlineReadBytes is how much of a log is read at a time.
const offlineReadBytes = 16 << 20

// Entries calls fn for the entries [from, to] of a region that the log has, in
// order. to 0 is the last.
func (o *Offline) Entries(regionID, from, to uint64, fn func(OfflineEntry) error) error {
	rs, ok, err := o.log.Load(regionID)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("raftstore: the raft log has nothing of region %d", regionID)
	}
	from = max(from, rs.TruncatedIndex+1)
	if to == 0 || to > rs.LastIndex {
		to = rs.LastIndex
	}
	for from <= to {
		ents, err := o.log.Entries(regionID, from, to+1, offlineReadBytes)
		if err != nil {
			return err
		}
		for _, e := range ents {
			if err := fn(describeEntry(e)); err != nil {
				return err
			}
		}
		from += uint64(len(ents))
	}
	return nil
}

func describeEntry(e *raftpb.Entry) OfflineEntry {
	out := OfflineEntry{Index: e.GetIndex(), Term: e.GetTerm(), Bytes: len(e.GetData())}
	data := e.GetData()
	if e.GetType() == raftpb.EntryConfChangeV2 {
		cc := new(raftpb.ConfChangeV2)
		out.Kind = "conf-change"
		if err := proto.Unmarshal(data, cc); err != nil {
			out.Detail = "damaged: " + err.Error()
			return out
		}
		if cc.LeaveJoint() {
			out.Detail = "leave joint"
			return out
		}
		data = cc.GetContext()
	}
	if len(data) == 0 {
		return out
	}
	h, rest, err := decodeEntry(data)
	if err != nil {
		out.Detail = err.Error()
		return out
	}
	if h.kind == entryKindWrite {
		out.Kind, out.Detail = "write", describeWrite(rest)
		return out
	}
	if h.kind == entryKindIngest {
		tables, err := decodeIngest(rest)
		out.Kind, out.Detail = "ingest", fmt.Sprint(tables)
		if err != nil {
			out.Detail = err.Error()
		}
		return out
	}
	req, err := decodeAdmin(rest)
	if err != nil {
		out.Detail = err.Error()
		return out
	}
	out.Kind, out.Detail = req.GetCmdType().String(), req.String()
	return out
}

func describeWrite(data []byte) string {
	counts := map[kv.Op]int{}
	var first []byte
	r := kv.ReadBatch(data)
	for {
		op, _, key, _, ok, err := r.Next()
		if err != nil {
			return err.Error()
		}
		if !ok {
			return fmt.Sprintf("%d puts, %d deletes, %d range deletes, first key %x",
				counts[kv.OpPut], counts[kv.OpDelete]+counts[kv.OpDeleteIf], counts[kv.OpDeleteRange], first)
		}
		if first == nil {
			first = key
		}
		counts[op]++
	}
}

// Recovery is what Recover does to one region.
type Recovery struct {
	Region  *metapb.Region
	Removed []*metapb.Peer // on failed stores
	Left    []*metapb.Peer
	// Refused says why the region cannot be recovered from this store, or is nil.
	Refused error
}

// PlanRecovery lists the regions of this store that have lost their quorum if
// the failed stores are gone for good. only limits it to some regions. Call
// Replay before: the newest changes of members may be in the log only.
func (o *Offline) PlanRecovery(failed []uint64, only []uint64) (plan []Recovery, err error) {
	if len(failed) == 0 || slices.Contains(failed, o.id) {
		return nil, fmt.Errorf("raftstore: recovery needs the ids of the failed stores, other than this store %d", o.id)
	}
	regions, err := o.Regions()
	if err != nil {
		return nil, err
	}
	for _, r := range regions {
		if r.State == raft_serverpb.PeerState_Tombstone || (len(only) > 0 && !slices.Contains(only, r.Region.Id)) {
			continue
		}
		step := Recovery{Region: r.Region}
		for _, p := range r.Region.Peers {
			if slices.Contains(failed, p.StoreId) {
				step.Removed = append(step.Removed, p)
			} else {
				step.Left = append(step.Left, p)
			}
		}
		if hasQuorum(r.Region, failed) {
			continue
		}
		if _, err := survivors(r.Region, failed); err != nil {
			step.Refused = err
		} else if r.Problem != "" {
			step.Refused = errors.New(r.Problem)
		}
		plan = append(plan, step)
	}
	return plan, nil
}

// hasQuorum reports whether a region can decide without the failed stores, in
// both configurations if it is joint.
func hasQuorum(region *metapb.Region, failed []uint64) bool {
	cs := confState(region)
	for _, voters := range [][]uint64{cs.Voters, cs.VotersOutgoing} {
		alive := 0
		for _, id := range voters {
			if !slices.Contains(failed, findPeer(region, id).GetStoreId()) {
				alive++
			}
		}
		if len(voters) > 0 && alive <= len(voters)/2 {
			return false
		}
	}
	return true
}

// Recover marks the regions of a plan, durably; those that were refused stay
// as they are. It returns how many it marked. The same must be done on every
// store that is left, before any of them is started.
func (o *Offline) Recover(plan []Recovery, failed []uint64) (marked int, err error) {
	b := o.log.NewBatch()
	defer b.Close()
	for _, step := range plan {
		if step.Refused == nil {
			b.PutMeta(metaKey(recoverKind, step.Region.Id), encodeFailedStores(failed))
			marked++
		}
	}
	return marked, o.log.Commit(b, true)
}

// Tombstones lists the highest peer that has ended in each region.
func (o *Offline) Tombstones() (map[uint64]uint64, error) {
	out := map[uint64]uint64{}
	err := o.log.ScanMeta([]byte{tombstoneKind}, func(key, value []byte) error {
		id, ok := decodeUvarint(value)
		if !ok || len(key) != 9 {
			return fmt.Errorf("raftstore: tombstone %x is damaged", key)
		}
		out[binary.BigEndian.Uint64(key[1:])] = id
		return nil
	})
	return out, err
}
