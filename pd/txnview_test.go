package pd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
)

// TestTxnView: a transactional client sees a pocket as one region, and no hole
// or overlap; every other client sees what there is.
func TestTxnView(t *testing.T) {
	p, ok := codec.PocketOf([]byte("usertable:1"))
	if !ok {
		t.Fatal("no pocket")
	}
	names := map[string]string{"": "-", string(p.Start): "P", string(p.End): "Q"}
	bounds := [][]byte{nil, codec.EncodeBytes(nil, []byte("m")), p.Start, []byte("usertable:3"), []byte("usertable:6"), p.End, codec.EncodeBytes(nil, []byte("z")), nil}
	rs := core.NewRegions()
	for i := range len(bounds) - 1 {
		peer := &metapb.Peer{Id: uint64(10 + i), StoreId: 1}
		meta := &metapb.Region{Id: uint64(i + 1), StartKey: bounds[i], EndKey: bounds[i+1], RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1}, Peers: []*metapb.Peer{peer}}
		if _, err := rs.Put(&core.Region{Meta: meta, Leader: peer}); err != nil {
			t.Fatal(err)
		}
	}
	name := func(b []byte) string {
		if n, ok := names[string(b)]; ok {
			return n
		}
		if plain, _, err := codec.DecodeBytes(nil, b); err == nil {
			return string(plain)
		}
		return string(b)
	}
	show := func(list ...*core.Region) string {
		var out []string
		for _, r := range list {
			if r == nil {
				out = append(out, "none")
				continue
			}
			out = append(out, fmt.Sprintf("%d[%s %s)", r.ID(), name(r.Meta.StartKey), name(r.Meta.EndKey)))
		}
		return strings.Join(out, " ")
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	view := func() regionView {
		v := regionView{rs, &connState{}}
		v.conn.transactional.Store(true)
		return v
	}
	txn := view()
	all := "1[- m) 2[m P) 3[P Q) 6[Q z) 7[z -)"
	expect("scan", show(txn.scan(nil, nil, 0)...), all)
	expect("scan with limit", show(txn.scan(p.Start, nil, 2)...), "3[P Q) 6[Q z)")
	expect("behind the left neighbour", show(txn.byKey(p.Start)), "3[P Q)")
	expect("before the right one", show(txn.prev(p.End)), "3[P Q)")
	expect("before the pocket", show(txn.prev(p.Start)), "2[m P)")
	expect("by id", show(txn.byID(3), txn.byID(4), txn.byID(5), txn.byID(6)), "3[P Q) none none 6[Q z)")
	ranges, whole := scanRanges(txn, []*pdpb.KeyRange{{StartKey: bounds[1], EndKey: p.End}}, 0)
	expect("ranges", fmt.Sprint(show(ranges...), whole), "2[m P) 3[P Q)true")
	resp := &pdpb.QueryRegionResponse{}
	queryRegions(txn, &pdpb.QueryRegionRequest{Keys: [][]byte{p.Start, bounds[6]}, PrevKeys: [][]byte{p.End}}, resp)
	expect("query", fmt.Sprint(resp.KeyIdMap, resp.PrevKeyIdMap, name(resp.RegionsById[3].Region.EndKey)), "[3 7] [3]Q")
	if r := rs.ByID(3); name(r.Meta.EndKey) != "usertable:3" {
		t.Fatal("the region itself was changed")
	}

	truth := "1[- m) 2[m P) 3[P usertable:3) 4[usertable:3 usertable:6) 5[usertable:6 Q) 6[Q z) 7[z -)"
	raw := regionView{rs, &connState{}}
	expect("raw scan", show(raw.scan(nil, nil, 0)...), truth)
	expect("raw, by boundary", show(raw.byKey(p.Start), raw.prev(p.End)), "3[P usertable:3) 5[usertable:6 Q)")
	expect("no connection", show(regionView{rs: rs}.scan(nil, nil, 0)...), truth)
	// A key that no transactional client has tells that one was taken for one.
	mixed := view()
	expect("a raw key", show(mixed.byKey([]byte("usertable:4"))), "4[usertable:3 usertable:6)")
	expect("from then on", show(mixed.scan(nil, nil, 0)...), truth)
}

// TestStoresSeePockets: a store takes timestamps, but asks PD for its regions
// inside of pockets, too (raftstore/validate.go).
func TestStoresSeePockets(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 1)
	inside := firstRegion()
	inside.Id, inside.StartKey, inside.EndKey, inside.RegionEpoch.Version = 20, []byte("usertable:3"), []byte("usertable:6"), 2
	inside.Peers[0].Id = 21
	found := func(c pdpb.PDClient) bool {
		resp, err := c.GetRegionByID(testContext(t), &pdpb.GetRegionByIDRequest{Header: header(s), RegionId: inside.Id})
		return err == nil && resp.GetRegion() != nil
	}
	timestamp := func(c pdpb.PDClient) {
		t.Helper()
		stream, err := c.Tso(testContext(t))
		if err == nil {
			err = stream.Send(&pdpb.TsoRequest{Header: header(s), Count: 1})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	openStream(t, s, c).report(inside, inside.Peers[0])
	until(t, "PD knows the region", func() bool { return found(c) })
	timestamp(c)
	if !found(c) {
		t.Error("hidden from the store that reports it")
	}
	client := pdpb.NewPDClient(rpc(t, s))
	timestamp(client)
	if found(client) {
		t.Error("shown to a transactional client")
	}
}
