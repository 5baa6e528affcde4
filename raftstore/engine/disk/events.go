package disk

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FatalError is what Pebble's fatal paths panic with, so that a caller who can
// report the failure may recover it.
type FatalError struct {
	text  string
	cause error
}

func (e *FatalError) Error() string { return e.text }

// Unwrap returns the cause, nil if Pebble gave none.
func (e *FatalError) Unwrap() error { return e.cause }

// Fatal stops the process: after an I/O error going on would hide a hole in
// the data (hazard 2). A hook is called once, with the first error; without a
// hook Fatal panics.
type Fatal struct {
	name string
	log  *slog.Logger
	hook func(error)
	once sync.Once
}

// NewFatal returns the stopper of the database called name.
func NewFatal(name string, log *slog.Logger, hook func(error)) *Fatal {
	return &Fatal{name: name, log: log, hook: hook}
}

// Stop reports err and stops the process, by the hook or by a panic.
func (f *Fatal) Stop(err error) {
	f.once.Do(func() {
		f.log.Error("storage failed, the process must stop", "db", f.name, "err", err)
		if f.hook == nil {
			panic(&FatalError{fmt.Sprintf("%s: storage failed: %v", f.name, err), err})
		}
		f.hook(fmt.Errorf("%s: storage failed: %w", f.name, err))
	})
}

// Logger adapts slog to Pebble.
type Logger struct {
	Log   *slog.Logger
	Fatal *Fatal
}

var _ pebble.Logger = Logger{}

// Infof logs what Pebble thinks worth knowing; it is much, so at debug level.
func (l Logger) Infof(format string, args ...any) {
	l.Log.Debug(fmt.Sprintf(format, args...), "from", "pebble")
}

// Errorf logs an error.
func (l Logger) Errorf(format string, args ...any) {
	l.Log.Error(fmt.Sprintf(format, args...), "from", "pebble")
}

// Fatalf must not return: Pebble's state is unusable after it.
func (l Logger) Fatalf(format string, args ...any) {
	err := &FatalError{text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err.cause = cause
		}
	}
	l.Fatal.Stop(err)
	panic(err)
}

// Events returns a Pebble listener that stops the process on background errors
// other than a full disk, warns of slow disks and counts write stalls in m.
func Events(log *slog.Logger, fatal *Fatal, m *Metrics) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			// A flush or a compaction without room has changed nothing, and
			// Pebble tries again; what it would have flushed is still in memory,
			// and in the Raft log.
			if vfs.IsNoSpaceError(err) {
				m.noSpace.Inc()
				log.Debug("background work finds no space", "err", err)
				return
			}
			fatal.Stop(fmt.Errorf("background work: %w", err))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			fatal.Stop(fmt.Errorf("data corruption in %s: %w", info.Path, info.Details))
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			m.diskSlow.Inc()
			log.Warn("disk is slow", "op", info.OpType.String(), "path", info.Path, "duration", info.Duration)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			m.stallCount.Inc()
			m.stalled.Store(true)
			m.stallBegan.Store(int64(time.Since(m.base)))
			log.Warn("writes stall", "reason", info.Reason)
		},
		WriteStallEnd: func() {
			if m.stalled.Swap(false) {
				m.stallTime.Add((time.Since(m.base) - time.Duration(m.stallBegan.Load())).Seconds())
			}
		},
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) {
			log.Warn("disk space runs low", "available_bytes", info.AvailBytes, "total_bytes", info.TotalBytes)
		},
	}
}
