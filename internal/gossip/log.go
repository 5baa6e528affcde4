package gossip

import (
	"log"
	"log/slog"
	"strings"
)

// logWriter passes memberlist's lines on at the lowest level: what people should
// know of is logged by this package, once, when it happens.
type logWriter struct{ log *slog.Logger }

func newLogger(l *slog.Logger) *log.Logger { return log.New(logWriter{l}, "", 0) }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug("gossip: " + strings.TrimSpace(strings.Replace(string(b), "memberlist: ", "", 1)))
	return len(b), nil
}
