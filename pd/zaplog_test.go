package pd

import (
	"testing"

	"go.uber.org/zap/zapcore"
)

// TestRemovalByHearsay: a member that hears from another that it was removed,
// before it has read so in its own log, knows why etcd ended. The message is
// etcd's; TestPDFailover of cmd/copra/e2e has the real one, now and then.
func TestRemovalByHearsay(t *testing.T) {
	s := &Server{}
	s.etcdLogLevel(zapcore.Entry{Level: zapcore.WarnLevel, Message: "server error"})
	if s.told.Load() {
		t.Error("any error is a removal")
	}
	s.etcdLogLevel(zapcore.Entry{Level: zapcore.WarnLevel, Message: removedMessage})
	if !s.told.Load() {
		t.Error("the removal was not noticed")
	}
}
