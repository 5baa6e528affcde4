package slowlog

import (
	"context"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// LinesPerSecondMax bounds the lines of one log: a store on which everything is
// slow would make it worse by writing about it.
const LinesPerSecondMax = 20

// keyBytesMax is how much of a key is shown.
const keyBytesMax = 64

// textBytesMax is how much of a client's words is shown.
const textBytesMax = 256

// Log decides what is slow, and logs it. Safe for concurrent use.
type Log struct {
	log       *slog.Logger
	threshold atomic.Int64 // nanoseconds; less than 0: nothing is slow
	redact    atomic.Bool

	mu      sync.Mutex
	second  time.Time // in which lines were written
	lines   int
	dropped int
}

// New returns a log that takes what lasts threshold or longer for slow; nothing
// if it is negative.
func New(log *slog.Logger, threshold time.Duration) *Log {
	l := &Log{log: log}
	l.SetThreshold(threshold)
	return l
}

// Threshold is from which duration on something is slow; less than 0: never.
func (l *Log) Threshold() time.Duration { return time.Duration(l.threshold.Load()) }

// SetThreshold changes it.
func (l *Log) SetThreshold(d time.Duration) { l.threshold.Store(int64(d)) }

// Redact reports whether what users store stays out of the log.
func (l *Log) Redact() bool { return l.redact.Load() }

// SetRedact changes that.
func (l *Log) SetRedact(on bool) { l.redact.Store(on) }

// Slow reports whether d is too long. It is cheap. To no log nothing is slow.
func (l *Log) Slow(d time.Duration) bool {
	if l == nil {
		return false
	}
	t := l.threshold.Load()
	return t >= 0 && int64(d) >= t
}

// Write logs a line, unless this second has had enough of them.
func (l *Log) Write(msg string, attrs ...slog.Attr) {
	dropped, ok := l.admit(time.Now())
	if !ok {
		return
	}
	if dropped > 0 {
		attrs = append(attrs, slog.Int("slow_lines_dropped", dropped))
	}
	l.log.LogAttrs(context.Background(), slog.LevelWarn, msg, attrs...)
}

// admit reports whether a line may be written, and how many were dropped since
// the last one.
func (l *Log) admit(now time.Time) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.second) >= time.Second {
		l.second, l.lines = now, 0
	}
	if l.lines >= LinesPerSecondMax {
		l.dropped++
		return 0, false
	}
	l.lines++
	dropped, l.dropped = l.dropped, 0
	return dropped, true
}

// Key is a key as the log shows it: in hexadecimal, as in copra ctl, cut off
// when it is long; or "?" if keys are redacted.
func (l *Log) Key(key []byte) string {
	switch {
	case l.Redact():
		return "?"
	case len(key) > keyBytesMax:
		return strings.ToUpper(hex.EncodeToString(key[:keyBytesMax])) + "..."
	}
	return strings.ToUpper(hex.EncodeToString(key))
}

// Text is what a client says of itself, cut off when it is long.
func Text(s string) string {
	if len(s) > textBytesMax {
		return s[:textBytesMax] + "..."
	}
	return s
}

// Millis is d in milliseconds, with three digits behind the point.
func Millis(name string, d time.Duration) slog.Attr {
	return slog.Float64(name, float64(d.Microseconds())/1000)
}
