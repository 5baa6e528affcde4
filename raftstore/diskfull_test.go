package raftstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	smallDisk    = 96 << 20
	smallReserve = 40 << 20
)

// diskCluster runs a test with n stores on small disks.
func diskCluster(t *testing.T, n int, test func(t *testing.T, f *filler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var fatal []string
		// One apply worker: a second one would wait for Pebble's mutex while the
		// first is stalled, and then a bubble's time stands still.
		c := rafttest.NewCluster(t, n, n, raftstore.Config{ApplyWorkers: 1, LogKeepBytesMax: 4 << 20, LogTruncateBytes: 1 << 20, RegionSplitBytes: 1 << 30}, func(c *rafttest.Cluster) {
			c.DiskBytes, c.DiskReserve, c.LogMemTableBytes = smallDisk, smallReserve, 1<<20
			c.Fatal = func(err error) { fatal = append(fatal, err.Error()) }
		})
		test(t, &filler{t: t, c: c})
		c.Close()
		require.Empty(t, fatal)
	})
}

// filler writes numbered values and knows which were acknowledged.
type filler struct {
	t     *testing.T
	c     *rafttest.Cluster
	acked int
}

// fillValue is a value that no compression makes smaller.
func fillValue(i int) string {
	out := make([]byte, fillBytes)
	_, _ = rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(out)
	return string(out)
}

const fillBytes = 64 << 10

// write writes the next value; an error that is none of a region's fails.
func (f *filler) write(opt kvrpcpb.DiskFullOpt) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	lead := f.c.WaitLeader(rafttest.FirstRegion)
	rc := f.c.Context(lead, rafttest.FirstRegion)
	rc.DiskFullOpt = opt
	err := f.c.PutAt(ctx, lead, rc, fmt.Sprintf("k%06d", f.acked), fillValue(f.acked))
	if err == nil {
		f.acked++
	}
	return err
}

// fill writes until a disk is full for a while.
func (f *filler) fill() {
	f.t.Helper()
	for refused := 0; refused < 60; {
		require.Less(f.t, f.acked, smallDisk/fillBytes, "the disk does not fill")
		err := f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull)
		switch {
		case err == nil:
			refused = 0
			continue
		case kv.AsRegionError(err).GetDiskFull() != nil:
			require.NotEmpty(f.t, kv.AsRegionError(err).GetDiskFull().StoreId)
			refused++
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// resume writes until writes are taken again.
func (f *filler) resume() {
	f.t.Helper()
	f.c.Eventually("writes to be taken again", func() bool {
		time.Sleep(time.Second)
		return f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull) == nil
	})
}

// verify reads all that was acknowledged.
func (f *filler) verify(from int) {
	f.t.Helper()
	for i := from; i < f.acked; i++ {
		require.Equal(f.t, fillValue(i), f.c.Get(fmt.Sprintf("k%06d", i)), "value %d", i)
	}
}

func (f *filler) batch(b *kv.Batch) error {
	lead := f.c.WaitLeader(rafttest.FirstRegion)
	return f.c.Node(lead).Store.Write(context.Background(), f.c.Context(lead, rafttest.FirstRegion), b)
}

// All disks fill up at once: writes are refused, reads and deletes are not, what
// a client marks is let through, and with room again so is the rest.
func TestHazard02_AllDisksAlmostFull(t *testing.T) {
	diskCluster(t, 3, func(t *testing.T, f *filler) {
		f.fill()
		full := 0
		for _, id := range f.c.IDs() {
			if f.c.Node(id).Store.DiskLevel() != disk.Normal {
				full++
			}
		}
		require.GreaterOrEqual(t, full, 2, "writes are refused though a majority has room")
		require.NoError(t, f.write(kvrpcpb.DiskFullOpt_AllowedOnAlmostFull))
		f.verify(0)
		var b kv.Batch
		b.Delete(kv.CFDefault, []byte("k000000"))
		b.DeleteRange(kv.CFDefault, []byte("k000001"), []byte("k000010"))
		require.NoError(t, f.batch(&b))
		require.Empty(t, f.c.Get("k000005"))
		b.Put(kv.CFDefault, []byte("z"), nil)
		require.NotNil(t, kv.AsRegionError(f.batch(&b)).GetDiskFull(), "a put among deletes takes room")

		for _, id := range f.c.IDs() {
			f.c.Node(id).Disk.Resize(2 * smallDisk)
		}
		f.resume()
		f.verify(10)
	})
}

// Deleting data gives room again, without a larger disk.
func TestDeletesFreeTheDisk(t *testing.T) {
	diskCluster(t, 1, func(t *testing.T, f *filler) {
		f.fill()
		var b kv.Batch
		last := f.acked - 1
		b.DeleteRange(kv.CFDefault, []byte("k"), fmt.Appendf(nil, "k%06d", last))
		require.NoError(t, f.batch(&b))
		f.resume()
		f.verify(last)
	})
}

// One disk of three is full: its leaders go elsewhere and writes go on. The
// follower there takes entries up to the hard reserve, refuses more, and
// catches up when there is room; it still votes.
func TestOneFullDiskOfThree(t *testing.T) {
	diskCluster(t, 3, func(t *testing.T, f *filler) {
		f.c.Put("a", "1")
		full := f.c.WaitLeader(rafttest.FirstRegion)
		d := f.c.Node(full).Disk
		d.Resize(d.Used() + smallReserve/2)
		f.resume()
		require.NotEqual(t, full, f.c.LeaderOf(rafttest.FirstRegion), "the leader stays on a full disk")
		for range 100 {
			require.NoError(t, f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull))
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, disk.AlreadyFull, f.c.Node(full).Store.DiskLevel())
		// A second one: no majority has room.
		lead := f.c.WaitLeader(rafttest.FirstRegion)
		second := 6 - full - lead
		f.c.Node(second).Disk.Resize(f.c.Node(second).Disk.Used())
		var stores []uint64
		f.c.Eventually("a refusal", func() bool {
			stores = kv.AsRegionError(f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull)).GetDiskFull().GetStoreId()
			return stores != nil
		})
		require.ElementsMatch(t, []uint64{full, second}, stores)
		f.verify(0)
		// Stores with full disks still vote.
		f.c.Crash(lead, 0)
		require.NotEqual(t, lead, f.c.WaitLeader(rafttest.FirstRegion))
		f.c.Restart(lead)
		d.Resize(2 * smallDisk)
		f.c.Node(second).Disk.Resize(2 * smallDisk)
		f.resume()
		f.c.Eventually("the full store to catch up", func() bool {
			return f.c.Local(full, fmt.Sprintf("k%06d", f.acked-1)) != ""
		})
		f.verify(0)
	})
}

// The data engine's disk refuses every table: flushes fail until it takes them
// again. The store neither stops nor loses anything, and goes on by itself.
func TestHazard02_NoSpaceForTheDataEngine(t *testing.T) {
	diskCluster(t, 1, func(t *testing.T, f *filler) {
		for range 20 {
			require.NoError(t, f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull))
		}
		n := f.c.Node(1)
		n.Disk.Refuse(rafttest.DataTables)
		f.c.Eventually("a full disk", func() bool {
			err := f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull)
			return kv.AsRegionError(err).GetDiskFull() != nil
		})
		require.Equal(t, disk.AlreadyFull, n.Store.DiskLevel())
		f.verify(0)
		time.Sleep(time.Minute)
		require.NotNil(t, kv.AsRegionError(f.write(kvrpcpb.DiskFullOpt_AllowedOnAlmostFull)).GetDiskFull())
		f.verify(0)
		n.Disk.Refuse(nil)
		f.resume()
		f.verify(0)
		f.c.Crash(1, 0)
		f.c.Restart(1)
		f.verify(0)
	})
}

// The log's disk refuses a write in spite of the reserve: the placeholder gives
// the room back, and nothing stops.
func TestPlaceholderSavesTheRaftLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.NewCluster(t, 1, 1, raftstore.Config{DiskCheckInterval: time.Hour}, func(c *rafttest.Cluster) {
			c.DiskBytes, c.DiskReserve, c.LogMemTableBytes = smallDisk, smallReserve, 1<<20
		})
		f := &filler{t: t, c: c}
		require.NoError(t, f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull))
		n := c.Node(1)
		stat := func() error { _, err := n.Disk.Stat("/" + disk.PlaceholderFile); return err }
		require.NoError(t, stat())
		n.Disk.Resize(n.Disk.Used()) // not a byte is free
		// Marked: something else, such as a flush, may have met the full disk first.
		require.NoError(t, f.write(kvrpcpb.DiskFullOpt_AllowedOnAlreadyFull))
		require.True(t, disk.IsNotExist(stat()), "the placeholder is still there")
		require.NotNil(t, kv.AsRegionError(f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull)).GetDiskFull())
		f.verify(0)
		c.Close()
	})
}

// The level travels with every message.
func TestMessageCarriesDiskLevel(t *testing.T) {
	for _, level := range []disk.Level{disk.Normal, disk.AlmostFull, disk.AlreadyFull} {
		for _, tombstone := range []bool{false, true} {
			in := &raftstore.RaftMessage{RegionID: 7, DiskLevel: level, Tombstone: tombstone, Query: !tombstone}
			data, err := in.AppendTo(nil)
			require.NoError(t, err)
			out, err := raftstore.DecodeRaftMessage(bytes.Clone(data))
			require.NoError(t, err)
			require.Equal(t, level, out.DiskLevel)
			require.Equal(t, tombstone, out.Tombstone)
		}
	}
}

// A leader is elected among full disks with a write in its log that nobody has
// committed: the reserve takes it, so that linearizable reads go on. New writes
// are refused as before.
func TestNewLeaderAmongFullDisksReads(t *testing.T) {
	diskCluster(t, 3, func(t *testing.T, f *filler) {
		f.c.Put("a", "1")
		f.c.PD.TransferLeader(first, 1)
		f.c.Put("a", "2")
		// The last write comes to store 2 alone, and the leader never hears of it.
		f.c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			lost := m.From.StoreId == 2 && m.To.StoreId == 1 && m.Msg.GetType() == raftpb.MsgAppResp ||
				m.From.StoreId == 1 && m.To.StoreId == 3 && m.Msg.GetType() == raftpb.MsgApp
			return !lost
		})
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		err := f.c.PutAt(ctx, 1, f.c.Context(1, first), "a", "3")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for id := uint64(2); id <= 3; id++ {
			d := f.c.Node(id).Disk
			d.Resize(d.Used() + 14<<20) // less than 2/5 of the reserve, more than 1/5
		}
		f.c.Crash(1, 0)
		f.c.Net.SetFilter(nil)
		f.c.Eventually("full disks", func() bool {
			return f.c.Node(2).Store.DiskLevel() == disk.AlreadyFull && f.c.Node(3).Store.DiskLevel() == disk.AlreadyFull
		})
		lead := f.c.WaitLeader(first)
		require.Equal(t, uint64(2), lead, "only store 2 has all of the log")
		read, cancelRead := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancelRead()
		got := ""
		for err = io.EOF; err != nil && read.Err() == nil; time.Sleep(100 * time.Millisecond) {
			got, err = f.c.GetAt(read, lead, f.c.Context(lead, first), "a")
		}
		require.NoError(t, err)
		require.Equal(t, "3", got)
		require.NotNil(t, kv.AsRegionError(f.write(kvrpcpb.DiskFullOpt_NotAllowedOnFull)).GetDiskFull())
		require.Equal(t, disk.AlreadyFull, f.c.Node(3).Store.DiskLevel())
	})
}
