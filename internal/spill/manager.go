package spill

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/internal/pgerror"
)

const (
	// folderPrefix begins the name of a Manager's folder.
	folderPrefix = "copra-temp-"
	lockName     = "LOCK"
	// FreeBytesMin is how much of a disk temporary files leave to others, or
	// freeSharePercentMin where that is more.
	FreeBytesMin        = 1 << 30
	freeSharePercentMin = 5
	// freeCheckBytes is after how many written bytes that is looked at again.
	freeCheckBytes = 64 << 20
)

// Options of a Manager.
type Options struct {
	// FS has the files; nil is the operating system's.
	FS vfs.FS
	// Dir is where the Manager makes its folder. It is created if it is missing.
	Dir string
	// BytesMax bounds all files together; 0 = no limit.
	BytesMax int64
	// FreeBytesMin overrides the default where not 0; negative: files may fill
	// the disk.
	FreeBytesMin int64
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// Manager owns the temporary files of a SQL node.
type Manager struct {
	o       Options
	dir     string
	lock    io.Closer
	metrics *metrics
	used    atomic.Int64
	checkAt atomic.Int64 // bytes ever written at which free space is looked at
	written atomic.Int64
	next    atomic.Uint64 // number of the next file
}

// live are the folders of this process: its own locks would not keep it out.
var live sync.Map

// Open makes a folder in o.Dir, after removing those whose owners are dead.
func Open(o Options) (*Manager, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FreeBytesMin == 0 {
		o.FreeBytesMin = FreeBytesMin
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spill: make the folder for temporary files %q: %w", o.Dir, err)
	}
	m := &Manager{o: o}
	if err := m.removeDead(); err != nil {
		return nil, err
	}
	if err := m.makeFolder(); err != nil {
		return nil, err
	}
	m.metrics = newMetrics(o.Registerer, func() float64 { return float64(m.used.Load()) })
	return m, nil
}

// makeFolder takes the first free name for a folder of its own and locks it.
func (m *Manager) makeFolder() error {
	for i := 0; ; i++ {
		dir := m.o.FS.PathJoin(m.o.Dir, fmt.Sprintf("%s%d-%d", folderPrefix, os.Getpid(), i))
		if _, taken := live.LoadOrStore(liveKey{m.o.FS, dir}, true); taken {
			continue
		}
		err := m.o.FS.MkdirAll(dir, 0o700)
		if err == nil {
			m.lock, err = m.o.FS.Lock(m.o.FS.PathJoin(dir, lockName))
		}
		if err != nil {
			live.Delete(liveKey{m.o.FS, dir})
			return fmt.Errorf("spill: take the folder %q: %w", dir, err)
		}
		m.dir = dir
		return nil
	}
}

// liveKey names a folder; memory disks have the same paths.
type liveKey struct {
	fs  vfs.FS
	dir string
}

// removeDead removes folders that nobody holds the lock of.
func (m *Manager) removeDead() error {
	names, err := m.o.FS.List(m.o.Dir)
	if err != nil {
		return fmt.Errorf("spill: list %q: %w", m.o.Dir, err)
	}
	for _, name := range names {
		dir := m.o.FS.PathJoin(m.o.Dir, name)
		if _, ours := live.Load(liveKey{m.o.FS, dir}); ours || !strings.HasPrefix(name, folderPrefix) {
			continue
		}
		lock, err := m.o.FS.Lock(m.o.FS.PathJoin(dir, lockName))
		if err != nil { // another process has it
			continue
		}
		err = errors.Join(m.o.FS.RemoveAll(dir), lock.Close())
		if err != nil {
			return fmt.Errorf("spill: remove what a dead process left in %q: %w", dir, err)
		}
		m.o.Logger.Info("spill: removed temporary files of a process that is gone", "folder", dir)
	}
	return nil
}

// Close removes the folder. Spaces must be closed before.
func (m *Manager) Close() error {
	err := errors.Join(m.lock.Close(), m.o.FS.RemoveAll(m.dir))
	live.Delete(liveKey{m.o.FS, m.dir})
	m.metrics.unregister(m.o.Registerer)
	return err
}

// Dir is the folder that has the files.
func (m *Manager) Dir() string { return m.dir }

// UsedBytes are those of all files there are.
func (m *Manager) UsedBytes() int64 { return m.used.Load() }

// reserve counts bytes that are to be written.
func (m *Manager) reserve(n int64) error {
	if used := m.used.Add(n); m.o.BytesMax > 0 && used > m.o.BytesMax {
		m.used.Add(-n)
		m.metrics.refused.Inc()
		return pgerror.New(pgerror.ConfigurationLimitExceeded,
			"temporary file size exceeds the SQL node's limit of %d bytes", m.o.BytesMax).
			WithDetail("All statements together use %d bytes of temporary files.", used-n).
			WithHint("Let the statement read fewer rows or columns, wait for others to end, or raise --temp-bytes-max.")
	}
	if err := m.checkFree(n); err != nil {
		m.used.Add(-n)
		return err
	}
	return nil
}

// checkFree leaves others their share of the disk.
func (m *Manager) checkFree(n int64) error {
	total, at := m.written.Add(n), m.checkAt.Load()
	if m.o.FreeBytesMin < 0 || total < at || !m.checkAt.CompareAndSwap(at, total+freeCheckBytes) {
		return nil
	}
	d, err := m.o.FS.GetDiskUsage(m.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return ioError(err, "look for space for", m.dir)
	}
	if int64(min(d.AvailBytes, 1<<62)) >= max(m.o.FreeBytesMin, int64(d.TotalBytes/100*freeSharePercentMin)) {
		return nil
	}
	m.checkAt.Store(total) // the next one looks again
	m.metrics.refused.Inc()
	return pgerror.New(pgerror.DiskFull, "could not write to temporary file: the disk of \"%s\" is almost full, %d of %d bytes are left",
		m.dir, d.AvailBytes, d.TotalBytes).
		WithHint("Free some space, use another disk (--temp-dir), or have the statement read fewer rows.")
}

func (m *Manager) giveBack(n int64) { m.used.Add(-n) }
