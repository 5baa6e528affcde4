package client

import (
	"bytes"
	"context"
	"testing"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/tikv"
	pd "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/clients/gc"
	"github.com/tikv/pd/client/constants"
	"github.com/tikv/pd/client/pkg/caller"

	"github.com/copradb/copra/copr/coprtest"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tablecodec"
)

// keyspacePD is a mock PD with one keyspace.
type keyspacePD struct{ pd.Client }

func (keyspacePD) LoadKeyspace(context.Context, string) (*keyspacepb.KeyspaceMeta, error) {
	return &keyspacepb.KeyspaceMeta{Id: 1, Name: "sql", State: keyspacepb.KeyspaceState_ENABLED}, nil
}

// The mock has GC states of no keyspace but the null one.
func (p keyspacePD) GetGCStatesClient(uint32) gc.GCStatesClient {
	return p.Client.GetGCStatesClient(constants.NullKeyspaceID)
}

func (p keyspacePD) WithCallerComponent(caller.Component) pd.Client { return p }

// newRouter is a cacheRouter over client-go's mock cluster, with regions split
// at rows 100 and 200 of the test table.
func newRouter(t *testing.T, keyspace bool) (*cacheRouter, *coprtest.Cluster, testutils.Cluster) {
	t.Helper()
	rpc, cluster, mockPD, err := testutils.NewMockTiKV("", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := &coprtest.Cluster{}
	var codecPD *tikv.CodecPDClient
	if keyspace {
		keys.Prefix = []byte{'x', 0, 0, 1}
		if codecPD, err = tikv.NewCodecPDClientWithKeyspace(tikv.ModeTxn, keyspacePD{mockPD}, "sql"); err != nil {
			t.Fatal(err)
		}
	} else {
		codecPD = tikv.NewCodecPDClient(tikv.ModeTxn, mockPD)
	}
	testutils.BootstrapWithMultiRegions(cluster, keys.Key(100), keys.Key(200))
	store, err := tikv.NewKVStore("copr-client-test", codecPD, tikv.NewMockSafePointKV(), rpc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := newCacheRouter(store)
	if err != nil {
		t.Fatal(err)
	}
	return r, keys, cluster
}

func TestRoutesThroughRegionCache(t *testing.T) {
	for _, keyspace := range []bool{false, true} {
		r, keys, _ := newRouter(t, keyspace)
		bo := tikv.NewBackoffer(context.Background(), 1000)
		plain := func(id int64) []byte { return keys.Key(id)[len(keys.Prefix):] }
		ranges := r.encode([]kv.KeyRange{
			{Start: plain(10), End: plain(20)}, {Start: plain(50), End: plain(150)}, tablecodec.PointRange(plain(160)), {Start: plain(200)},
		})
		routes, err := r.locate(bo, ranges, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(routes) != 3 {
			t.Fatalf("keyspace %v: %d routes", keyspace, len(routes))
		}
		want := [][]kv.KeyRange{
			{{Start: keys.Key(10), End: keys.Key(20)}, {Start: keys.Key(50), End: keys.Key(100)}},
			{{Start: keys.Key(100), End: keys.Key(150)}, tablecodec.PointRange(keys.Key(160))},
			{ranges[3]},
		}
		req := &plan.Request{Plan: coprtest.Plan()}
		r.header(req)
		for i, rt := range routes {
			if rt.addr == "" || rt.task.ID == 0 || rt.task.Peer.GetId() == 0 || rt.task.Epoch.GetVersion() == 0 || len(rt.task.Ranges) != len(want[i]) {
				t.Fatalf("keyspace %v: route %d: %+v", keyspace, i, rt.task)
			}
			for j, k := range rt.task.Ranges {
				if !bytes.Equal(k.Start, want[i][j].Start) || !bytes.Equal(k.End, want[i][j].End) {
					t.Errorf("keyspace %v: route %d reads %x to %x", keyspace, i, k.Start, k.End)
				}
			}
			req.Regions = append(req.Regions, rt.task)
		}
		if err := req.Check(); err != nil {
			t.Errorf("keyspace %v: a server would refuse it: %v", keyspace, err)
		}
		if v2 := req.APIVersion == kvrpcpb.APIVersion_V2; v2 != keyspace || !bytes.Equal(req.KeyPrefix(), keys.Prefix) {
			t.Errorf("keyspace %v: prefix %x", keyspace, req.KeyPrefix())
		}
	}
}

// After an epoch error the region is looked up again.
func TestEpochErrorRefreshesCache(t *testing.T) {
	r, keys, cluster := newRouter(t, false)
	bo := tikv.NewBackoffer(context.Background(), 1000)
	whole := r.encode([]kv.KeyRange{tablecodec.RecordRange(coprtest.TableID)})
	routes, err := r.locate(bo, whole, 0)
	if err != nil || len(routes) != 3 {
		t.Fatalf("%d routes, %v", len(routes), err)
	}
	region, peer := cluster.AllocID(), cluster.AllocID()
	cluster.Split(routes[0].task.ID, region, keys.Key(50), []uint64{peer}, peer)
	if err := r.regionError(bo, routes[0], &errorpb.Error{EpochNotMatch: &errorpb.EpochNotMatch{}}); err != nil {
		t.Fatal(err)
	}
	if routes, err = r.locate(bo, whole, 0); err != nil || len(routes) != 4 {
		t.Fatalf("%d routes after a split, %v", len(routes), err)
	}
	for _, e := range []*errorpb.Error{
		{NotLeader: &errorpb.NotLeader{}}, {RegionNotFound: &errorpb.RegionNotFound{}}, {StaleCommand: &errorpb.StaleCommand{}},
		{MaxTimestampNotSynced: &errorpb.MaxTimestampNotSynced{}}, {ReadIndexNotReady: &errorpb.ReadIndexNotReady{}},
	} {
		if err := r.regionError(bo, routes[0], e); err != nil {
			t.Errorf("%v: %v", e, err)
		}
	}
	if routes, err = r.locate(bo, whole, 0); err != nil || len(routes) != 4 {
		t.Fatalf("%d routes after errors, %v", len(routes), err)
	}
}

// What an epoch error shows of regions belongs to the store, which may be in this
// process: a region without some of its peers, as the client sees it, is another one.
func TestEpochErrorIsNotChanged(t *testing.T) {
	r, keys, _ := newRouter(t, false)
	bo := tikv.NewBackoffer(context.Background(), 1000)
	routes, err := r.locate(bo, r.encode([]kv.KeyRange{{Start: keys.Key(10), End: keys.Key(20)}}), 0)
	if err != nil || len(routes) != 1 {
		t.Fatalf("%d routes, %v", len(routes), err)
	}
	task := routes[0].task
	start, end := codec.EncodeBytes(nil, keys.Key(0)), codec.EncodeBytes(nil, keys.Key(100))
	region := &metapb.Region{
		Id: task.ID, StartKey: start, EndKey: end, RegionEpoch: &metapb.RegionEpoch{ConfVer: task.Epoch.ConfVer, Version: task.Epoch.Version + 1},
		Peers: []*metapb.Peer{{Id: 1001, StoreId: 4711}, {Id: task.Peer.Id, StoreId: task.Peer.StoreId}}, // a store that PD has forgotten, and one
	}
	before := region.String()
	if err := r.regionError(bo, routes[0], &errorpb.Error{EpochNotMatch: &errorpb.EpochNotMatch{CurrentRegions: []*metapb.Region{region}}}); err != nil {
		t.Fatal(err)
	}
	if after := region.String(); after != before {
		t.Errorf("the store's region was\n%s\nand is\n%s", before, after)
	}
}
