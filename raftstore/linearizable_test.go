package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
)

// registerOp is one operation on one key: a put of value, or a get that saw it.
type registerOp struct {
	key   string
	put   bool
	value string
}

var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) (out [][]porcupine.Operation) {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(registerOp).key
			byKey[key] = append(byKey[key], op)
		}
		for _, ops := range byKey {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in := input.(registerOp)
		if in.put {
			return true, in.value
		}
		return output.(string) == state.(string), state
	},
	DescribeOperation: func(input, output any) string {
		in := input.(registerOp)
		if in.put {
			return fmt.Sprintf("put(%s, %s)", in.key, in.value)
		}
		return fmt.Sprintf("get(%s) = %v", in.key, output)
	},
}

// history records operations of many clients.
type history struct {
	mu    sync.Mutex
	start time.Time
	ops   []porcupine.Operation
	// pending are puts whose outcome nobody knows: they may take effect at any
	// later time.
	unknown, done int
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

func (h *history) add(client int, call int64, in registerOp, out string, returned int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if returned == math.MaxInt64 {
		h.unknown++
	} else {
		h.done++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: returned})
}

// client puts and gets at random through whatever store it thinks leads, and
// through followers.
func (h *history) client(c *rafttest.Cluster, id int, rng *rand.Rand, end time.Time) {
	for n := 0; time.Now().Before(end); n++ {
		key := string([]byte{"bnz"[rng.IntN(3)]})
		store := 1 + rng.Uint64N(4)
		region := c.RegionAt(key)
		if region == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if rng.IntN(10) < 8 { // mostly the leader, or who thinks it is
			if lead := c.LeaderOf(region.Id); lead != 0 {
				store = lead
			}
		}
		rc := c.Context(store, region.Id)
		rc.ReplicaRead = rng.IntN(3) == 0
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rng.IntN(2000))*time.Millisecond)
		call := h.now()
		if rng.IntN(2) == 0 {
			h.put(ctx, c, id, store, rc, registerOp{key, true, fmt.Sprintf("%d-%d", id, n)}, call)
		} else if value, err := c.GetAt(ctx, store, rc, key); err == nil {
			h.add(id, call, registerOp{key: key}, value, h.now())
		}
		cancel()
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
}

func (h *history) put(ctx context.Context, c *rafttest.Cluster, id int, store uint64, rc *kvrpcpb.Context, op registerOp, call int64) {
	err := c.PutAt(ctx, store, rc, op.key, op.value)
	re := kv.AsRegionError(err)
	switch {
	case err == nil:
		h.add(id, call, op, "", h.now())
	case re == nil || re.UndeterminedResult != nil:
		h.add(id, call, op, "", math.MaxInt64)
	}
}

// nemesis breaks things, one at a time, and lets them heal.
func nemesis(c *rafttest.Cluster, rng *rand.Rand, end time.Time) {
	for time.Now().Before(end) {
		time.Sleep(time.Duration(200+rng.IntN(1500)) * time.Millisecond)
		id := 1 + rng.Uint64N(4)
		wait := time.Duration(rng.IntN(3000)) * time.Millisecond
		switch rng.IntN(9) {
		case 0, 1:
			c.Crash(id, rng.IntN(2)*rng.IntN(101))
			time.Sleep(wait)
			c.Restart(id)
		case 2: // everybody at once
			for _, id := range c.IDs() {
				c.Crash(id, 0)
			}
			for _, id := range c.IDs() {
				c.Restart(id)
			}
		case 3:
			c.Partition(id)
			time.Sleep(wait)
			c.Heal()
		case 4: // a slow and lossy network
			lossy(c, rng.Uint64())
			time.Sleep(wait)
			c.Heal()
		case 5:
			transfer(c, id)
		case 6:
			split(c, rng)
		default:
			changeMember(c, rng, id)
		}
	}
	c.Heal()
}

func lossy(c *rafttest.Cluster, seed uint64) {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	c.Net.SetFilter(func(_ *raftstore.RaftMessage, deliver func()) bool {
		mu.Lock()
		defer mu.Unlock()
		switch n := rng.IntN(10); {
		case n < 1:
			return false
		case n < 6:
			time.AfterFunc(time.Duration(rng.IntN(300))*time.Millisecond, deliver)
			return false
		}
		return true
	})
}

func transfer(c *rafttest.Cluster, to uint64) {
	region := c.RegionAt("n")
	if region == nil {
		return
	}
	for _, p := range region.Peers {
		if p.StoreId == to {
			c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: region.Id, TransferLeader: &pdpb.TransferLeader{Peer: p}})
		}
	}
}

// changeMember adds, promotes or removes the peer on a store, whatever is next.
func changeMember(c *rafttest.Cluster, rng *rand.Rand, store uint64) {
	region := c.RegionAt(string([]byte{"bnz"[rng.IntN(3)]}))
	if region == nil {
		return
	}
	voters := 0
	var have *metapb.Peer
	for _, p := range region.Peers {
		if p.Role == metapb.PeerRole_Voter {
			voters++
		}
		if p.StoreId == store {
			have = p
		}
	}
	var change *pdpb.ChangePeer
	switch {
	case have == nil:
		change = rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, c.PD.AllocID(), store)
	case have.Role == metapb.PeerRole_Learner && rng.IntN(3) > 0:
		change = rafttest.Change(eraftpb.ConfChangeType_AddNode, have.Id, store)
	case have.Role == metapb.PeerRole_Learner || voters > 2:
		change = rafttest.Change(eraftpb.ConfChangeType_RemoveNode, have.Id, store)
	default:
		return
	}
	c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: region.Id, ChangePeer: change})
}

func split(c *rafttest.Cluster, rng *rand.Rand) {
	key := string([]byte{'a' + byte(rng.IntN(26))})
	region := c.RegionAt(key)
	if region == nil {
		return
	}
	lead := c.LeaderOf(region.Id)
	if lead == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := c.Node(lead).Store.SplitRegion(ctx, c.Context(lead, region.Id), [][]byte{[]byte(key)}); err != nil && ctx.Err() == nil &&
		kv.AsRegionError(err) == nil && !errors.Is(err, raftstore.ErrStopped) {
		c.TB.Errorf("split: %v", err)
	}
}

// Random crashes, partitions, delays, transfers and splits, and what the
// clients saw must look as if one register per key had served them in turn.
func TestLinearizable(t *testing.T) {
	seeds := uint64(4)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		seeds = 32
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := &history{}
			cluster(t, 4, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
				h.start = time.Now()
				end := h.start.Add(25 * time.Second)
				var wg sync.WaitGroup
				for id := range 4 {
					wg.Go(func() { h.client(c, id, rand.New(rand.NewPCG(seed, uint64(id))), end) })
				}
				wg.Go(func() { nemesis(c, rand.New(rand.NewPCG(seed, 99)), end) })
				wg.Wait()
				for i, key := range []string{"b", "n", "z"} {
					call := h.now()
					value := c.Get(key)
					h.add(100+i, call, registerOp{key: key}, value, h.now())
					for _, peer := range c.RegionAt(key).Peers {
						c.Eventually("the same data everywhere", func() bool { return c.Local(peer.StoreId, key) == value })
					}
				}
			})
			result, info := porcupine.CheckOperationsVerbose(registers, h.ops, 10*time.Second)
			if result == porcupine.Illegal {
				path := t.TempDir() + "/history.html"
				require.NoError(t, porcupine.VisualizePath(registers, info, path))
				t.Fatalf("not linearizable: %d operations, %d of unknown outcome", h.done, h.unknown)
			}
			require.Greater(t, h.done, 200)
			t.Logf("%d operations, %d of unknown outcome: %s", h.done, h.unknown, result)
		})
	}
}
