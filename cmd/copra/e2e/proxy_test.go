//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// network stands between processes: they tell others addresses at which it
// listens, and it passes on what it gets, or does not. It knows who connects
// from /proc (the socket behind the remote port, and the process that holds
// it), so that single directions between two processes can be cut; hence Linux.
//
// What is cut is lost to nobody: it waits, as it does in a real network between
// the retransmissions of TCP. Connections are taken all the same, and hang.
type network struct {
	t  *testing.T
	wg sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed when links change
	names   map[int]string
	links   map[link]trouble
	open    map[io.Closer]struct{}
	closed  bool
}

// link is the direction in which bytes flow.
type link struct{ from, to string }

// trouble is what happens on a link.
type trouble struct {
	cut            bool
	delay          time.Duration
	bytesPerSecond int // 0: as fast as it goes
}

const (
	proxyChunkBytes = 32 << 10
	proxyChunksMax  = 64 // on their way in one direction of a connection
	// testName is the test process among the names of a network.
	testName = "test"
)

func newNetwork(t *testing.T) *network {
	n := &network{t: t, changed: make(chan struct{}), names: map[int]string{os.Getpid(): testName}, links: map[link]trouble{},
		open: map[io.Closer]struct{}{}}
	t.Cleanup(func() {
		n.mu.Lock()
		n.closed = true
		for c := range n.open {
			_ = c.Close()
		}
		n.mu.Unlock()
		n.wg.Wait()
	})
	return n
}

// know makes a process the one of this name.
func (n *network) know(name string, p *process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for pid, other := range n.names {
		if other == name {
			delete(n.names, pid)
		}
	}
	n.names[p.cmd.Process.Pid] = name
}

// front returns an address to listen on, and the one to tell others.
func (n *network) front(name string) (listen, advertise string) {
	n.t.Helper()
	listen, advertise = freeAddr(n.t), freeAddr(n.t)
	l, err := net.Listen("tcp4", advertise)
	if err != nil {
		n.t.Fatal(err)
	}
	if !n.track(l) {
		n.t.Fatal("the network is closed")
	}
	n.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.serve(conn, name, listen) })
		}
	})
	return listen, advertise
}

func (n *network) track(c io.Closer) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		_ = c.Close()
		return false
	}
	n.open[c] = struct{}{}
	return true
}

func (n *network) untrack(c io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
	_ = c.Close()
}

// serve is one connection.
func (n *network) serve(conn net.Conn, to, target string) {
	if !n.track(conn) {
		return
	}
	defer n.untrack(conn)
	from := n.whose(conn)
	if from == "" {
		return // who connected is gone
	}
	up, err := net.Dial("tcp4", target)
	if err != nil || !n.track(up) {
		return
	}
	defer n.untrack(up)
	var both sync.WaitGroup
	both.Go(func() { n.pump(up, conn, link{from, to}) })
	both.Go(func() { n.pump(conn, up, link{to, from}) })
	both.Wait()
}

type chunk struct {
	data []byte
	due  time.Time
	err  error
}

// pump passes on one direction until its end.
func (n *network) pump(dst, src net.Conn, l link) {
	queue, done := make(chan chunk, proxyChunksMax), make(chan struct{})
	n.wg.Go(func() {
		for {
			buf := make([]byte, proxyChunkBytes)
			k, err := src.Read(buf)
			select {
			case queue <- chunk{buf[:k], time.Now().Add(n.trouble(l).delay), err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	})
	defer close(done)
	for c := range queue {
		time.Sleep(time.Until(c.due)) // the delay of the link
		rate, ok := n.pass(l)
		if !ok {
			return
		}
		if _, err := dst.Write(c.data); err != nil {
			_ = src.Close() // what it sends arrives nowhere
			return
		}
		if rate > 0 {
			time.Sleep(time.Duration(len(c.data)) * time.Second / time.Duration(rate)) // the bandwidth of the link
		}
		if c.err == io.EOF {
			_ = dst.(*net.TCPConn).CloseWrite()
			return
		}
		if c.err != nil {
			_ = dst.Close()
			return
		}
	}
}

func (n *network) trouble(l link) trouble {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[l]
}

// pass waits until the link is not cut.
func (n *network) pass(l link) (bytesPerSecond int, ok bool) {
	for {
		n.mu.Lock()
		now, changed, closed := n.links[l], n.changed, n.closed
		n.mu.Unlock()
		if closed || !now.cut {
			return now.bytesPerSecond, !closed
		}
		select {
		case <-changed:
		case <-time.After(time.Second): // looks whether the test is over
		}
	}
}

// set makes trouble on all links from any of the first to any of the others.
func (n *network) set(what trouble, from, to []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			if a != b {
				n.links[link{a, b}] = what
			}
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// both is set in both directions.
func (n *network) both(what trouble, some, others []string) {
	n.set(what, some, others)
	n.set(what, others, some)
}

// heal ends all trouble.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.links)
	close(n.changed)
	n.changed = make(chan struct{})
}

// whose is the name of the process at the other end of a loopback connection,
// "" if there is none that we know.
func (n *network) whose(conn net.Conn) string {
	client, server := conn.RemoteAddr().(*net.TCPAddr).Port, conn.LocalAddr().(*net.TCPAddr).Port
	for range 50 { // a process that was just started is known in a moment
		if inode := socketInode(client, server); inode != "" {
			n.mu.Lock()
			names := make(map[int]string, len(n.names))
			for pid, name := range n.names {
				names[pid] = name
			}
			n.mu.Unlock()
			for pid, name := range names {
				if holds(pid, inode) {
					return name
				}
			}
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	return ""
}

// socketInode finds the socket of a loopback connection by its ports.
func socketInode(local, remote int) string {
	data, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	a, b := fmt.Sprintf(":%04X", local), fmt.Sprintf(":%04X", remote)
	for line := range strings.Lines(string(data)) {
		if !strings.Contains(line, a) {
			continue
		}
		if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[1], a) && strings.HasSuffix(f[2], b) && f[9] != "0" {
			return f[9]
		}
	}
	return ""
}

// holds tells whether the process has the socket.
func holds(pid int, inode string) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(dir + e.Name()); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}

// TestProxy: the proxy knows who connects, and cuts one direction alone.
func TestProxy(t *testing.T) {
	n := newNetwork(t)
	listen, advertise := n.front("server")
	l, err := net.Listen("tcp4", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := net.Dial("tcp4", advertise)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	got := make([]byte, 1)
	send := func(from, to net.Conn, b byte) {
		t.Helper()
		if _, err := from.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, got); err != nil || got[0] != b {
			t.Fatalf("%d, %v, want %d", got[0], err, b)
		}
	}
	send(conn, server, 1)
	send(server, conn, 2)
	n.set(trouble{cut: true}, []string{testName}, []string{"server"})
	send(server, conn, 3)
	if _, err := conn.Write([]byte{4}); err != nil {
		t.Fatal(err)
	}
	// Not an instant too early is all that a deadline can show.
	_ = server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := server.Read(got); err == nil {
		t.Fatal("bytes pass a link that is cut")
	}
	_ = server.SetReadDeadline(time.Time{})
	n.heal()
	if _, err := io.ReadFull(server, got); err != nil || got[0] != 4 {
		t.Fatalf("%d, %v, want what waited", got[0], err)
	}
	n.both(trouble{delay: 50 * time.Millisecond}, []string{testName}, []string{"server"})
	started := time.Now()
	send(conn, server, 5)
	send(server, conn, 6)
	if d := time.Since(started); d < 100*time.Millisecond {
		t.Errorf("there and back took %s with 50 ms each", d)
	}
}
