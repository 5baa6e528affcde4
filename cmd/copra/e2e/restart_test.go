package e2e

import (
	"context"
	"testing"
	"time"
)

// TestRestartWithManyRegions kills a cluster of many regions and measures how
// long it takes until all of them can be read again.
func TestRestartWithManyRegions(t *testing.T) {
	want, rows := 60, 8_000
	if testSettings["LONG"] != "" {
		want, rows = 300, 40_000
	}
	dir, offset := t.TempDir(), freeOffset(t)
	p := startPlayground(t, dir, offset, "--region-split-size", soakSplitSize)
	cluster := &processCluster{t: t, pdAddr: p.addr(2379)}
	c := p.connect()
	exec1(t, c, "CREATE TABLE many (id int PRIMARY KEY, t text)")
	if _, err := c.PgConn().CopyFrom(context.Background(), numbered(0, rows), "COPY many FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	poll(t, 2*time.Minute, "many regions", func() bool { return len(cluster.regions()) >= want })
	regions := len(cluster.regions())
	p.kill()

	started := time.Now()
	p = startPlayground(t, dir, offset, "--region-split-size", soakSplitSize)
	ready := time.Since(started)
	c = p.connect()
	var v string
	if err := c.QueryRow(context.Background(), "SELECT t FROM many WHERE id = 1").Scan(&v); err != nil {
		t.Fatal(err)
	}
	first := time.Since(started)
	if n := queryInt(t, c, "SELECT count(*) FROM many"); n != int64(rows) {
		t.Errorf("%d of %d rows", n, rows)
	}
	t.Logf("%d regions: ready after %s, first read after %s, all read after %s", regions, ready.Round(time.Millisecond),
		first.Round(time.Millisecond), time.Since(started).Round(time.Millisecond))
	p.stop()
}
