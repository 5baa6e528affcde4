package testaddr

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// The ports are below those that systems give to outgoing connections (from
// 32768 on Linux): one of these could otherwise take a port between the look at
// it and its use.
const (
	portFirst = 12_000
	portCount = 8000
	triesMax  = 1000
)

// next is where to look next. Test programs run beside each other, so each
// begins somewhere else, and none gives a port twice before it has to.
var next atomic.Uint32

func init() { next.Store(rand.Uint32()) }

// Free is an address of this machine on which nobody listens.
func Free(tb testing.TB) string {
	tb.Helper()
	for range triesMax {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(portFirst+int(next.Add(1)%portCount)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			tb.Fatal(err)
		}
		return addr
	}
	tb.Fatalf("no free port among %d", triesMax)
	return ""
}
