package raftstore

import (
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// WriteRegions makes databases hold regions as a split or Bootstrap would have
// left them.
func WriteRegions(e *engine.Engine, log *raftlog.Log, storeID uint64, regions []*metapb.Region) error {
	data, raft := e.NewBatch(), log.NewBatch()
	defer data.Close()
	defer raft.Close()
	for _, r := range regions {
		data.PutMeta(metaKey(regionStateKind, r.Id), encodeRegionState(normalState(r)))
		data.PutMeta(metaKey(applyStateKind, r.Id), applyState{initialIndex, initialTerm}.encode())
		raft.PutMeta(metaKey(peerIDKind, r.Id), encodeUvarint(peerOnStore(r, storeID).Id))
		raft.SetTruncated(r.Id, initialIndex, initialTerm)
		raft.SetHardState(r.Id, hardState{term: initialTerm, commit: initialIndex}.proto())
	}
	if err := e.Apply(data); err != nil {
		return err
	}
	return log.Commit(raft, true)
}
