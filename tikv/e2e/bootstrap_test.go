package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/pdclient"
	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// abandoned prepares a data directory as a crash leaves it between writing the
// bootstrap marker and creating the region.
func (c *cluster) abandoned(told bool) (tikv.Config, uint64) {
	c.t.Helper()
	pd, err := pdclient.New(c.ctx, []string{c.pdURL}, pdclient.Options{})
	c.must(err)
	defer pd.Close()
	var ids [3]uint64
	for i := range ids {
		ids[i], err = pd.AllocID(c.ctx)
		c.must(err)
	}
	region := &metapb.Region{Id: ids[1], RegionEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: 1},
		Peers: []*metapb.Peer{{Id: ids[2], StoreId: ids[0]}}}
	dir := c.t.TempDir()
	write := func(name string, v any) {
		data, err := json.Marshal(v)
		c.must(err)
		c.must(os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	write("STORE", map[string]uint64{"cluster_id": pd.ClusterID(), "store_id": ids[0]})
	write("BOOTSTRAP", region)
	if told {
		c.must(pd.Bootstrap(c.ctx, &metapb.Store{Id: ids[0], Address: "127.0.0.1:1", Version: tikv.Version}, region))
	}
	return tikv.Config{DataDir: dir, Addr: "127.0.0.1:0", PDEndpoints: []string{c.pdURL}, ReserveBytes: -1, Logger: logger(c.t)}, ids[1]
}

// TestBootstrapAfterCrash restarts a store that crashed while it claimed the
// first region: before PD heard of it, after, and when another store was first.
func TestBootstrapAfterCrash(t *testing.T) {
	for _, crash := range []struct {
		name   string
		others int
		told   bool
		owns   bool
	}{
		{"before the claim", 0, false, true},
		{"after the claim", 0, true, true},
		{"after another store's claim", 1, false, false},
	} {
		t.Run(crash.name, func(t *testing.T) {
			c := start(t, crash.others, nil)
			cfg, regionID := c.abandoned(crash.told)
			n, err := tikv.Start(c.ctx, cfg)
			c.must(err)
			defer n.Stop()
			if _, owns := n.Raftstore().Region(regionID); owns != crash.owns {
				t.Fatalf("the store has the region: %v", owns)
			}
			if _, err := os.Stat(filepath.Join(cfg.DataDir, "BOOTSTRAP")); !os.IsNotExist(err) {
				t.Fatalf("the marker is still there: %v", err)
			}
			raw := c.rawClient(kvrpcpb.APIVersion_V1)
			c.must(raw.Put(c.ctx, []byte("k"), []byte("v")))
		})
	}
}

// TestHazard01_AcknowledgedWritesSurviveCrash: what a client was told is there
// after the loss of everything that was not synced.
func TestHazard01_AcknowledgedWritesSurviveCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	c := start(t, 1, func(cfg *tikv.Config) { cfg.FS, cfg.DataDir = mem, "store" })
	raw := c.rawClient(kvrpcpb.APIVersion_V1)
	count := 0
	for round := range 4 {
		for range 30 {
			c.must(raw.Put(c.ctx, fmt.Appendf(nil, "%04d", count), fmt.Appendf(nil, "v%d", count)))
			count++
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		cfg := c.cfgs[0]
		cfg.Addr = c.nodes[0].Addr()
		c.nodes[0].Stop()
		mem = crashed
		cfg.FS, cfg.Registerer, cfg.Gatherer = mem, nil, nil
		var err error
		c.nodes[0], err = tikv.Start(c.ctx, cfg)
		c.must(err)
		ks, vs, err := raw.Scan(c.ctx, nil, nil, 1000)
		c.must(err)
		if len(ks) != count {
			t.Fatalf("round %d: %d of %d acknowledged writes are there", round, len(ks), count)
		}
		for i := range vs {
			if string(vs[i]) != fmt.Sprintf("v%d", i) {
				t.Fatalf("round %d: key %d is %q", round, i, vs[i])
			}
		}
	}
}
