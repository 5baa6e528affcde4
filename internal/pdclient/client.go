package pdclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// callTimeout bounds one attempt of a call; the caller's context bounds all
	// of them. membersTimeout is for asking one member who leads.
	callTimeout    = 3 * time.Second
	membersTimeout = time.Second
	// Pauses between attempts double from retryMin to retryMax.
	retryMin = 10 * time.Millisecond
	retryMax = 500 * time.Millisecond
	// endpointsMax is how many members are remembered.
	endpointsMax = 64
	// messageBytesMax is the largest answer that is taken.
	messageBytesMax = 64 << 20
	keepaliveEvery  = 10 * time.Second
	keepaliveWait   = 3 * time.Second
)

// Options of a client. The zero value is good.
type Options struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// DialOptions are added to the client's own; transport credentials among
	// them replace plain text.
	DialOptions []grpc.DialOption
	// OnHeartbeatStream is called each time a heartbeat stream was opened: PD's
	// leader may be new and know little, so it is the time to report all
	// regions. So it is when reports were dropped and there is room again, and it
	// is called then, too. It must not block.
	OnHeartbeatStream func()
}

// Client talks to the leader of one PD cluster. Safe for concurrent use.
type Client struct {
	log       *slog.Logger
	opts      Options
	clusterID uint64
	dropped   prometheus.Counter

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	leader atomic.Pointer[member]

	mu        sync.Mutex // guards the fields below
	endpoints []string
	asked     int // whom findLeader asks first, modulo their number
	conns     map[string]*grpc.ClientConn

	ts      *tsoBatcher
	regions *regionReporter
}

// member is a connection to the member that led when it was made.
type member struct {
	url string
	pd  pdpb.PDClient
}

// New connects to the PD cluster of which endpoints (host:port or URLs) are
// members, and returns once its leader is known.
func New(ctx context.Context, endpoints []string, opts Options) (*Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("pdclient: no PD endpoints are given")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		log: opts.Logger, opts: opts, conns: make(map[string]*grpc.ClientConn),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tikv_pd_heartbeat_dropped_total", Help: "Region heartbeats dropped because PD was too slow."}),
	}
	for _, e := range endpoints {
		c.endpoints = append(c.endpoints, address(e))
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(c.dropped); err != nil {
			return nil, fmt.Errorf("pdclient: register metrics: %w", err)
		}
	}
	if _, err := c.waitLeader(ctx); err != nil {
		c.Close()
		return nil, err
	}
	c.ts = newTSOBatcher(c)
	c.regions = newRegionReporter(c)
	c.wg.Go(c.ts.run)
	c.wg.Go(c.regions.run)
	return c, nil
}

// Close ends all streams and connections. Calls under way fail.
func (c *Client) Close() {
	c.cancel()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
	if c.opts.Registerer != nil {
		c.opts.Registerer.Unregister(c.dropped)
	}
}

// ClusterID identifies the cluster.
func (c *Client) ClusterID() uint64 { return c.clusterID }

// Endpoints are the addresses of all members that are known, host:port.
func (c *Client) Endpoints() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.endpoints)
}

func (c *Client) header() *pdpb.RequestHeader { return &pdpb.RequestHeader{ClusterId: c.clusterID} }

// address strips the scheme that PD's URLs have and gRPC targets have not.
func address(endpoint string) string {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		return rest
	}
	return endpoint
}

// connect returns the connection to a member, which may still be coming up.
func (c *Client) connect(addr string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[addr]; conn != nil {
		return conn, nil
	}
	if c.ctx.Err() != nil {
		return nil, errClosed
	}
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepaliveWait, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		// A member that restarts is back within a second; gRPC's own pauses
		// grow to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: retryMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: retryMax},
			MinConnectTimeout: callTimeout,
		}),
	}, c.opts.DialOptions...)
	conn, err := grpc.NewClient(addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("pdclient: PD endpoint %s: %w", addr, err)
	}
	c.conns[addr] = conn
	return conn, nil
}

var errClosed = errors.New("pdclient: the client is closed")

// findLeader asks the members who leads, each time another one first: a member
// that is cut off from the others may not know that its answer is out of date.
func (c *Client) findLeader(ctx context.Context) (*member, error) {
	c.mu.Lock()
	first := c.asked % len(c.endpoints)
	c.asked++
	endpoints := slices.Concat(c.endpoints[first:], c.endpoints[:first])
	c.mu.Unlock()
	var errs []error
	for _, e := range endpoints {
		m, err := c.askLeader(ctx, e)
		if err == nil {
			c.leader.Store(m)
			return m, nil
		}
		if errors.Is(err, errOtherCluster) || ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, fmt.Errorf("PD at %s: %w", e, err))
	}
	return nil, errors.Join(errs...)
}

var errOtherCluster = errors.New("it belongs to another cluster")

func (c *Client) askLeader(ctx context.Context, endpoint string) (*member, error) {
	conn, err := c.connect(endpoint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	resp, err := pdpb.NewPDClient(conn).GetMembers(ctx, &pdpb.GetMembersRequest{})
	if err != nil {
		return nil, err
	}
	id := resp.GetHeader().GetClusterId()
	switch {
	case id == 0:
		return nil, errors.New("it knows no cluster id yet")
	case c.clusterID == 0:
		c.clusterID = id // the first answer, in New, before anybody else reads it
	case c.clusterID != id:
		return nil, fmt.Errorf("pdclient: PD at %s: %w: %d, this one is %d; check the addresses", endpoint, errOtherCluster, id, c.clusterID)
	}
	c.remember(resp.Members)
	urls := resp.GetLeader().GetClientUrls()
	if len(urls) == 0 {
		return nil, errors.New("it knows no leader")
	}
	leader := address(urls[0])
	if conn, err = c.connect(leader); err != nil {
		return nil, err
	}
	return &member{url: leader, pd: pdpb.NewPDClient(conn)}, nil
}

// remember adds members that were not configured.
func (c *Client) remember(members []*pdpb.Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range members {
		for _, u := range m.ClientUrls {
			if a := address(u); !slices.Contains(c.endpoints, a) && len(c.endpoints) < endpointsMax {
				c.endpoints = append(c.endpoints, a)
			}
		}
	}
}

// waitLeader returns the leader, looking for one until ctx ends.
func (c *Client) waitLeader(ctx context.Context) (*member, error) {
	var pause retryPause
	for {
		if m := c.leader.Load(); m != nil {
			return m, nil
		}
		m, err := c.findLeader(ctx)
		if err == nil || errors.Is(err, errOtherCluster) {
			return m, err
		}
		if werr := pause.wait(ctx, c.ctx); werr != nil {
			return nil, fmt.Errorf("pdclient: found no PD leader: %w; last answer: %w", werr, err)
		}
	}
}

// forget makes the next call look for the leader again.
func (c *Client) forget(m *member) { c.leader.CompareAndSwap(m, nil) }

// headerer is what all answers of PD have.
type headerer interface{ GetHeader() *pdpb.ResponseHeader }

// call runs fn against the leader until it has an answer.
func call[R headerer](ctx context.Context, c *Client, what string, fn func(context.Context, pdpb.PDClient) (R, error)) (R, error) {
	var pause retryPause
	for {
		m, err := c.waitLeader(ctx)
		if err != nil {
			var none R
			return none, err
		}
		resp, err := attempt(ctx, m, fn)
		if err == nil {
			if e := resp.GetHeader().GetError(); e != nil && e.Type != pdpb.ErrorType_OK {
				return resp, &Error{Call: what, Type: e.Type, Message: e.Message}
			}
			return resp, nil
		}
		if !retryable(err) {
			return resp, fmt.Errorf("pdclient: %s at %s: %w", what, m.url, err)
		}
		c.forget(m)
		if werr := pause.wait(ctx, c.ctx); werr != nil {
			return resp, fmt.Errorf("pdclient: %s: %w; last answer of %s: %w", what, werr, m.url, err)
		}
	}
}

func attempt[R any](ctx context.Context, m *member, fn func(context.Context, pdpb.PDClient) (R, error)) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return fn(ctx, m.pd)
}

// retryable reports whether another member, or this one later, may do better.
func retryable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return true
	}
	return strings.Contains(err.Error(), "not leader")
}

// Error is PD's refusal of a call.
type Error struct {
	Call    string
	Type    pdpb.ErrorType
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("pdclient: PD refused %s: %s (%v)", e.Call, e.Message, e.Type)
}

// IsAlreadyBootstrapped reports whether err says that the cluster has been
// bootstrapped, by whomever.
func IsAlreadyBootstrapped(err error) bool { return isType(err, pdpb.ErrorType_ALREADY_BOOTSTRAPPED) }

// IsTombstone reports whether err says that the store was removed for good.
func IsTombstone(err error) bool { return isType(err, pdpb.ErrorType_STORE_TOMBSTONE) }

func isType(err error, t pdpb.ErrorType) bool {
	var e *Error
	return errors.As(err, &e) && e.Type == t
}

// retryPause is the growing pause between attempts.
type retryPause struct{ next time.Duration }

// wait pauses, or returns why there will be no other attempt.
func (p *retryPause) wait(ctx, closed context.Context) error {
	p.next = min(max(p.next*2, retryMin), retryMax)
	t := time.NewTimer(p.next)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closed.Done():
		return errClosed
	}
}
