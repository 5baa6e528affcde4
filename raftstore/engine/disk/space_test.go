package disk_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/stretchr/testify/require"
)

// sized is a file system that says what it is told to say of its size.
type sized struct {
	vfs.FS
	total, avail uint64
}

func (s *sized) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{TotalBytes: s.total, AvailBytes: s.avail}, nil
}

const mib = 1 << 20

// The reserve is 100 MiB: a fifth of it in the placeholder, full below 40, almost
// full below 80, and back from there with a quarter more.
func TestSpaceLevels(t *testing.T) {
	fs := &sized{FS: vfs.NewMem(), total: 1000 * mib, avail: 500 * mib}
	s, err := disk.NewSpace(disk.SpaceOptions{FS: fs, Dir: "/", ReserveBytes: 100 * mib})
	require.NoError(t, err)
	for _, step := range []struct {
		availMiB, pendingMiB uint64
		want                 disk.Level
	}{
		{500, 0, disk.Normal},
		{80, 0, disk.Normal},
		{79, 0, disk.AlmostFull},
		{99, 0, disk.AlmostFull}, // not clearly more
		{100, 0, disk.Normal},
		{200, 121, disk.AlmostFull}, // memtables will need it
		{40, 0, disk.AlmostFull},
		{39, 0, disk.AlreadyFull},
		{49, 0, disk.AlreadyFull},
		{50, 0, disk.AlmostFull},
		{300, 0, disk.Normal},
		{10, 20, disk.AlreadyFull},
	} {
		fs.avail = step.availMiB * mib
		require.Equal(t, step.want, s.Check(step.pendingMiB*mib, 0), "%+v", step)
	}
}

// By default the reserve is 5 % of the capacity, at most 5 GiB; it can be
// turned off.
func TestSpaceReserve(t *testing.T) {
	for _, c := range []struct {
		total, capacity uint64
		reserve, want   int64
	}{
		{total: 1000 * mib, want: 50 * mib},
		{total: 1000 << 30, want: 5 << 30},
		{total: 1000 << 30, capacity: 1000 * mib, want: 50 * mib},
		{total: 1000 * mib, reserve: 7 * mib, want: 7 * mib},
		{total: 1000 * mib, reserve: -1, want: 0},
	} {
		fs := &sized{FS: vfs.NewMem(), total: c.total, avail: 10}
		s, err := disk.NewSpace(disk.SpaceOptions{FS: fs, Dir: "/", ReserveBytes: c.reserve, CapacityBytes: c.capacity})
		require.NoError(t, err)
		require.Equal(t, c.want, s.Usage().ReserveBytes)
		require.Equal(t, c.reserve >= 0, s.Level() == disk.AlreadyFull)
	}
	s, err := disk.NewSpace(disk.SpaceOptions{FS: vfs.NewMem(), Dir: "/"})
	require.NoError(t, err)
	require.Equal(t, disk.Normal, s.Check(1<<40, 0), "a disk that cannot tell its size is endless")
}

// The placeholder is there while there is room; an operator may delete it, a
// start on a full disk does, and it comes back.
func TestPlaceholder(t *testing.T) {
	fs := &sized{FS: vfs.NewMem(), total: 1000 * mib, avail: 500 * mib}
	size := func() int64 {
		info, err := fs.Stat("/" + disk.PlaceholderFile)
		if disk.IsNotExist(err) {
			return 0
		}
		require.NoError(t, err)
		return info.Size()
	}
	o := disk.SpaceOptions{FS: fs, Dir: "/", ReserveBytes: 10 * mib}
	s, err := disk.NewSpace(o)
	require.NoError(t, err)
	require.EqualValues(t, 2*mib, size())
	require.NoError(t, fs.Remove("/"+disk.PlaceholderFile))
	fs.avail = 9 * mib // enough for everything but the placeholder
	require.Equal(t, disk.AlmostFull, s.Check(0, 0))
	require.Zero(t, size())
	fs.avail = 500 * mib
	require.Equal(t, disk.Normal, s.Check(0, 0))
	require.EqualValues(t, 2*mib, size())

	fs.avail = 0
	s, err = disk.NewSpace(o)
	require.NoError(t, err)
	require.Zero(t, size(), "a start on a full disk needs room")
	fs.avail = 500 * mib
	s.Check(0, 0)
	o.ReserveBytes = 20 * mib
	_, err = disk.NewSpace(o)
	require.NoError(t, err)
	require.EqualValues(t, 4*mib, size(), "its size follows the setting")
	o.ReserveBytes = -1
	_, err = disk.NewSpace(o)
	require.NoError(t, err)
	require.Zero(t, size())
}
