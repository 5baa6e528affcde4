package sqlfront

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"

	"github.com/copradb/copra/sqlfront/kvclient"
)

// fullDisk notes what a store whose disk is almost full would refuse: what
// brings values, unless the client marked it.
type fullDisk struct {
	tikv.Client
	refused atomic.Bool
	refuses atomic.Bool // it does refuse it
}

func (d *fullDisk) SendRequest(ctx context.Context, addr string, req *tikvrpc.Request, timeout time.Duration) (*tikvrpc.Response, error) {
	if req.Type == tikvrpc.CmdPrewrite && req.DiskFullOpt == kvrpcpb.DiskFullOpt_NotAllowedOnFull {
		for _, m := range req.Prewrite().Mutations {
			if m.Op == kvrpcpb.Op_Put || m.Op == kvrpcpb.Op_Insert {
				d.refused.Store(true)
			}
		}
		if d.refuses.Load() && d.refused.Load() {
			return tikvrpc.GenRegionErrorResp(req, &errorpb.Error{DiskFull: &errorpb.DiskFull{StoreId: []uint64{1}, Reason: "no room on the disks of stores [1]"}})
		}
	}
	return d.Client.SendRequest(ctx, addr, req, timeout)
}

func diskFullDB(t *testing.T) (*DB, *fullDisk) {
	client, cluster, pdClient, err := testutils.NewMockTiKV("", nil)
	if err != nil {
		t.Fatal(err)
	}
	testutils.BootstrapWithSingleStore(cluster)
	disk := &fullDisk{}
	store, err := tikv.NewTestTiKVStore(client, pdClient, func(c tikv.Client) tikv.Client {
		disk.Client = c
		return kvclient.FailWithoutRoom(disk)
	}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return newTestDB(t, Options{KV: store}), disk
}

// Statements hear of a full disk in seconds, where client-go would try for more
// than a minute, and the next ones at once; what frees room goes through.
func TestDiskFullIsTold(t *testing.T) {
	db, disk := diskFullDB(t)
	c := db.client(t)
	for _, sql := range []string{"CREATE TABLE a (id int PRIMARY KEY, v text)", "INSERT INTO a VALUES (1, 'x')"} {
		if out := c.simple(sql, ""); strings.Contains(out, "ERROR") {
			t.Fatalf("%s: %s", sql, out)
		}
	}
	disk.refuses.Store(true)
	for _, sql := range []string{"INSERT INTO a VALUES (2, 'y')", "UPDATE a SET v = 'y'", "BEGIN; INSERT INTO a VALUES (3, 'z'); COMMIT"} {
		disk.refused.Store(false)
		out := ""
		for _, part := range strings.Split(sql, ";") {
			out = c.simple(part, "")
		}
		if !strings.Contains(out, "53100") || !strings.Contains(out, "no room on the disks of stores [1]") {
			t.Errorf("%s: %s", sql, out)
		}
	}
	disk.refused.Store(false)
	if out := c.simple("DELETE FROM a", ""); strings.Contains(out, "ERROR") {
		t.Errorf("DELETE: %s", out)
	}
	disk.refuses.Store(false)
	if out := c.simple("INSERT INTO a VALUES (2, 'y')", ""); strings.Contains(out, "ERROR") {
		t.Errorf("INSERT with room again: %s", out)
	}
}

// Disks that are almost full take the statements that make room, and not a
// transaction that does more than that.
func TestDiskAlmostFull(t *testing.T) {
	db, disk := diskFullDB(t)
	c := db.client(t)
	setup := `CREATE TABLE a (id int PRIMARY KEY, v text);
		CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY);
		INSERT INTO a VALUES (1, 'x'), (2, 'y'), (3, 'z'); INSERT INTO b VALUES (1)`
	for _, sql := range append(strings.Split(setup, ";"), "CREATE INDEX ai ON a (v)") {
		if out := c.simple(sql, ""); strings.Contains(out, "ERROR") {
			t.Fatalf("%s: %s", sql, out)
		}
	}
	for _, step := range []struct {
		sql     string
		refused bool
	}{
		{"INSERT INTO a VALUES (4, 'u')", true},
		{"UPDATE a SET v = 'w' WHERE id = 1", true},
		{"CREATE TABLE d (id int)", true},
		{"DELETE FROM a WHERE id = 1", false},
		{"BEGIN; SELECT * FROM a WHERE id = 2 FOR UPDATE; DELETE FROM a WHERE id = 2; COMMIT", false},
		{"BEGIN; DELETE FROM a WHERE id = 3; INSERT INTO a VALUES (5, 'u'); COMMIT", true},
		{"BEGIN; INSERT INTO a VALUES (7, 'u'); DELETE FROM a WHERE id = 4; COMMIT", true},
		{"BEGIN; INSERT INTO b VALUES (5); TRUNCATE b; COMMIT", true},
		{"PREPARE ins AS INSERT INTO a VALUES (6, 'u'); EXECUTE ins", true},
		{"TRUNCATE b", false},
		{"BEGIN; TRUNCATE a; DROP TABLE b; COMMIT", false},
		{"DROP INDEX ai", false},
		{"DROP TABLE a, c, d", false},
	} {
		disk.refused.Store(false)
		for _, sql := range strings.Split(step.sql, ";") {
			if out := c.simple(sql, ""); strings.Contains(out, "ERROR") {
				t.Errorf("%s: %s", sql, out)
			}
		}
		if disk.refused.Load() != step.refused {
			t.Errorf("%s: refused is %v", step.sql, !step.refused)
		}
	}
}
