package pd

import (
	"log/slog"
	"strings"

	"github.com/copradb/copra/internal/zaplog"
	"go.uber.org/zap/zapcore"
)

// etcdLog hands etcd's records, from warnings up, to the member's logger.
func (s *Server) etcdLog() zapcore.Core {
	return zaplog.Core{Log: s.log, Min: zapcore.WarnLevel, Prefix: "etcd: ", Level: s.etcdLogLevel}
}

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

// removedMessage is what etcd says, and only then, when it stops because another
// member has told it that it was removed. Its own list may still have it: that
// comes from the log, of which it gets no more.
const removedMessage = "data-dir used by this member must be removed"

// etcdLogLevel notices that, lowers what is harmless, and everything while the member stops:
// etcd calls each closed listener and stream an error then.
func (s *Server) etcdLogLevel(e zapcore.Entry) slog.Level {
	if e.Message == removedMessage {
		s.told.Store(true)
	}
	if s.stopping.Load() {
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
