package pgwire

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/copradb/copra/sqlfront"
)

// slowFrontend holds new sessions until the test releases them.
type slowFrontend struct {
	fakeFrontend
	entered, release chan struct{}
}

func (f *slowFrontend) NewSession(ctx context.Context, o sqlfront.SessionOptions) (sqlfront.Session, error) {
	close(f.entered)
	<-f.release
	return f.fakeFrontend.NewSession(ctx, o)
}

func dial(t *testing.T, s *Server) (net.Conn, *pgproto3.Frontend) {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	f := pgproto3.NewFrontend(nc, nc)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "root", "database": "copra"}})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	return nc, f
}

// TestStopDuringStartup: a connection whose startup ends after Stop has begun
// must not wait for its client's next message.
func TestStopDuringStartup(t *testing.T) {
	f := &slowFrontend{entered: make(chan struct{}), release: make(chan struct{})}
	s, err := Start(Options{Frontend: f, Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	dial(t, s) // stays open and says nothing more
	<-f.entered
	stopped := make(chan struct{})
	go func() {
		s.Stop()
		close(stopped)
	}()
	<-s.ctx.Done()
	for told := false; !told; {
		s.mu.Lock()
		for _, c := range s.conns {
			told = c.closing.Load()
		}
		s.mu.Unlock()
	}
	s.mu.Lock() // Stop is through with it now
	close(f.release)
	s.mu.Unlock()
	<-stopped
}

// TestStopWithClientThatDoesNotRead: an answer that nobody takes does not hold
// up Stop.
func TestStopWithClientThatDoesNotRead(t *testing.T) {
	f := &fakeFrontend{}
	s, err := Start(Options{Frontend: f, Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	nc, front := dial(t, s)
	if err := nc.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	front.Send(&pgproto3.Query{String: "rows 300000"})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	for len(f.taken()) == 0 { // until it executes
	}
	s.Stop()
}
