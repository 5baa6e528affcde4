package pd

import (
	"context"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	pdclient "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"
)

// startPD starts a member on free ports, alone unless change says otherwise.
func startPD(t *testing.T, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0"}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func TestSmoke(t *testing.T) {
	t0 := time.Now()
	s := startPD(t, nil)
	t.Logf("started in %v", time.Since(t0))
	t0 = time.Now()
	ctx := context.Background()
	c, err := pdclient.NewClientWithContext(ctx, caller.TestComponent, []string{s.ClientURL()}, pdclient.SecurityOption{}, opt.WithCustomTimeoutOption(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("client in %v", time.Since(t0))
	p, l, err := c.GetTS(ctx)
	t.Logf("ts %d %d %v in %v", p, l, err, time.Since(t0))
	st, err := c.GetAllStores(ctx)
	t.Log(st, err, time.Since(t0))
	_ = metapb.Store{}
	c.Close()
	t0 = time.Now()
	s.Stop()
	t.Logf("stopped in %v", time.Since(t0))
}
