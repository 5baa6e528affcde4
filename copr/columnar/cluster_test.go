package columnar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/proto/coprpb"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/copradb/copra/txn"
)

// node is a store of a cluster with transactions, a cache and a coprocessor.
type node struct {
	raftstore.NoObserver
	txn   *txn.Store
	cache *columnar.Cache
	s     *server.Service
	mu    sync.RWMutex // against stop
	down  bool
}

func (n *node) RegionChanged(r *metapb.Region, removed bool) {
	if removed {
		n.cache.Drop(r.GetId())
	} else {
		n.cache.RegionChanged(r.GetId(), r.GetRegionEpoch().GetVersion())
	}
}

func (n *node) Advanced(region, from, to uint64, entries []*raftpb.Entry) {
	if err := n.cache.Advanced(region, from, to, raftstore.Writes(entries)); err != nil {
		panic(err)
	}
}

func (n *node) Ingested(r kv.KeyRange) { n.cache.DropRange(r.Start, r.End) }

func (n *node) Split(region *metapb.Region, at uint64, children []*metapb.Region, index uint64) {
	n.cache.Split(region, at, children, index)
}

func (n *node) Merged(region *metapb.Region, at uint64, source *metapb.Region, sourceAt uint64) {
	n.cache.Merged(region, at, source, sourceAt)
}

func (n *node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.down {
		n.down = true
		n.s.Close()
		n.txn.Close()
	}
}

// cluster is some nodes whose replicas are all read.
type cluster struct {
	*rafttest.Cluster
	t     *testing.T
	mu    sync.Mutex
	nodes map[uint64]*node
	tso   atomic.Uint64

	registry *prometheus.Registry
	attached int

	compared, served, sets, hits atomic.Uint64
}

// The rows of the cluster's table have columns in every form.
var (
	mixedText  = plan.Column{ID: 3, Type: sqltypes.Text}
	mixedPrice = plan.Column{ID: 4, Type: sqltypes.NumericOf(15, 2)}
	mixedDate  = plan.Column{ID: 5, Type: sqltypes.Date}
)

func mixedPlan(rng *rand.Rand) *plan.Plan {
	n := &plan.TableScan{TableID: tableID, KeyColumns: []plan.Column{idColumn}}
	for _, c := range []plan.Column{idColumn, sumColumn, mixedText, mixedPrice, mixedDate} {
		if rng.IntN(3) > 0 {
			n.Columns = append(n.Columns, c)
		}
	}
	p := &plan.Plan{Nodes: []plan.Node{n}}
	if len(n.Columns) > 0 && rng.IntN(2) == 0 {
		by, of := rng.IntN(len(n.Columns)), rng.IntN(len(n.Columns))
		arg := []expr.Expr{&expr.Column{Index: of, Typ: n.Columns[of].Type}}
		p.Nodes = append(p.Nodes, &plan.Aggregation{
			GroupBy: []expr.Expr{&expr.Column{Index: by, Typ: n.Columns[by].Type}},
			Aggs:    []plan.AggCall{{Name: "count", Args: arg, Type: sqltypes.Int8}, {Name: "max", Args: arg, Type: n.Columns[of].Type}},
		})
	}
	return p
}

// mixed is the row id of the table, of which all columns come from v.
func mixed(id, v int64) mutation {
	cols := []plan.Column{sumColumn, mixedText, mixedPrice, mixedDate}
	vals := []sqltypes.Datum{
		sqltypes.NewInt(v), sqltypes.NewString(fmt.Sprint("text ", v%11)), sqltypes.NewDecimal(apd.New(v*v, -2)), sqltypes.NewInt(v % 3000),
	}
	var stored []rowcodec.Column
	for i, c := range cols {
		stored = append(stored, rowcodec.Column{ID: c.ID, Type: c.Type})
		if v%13 == int64(i) {
			vals[i] = sqltypes.Datum{}
		}
	}
	row, err := rowcodec.NewEncoder(stored).Encode([]byte{}, vals)
	if err != nil {
		panic(err)
	}
	return mutation{number(id, v).key, row}
}

func (c *cluster) attach(id uint64) {
	c.mu.Lock()
	c.attached++
	registerer := prometheus.WrapRegistererWith(prometheus.Labels{"node": fmt.Sprint(c.attached)}, c.registry)
	c.mu.Unlock()
	n := &node{cache: columnar.New(columnar.Options{BlockRowsMax: 8, BuildRowsMin: -1, Registerer: registerer})}
	n.txn = txn.NewStore(c.Node(id).Store, txn.Options{})
	n.s = server.New(server.Options{Source: server.TxnSource(n.txn), Columns: n.cache})
	c.Node(id).Events.Also(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id] = n
}

func (c *cluster) node(id uint64) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

// restart ends a store, in order or as a power cut does, and starts it again.
func (c *cluster) restart(id uint64, crash bool, away time.Duration) {
	c.node(id).stop()
	if crash {
		c.Crash(id, 50)
	} else {
		c.Stop(id)
	}
	time.Sleep(away)
	c.Restart(id)
	c.attach(id)
}

// atLeader runs a request at the leader of the key's region until it is answered.
func (c *cluster) atLeader(key []byte, do func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error)) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		region := c.RegionAt(string(codec.EncodeBytes(nil, key)))
		if region == nil {
			continue
		}
		lead := c.LeaderOf(region.Id)
		if lead == 0 {
			continue
		}
		n := c.node(lead)
		n.mu.RLock()
		if n.down {
			n.mu.RUnlock()
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		re, err := do(ctx, n, c.Context(lead, region.Id))
		cancel()
		n.mu.RUnlock()
		if re == nil && err == nil {
			return true
		}
	}
	return false
}

// set commits a value, or gives up leaving at most a lock that is rolled back.
func (c *cluster) set(m mutation) {
	start := c.tso.Add(1)
	var refused error
	ok := c.atLeader(m.key, func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		op := kvrpcpb.Op_Put
		if m.value == nil {
			op = kvrpcpb.Op_Del
		}
		r, err := n.txn.KvPrewrite(ctx, &kvrpcpb.PrewriteRequest{Context: rc, PrimaryLock: m.key, StartVersion: start, LockTtl: 3000,
			Mutations: []*kvrpcpb.Mutation{{Op: op, Key: m.key, Value: m.value}}})
		if err == nil && len(r.Errors) > 0 {
			refused = errConflict
		}
		return r.GetRegionError(), err
	})
	if !ok {
		refused = errors.New("no leader")
	}
	var keyErr *kvrpcpb.KeyError
	commit := c.tso.Add(1)
	c.atLeader(m.key, func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		if refused != nil {
			r, err := n.txn.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: rc, Keys: [][]byte{m.key}, StartVersion: start})
			return r.GetRegionError(), err
		}
		r, err := n.txn.KvCommit(ctx, &kvrpcpb.CommitRequest{Context: rc, Keys: [][]byte{m.key}, StartVersion: start, CommitVersion: commit})
		keyErr = r.GetError()
		return r.GetRegionError(), err
	})
	if keyErr != nil {
		c.t.Errorf("commit: %v", keyErr)
	}
}

// compare reads all replicas of all regions that a store has, by columns and by
// rows, at one timestamp; what either refuses is passed over.
func (c *cluster) compare(id uint64, rng *rand.Rand) {
	n := c.node(id)
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.down {
		return
	}
	for _, info := range c.Node(id).Store.Regions() {
		if len(info.Region.GetPeers()) == 0 {
			continue
		}
		ts := c.tso.Add(1)
		p := mixedPlan(rng)
		r := request(p, c.Context(id, info.Region.Id), ts, true, tableRange(tableID))
		r.ReplicaRead = coprpb.ReplicaRead_REPLICA_READ_FOLLOWER
		r.Timeout = 3 * time.Second
		cols, cok := c.answer(n, r)
		r.Columnar = false
		rows, rok := c.answer(n, r)
		if !cok || !rok {
			continue
		}
		c.compared.Add(1)
		c.served.Add(cols.end.Stats.ColumnRows)
		if len(p.Nodes) > 1 {
			c.sets.Add(1)
			slices.Sort(cols.rows)
			slices.Sort(rows.rows)
		}
		if !slices.Equal(rows.rows, cols.rows) {
			c.t.Errorf("store %d, region %d at %d: %s", id, info.Region.Id, ts, diff(rows.rows, cols.rows))
		}
		c.compareResults(n, id, r)
	}
}

// compareResults aggregates what r reads, with the result cache and without.
func (c *cluster) compareResults(n *node, id uint64, r *plan.Request) {
	if r.ReadTS%8 > 0 {
		return
	}
	again := *r
	again.Plan = sums[int(r.ReadTS/8)%len(sums)]
	rows, rok := c.answer(n, &again)
	again.Columnar, again.ResultCache = true, true
	for range 2 {
		kept, kok := c.answer(n, &again)
		if !rok || !kok {
			return
		}
		c.hits.Add(kept.end.Stats.CachedRegions)
		slices.Sort(rows.rows)
		slices.Sort(kept.rows)
		if !slices.Equal(rows.rows, kept.rows) {
			c.t.Errorf("store %d, region %d at %d: %+v: %s", id, r.Regions[0].ID, r.ReadTS, kept.end.Stats, diff(rows.rows, kept.rows))
		}
	}
}

func (c *cluster) answer(n *node, r *plan.Request) (*answer, bool) {
	a, err := run(n.s, r)
	return a, err == nil && a.end != nil && a.end.Err == nil && a.end.RegionError == nil && len(a.locks) == 0
}

// On every replica of a cluster in which leaders, ranges and stores change under
// a write load, columns are rows.
func TestColumnsInCluster(t *testing.T) {
	seeds := uint64(1)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		seeds = 12
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { runCluster(t, seed) }) })
	}
}

const clusterRows = 120

func runCluster(t *testing.T, seed uint64) {
	config := raftstore.Config{LogCheckInterval: 200 * time.Millisecond, LogTruncateEntries: 10, LogTruncateBytes: 4 << 10, LogKeepEntriesMax: 50, LogKeepBytesMax: 64 << 10}
	c := &cluster{Cluster: rafttest.NewCluster(t, 3, 3, config), t: t, nodes: map[uint64]*node{}, registry: prometheus.NewRegistry()}
	c.tso.Store(1000)
	for _, id := range c.IDs() {
		c.attach(id)
	}
	defer func() {
		for _, n := range c.nodes {
			n.stop()
		}
		c.Close()
	}()
	for i := range int64(clusterRows) {
		c.set(mixed(i, i))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, w))
		wg.Go(func() {
			for v := int64(1000); ; v++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(rng.IntN(40)) * time.Millisecond):
				}
				m := mixed(rng.Int64N(clusterRows), v)
				if rng.IntN(4) == 0 {
					m.value = nil
				}
				c.set(m)
			}
		})
	}
	for _, id := range c.IDs() {
		rng := rand.New(rand.NewPCG(seed, 100+id))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
				}
				c.compare(id, rng)
			}
		})
	}
	c.disturb(rand.New(rand.NewPCG(seed, 200)))
	close(stop)
	wg.Wait()
	for range 3 { // in peace: all of it from columns in the end
		for _, id := range c.IDs() {
			c.compare(id, rand.New(rand.NewPCG(seed, 300+id)))
		}
	}
	moved := c.moved()
	t.Logf("%d reads compared, %d of them aggregates, %d rows from columns, %v blocks moved, %d answers from the result cache", c.compared.Load(), c.sets.Load(), c.served.Load(), moved, c.hits.Load())
	if c.served.Load() == 0 || c.compared.Load() < 50 || c.sets.Load() < 20 || moved == 0 {
		t.Errorf("only %d reads were compared, with %d rows from columns, and %v blocks moved", c.compared.Load(), c.served.Load(), moved)
	}
}

// moved is how many blocks went along with splits and merges.
func (c *cluster) moved() (n float64) {
	families, err := c.registry.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "copra_columnar_moved_blocks_total" {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// disturb changes leaders, regions and stores.
func (c *cluster) disturb(rng *rand.Rand) {
	for range 25 {
		time.Sleep(time.Duration(200+rng.IntN(800)) * time.Millisecond)
		region := c.RegionAt(string(codec.EncodeBytes(nil, number(rng.Int64N(clusterRows), 0).key)))
		if region == nil {
			continue
		}
		lead := c.LeaderOf(region.Id)
		switch rng.IntN(6) {
		case 0:
			c.PD.TransferLeader(region.Id, 1+rng.Uint64N(3))
		case 1, 2:
			if lead != 0 {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				_, _ = c.Node(lead).Store.SplitRegion(ctx, c.Context(lead, region.Id), [][]byte{codec.EncodeBytes(nil, number(rng.Int64N(clusterRows), 0).key)})
				cancel()
			}
		case 3:
			if next := c.RegionAt(string(region.EndKey)); len(region.EndKey) > 0 && next != nil {
				c.PD.TryMerge(next.Id, region.Id)
			}
		case 4:
			c.restart(1+rng.Uint64N(3), rng.IntN(2) == 0, time.Duration(rng.IntN(500))*time.Millisecond)
		case 5: // falls behind, and comes back by a snapshot of Raft's or by the log
			away := 1 + rng.Uint64N(3)
			c.Partition(away)
			time.Sleep(time.Duration(2+rng.IntN(10)) * time.Second)
			c.Heal()
		}
	}
	c.Heal()
	time.Sleep(5 * time.Second)
}
