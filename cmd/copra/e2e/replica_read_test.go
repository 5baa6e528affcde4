package e2e

import (
	"testing"
	"time"
)

// TestReplicaReads: scans and point reads from followers are as fresh as the
// leader's; stale ones come from any replica, and from a while ago.
func TestReplicaReads(t *testing.T) {
	dir, offset := t.TempDir(), freeOffset(t)
	p := startPlayground(t, dir, offset, "--stores", "3")
	c := p.connect()
	exec1(t, c, "CREATE TABLE r (id int PRIMARY KEY, v int)")
	exec1(t, c, "INSERT INTO r SELECT i, i FROM generate_series(1, 500) i")
	count := func(name string) float64 { return metric(t, p.addr(10080), name, "") }
	const stale, index = "tikv_raftstore_local_read_executed_stale_read_requests", "tikv_raftstore_read_index_requests_total"

	poll(t, time.Minute, "three replicas of every region", func() bool {
		all := metric(t, p.addr(10080), "tikv_raftstore_region_count", `type="region"`)
		return all == 3*metric(t, p.addr(10080), "tikv_raftstore_region_count", `type="leader"`)
	})
	// The SQL node knows of regions what it learned at first: that there was one
	// replica. It learns more when that fails, or after minutes, or now.
	p.stop()
	p = startPlayground(t, dir, offset, "--stores", "3")
	c = p.connect()

	exec1(t, c, "SET copra.replica_read = follower")
	before := count(index)
	for i := range 20 {
		exec1(t, c, "UPDATE r SET v = $1 WHERE id = 7", 1000+i)
		if v := queryInt(t, c, "SELECT v FROM r WHERE id = 7"); v != int64(1000+i) {
			t.Fatalf("a follower reads %d, not %d", v, 1000+i)
		}
		if v := queryInt(t, c, "SELECT sum(v) FROM r"); v != 500*501/2-7+int64(1000+i) {
			t.Fatalf("a follower sums up %d", v)
		}
	}
	if n := count(index) - before; n < 40 {
		t.Errorf("%v read indexes for 40 follower reads", n)
	}

	exec1(t, c, "SET copra.replica_read = stale")
	poll(t, time.Minute, "the rows in a stale read", func() bool {
		var n int64
		err := c.QueryRow(t.Context(), "SELECT count(*) FROM r WHERE v < 2000").Scan(&n)
		return err == nil && n == 500 // there was no table then, at first
	})
	poll(t, time.Minute, "the last update in a stale read", func() bool {
		return queryInt(t, c, "SELECT v FROM r WHERE id = 7") == 1019
	})
	before = count(stale)
	exec1(t, c, "DELETE FROM r WHERE id > 100")
	for range 10 {
		queryInt(t, c, "SELECT v FROM r WHERE id = 7")
		queryInt(t, c, "SELECT count(*) FROM r")
	}
	if n := count(stale) - before; n < 20 {
		t.Errorf("%v stale reads were served for 20", n)
	}
	// A transaction reads its own time, and what it has written.
	exec1(t, c, "BEGIN")
	if n := queryInt(t, c, "SELECT count(*) FROM r"); n != 100 {
		t.Errorf("a transaction counts %d rows, not 100", n)
	}
	exec1(t, c, "COMMIT")
	p.stop()
}
