package pd

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// slogCore hands etcd's zap records, from warnings up, to the member's logger.
type slogCore struct {
	log *slog.Logger
	// stopping is set while the member stops: etcd calls each closed listener
	// and stream an error then.
	stopping *atomic.Bool
	fields   []zapcore.Field
}

// Enabled implements zapcore.LevelEnabler.
func (c slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (c slogCore) With(f []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], f...)
	return c
}

// Check implements zapcore.Core.
func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, c)
}

// Write implements zapcore.Core.
func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.log.LogAttrs(context.Background(), c.level(e), "etcd: "+e.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (slogCore) Sync() error { return nil }

// harmless are the starts of messages that etcd writes as warnings or errors on
// every start of a member like this one, or for settings that are meant so: its
// short heartbeat interval (etcdTickMS), by which any slow fsync is late, one
// port for all, and a storage version that is known only after a snapshot.
var harmless = []string{
	"leader failed to send out heartbeat on time",
	"Running http and grpc server on single port",
	"serving client traffic insecurely",
	"simple token is not cryptographically signed",
	"Failed to detect schema version",
	"failed to update storage version",
}

func (c slogCore) level(e zapcore.Entry) slog.Level {
	if c.stopping.Load() {
		return slog.LevelDebug
	}
	for _, h := range harmless {
		if strings.HasPrefix(e.Message, h) {
			return slog.LevelDebug
		}
	}
	if e.Level >= zapcore.ErrorLevel {
		return slog.LevelError
	}
	return slog.LevelWarn
}
