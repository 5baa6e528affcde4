package clientsuite

import (
	"testing"
	"time"

	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// regionCase asks one store with a context of its own making.
type regionCase struct {
	name string
	// make chooses whom to ask, and how.
	make func(w *wire, p place) (n *tikv.Node, rc *kvrpcpb.Context, req message)
	want func(w *wire, p place, e *errorpb.Error) bool
}

// other is a store that does not lead the region.
func (w *wire) other(p place) *tikv.Node {
	for _, n := range w.running() {
		if n != p.node {
			return n
		}
	}
	return nil
}

var regionCases = []regionCase{
	{"NotLeader", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		n, rc := w.other(p), w.contextOf(p)
		rc.Peer = p.peerOn(n.StoreID())
		return n, rc, &kvrpcpb.GetRequest{Key: w.key("k"), Version: w.now()}
	}, func(w *wire, p place, e *errorpb.Error) bool {
		return e.GetNotLeader().GetLeader().GetStoreId() == p.node.StoreID() && e.NotLeader.RegionId == p.info.Region.Id
	}},
	{"EpochNotMatch", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		rc := w.contextOf(p)
		rc.RegionEpoch = &metapb.RegionEpoch{Version: rc.RegionEpoch.Version - 1, ConfVer: rc.RegionEpoch.ConfVer}
		return p.node, rc, &kvrpcpb.RawPutRequest{Key: w.key("k"), Value: []byte("v")}
	}, func(w *wire, p place, e *errorpb.Error) bool {
		rs := e.GetEpochNotMatch().GetCurrentRegions()
		return len(rs) > 0 && rs[0].Id == p.info.Region.Id && string(rs[0].StartKey) == string(p.info.Region.StartKey)
	}},
	{"RegionNotFound", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		rc := w.contextOf(p)
		rc.RegionId = 1 << 40
		return p.node, rc, &kvrpcpb.GetRequest{Key: w.key("k"), Version: w.now()}
	}, func(_ *wire, _ place, e *errorpb.Error) bool { return e.GetRegionNotFound().GetRegionId() == 1<<40 }},
	{"KeyNotInRegion", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		return p.node, w.contextOf(p), &kvrpcpb.GetRequest{Key: []byte("e"), Version: w.now()}
	}, func(_ *wire, p place, e *errorpb.Error) bool {
		k := e.GetKeyNotInRegion()
		return string(k.GetKey()) == "e" && k.RegionId == p.info.Region.Id && string(k.StartKey) == string(p.info.Region.StartKey)
	}},
	{"KeyNotInRegion of a write", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		start := w.now()
		return p.node, w.contextOf(p), &kvrpcpb.PrewriteRequest{PrimaryLock: []byte("e"), StartVersion: start, LockTtl: 1,
			Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte("e"), Value: []byte("v")}}}
	}, func(_ *wire, p place, e *errorpb.Error) bool {
		return e.GetKeyNotInRegion().GetRegionId() == p.info.Region.Id
	}},
	{"StoreNotMatch", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		return w.other(p), w.contextOf(p), &kvrpcpb.GetRequest{Key: w.key("k"), Version: w.now()}
	}, func(w *wire, p place, e *errorpb.Error) bool {
		return e.GetStoreNotMatch().GetRequestStoreId() == p.node.StoreID() && e.StoreNotMatch.ActualStoreId != p.node.StoreID()
	}},
	{"MismatchPeerId", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		rc := w.contextOf(p)
		rc.Peer = &metapb.Peer{Id: 1 << 40, StoreId: p.node.StoreID()}
		return p.node, rc, &kvrpcpb.GetRequest{Key: w.key("k"), Version: w.now()}
	}, func(_ *wire, _ place, e *errorpb.Error) bool {
		return e.GetMismatchPeerId().GetRequestPeerId() == 1<<40
	}},
	{"StaleCommand", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		rc := w.contextOf(p)
		rc.Term = 1
		return p.node, rc, &kvrpcpb.RawPutRequest{Key: w.key("k"), Value: []byte("v")}
	}, func(_ *wire, _ place, e *errorpb.Error) bool { return e.GetStaleCommand() != nil }},
	{"RaftEntryTooLarge", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		req := &kvrpcpb.RawBatchPutRequest{}
		for _, k := range w.keys(3) {
			req.Pairs = append(req.Pairs, &kvrpcpb.KvPair{Key: k, Value: make([]byte, 3<<20)})
		}
		return p.node, w.contextOf(p), req
	}, func(_ *wire, p place, e *errorpb.Error) bool {
		return e.GetRaftEntryTooLarge().GetRegionId() == p.info.Region.Id && e.RaftEntryTooLarge.EntrySize > 9<<20
	}},
	{"RaftEntryTooLarge of a transaction", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		req := &kvrpcpb.PrewriteRequest{PrimaryLock: w.key("a"), StartVersion: w.now(), LockTtl: 1}
		for _, k := range w.keys(3) {
			req.Mutations = append(req.Mutations, &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: k, Value: make([]byte, 3<<20)})
		}
		return p.node, w.contextOf(p), req
	}, func(_ *wire, _ place, e *errorpb.Error) bool { return e.GetRaftEntryTooLarge().GetEntrySize() > 9<<20 }},
	{"DataIsNotReady", func(w *wire, p place) (*tikv.Node, *kvrpcpb.Context, message) {
		n, rc := w.other(p), w.contextOf(p)
		rc.Peer, rc.StaleRead = p.peerOn(n.StoreID()), true
		return n, rc, &kvrpcpb.GetRequest{Key: w.key("k"), Version: w.now() + uint64(time.Minute.Milliseconds())<<18}
	}, func(_ *wire, p place, e *errorpb.Error) bool {
		return e.GetDataIsNotReady().GetRegionId() == p.info.Region.Id
	}},
}

// TestRegionErrors provokes the errors by which clients find regions, or wait.
func TestRegionErrors(t *testing.T) {
	t.Parallel()
	c := sharedCluster(t)
	for _, batch := range []bool{false, true} {
		w := newWire(t, c, fresh("region-errors"), batch)
		w.split([]byte(w.prefix), w.end())
		eventually(t, "a term that the first one is behind", func() bool {
			p := w.mustFind(t, w.key("k"))
			if p.info.Term > 2 {
				return true
			}
			p.transfer(w.other(p).StoreID())
			return false
		})
		for _, rc := range regionCases {
			t.Run(rc.name, func(t *testing.T) {
				// PD may move the leader between the look and the request.
				var got string
				eventually(t, "the error", func() bool {
					p := w.mustFind(t, w.key("k"))
					n, ctx, req := rc.make(w, p)
					setContext(req, ctx)
					resp, err := w.send(n.Addr(), req)
					if err != nil {
						t.Fatal(err)
					}
					e := resp.(regional).GetRegionError()
					if text := e.String(); text != got {
						got = text
						t.Log(text)
					}
					return e != nil && e.Message != "" && rc.want(w, p, e)
				})
			})
		}
	}
}

// TestBusyAndFull: a store without memory for writes, and one without room.
func TestBusyAndFull(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*tikv.Config)
		is     func(*errorpb.Error) bool
	}{
		{"ServerIsBusy", func(c *tikv.Config) { c.Raft.ProposalBytesMax = 64 << 10 },
			func(e *errorpb.Error) bool {
				return e.GetServerIsBusy().GetBackoffMs() > 0 && e.ServerIsBusy.Reason != ""
			}},
		{"DiskFull", func(c *tikv.Config) { c.CapacityBytes, c.ReserveBytes = 0, 1<<60 },
			func(e *errorpb.Error) bool { return len(e.GetDiskFull().GetStoreId()) == 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := ownCluster(t, 1, func(_ int, cfg *tikv.Config) { tc.change(cfg) })
			for _, batch := range []bool{false, true} {
				w := newWire(t, c, fresh("full"), batch)
				start := w.now()
				for _, req := range []message{
					&kvrpcpb.RawPutRequest{Key: w.key("k"), Value: make([]byte, 100<<10)},
					&kvrpcpb.PrewriteRequest{PrimaryLock: w.key("k"), StartVersion: start, LockTtl: 1,
						Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: w.key("k"), Value: make([]byte, 100<<10)}}},
				} {
					p := w.mustFind(t, w.key("k"))
					setContext(req, w.contextOf(p))
					resp, err := w.send(p.node.Addr(), req)
					if err != nil {
						t.Fatal(err)
					}
					if e := resp.(regional).GetRegionError(); !tc.is(e) {
						t.Errorf("%T: %v", req, e)
					}
				}
				w.ask(w.key("k"), w.get("k", w.now())) // reads go on
			}
		})
	}
}

// lostQuorum: one store of three is left. It knows no leader, and what it was told
// to write before has no certain outcome.
func lostQuorum(t *testing.T, c *cluster) {
	w := newWire(t, c, "lost/", false)
	w.put3()
	p := w.mustFind(t, w.key("k"))
	left := p.node
	for i := range 3 {
		if c.node(i) != left {
			c.stopNode(i)
		}
	}
	rc := w.contextOf(p)
	write := func() *errorpb.Error {
		resp, err := w.at(left.Addr()).unary(&kvrpcpb.RawPutRequest{Context: rc, Key: w.key("k"), Value: []byte("lost?")})
		if err != nil {
			t.Fatal(err)
		}
		return resp.(*kvrpcpb.RawPutResponse).GetRegionError()
	}
	// The stores that stopped gave their leaders away, so this one may lead until
	// it notices. Whoever writes now must not hear of success.
	seen := map[string]bool{}
	eventually(t, "a leader that has gone", func() bool {
		e := write()
		switch {
		case e == nil:
			t.Fatal("a write without a quorum was acknowledged")
		case e.NotLeader != nil:
			return e.NotLeader.Leader == nil
		}
		if !seen[e.String()] {
			seen[e.String()] = true
			t.Log(e)
		}
		return false
	})
	ctx := t.Context()
	for i := range 3 {
		if c.node(i) == nil {
			if err := c.startNode(ctx, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "writes again", func() bool {
		v, err := w.raw().Get(w.ctx, w.key("k"))
		if err != nil {
			t.Fatal(err)
		}
		return (string(v) == "v" || string(v) == "lost?") && w.raw().Put(w.ctx, w.key("k"), []byte("after")) == nil
	})
	if v, err := w.raw().Get(w.ctx, w.key("k")); err != nil || string(v) != "after" {
		t.Fatalf("%q (%v)", v, err)
	}
}

func (w *wire) put3() {
	w.Helper()
	w.must(w.raw().Put(w.ctx, w.key("k"), []byte("v")))
}
