package sqlfront

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// fullDisk notes what a store whose disk is almost full would refuse: what
// brings values, unless the client marked it. It does not refuse it, which
// client-go would answer by trying for half a minute.
type fullDisk struct {
	tikv.Client
	refused atomic.Bool
}

func (d *fullDisk) SendRequest(ctx context.Context, addr string, req *tikvrpc.Request, timeout time.Duration) (*tikvrpc.Response, error) {
	if req.Type == tikvrpc.CmdPrewrite && req.DiskFullOpt == kvrpcpb.DiskFullOpt_NotAllowedOnFull {
		for _, m := range req.Prewrite().Mutations {
			if m.Op == kvrpcpb.Op_Put || m.Op == kvrpcpb.Op_Insert {
				d.refused.Store(true)
			}
		}
	}
	return d.Client.SendRequest(ctx, addr, req, timeout)
}

// Disks that are almost full take the statements that make room, and not a
// transaction that does more than that.
func TestDiskAlmostFull(t *testing.T) {
	client, cluster, pdClient, err := testutils.NewMockTiKV("", nil)
	if err != nil {
		t.Fatal(err)
	}
	testutils.BootstrapWithSingleStore(cluster)
	disk := &fullDisk{}
	store, err := tikv.NewTestTiKVStore(client, pdClient, func(c tikv.Client) tikv.Client {
		disk.Client = c
		return disk
	}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	c := newTestDB(t, Options{KV: store}).client(t)
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
