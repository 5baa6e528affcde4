package pgwire

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/sqlfront"
)

// Limits of the server.
const (
	connectionsMaxDefault  = 1000
	messageBytesMax        = 256 << 20 // one frontend message
	flushBytes             = 64 << 10  // encoded rows before a flush
	portalBufferedBytesMax = 64 << 20  // rows a suspended portal keeps when another runs
	statementsPerConnMax   = 10000
	portalsPerConnMax      = 1000
	startupTimeout         = 30 * time.Second
	// farewellTimeout is how long a client may take the last answers when the
	// server stops.
	farewellTimeout    = 2 * time.Second
	tcpKeepAlivePeriod = 30 * time.Second
)

// Options configure a Server.
type Options struct {
	Frontend sqlfront.Frontend
	// Addr is host:port; port 0 picks a free one.
	Addr string
	// TLS enables TLS on request of the client; RequireTLS refuses clients that
	// do not ask for it.
	TLS            *tls.Config
	RequireTLS     bool
	ConnectionsMax int // 0 = 1000
	Logger         *slog.Logger
	Registerer     prometheus.Registerer
}

// Server accepts connections until Stop.
type Server struct {
	o        Options
	listener net.Listener
	metrics  *metrics
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[uint32]*conn
	nextID uint32
}

// Start listens on o.Addr and serves in the background.
func Start(o Options) (*Server, error) {
	if o.ConnectionsMax == 0 {
		o.ConnectionsMax = connectionsMaxDefault
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("pgwire: listen on %s: %w", o.Addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		o: o, listener: l, metrics: newMetrics(o.Registerer), ctx: ctx, cancel: cancel,
		conns: make(map[uint32]*conn),
	}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// Addr is the address it listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Stop ends every connection with 57P01 and waits for them.
func (s *Server) Stop() {
	_ = s.listener.Close()
	s.cancel()
	s.mu.Lock()
	for _, c := range s.conns {
		c.shutdown()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.o.Logger.Warn("pgwire: accept failed", "err", err)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if tc, ok := nc.(*net.TCPConn); ok {
			_ = tc.SetKeepAlivePeriod(tcpKeepAlivePeriod)
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.serve(nc)
		}()
	}
}

func (s *Server) serve(nc net.Conn) {
	c := newConn(s, nc)
	full, closed := s.add(c)
	if closed {
		_ = nc.Close()
		return
	}
	defer s.remove(c)
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	c.run(full)
}

// add gives the connection an id and a secret. full says that there are more
// connections than allowed, which the startup then tells the client.
func (s *Server) add(c *conn) (full, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false, true
	}
	for {
		s.nextID++
		if _, taken := s.conns[s.nextID]; !taken && s.nextID != 0 {
			break
		}
	}
	c.id = s.nextID
	var secret [4]byte
	_, _ = rand.Read(secret[:]) // never fails, by its documentation
	c.secret = binary.BigEndian.Uint32(secret[:])
	s.conns[c.id] = c
	return len(s.conns) > s.o.ConnectionsMax, false
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
}

// cancelRequest interrupts what the connection with this id runs, if the
// secret is its own. Nothing is ever answered to a cancel request.
func (s *Server) cancelRequest(id uint32, secret []byte) {
	s.mu.Lock()
	c := s.conns[id]
	s.mu.Unlock()
	if c == nil || len(secret) != 4 || binary.BigEndian.Uint32(secret) != c.secret {
		return
	}
	if session := c.session.Load(); session != nil {
		(*session).Cancel()
	}
}
