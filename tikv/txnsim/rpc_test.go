package txnsim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
	"github.com/tikv/client-go/v2/util/async"
)

// rpc is the tikv.Client of one client: requests go to the stores of the
// simulation over a network that delays and loses them. It dies after a number
// of requests, if that is set, and then nothing of its process gets out any more.
type rpc struct {
	r     *run
	codec tikv.Codec
	left  atomic.Int64 // requests until death; negative: it lives
	calls sync.WaitGroup

	mu     sync.Mutex
	rng    *rand.Rand
	closed bool
}

var _ tikv.Client = (*rpc)(nil)

var (
	errLost = errors.New("txnsim: the connection broke")
	errDead = errors.New("txnsim: the client has died")
)

const immortal = -1 << 40

func newRPC(r *run, rng *rand.Rand) *rpc {
	c := &rpc{r: r, rng: rng, codec: tikv.NewCodecV1(tikv.ModeTxn)}
	c.left.Store(immortal)
	return c
}

func (c *rpc) Close() error                                       { return nil }
func (c *rpc) CloseAddr(string) error                             { return nil }
func (c *rpc) SetEventListener(listener tikv.ClientEventListener) {}

// dieAfter lets the client send that many requests more.
func (c *rpc) dieAfter(requests int) { c.left.Store(int64(requests) + 1) }

func (c *rpc) dead() bool {
	left := c.left.Load()
	return left == 0 || (left > 0 && c.left.Add(-1) <= 0)
}

func (c *rpc) fate() (there, back time.Duration, lostThere, lostBack bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	there, lostThere = c.r.s.Weather(c.rng)
	back, lostBack = c.r.s.Weather(c.rng)
	return there, back, lostThere, lostBack
}

// enter counts a call in, unless the client is closing.
func (c *rpc) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.calls.Add(1)
	return true
}

// wait returns when no call is under way any more.
func (c *rpc) wait() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.calls.Wait()
}

// SendRequest implements tikv.Client.
func (c *rpc) SendRequest(ctx context.Context, addr string, req *tikvrpc.Request, timeout time.Duration) (*tikvrpc.Response, error) {
	if c.dead() || !c.enter() {
		return nil, errDead
	}
	defer c.calls.Done()
	encoded, err := c.codec.EncodeRequest(req)
	if err != nil {
		return nil, err
	}
	tikvrpc.AttachContext(encoded, encoded.Context)
	if encoded.Req, err = overWire(encoded.Req); err != nil {
		return nil, err
	}
	if timeout <= 0 {
		timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type answer struct {
		resp *tikvrpc.Response
		err  error
	}
	ch := make(chan answer, 1)
	var store uint64
	if _, err := fmt.Sscanf(addr, "store%d", &store); err != nil {
		return nil, fmt.Errorf("txnsim: address %q: %w", addr, err)
	}
	there, back, lostThere, lostBack := c.fate()
	c.calls.Add(1)
	go func() {
		defer c.calls.Done()
		time.Sleep(there)
		if lostThere {
			ch <- answer{nil, errLost}
			return
		}
		resp, err := c.r.serve(ctx, store, encoded)
		time.Sleep(back)
		if lostBack {
			resp, err = nil, errLost
		}
		ch <- answer{resp, err}
	}()
	select {
	case a := <-ch:
		c.r.logCall(store, encoded, a.resp, a.err)
		if a.err == nil && c.left.Load() == 0 {
			a.err = errDead
		}
		if a.err != nil {
			return nil, a.err
		}
		return c.codec.DecodeResponse(encoded, a.resp)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// SendRequestAsync implements tikv.Client.
func (c *rpc) SendRequestAsync(ctx context.Context, addr string, req *tikvrpc.Request, cb async.Callback[*tikvrpc.Response]) {
	cb.Executor().Go(func() { cb.Schedule(c.SendRequest(ctx, addr, req, 0)) })
}

// wire is what gRPC sends.
type wire interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// overWire copies a message, so that neither side sees what the other does to
// its own.
func overWire(m any) (any, error) {
	in, ok := m.(wire)
	if !ok {
		return nil, fmt.Errorf("txnsim: %T is no message", m)
	}
	b, err := in.Marshal()
	if err != nil {
		return nil, err
	}
	out := reflect.New(reflect.TypeOf(m).Elem()).Interface().(wire)
	return out, out.Unmarshal(b)
}

// serve is the server's side: a process that is stopped answers when it goes
// on, one that has died does not.
func (r *run) serve(ctx context.Context, id uint64, req *tikvrpc.Request) (*tikvrpc.Response, error) {
	r.s.Wait(id)
	st := r.stores.get(id)
	if st == nil || !st.ready.Load() || !st.node.Up.Load() {
		return nil, errLost
	}
	out, err := st.call(ctx, req)
	r.s.Wait(id)
	if !st.node.Up.Load() {
		return nil, errLost
	}
	if err != nil {
		return nil, err
	}
	if out, err = overWire(out); err != nil {
		return nil, err
	}
	return &tikvrpc.Response{Resp: out}, nil
}

func (st *store) call(ctx context.Context, req *tikvrpc.Request) (any, error) {
	s := st.txn
	switch q := req.Req.(type) {
	case *kvrpcpb.GetRequest:
		return s.KvGet(ctx, q)
	case *kvrpcpb.BatchGetRequest:
		return s.KvBatchGet(ctx, q)
	case *kvrpcpb.ScanRequest:
		return s.KvScan(ctx, q)
	case *kvrpcpb.PrewriteRequest:
		return s.KvPrewrite(ctx, q)
	case *kvrpcpb.CommitRequest:
		return s.KvCommit(ctx, q)
	case *kvrpcpb.PessimisticLockRequest:
		return s.KvPessimisticLock(ctx, q)
	case *kvrpcpb.PessimisticRollbackRequest:
		return s.KVPessimisticRollback(ctx, q)
	case *kvrpcpb.BatchRollbackRequest:
		return s.KvBatchRollback(ctx, q)
	case *kvrpcpb.TxnHeartBeatRequest:
		return s.KvTxnHeartBeat(ctx, q)
	case *kvrpcpb.CheckTxnStatusRequest:
		return s.KvCheckTxnStatus(ctx, q)
	case *kvrpcpb.CheckSecondaryLocksRequest:
		return s.KvCheckSecondaryLocks(ctx, q)
	case *kvrpcpb.ResolveLockRequest:
		return s.KvResolveLock(ctx, q)
	case *kvrpcpb.ScanLockRequest:
		return s.KvScanLock(ctx, q)
	case *kvrpcpb.FlushRequest:
		return s.KvFlush(ctx, q)
	case *kvrpcpb.BufferBatchGetRequest:
		return s.KvBufferBatchGet(ctx, q)
	case *kvrpcpb.BroadcastTxnStatusRequest:
		return s.BroadcastTxnStatus(ctx, q)
	case *kvrpcpb.StoreSafeTSRequest:
		return &kvrpcpb.StoreSafeTSResponse{SafeTs: st.node.Store.MinSafeTS(nil, nil)}, nil
	case *kvrpcpb.GetHealthFeedbackRequest:
		return &kvrpcpb.GetHealthFeedbackResponse{}, nil
	}
	return nil, fmt.Errorf("txnsim: the simulated store does not know %T", req.Req)
}

// logCall writes a line about a request that changes something.
func (r *run) logCall(store uint64, req *tikvrpc.Request, resp *tikvrpc.Response, err error) {
	switch req.Type {
	case tikvrpc.CmdStoreSafeTS, tikvrpc.CmdGet, tikvrpc.CmdBatchGet, tikvrpc.CmdGetHealthFeedback:
		return
	}
	text := fmt.Sprint(err)
	if err == nil {
		text = fmt.Sprintf("%v", resp.Resp)
	}
	const shownMax = 400
	what, _ := overWire(req.Req)
	if f := reflect.ValueOf(what).Elem().FieldByName("Context"); f.IsValid() {
		f.SetZero()
	}
	r.s.Op(store, req.Context.GetRegionId(), "%v %.*s: %.*s", req.Type, shownMax, fmt.Sprint(what), shownMax, text)
}
