package pgwire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
)

// conn is one client connection; its goroutine owns everything but id, secret
// and session, which a cancel request reads.
type conn struct {
	server  *Server
	socket  net.Conn // what was accepted; net may be TLS over it
	net     net.Conn
	backend *pgproto3.Backend
	log     *slog.Logger
	id      uint32
	secret  uint32
	session atomic.Pointer[sqlfront.Session]
	closing atomic.Bool
	// deadlines orders shutdown's deadlines after all others.
	deadlines sync.Mutex

	// extended protocol
	statements map[string]*statement
	portals    map[string]*portal
	running    *portal // whose Result is open, suspended
	held       *heldExecute
	implicit   bool // BeginImplicit was called since the last Sync
	skipToSync bool

	text    sqltypes.TextOptions
	rowBuf  []byte
	pending int // bytes sent to the backend since its last flush
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{
		server: s, socket: nc, net: nc, log: s.o.Logger.With("remote", nc.RemoteAddr().String()),
		statements: make(map[string]*statement), portals: make(map[string]*portal),
	}
}

// shutdown makes the connection end soon: a running statement is cancelled, a
// blocked read returns, and a client that takes no answers is left behind.
func (c *conn) shutdown() {
	c.closing.Store(true)
	if session := c.session.Load(); session != nil {
		(*session).Cancel()
	}
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	_ = c.socket.SetReadDeadline(time.Unix(1, 0))
	_ = c.socket.SetWriteDeadline(time.Now().Add(farewellTimeout))
}

// setDeadline bounds reads and writes, unless shutdown has already done so.
func (c *conn) setDeadline(t time.Time) {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if !c.closing.Load() {
		_ = c.socket.SetDeadline(t)
	}
}

// errGone ends a connection without a further word.
var errGone = errors.New("pgwire: client is gone")

func (c *conn) run(full bool) {
	defer func() { _ = c.net.Close() }()
	ctx, cancel := context.WithCancel(c.server.ctx)
	defer cancel()
	c.setDeadline(time.Now().Add(startupTimeout))
	session, err := c.startup(ctx, full)
	if err != nil {
		if !errors.Is(err, errGone) {
			c.fatal(err)
		}
		return
	}
	c.setDeadline(time.Time{})
	c.session.Store(&session)
	if c.closing.Load() {
		session.Cancel()
	}
	defer func() {
		c.closePortals(nil)
		if err := session.Close(); err != nil {
			c.log.Warn("pgwire: session did not close cleanly", "err", err)
		}
	}()
	if err := c.loop(ctx, session); err != nil && !errors.Is(err, errGone) {
		c.fatal(err)
	}
}

// startup handles everything before the first ReadyForQuery.
func (c *conn) startup(ctx context.Context, full bool) (sqlfront.Session, error) {
	msg, err := c.firstMessage()
	if err != nil {
		return nil, err
	}
	if full {
		return nil, pgerror.New(pgerror.TooManyConnections, "sorry, too many clients already").
			WithHint("This node accepts %d connections; raise max-connections or close idle ones.", c.server.o.ConnectionsMax)
	}
	user := msg.Parameters["user"]
	if user == "" {
		return nil, pgerror.New(pgerror.InvalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	if v := msg.Parameters["replication"]; v != "" && v != "false" && v != "off" && v != "0" {
		return nil, pgerror.Unsupported("the replication protocol")
	}
	database := msg.Parameters["database"]
	if database == "" {
		database = user
	}
	creds, err := c.server.o.Frontend.Credentials(ctx, user)
	if err != nil {
		return nil, err
	}
	if err := c.authenticate(creds); err != nil {
		return nil, err
	}
	settings := make(map[string]string, len(msg.Parameters))
	for k, v := range msg.Parameters {
		if k != "user" && k != "database" && k != "replication" {
			settings[k] = v
		}
	}
	session, err := c.server.o.Frontend.NewSession(ctx, sqlfront.SessionOptions{
		User: user, Database: database, RemoteAddr: c.net.RemoteAddr().String(), Settings: settings,
	})
	if err != nil {
		return nil, err
	}
	if msg.ProtocolVersion != pgproto3.ProtocolVersion30 {
		c.backend.Send(&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 0})
	}
	c.backend.Send(&pgproto3.AuthenticationOk{})
	c.sendReported(session, true)
	c.backend.Send(&pgproto3.BackendKeyData{ProcessID: c.id, SecretKey: binary.BigEndian.AppendUint32(nil, c.secret)})
	c.sendNotices(session)
	if err := c.ready(session); err != nil {
		_ = session.Close()
		return nil, err
	}
	return session, nil
}

// firstMessage answers TLS and GSS requests until the startup message comes.
func (c *conn) firstMessage() (*pgproto3.StartupMessage, error) {
	c.setBackend(c.net)
	encrypted := false
	for requests := 0; requests < 4; requests++ {
		raw, err := c.backend.ReceiveStartupMessage()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil, errGone
			}
			return nil, pgerror.Wrap(err, pgerror.ProtocolViolation, "malformed startup packet: %v", err)
		}
		switch msg := raw.(type) {
		case *pgproto3.StartupMessage:
			if c.server.o.RequireTLS && !encrypted {
				return nil, pgerror.New(pgerror.InvalidAuthorization, "this server accepts only TLS connections").
					WithHint("Connect with sslmode=require or stronger.")
			}
			return msg, nil
		case *pgproto3.CancelRequest:
			c.server.cancelRequest(msg.ProcessID, msg.SecretKey)
			return nil, errGone
		case *pgproto3.SSLRequest:
			if c.server.o.TLS == nil || encrypted {
				if _, err := c.net.Write([]byte{'N'}); err != nil {
					return nil, errGone
				}
				continue
			}
			if _, err := c.net.Write([]byte{'S'}); err != nil {
				return nil, errGone
			}
			tc := tls.Server(c.net, c.server.o.TLS)
			if err := tc.Handshake(); err != nil {
				c.log.Info("pgwire: TLS handshake failed", "err", err)
				return nil, errGone
			}
			c.net, encrypted = tc, true
			c.setBackend(tc)
		default: // GSSEncRequest
			if _, err := c.net.Write([]byte{'N'}); err != nil {
				return nil, errGone
			}
		}
	}
	return nil, pgerror.New(pgerror.ProtocolViolation, "too many encryption requests before the startup packet")
}

func (c *conn) setBackend(rw net.Conn) {
	c.backend = pgproto3.NewBackend(rw, rw)
	c.backend.SetMaxBodyLen(messageBytesMax)
}

// loop reads messages until the client leaves. A returned error is fatal.
func (c *conn) loop(ctx context.Context, session sqlfront.Session) error {
	for {
		msg, err := c.backend.Receive()
		if err != nil {
			return c.receiveError(err)
		}
		if c.held != nil {
			if err := c.runHeld(ctx, session, msg); err != nil {
				return err
			}
		}
		if c.skipToSync {
			switch msg.(type) {
			case *pgproto3.Sync, *pgproto3.Terminate:
			default:
				continue
			}
		}
		if err := c.dispatch(ctx, session, msg); err != nil {
			return err
		}
	}
}

func (c *conn) dispatch(ctx context.Context, session sqlfront.Session, msg pgproto3.FrontendMessage) error {
	switch m := msg.(type) {
	case *pgproto3.Query:
		return c.simpleQuery(ctx, session, m.String)
	case *pgproto3.Parse:
		return c.extended(session, c.parse(ctx, session, m))
	case *pgproto3.Bind:
		return c.extended(session, c.bind(session, m))
	case *pgproto3.Describe:
		return c.extended(session, c.describe(m))
	case *pgproto3.Execute:
		return c.extended(session, c.hold(m))
	case *pgproto3.Close:
		return c.extended(session, c.closeObject(m))
	case *pgproto3.Sync:
		return c.sync(ctx, session)
	case *pgproto3.Flush:
		return c.flush()
	case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail:
		return nil // left over from a COPY that failed on our side
	case *pgproto3.Terminate:
		return errGone
	case *pgproto3.FunctionCall:
		if err := c.sendError(session, pgerror.Unsupported("the function call protocol")); err != nil {
			return err
		}
		return c.ready(session)
	default:
		return pgerror.New(pgerror.ProtocolViolation, "unexpected message %T", msg)
	}
}

// receiveError turns a failed read into what the client should hear.
func (c *conn) receiveError(err error) error {
	if c.closing.Load() || c.server.ctx.Err() != nil {
		return pgerror.New(pgerror.AdminShutdown, "terminating connection due to administrator command")
	}
	var tooLong *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &tooLong) {
		return pgerror.New(pgerror.ProgramLimitExceeded, "message of %d bytes exceeds the limit of %d bytes", tooLong.ActualBodyLen, tooLong.MaxExpectedBodyLen)
	}
	var ne net.Error
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &ne) {
		return errGone
	}
	return pgerror.Wrap(err, pgerror.ProtocolViolation, "malformed message: %v", err)
}
