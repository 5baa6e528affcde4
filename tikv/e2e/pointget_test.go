package e2e

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/copradb/copra/sqlfront/kvclient"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

// TestPointReader compares what SQL's point reads get with what client-go gets,
// while regions are split and led by others. Whatever is not plain is left to
// client-go.
func TestPointReader(t *testing.T) {
	c := start(t, 3, nil)
	local := kvclient.NewLocal()
	for _, n := range c.nodes {
		local.Add(n.Addr(), n.Service())
	}
	sql, err := kvclient.Open(c.ctx, kvclient.Options{PDEndpoints: []string{c.pdURL}, Local: local})
	c.must(err)
	defer sql.Close()
	points, err := kvclient.NewPointReader(sql, local)
	c.must(err)
	c.replicated()
	p := &pointReads{cluster: c, sql: sql, points: points}

	first := p.commit(func(i int) []byte { return fmt.Appendf(nil, "value %d of the first transaction", i) })
	p.compare(first)
	second := p.commit(func(i int) []byte {
		if i%3 == 0 {
			return nil // deleted
		}
		return make([]byte, 1000+i)
	})
	p.compare(first, second, math.MaxUint64)

	_, err = sql.SplitRegions(c.ctx, [][]byte{[]byte("row3"), []byte("row6")}, false, nil)
	c.must(err)
	p.compare(first, second)
	for to := range c.nodes {
		c.moveLeader("x\x00\x00\x01row4", to)
		p.compare(first, second, math.MaxUint64)
	}
	if p.plain == 0 {
		t.Error("client-go was left to read everything")
	}
	p.left(second)
	local.Remove(c.nodes[0].Addr())
	local.Remove(c.nodes[1].Addr())
	local.Remove(c.nodes[2].Addr())
	if _, _, ok := points.Get(c.ctx, second, []byte("row1")); ok {
		t.Error("a store of another process was read")
	}
}

const pointRows = 10

func pointRow(i int) []byte { return fmt.Appendf(nil, "row%d", i) }

type pointReads struct {
	*cluster
	sql    *tikv.KVStore
	points *kvclient.PointReader
	plain  int
}

// commit writes all rows and returns a timestamp behind it.
func (p *pointReads) commit(value func(i int) []byte) uint64 {
	p.t.Helper()
	tx, err := p.sql.Begin()
	p.must(err)
	for i := range pointRows {
		if v := value(i); v == nil {
			p.must(tx.Delete(pointRow(i)))
		} else {
			p.must(tx.Set(pointRow(i), v))
		}
	}
	p.must(tx.Commit(p.ctx))
	ts, err := p.sql.CurrentTimestamp("global")
	p.must(err)
	return ts
}

// compare reads all rows, and one that never was, in both ways.
func (p *pointReads) compare(timestamps ...uint64) {
	p.t.Helper()
	for _, ts := range timestamps {
		for i := range pointRows + 1 {
			value, found, ok := p.points.Get(p.ctx, ts, pointRow(i))
			entry, err := p.sql.GetSnapshot(ts).Get(p.ctx, pointRow(i))
			if !ok {
				continue
			}
			p.plain++
			if found != (err == nil) || string(value) != string(entry.Value) {
				p.t.Errorf("row %d at %d is %q (%t), by client-go %q: %v", i, ts, value, found, entry.Value, err)
			}
		}
	}
}

// left has a lock in the way, and timestamps that are too old or of no clock.
func (p *pointReads) left(ts uint64) {
	p.t.Helper()
	if _, _, ok := p.points.Get(p.ctx, ts, pointRow(1)); !ok {
		p.t.Error("a plain read was left to client-go")
	}
	if _, _, ok := p.points.Get(p.ctx, math.MaxInt64, pointRow(1)); ok {
		p.t.Error("a timestamp far ahead of PD's was read at")
	}
	tx, err := p.sql.Begin()
	p.must(err)
	p.must(tx.Set(pointRow(1), []byte("not yet committed")))
	committer, err := transaction.TxnProbe{KVTxn: tx}.NewCommitter(1)
	p.must(err)
	defer committer.CloseTTLManager()
	p.must(committer.PrewriteAllMutations(p.ctx))
	now, err := p.sql.CurrentTimestamp("global")
	p.must(err)
	if value, _, ok := p.points.Get(p.ctx, now, pointRow(1)); ok {
		p.t.Errorf("%q was read over a lock", value)
	}
	if _, _, ok := p.points.Get(p.ctx, tx.StartTS()-1, pointRow(1)); !ok {
		p.t.Error("a read below the lock was left to client-go")
	}
	p.sql.UpdateTxnSafePointCache(ts+1, time.Now())
	if _, _, ok := p.points.Get(p.ctx, ts, pointRow(2)); ok {
		p.t.Error("a timestamp below the safe point was read at")
	}
}
