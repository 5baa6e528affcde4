package arrowflight

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/copradb/copra/sqlfront"
)

// Limits of the server.
const (
	messageBytesMax      = 256 << 20
	preparedCountMax     = 10000
	transactionsCountMax = 1000
	boundRowsMax         = 1 << 20 // parameter rows of one prepared statement
	handleIdleMax        = time.Hour
	sweepInterval        = time.Minute
	keepaliveMinTime     = time.Second
)

// Options configure a Server.
type Options struct {
	Frontend   sqlfront.Frontend
	Addr       string // host:port; port 0 picks a free one
	Database   string // the catalog's name
	Version    string
	TLS        *tls.Config
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Server is a running Flight SQL endpoint.
type Server struct {
	flightsql.BaseServer
	o        Options
	grpc     *grpc.Server
	listener net.Listener
	stop     chan struct{}
	wg       sync.WaitGroup
	requests *prometheus.CounterVec

	mu           sync.Mutex
	prepared     map[string]*prepared
	transactions map[string]*transaction
	running      map[string]sqlfront.Session // by query handle, for CancelFlightInfo
}

// Start listens and serves in the background.
func Start(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("arrowflight: listen on %s: %w", o.Addr, err)
	}
	s := &Server{
		o: o, listener: l, stop: make(chan struct{}),
		prepared: make(map[string]*prepared), transactions: make(map[string]*transaction),
		running: make(map[string]sqlfront.Session),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_flight_requests_total", Help: "Flight SQL requests, by kind."}, []string{"kind"}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.requests)
	}
	if err := s.registerInfo(); err != nil {
		_ = l.Close()
		return nil, err
	}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(messageBytesMax), grpc.MaxSendMsgSize(messageBytesMax),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	flight.RegisterFlightServiceServer(s.grpc, flightsql.NewFlightServer(s))
	s.wg.Add(2)
	go func() {
		defer s.wg.Done()
		if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.o.Logger.Error("arrowflight: serving ended", "err", err)
		}
	}()
	go s.sweep()
	return s, nil
}

// Addr is the address it listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Stop ends all requests, rolls open transactions back and waits.
func (s *Server) Stop() {
	close(s.stop)
	s.grpc.Stop()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, tx := range s.transactions {
		s.closeSession(tx.session)
		delete(s.transactions, id)
	}
}

// sweep drops prepared statements and transactions that nobody used for
// handleIdleMax: their clients are gone.
func (s *Server) sweep() {
	defer s.wg.Done()
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-ticker.C:
			s.expire(now.Add(-handleIdleMax))
		}
	}
}

func (s *Server) expire(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.prepared {
		if p.used.Before(before) {
			delete(s.prepared, id)
		}
	}
	for id, tx := range s.transactions {
		if !tx.used.Before(before) || !tx.mu.TryLock() {
			continue
		}
		tx.done = true
		s.closeSession(tx.session)
		tx.mu.Unlock()
		delete(s.transactions, id)
	}
}

func (s *Server) closeSession(session sqlfront.Session) {
	if err := session.Close(); err != nil {
		s.o.Logger.Warn("arrowflight: session did not close cleanly", "err", err)
	}
}
