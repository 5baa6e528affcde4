package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/copradb/copra/internal/pdclient"
	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// mayBeRemoved lets a store hear that it was removed: its process would end with
// a line that says so.
func mayBeRemoved(cfg *tikv.Config) {
	cfg.OnFatal = func(err error) {
		if !pdclient.IsTombstone(err) {
			panic(err)
		}
	}
}

// TestSingleReplicaLeavesOfflineStore: with one replica a region, a store that
// goes offline hands its regions over, though nobody else votes in them.
func TestSingleReplicaLeavesOfflineStore(t *testing.T) {
	// The store that has become empty is told that it is no longer a member,
	// before or after the test's end.
	c := start(t, 2, mayBeRemoved)
	raw := c.rawClient(kvrpcpb.APIVersion_V1)
	c.must(raw.Put(c.ctx, []byte("k"), []byte("v")))
	cc, err := grpc.NewClient(c.pdURL[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	c.must(err)
	defer cc.Close()
	id := c.nodes[0].ClusterID()
	resp, err := pdpb.NewPDClient(cc).PutClusterConfig(c.ctx, &pdpb.PutClusterConfigRequest{
		Header: &pdpb.RequestHeader{ClusterId: id}, Cluster: &metapb.Cluster{Id: id, MaxPeerCount: 1}})
	c.must(err)
	if e := resp.GetHeader().GetError(); e != nil {
		t.Fatal(e)
	}
	single := func() (at int, ok bool) {
		at, info, ok := c.regionOf("k")
		return at, ok && len(info.Region.GetPeers()) == 1
	}
	c.eventually("a single replica", func() bool { _, ok := single(); return ok })
	from, _ := single()
	req, err := http.NewRequestWithContext(c.ctx, http.MethodDelete, fmt.Sprintf("%s/pd/api/v1/store/%d", c.pdURL, c.nodes[from].StoreID()), nil)
	c.must(err)
	hr, err := http.DefaultClient.Do(req)
	c.must(err)
	c.must(hr.Body.Close())
	if hr.StatusCode != http.StatusOK {
		t.Fatal(hr.Status)
	}
	c.eventually("the region on the other store alone", func() bool { at, ok := single(); return ok && at != from })
	if v, err := raw.Get(c.ctx, []byte("k")); err != nil || string(v) != "v" {
		t.Fatalf("%q, %v", v, err)
	}
}
