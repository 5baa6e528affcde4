package sim

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// eventLog is one line for each thing that happens, in the order of happening:
//
//	seconds  store region  event
//
// It is written to its file line by line, because a panic inside of a store ends
// the process. Lines of clients are in the file only.
type eventLog struct {
	mu    sync.Mutex
	start time.Time
	file  *os.File
	lines []string // without the clients'
}

// eventTailMax is how many lines a failure shows; the file has all.
const eventTailMax = 150

func newEventLog(path string) (*eventLog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("sim: event log: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("sim: event log: %w", err)
	}
	return &eventLog{file: f, start: time.Now()}, nil
}

// add writes a line; 0 for what belongs to no store or no region.
func (l *eventLog) add(store, region uint64, format string, args ...any) {
	l.write(true, store, region, format, args...)
}

// op writes a line about a client's operation.
func (l *eventLog) op(store, region uint64, format string, args ...any) {
	l.write(false, store, region, format, args...)
}

func (l *eventLog) write(keep bool, store, region uint64, format string, args ...any) {
	line := fmt.Sprintf("%s %4s %6s  %s", stamp(time.Since(l.start)), label("s", store), label("r", region), fmt.Sprintf(format, args...))
	l.mu.Lock()
	defer l.mu.Unlock()
	if keep {
		l.lines = append(l.lines, line)
	}
	if l.file != nil {
		_, _ = l.file.WriteString(line + "\n") // for people only
	}
}

func stamp(d time.Duration) string { return fmt.Sprintf("%12.6f", d.Seconds()) }

func label(kind string, id uint64) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(kind, id)
}

// tail returns the last lines.
func (l *eventLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines[max(0, len(l.lines)-eventTailMax):]
	return strings.Join(lines, "\n")
}

// close ends the file and removes it if nobody will want it.
func (l *eventLog) close(remove bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := l.file.Name()
	_ = l.file.Close()
	l.file = nil
	if remove {
		_ = os.Remove(name)
	}
}

// slogHandler makes events of what a store logs.
type slogHandler struct {
	log    *eventLog
	store  uint64
	region uint64
	attrs  string
}

var _ slog.Handler = slogHandler{}

// debug puts everything that the stores log into the file.
var debug = os.Getenv("COPRA_SIM_DEBUG") != ""

func (h slogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || (debug && level >= slog.LevelDebug)
}

func (h slogHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message + h.attrs
	region := h.region
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "region" {
			region = a.Value.Resolve().Uint64()
			return true
		}
		text += " " + a.String()
		return true
	})
	if r.Level < slog.LevelInfo {
		h.log.op(h.store, region, "%s", text)
		return nil
	}
	if r.Level > slog.LevelInfo {
		text = r.Level.String() + " " + text
	}
	h.log.add(h.store, region, "%s", text)
	return nil
}

func (h slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		switch a.Key {
		case "store":
		case "region":
			h.region = a.Value.Resolve().Uint64()
		default:
			h.attrs += " " + a.String()
		}
	}
	return h
}

func (h slogHandler) WithGroup(string) slog.Handler { return h }
