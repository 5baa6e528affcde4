package raftstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// Hazard 5: the only voter left crashes with the joint configuration on disk and
// needs a vote of the demoted one, who has an entry more.
func TestHazard05_LeaderForgetsThatItLeftJoint(t *testing.T) {
	cluster(t, 2, 2, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 2)
		c.Stop(1)
		var stuck atomic.Bool // the disk of store 1
		release := make(chan struct{})
		c.WrapLogFS = func(fs vfs.FS) vfs.FS {
			return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if stuck.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
					<-release
				}
				return nil
			}))
		}
		c.Restart(1)
		c.PD.TransferLeader(first, 1)
		c.Put("a", "2")
		// No entry but the two of the change, so that no sync carries the commit
		// index of the second.
		var last atomic.Uint64
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Msg.GetType() == raftpb.MsgAppResp && m.From.StoreId == 2 {
				last.Store(m.Msg.GetIndex())
			}
			return true
		})
		r, _ := c.Node(1).Store.Region(first)
		demoted := peerAt(r.Region, 2)
		c.PD.ChangePeers(first, func(r *metapb.Region) bool { return rafttest.RoleOf(r, demoted) == metapb.PeerRole_Learner },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, demoted, 2))
		c.Eventually("the demoted voter knows", func() bool {
			r, _ := c.Node(2).Store.Region(first)
			return rafttest.RoleOf(r.Region, demoted) == metapb.PeerRole_Learner
		})
		before := last.Load()
		stuck.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		go func() { _ = c.PutAt(ctx, 1, c.Context(1, first), "a", "3") }()
		c.Eventually("one more entry on store 2", func() bool { return last.Load() > before })
		require.True(t, c.Kill(1, 0, nil))
		stuck.Store(false)
		close(release)
		c.Bury(1)
		c.Restart(1)
		c.Put("a", "4")
		c.Eventually("data", func() bool { return c.Local(2, "a") == "4" })
	})
}

func peerAt(r *metapb.Region, store uint64) uint64 {
	for _, p := range r.Peers {
		if p.StoreId == store {
			return p.Id
		}
	}
	return 0
}
