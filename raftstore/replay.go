package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
)

// replayPollInterval is how often Replay looks whether it is done.
const replayPollInterval = 5 * time.Millisecond

// Replay brings the data up to what the log knows to be committed, as the next
// start would, and makes it durable: a store that crashed has the newest
// changes of its regions in the log only. fs and snapDir are as in Options.
func (o *Offline) Replay(ctx context.Context, fs vfs.FS, snapDir string) error {
	failed := make(chan error, 1)
	s, err := New(Options{
		StoreID: o.id, Engine: o.engine, Log: o.log, Transport: nobody{}, PD: nobody{}, FS: fs, SnapDir: snapDir, ReplayOnly: true,
		Fatal: func(err error) {
			select {
			case failed <- err:
			default: // the first is the cause; workers stop behind it
			}
		},
	})
	if err != nil {
		return err
	}
	defer s.Stop()
	s.eachPeer(func(p *peer) { p.ensureRaft() })
	select {
	case err := <-failed:
		return err
	default:
	}
	if err := s.Start(); err != nil {
		return err
	}
	done := map[uint64]bool{}
	for {
		behind, err := s.notReplayed(done)
		if err != nil {
			return err
		}
		if behind == 0 {
			return s.engine.Flush(ctx)
		}
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("raftstore: region %d is not replayed to the end: %w", behind, ctx.Err())
		case <-time.After(replayPollInterval):
		}
	}
}

// notReplayed returns a region that the data engine has not got as far as its
// log knows to be committed, or 0. It goes by what is in the data, for replay
// itself makes regions, by splits, which have logs of their own; it sets them
// going, as there is no clock here. done has those that need no second look: logs
// don't grow.
func (s *Store) notReplayed(done map[uint64]bool) (behind uint64, err error) {
	s.eachPeer(func(p *peer) {
		if behind != 0 || err != nil || done[p.regionID] {
			return
		}
		var ok bool
		if ok, err = s.replayed(p.regionID, p.id); !ok {
			behind = p.regionID
			p.send(mailWake{})
		}
		done[p.regionID] = ok
	})
	if behind != 0 || err != nil {
		return behind, err
	}
	// Those that are in the data already and whose peers are still to be made.
	err = s.engine.ScanMeta([]byte{regionStateKind}, func(key, value []byte) error {
		st, err := decodeRegionState(key, value)
		if err == nil && st.State != raft_serverpb.PeerState_Tombstone && !done[st.Region.GetId()] {
			behind = st.Region.GetId()
		}
		return err
	})
	return behind, err
}

// replayed reports whether the data has all of a region that its log knows to be
// committed, or the region has ended.
func (s *Store) replayed(regionID, peerID uint64) (bool, error) {
	applied, ok, err := s.loadApplyState(regionID)
	if err != nil || !ok {
		return err == nil, err
	}
	rs, _, err := s.loadLog(regionID, peerID)
	return applied.index >= rs.HardState.GetCommit(), err
}

// nobody is a transport and a PD that are not there.
type nobody struct{}

var errNobody = errors.New("raftstore: the store is only replayed")

func (nobody) Send(*RaftMessage) {}
func (nobody) SendSnapshot(context.Context, *RaftMessage, []SnapshotFile) error {
	return errNobody
}
func (nobody) AskBatchSplit(context.Context, *metapb.Region, int) (*pdpb.AskBatchSplitResponse, error) {
	return nil, errNobody
}
func (nobody) ReportBatchSplit(context.Context, []*metapb.Region) error      { return errNobody }
func (nobody) GetRegionByID(context.Context, uint64) (*metapb.Region, error) { return nil, errNobody }
func (nobody) ReportRegion(*pdpb.RegionHeartbeatRequest)                     {}
