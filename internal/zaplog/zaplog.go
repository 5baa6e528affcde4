// Package zaplog hands the records of libraries that log through zap (etcd,
// client-go) to slog.
package zaplog

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// Core is a zapcore.Core that writes to Log.
type Core struct {
	Log *slog.Logger
	// Min is the least level that is handed on.
	Min zapcore.Level
	// Prefix says which library speaks, as in "etcd: ".
	Prefix string
	// Level maps a record to its level; nil keeps the library's own.
	Level  func(zapcore.Entry) slog.Level
	fields []zapcore.Field
}

// Enabled implements zapcore.LevelEnabler.
func (c Core) Enabled(l zapcore.Level) bool { return l >= c.Min }

// With implements zapcore.Core.
func (c Core) With(f []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], f...)
	return c
}

// Check implements zapcore.Core.
func (c Core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, c)
}

// Write implements zapcore.Core.
func (c Core) Write(e zapcore.Entry, fields []zapcore.Field) error {
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
	level := ownLevel(e)
	if c.Level != nil {
		level = c.Level(e)
	}
	c.Log.LogAttrs(context.Background(), level, c.Prefix+e.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (Core) Sync() error { return nil }

func ownLevel(e zapcore.Entry) slog.Level {
	switch {
	case e.Level >= zapcore.ErrorLevel:
		return slog.LevelError
	case e.Level == zapcore.WarnLevel:
		return slog.LevelWarn
	case e.Level == zapcore.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
