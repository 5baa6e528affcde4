package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
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
	want := map[uint64]uint64{}
	s.eachPeer(func(p *peer) {
		if p.ensureRaft() {
			want[p.regionID] = p.hs.commit
		}
	})
	select {
	case err := <-failed:
		return err
	default:
	}
	if err := s.Start(); err != nil {
		return err
	}
	for regionID, index := range want {
		for !s.replayed(regionID, index) {
			select {
			case err := <-failed:
				return err
			case <-ctx.Done():
				return fmt.Errorf("raftstore: region %d is not replayed to index %d: %w", regionID, index, ctx.Err())
			case <-time.After(replayPollInterval):
			}
		}
	}
	return s.engine.Flush(ctx)
}

// replayed reports whether a region has applied an index, or has ended.
func (s *Store) replayed(regionID, index uint64) bool {
	p := s.peer(regionID)
	return p == nil || p.applied.Load() >= index
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
func (nobody) ReportBatchSplit(context.Context, []*metapb.Region) error { return errNobody }
func (nobody) ReportRegion(*pdpb.RegionHeartbeatRequest)                {}
