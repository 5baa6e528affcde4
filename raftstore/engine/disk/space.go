package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Level says how full a disk is. The values are those of kvproto's
// disk_usage.DiskUsage.
type Level int32

// The levels: all is served; what takes room is refused; next to everything is.
const (
	Normal Level = iota
	AlmostFull
	AlreadyFull
)

func (l Level) String() string {
	switch l {
	case Normal:
		return "normal"
	case AlmostFull:
		return "almost full"
	case AlreadyFull:
		return "full"
	}
	return fmt.Sprintf("disk.Level(%d)", int32(l))
}

// The reserve: room that no write of a client gets. It is what compactions,
// deletes and the Raft log live on when the disk is full.
const (
	reserveSharePercent  = 5
	reserveBytesMax      = 5 << 30
	placeholderShare     = 5         // of the reserve, 1/placeholderShare is in the placeholder
	placeholderBytesMax  = 256 << 20 // it has to carry a few flushes, no more
	alreadyFullShare     = 2         // of the rest, below 1/alreadyFullShare the disk is full
	tailShare            = 2         // of what is left then, 1/tailShare is for entries that new leaders wait for
	recoverShare         = 4         // a level ends when 1/recoverShare more than its threshold is free
	noSpaceHold          = 10 * time.Second
	noSpaceRetryInterval = 250 * time.Millisecond
)

// SpaceOptions of NewSpace.
type SpaceOptions struct {
	// FS and Dir name the disk: Dir exists on FS, the operating system's file
	// system if nil.
	FS  vfs.FS
	Dir string
	// ReserveBytes is the room that clients don't get: 0 means 5 % of the
	// capacity, at most 5 GiB; less than 0 means none, and no placeholder.
	ReserveBytes int64
	// CapacityBytes is what the store may use; 0 means all of the disk.
	CapacityBytes uint64
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
}

// Space watches the room on a store's disk. Its methods may be called
// concurrently.
//
//	0 ───────── already full ─────────── almost full ────────────── room
//	   nothing but    │   what frees space      │   everything
//	   heartbeats,    │   goes on               │
//	   votes, reads   │                         │
//	└───────────────── reserve, 1/5 of it in the placeholder ──┘
type Space struct {
	o       SpaceOptions
	gauges  []prometheus.Collector
	level   atomic.Int32
	reserve atomic.Int64
	total   atomic.Uint64
	room    atomic.Uint64

	aboveReserve atomic.Int64
	tailRoom     atomic.Int64

	noSpace  atomic.Int64 // when the disk last refused a write, in Unix nanoseconds; 0: never
	unknown  atomic.Bool  // the file system cannot tell its size
	mu       sync.Mutex   // guards the placeholder
	held     bool         // the placeholder exists, as large as it should be
	heldSize int64
}

// Usage is what a Space last saw.
type Usage struct {
	// TotalBytes is the capacity, AvailBytes what is free of it for the store.
	TotalBytes, AvailBytes uint64
	ReserveBytes           int64
	// Known is false on a file system that cannot tell; the disk then counts as
	// endless.
	Known bool
	Level Level
}

// NewSpace looks at the disk. When next to nothing is free it gives up the
// placeholder, so that databases can be opened and space be reclaimed.
func NewSpace(o SpaceOptions) (*Space, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Space{o: o}
	if err := s.adopt(); err != nil {
		return nil, fmt.Errorf("disk space in %s: %w", o.Dir, err)
	}
	if err := s.register(); err != nil {
		return nil, fmt.Errorf("disk space in %s: register metrics: %w", o.Dir, err)
	}
	s.Check(0, 0)
	if s.Level() == AlreadyFull {
		s.release("the store starts on a full disk")
	}
	return s, nil
}

func (s *Space) register() error {
	if s.o.Registerer == nil {
		return nil
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	size := func(typ string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_store_size_bytes", Help: "Size of the store's disk.",
			ConstLabels: prometheus.Labels{"type": typ}}, read)
	}
	for _, c := range []prometheus.Collector{
		size("capacity", func() float64 { return float64(s.total.Load()) }),
		size("available", func() float64 { return float64(s.room.Load()) }),
		size("reserved", func() float64 { return float64(s.reserve.Load()) }),
		gauge("tikv_store_disk_usage_level", "0: normal, 1: almost full, 2: full.", func() float64 { return float64(s.level.Load()) }),
	} {
		if err := s.o.Registerer.Register(c); err != nil {
			s.Close()
			return err
		}
		s.gauges = append(s.gauges, c)
	}
	return nil
}

// Close takes the metrics away. The placeholder stays.
func (s *Space) Close() {
	for _, c := range s.gauges {
		s.o.Registerer.Unregister(c)
	}
	s.gauges = nil
}

// Level is how full the disk was at the last Check, or full if it has refused a
// write since.
func (s *Space) Level() Level {
	if s == nil {
		return Normal
	}
	return Level(s.level.Load())
}

// Usage is what the last Check saw.
func (s *Space) Usage() Usage {
	if s == nil {
		return Usage{}
	}
	return Usage{TotalBytes: s.total.Load(), AvailBytes: s.room.Load(), ReserveBytes: s.reserve.Load(), Known: !s.unknown.Load(), Level: s.Level()}
}

// FS is the file system for a database on this disk. When the disk refuses a
// write the placeholder is given up and the write is tried once more. For some
// time after it new tables wait a little, because Pebble repeats a flush or a
// compaction at once and for ever.
func (s *Space) FS() vfs.FS { return &spaceFS{FS: vfs.OnDiskFull(s.o.FS, s.onNoSpace), s: s} }

type spaceFS struct {
	vfs.FS
	s *Space
}

// Create implements vfs.FS. Pebble holds no lock when it creates a table.
func (f *spaceFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if last := f.s.noSpace.Load(); last != 0 && time.Now().UnixNano()-last < int64(noSpaceHold) && strings.HasSuffix(name, ".sst") {
		time.Sleep(noSpaceRetryInterval)
	}
	return f.FS.Create(name, c)
}

// Unwrap is for vfs.Root.
func (f *spaceFS) Unwrap() vfs.FS { return f.FS }

func (s *Space) onNoSpace() {
	first := s.noSpace.Swap(time.Now().UnixNano()) == 0
	s.level.Store(int32(AlreadyFull))
	freed := s.release("the disk has refused a write")
	if first || freed {
		s.o.Logger.Error("no space left on device: writes are refused until there is room", "dir", s.o.Dir, "placeholder_released", freed)
	}
}

// Check looks at the disk. pendingBytes are in memory and will be written soon:
// memtables, say; they count as gone. usedBytes is what the store has on disk,
// for a store with a capacity of its own.
func (s *Space) Check(pendingBytes, usedBytes uint64) Level {
	du, err := s.o.FS.GetDiskUsage(s.o.Dir)
	if err != nil {
		if !errors.Is(err, vfs.ErrUnsupported) {
			s.o.Logger.Warn("cannot see how full the disk is", "dir", s.o.Dir, "err", err)
		} else {
			s.unknown.Store(true)
			s.aboveReserve.Store(math.MaxInt64)
		}
		return s.settle(s.Level()) // keep what was
	}
	s.unknown.Store(false)
	total, avail := du.TotalBytes, du.AvailBytes
	if c := s.o.CapacityBytes; c > 0 && c < total {
		total, avail = c, min(avail, c-min(c, usedBytes))
	}
	s.total.Store(total)
	s.room.Store(avail)
	reserve := s.o.ReserveBytes
	switch {
	case reserve < 0:
		s.reserve.Store(0)
		s.aboveReserve.Store(int64(avail))
		s.tailRoom.Store(int64(avail))
		return s.settle(Normal)
	case reserve == 0:
		reserve = min(int64(total/100*reserveSharePercent), reserveBytesMax)
	}
	s.reserve.Store(reserve)
	placeholder := min(reserve/placeholderShare, placeholderBytesMax)
	room := int64(avail) - int64(pendingBytes)
	if !s.holds(placeholder) {
		room -= placeholder // it is to be made again
	}
	s.aboveReserve.Store(room - (reserve - placeholder))
	s.tailRoom.Store(room - (reserve-placeholder)/alreadyFullShare/tailShare)
	return s.settle(s.judge(room, reserve-placeholder, placeholder))
}

// AboveReserve is the room that was left for clients at the last Check, in
// bytes; less than 0 when the reserve has been touched.
func (s *Space) AboveReserve() int64 { return s.aboveReserve.Load() }

// TailRoom is how many bytes, as of the last Check, may be written behind
// AlreadyFull by what cannot be refused without stopping reads: 1/tailShare of
// what is kept then. None on a disk that has refused a write a moment ago.
func (s *Space) TailRoom() int64 {
	if s.noSpace.Load() != 0 {
		return 0
	}
	return s.tailRoom.Load()
}

// judge compares the room with the thresholds; a level that is reached ends
// only when there is clearly more.
func (s *Space) judge(room, almost, placeholder int64) Level {
	full := almost / alreadyFullShare
	more := func(threshold int64, at Level) int64 {
		if s.Level() >= at {
			return threshold + threshold/recoverShare
		}
		return threshold
	}
	switch {
	case room < more(full, AlreadyFull):
		return AlreadyFull
	case room < more(almost, AlmostFull):
		return AlmostFull
	}
	if s.noSpace.Load() == 0 { // else it has been given up a moment ago, and for a reason
		s.make(placeholder)
	}
	return Normal
}

// settle publishes a level. A disk that has refused a write a moment ago is
// full, whatever it says of itself: there are quotas, and inodes.
func (s *Space) settle(level Level) Level {
	if last := s.noSpace.Load(); last != 0 {
		if time.Now().UnixNano()-last < int64(noSpaceHold) {
			level = AlreadyFull
		} else {
			s.noSpace.CompareAndSwap(last, 0)
		}
	}
	if old := Level(s.level.Swap(int32(level))); old != level {
		log := s.o.Logger.Warn
		if level < old {
			log = s.o.Logger.Info
		}
		log("disk usage changed", "level", level.String(), "was", old.String(), "available_bytes", s.room.Load(), "reserve_bytes", s.reserve.Load(), "capacity_bytes", s.total.Load())
	}
	return level
}
