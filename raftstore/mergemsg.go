package raftstore

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
)

// MergeKind says what a MergeMessage wants.
type MergeKind byte

const (
	// MergeCommit asks the target's leader to propose CommitMerge: every peer of
	// the source has its log up to the PrepareMerge entry on disk.
	MergeCommit MergeKind = iota + 1
	// MergeCancel asks the target's leader to make the merge impossible.
	MergeCancel
	// MergeVerdict tells a source's peer what became of its merge.
	MergeVerdict
)

// MergeMessage is what source and target of a merge tell one another. Its
// receiver acts on what its own store knows, and on nothing else: a message
// that is late or repeated does no harm.
type MergeMessage struct {
	Kind MergeKind
	// Source is the source as of its PrepareMerge entry (MergeCommit, MergeCancel).
	Source *raft_serverpb.RegionLocalState
	// Commit is the index of the PrepareMerge entry that a MergeVerdict is about;
	// Record is set if the source was merged. Without it the merge can never
	// happen any more.
	Commit uint64
	Record *raft_serverpb.MergedRecord
}

// appendTo appends kind(1) uvarint{commit} bytes{source, record}.
func (m *MergeMessage) appendTo(buf []byte) ([]byte, error) {
	var source, record []byte
	var err error
	if m.Source != nil {
		if source, err = m.Source.Marshal(); err != nil {
			return nil, fmt.Errorf("raftstore: encode the source of a merge: %w", err)
		}
	}
	if m.Record != nil {
		if record, err = m.Record.Marshal(); err != nil {
			return nil, fmt.Errorf("raftstore: encode the record of a merge: %w", err)
		}
	}
	buf = binary.AppendUvarint(append(buf, byte(m.Kind)), m.Commit)
	return appendBytes(appendBytes(buf, source), record), nil
}

func decodeMergeMessage(b []byte) (*MergeMessage, error) {
	if len(b) == 0 || MergeKind(b[0]) < MergeCommit || MergeKind(b[0]) > MergeVerdict {
		return nil, fmt.Errorf("raftstore: message of %d bytes about a merge has no known kind; are all stores of the same release?", len(b))
	}
	d := decoder{rest: b[1:]}
	m := &MergeMessage{Kind: MergeKind(b[0]), Commit: d.uvarint()}
	source, record := d.bytes(), d.bytes()
	if d.failed {
		return nil, fmt.Errorf("raftstore: message of %d bytes about a merge is cut off", len(b))
	}
	if record != nil {
		m.Record = new(raft_serverpb.MergedRecord)
		if err := m.Record.Unmarshal(record); err != nil || m.Record.SourceEpoch == nil || m.Record.TargetEpoch == nil {
			return nil, fmt.Errorf("raftstore: record of a merge is damaged: %v", err)
		}
	}
	if m.Kind == MergeVerdict {
		return m, nil
	}
	m.Source = new(raft_serverpb.RegionLocalState)
	if err := m.Source.Unmarshal(source); err != nil || m.Source.Region.GetRegionEpoch() == nil || m.Source.MergeState.GetTarget().GetRegionEpoch() == nil {
		return nil, fmt.Errorf("raftstore: source of a merge is damaged: %v", err)
	}
	return m, nil
}

// verdict is what a store knows about a merge.
type verdict int

const (
	mergeOpen   verdict = iota // or unknown
	mergeDone                  // the target has the source's range and data
	mergeFailed                // and can't happen any more
)

// judgeMerge says what became of the merge of a source into target, which is as
// PrepareMerge recorded it. A region's epoch and the record of what it consumed
// change together, by entries that all its peers apply, and snapshots carry
// both: a target that is past the recorded epoch has either consumed the source
// or never will, because CommitMerge is valid at the recorded epoch only.
func (s *Store) judgeMerge(source uint64, target *metapb.Region) (verdict, *raft_serverpb.MergedRecord) {
	value, ok, err := s.engine.GetMeta(metaKey(regionStateKind, target.Id))
	if err != nil {
		s.log.Warn("state of a merge's target not read", slog.Uint64("region", target.Id), slog.Any("error", err))
	}
	if err != nil || !ok {
		return mergeOpen, nil
	}
	st, err := decodeRegionState(nil, value)
	if err != nil {
		s.fatal(err)
		return mergeOpen, nil
	}
	if r := recordOf(st.MergedRecords, source); r != nil {
		return mergeDone, r
	}
	if st.State == raft_serverpb.PeerState_Tombstone && recordOf(st.MergedRecords, target.Id) == nil {
		return mergeOpen, nil // removed: others told its epoch, which is ahead of the record
	}
	if n := len(st.MergedRecords); n >= mergedRecordCountMax && st.MergedRecords[0].TargetEpoch.GetVersion() > target.RegionEpoch.GetVersion() {
		return mergeOpen, nil // the record does not reach back that far
	}
	if epochPast(st.Region.RegionEpoch, target.RegionEpoch) {
		return mergeFailed, nil
	}
	return mergeOpen, nil
}

// recordOf finds the record of a source.
func recordOf(records []*raft_serverpb.MergedRecord, source uint64) *raft_serverpb.MergedRecord {
	for _, r := range slices.Backward(records) {
		if r.SourceRegionId == source {
			return r
		}
	}
	return nil
}

// epochPast reports whether a is a later epoch of the region than b.
func epochPast(a, b *metapb.RegionEpoch) bool {
	return a.GetVersion() > b.GetVersion() || a.GetConfVer() > b.GetConfVer()
}

func sameEpoch(a, b *metapb.RegionEpoch) bool {
	return a.GetVersion() == b.GetVersion() && a.GetConfVer() == b.GetConfVer()
}

// sendMerge sends m to a peer, which may be on this store.
func (s *Store) sendMerge(m *RaftMessage) {
	if m.To.StoreId == s.id {
		if err := s.Step(m); err != nil {
			s.log.Debug("message about a merge dropped", slog.Any("error", err))
		}
		return
	}
	s.transport.Send(m)
}

// answerMerge tells the sender of a MergeCommit or MergeCancel what became of
// its merge, if this store knows; it reports whether it did.
func (s *Store) answerMerge(m *RaftMessage) bool {
	source := m.Merge.Source
	v, record := s.judgeMerge(source.Region.Id, source.MergeState.Target)
	if v == mergeOpen {
		return false
	}
	s.sendMerge(&RaftMessage{RegionID: source.Region.Id, From: m.To, To: m.From,
		Merge: &MergeMessage{Kind: MergeVerdict, Commit: source.MergeState.Commit, Record: record}})
	return true
}
