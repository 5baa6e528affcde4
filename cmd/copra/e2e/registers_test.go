//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	pdclient "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// registers is clients that write and read a few raw keys all the time; what
// they saw must have an order. They speak to stores themselves: client-go tries
// a put again by itself after an unknown outcome, which may then happen twice.
type registers struct {
	t     *testing.T
	pd    pdclient.Client
	start time.Time
	stop  atomic.Bool
	wg    sync.WaitGroup

	reads, writes []*pulseClient

	mu      sync.Mutex
	conns   map[string]*grpc.ClientConn
	history []registerOp
	acked   map[string]int // puts, by key
}

type registerOp struct {
	client         int
	key, value     string // "" is a missing key
	put            bool
	call, returned int64 // ns since the start; math.MaxInt64: the outcome is unknown
}

var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		op := input.(registerOp)
		if op.put {
			return true, op.value
		}
		return op.value == state.(string), state
	},
}

const (
	registerClients = 4
	registerKeys    = 3
	// registerOpTimeout is long enough that a frozen store's late answers are
	// not all given up, and short enough to find the next leader.
	registerOpTimeout = 2 * time.Second
	registerPause     = 3 * time.Millisecond
)

// place is where a key is served.
type place struct {
	region *metapb.Region
	peer   *metapb.Peer
	addr   string
}

func (p place) context() *kvrpcpb.Context {
	return &kvrpcpb.Context{RegionId: p.region.Id, RegionEpoch: p.region.RegionEpoch, Peer: p.peer}
}

func startRegisters(t *testing.T, pds string) *registers {
	t.Helper()
	pd, err := pdclient.NewClientWithContext(context.Background(), caller.TestComponent, strings.Split(pds, ","), pdclient.SecurityOption{},
		opt.WithCustomTimeoutOption(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	r := &registers{t: t, pd: pd, start: time.Now(), conns: map[string]*grpc.ClientConn{}, acked: map[string]int{}}
	t.Cleanup(func() {
		r.stop.Store(true)
		r.wg.Wait()
		for _, cc := range r.conns {
			_ = cc.Close()
		}
		pd.Close()
	})
	for id := range registerClients {
		reads, writes := &pulseClient{}, &pulseClient{}
		r.reads, r.writes = append(r.reads, reads), append(r.writes, writes)
		r.wg.Go(func() { r.run(id, reads, writes) })
	}
	return r
}

func registerKey(i int) string { return "register-" + strconv.Itoa(i) }

func (r *registers) run(id int, reads, writes *pulseClient) {
	rng := rand.New(rand.NewSource(int64(id)))
	places := map[string]place{}
	for n := 0; !r.stop.Load(); n++ {
		time.Sleep(registerPause) // bounds the history that is to be checked
		key := registerKey(rng.Intn(registerKeys))
		at, ok := places[key]
		if !ok {
			var err error
			if at, err = r.locate(key); err != nil {
				continue
			}
			places[key] = at
		}
		ctx, cancel := within(registerOpTimeout)
		var err error
		if rng.Intn(2) == 0 {
			if err = r.put(ctx, id, at, key, fmt.Sprintf("%d.%d", id, n)); err == nil {
				writes.gap.success()
				writes.success.Add(1)
			}
		} else if err = r.get(ctx, id, at, at.context(), key); err == nil {
			reads.gap.success()
			reads.success.Add(1)
		}
		cancel()
		if err != nil && rng.Intn(3) != 0 {
			delete(places, key) // sometimes the old one is asked again
		}
	}
}

// locate asks PD for the leader of a key's region.
func (r *registers) locate(key string) (place, error) {
	ctx, cancel := within(registerOpTimeout)
	defer cancel()
	region, err := r.pd.GetRegion(ctx, []byte(key))
	if err != nil {
		return place{}, err
	}
	if region == nil || region.Leader == nil {
		return place{}, errors.New("no leader known")
	}
	return r.placeOn(ctx, region.Meta, region.Leader)
}

func (r *registers) placeOn(ctx context.Context, region *metapb.Region, peer *metapb.Peer) (place, error) {
	store, err := r.pd.GetStore(ctx, peer.StoreId)
	if err != nil {
		return place{}, err
	}
	return place{region: region, peer: peer, addr: store.Address}, nil
}

func (r *registers) client(addr string) (tikvpb.TikvClient, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cc := r.conns[addr]
	if cc == nil {
		var err error
		if cc, err = grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			return nil, err
		}
		r.conns[addr] = cc
	}
	return tikvpb.NewTikvClient(cc), nil
}

func (r *registers) now() int64 { return int64(time.Since(r.start)) }

func (r *registers) record(op registerOp) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, op)
	if op.put && op.returned != math.MaxInt64 {
		r.acked[op.key]++
	}
}

// put writes. After any error but a region's refusal the outcome is unknown.
func (r *registers) put(ctx context.Context, id int, at place, key, value string) error {
	c, err := r.client(at.addr)
	if err != nil {
		return err
	}
	op := registerOp{client: id, key: key, value: value, put: true, call: r.now(), returned: math.MaxInt64}
	resp, err := c.RawPut(ctx, &kvrpcpb.RawPutRequest{Context: at.context(), Key: []byte(key), Value: []byte(value)})
	switch {
	case err != nil:
	case resp.RegionError != nil && resp.RegionError.UndeterminedResult == nil:
		return errors.New(resp.RegionError.String()) // never happens
	case resp.RegionError != nil || resp.Error != "":
		err = fmt.Errorf("%v %s", resp.RegionError, resp.Error)
	default:
		op.returned = r.now()
	}
	r.record(op)
	return err
}

// get reads at a store with whatever context.
func (r *registers) get(ctx context.Context, id int, at place, rc *kvrpcpb.Context, key string) error {
	c, err := r.client(at.addr)
	if err != nil {
		return err
	}
	op := registerOp{client: id, key: key, call: r.now()}
	resp, err := c.RawGet(ctx, &kvrpcpb.RawGetRequest{Context: rc, Key: []byte(key)})
	if err != nil {
		return err
	}
	if resp.RegionError != nil || resp.Error != "" {
		return fmt.Errorf("%v %s", resp.RegionError, resp.Error)
	}
	op.value, op.returned = string(resp.Value), r.now()
	r.record(op)
	return nil
}

// awaitPuts waits until each key was written n more times.
func (r *registers) awaitPuts(n int) {
	r.t.Helper()
	counts := func() map[string]int {
		r.mu.Lock()
		defer r.mu.Unlock()
		m := map[string]int{}
		for k, v := range r.acked {
			m[k] = v
		}
		return m
	}
	before := counts()
	poll(r.t, time.Minute, "raw puts", func() bool {
		now := counts()
		for i := range registerKeys {
			if now[registerKey(i)] < before[registerKey(i)]+n {
				return false
			}
		}
		return true
	})
}

func (r *registers) resetGaps() {
	for _, c := range append(append([]*pulseClient(nil), r.reads...), r.writes...) {
		c.gap.reset()
	}
}

func (r *registers) gaps() (reads, writes time.Duration) {
	for i := range r.reads {
		reads, writes = max(reads, r.reads[i].gap.longest()), max(writes, r.writes[i].gap.longest())
	}
	return reads, writes
}

// check stops the clients and looks for an order of all that they saw.
func (r *registers) check() {
	r.t.Helper()
	r.stop.Store(true)
	r.wg.Wait()
	seen, byKey, unknown := map[string]bool{}, map[string][]porcupine.Operation{}, 0
	for _, op := range r.history {
		if !op.put {
			seen[op.value] = true
		}
	}
	for _, op := range r.history {
		if op.put && op.returned == math.MaxInt64 {
			unknown++
			if !seen[op.value] {
				continue // explains nothing
			}
		}
		byKey[op.key] = append(byKey[op.key], porcupine.Operation{ClientId: op.client, Input: op, Call: op.call, Return: op.returned})
	}
	r.t.Logf("registers: %d operations, %d puts of unknown outcome", len(r.history), unknown)
	for key, ops := range byKey {
		if result := porcupine.CheckOperationsTimeout(registerModel, ops, time.Minute); result == porcupine.Illegal {
			r.t.Errorf("no order explains what was read of %s; its history:\n%s", key, describeOps(ops))
		} else if result == porcupine.Unknown {
			r.t.Logf("the check of %s took too long", key)
		}
	}
}

func describeOps(ops []porcupine.Operation) string {
	var b bytes.Buffer
	for _, o := range ops {
		op := o.Input.(registerOp)
		what := "get"
		if op.put {
			what = "put"
		}
		fmt.Fprintf(&b, "%12d %12d client %d %s %q\n", op.call/1000, op.returned/1000, op.client, what, op.value)
	}
	return b.String()
}
