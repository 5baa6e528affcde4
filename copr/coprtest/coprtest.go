// Package coprtest is a cluster in memory for tests of the coprocessor's
// server and client: sorted rows, regions that can split, move, lock and fail
// on demand.
package coprtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/server"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/txn"
)

// TableID is the table of Plan and of Fill: id int4 primary key (column 1),
// grp int4 (column 2), name text (column 3).
const TableID = 77

// Region is a region of a Cluster; an empty Start or End is unbounded.
type Region struct {
	ID         uint64
	Version    uint64
	Start, End []byte
	Addr       string
}

type pair struct{ key, value []byte }

// Cluster is rows and regions. Safe for concurrent use.
type Cluster struct {
	// Prefix is in front of all keys (a keyspace's).
	Prefix []byte

	mu      sync.Mutex
	rows    []pair
	regions []Region
	nextID  uint64
	locks   map[string]uint64 // key → start timestamp
	// fail is asked before each row of a region; rows counts those before it.
	fail func(r Region, rows int) error
	open int
}

// New makes a cluster of one region at addr.
func New(addr string) *Cluster {
	return &Cluster{regions: []Region{{ID: 1, Version: 1, Addr: addr}}, nextID: 2, locks: map[string]uint64{}}
}

// Fail sets what is asked before each row; nil = nothing fails.
func (c *Cluster) Fail(f func(r Region, rows int) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = f
}

// Key is the key of the row with this id, with the prefix.
func (c *Cluster) Key(id int64) []byte {
	h, err := tablecodec.AppendHandle(nil, []sqltypes.Type{sqltypes.Int4}, []sqltypes.Datum{sqltypes.NewInt(id)})
	if err != nil {
		panic(err)
	}
	return tablecodec.AppendRowKey(slices.Clone(c.Prefix), TableID, h)
}

// Fill writes rows 0 to n-1: grp is id mod 7 (NULL for 0), name "row <id>".
func (c *Cluster) Fill(n int) {
	enc := rowcodec.NewEncoder([]rowcodec.Column{{ID: 2, Type: sqltypes.Int4}, {ID: 3, Type: sqltypes.Text}})
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range int64(n) {
		grp := sqltypes.NewInt(id % 7)
		if id%7 == 0 {
			grp = sqltypes.Null
		}
		v, err := enc.Encode(nil, []sqltypes.Datum{grp, sqltypes.NewString(fmt.Sprintf("row %d", id))})
		if err != nil {
			panic(err)
		}
		c.rows = append(c.rows, pair{c.Key(id), v})
	}
}

// Split splits the region of key there; the right half goes to addr.
func (c *Cluster) Split(key []byte, addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(key)
	left, right := c.regions[i], c.regions[i]
	left.Version, right.Version = left.Version+1, right.Version+1
	left.End, right.Start = key, key
	right.ID, right.Addr = c.nextID, addr
	c.nextID++
	c.regions = slices.Replace(c.regions, i, i+1, left, right)
}

// Lock locks a key for the transaction that started at ts; Unlock frees it.
func (c *Cluster) Lock(key []byte, ts uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locks[string(key)] = ts
}

// Unlock frees a key.
func (c *Cluster) Unlock(key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.locks, string(key))
}

// Regions returns the regions in key order.
func (c *Cluster) Regions() []Region {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.regions)
}

// Open is how many readers are open.
func (c *Cluster) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

func (c *Cluster) find(key []byte) int {
	for i, r := range c.regions {
		if len(r.End) == 0 || bytes.Compare(key, r.End) < 0 {
			return i
		}
	}
	panic("coprtest: the regions have a hole")
}

// Task is a region task for all rows of the table in a region.
func (c *Cluster) Task(r Region) plan.RegionTask {
	k := tablecodec.RecordRange(TableID)
	k.Start = append(slices.Clone(c.Prefix), k.Start...)
	k.End = append(slices.Clone(c.Prefix), k.End...)
	if bytes.Compare(r.Start, k.Start) > 0 {
		k.Start = r.Start
	}
	if len(r.End) > 0 && bytes.Compare(r.End, k.End) < 0 {
		k.End = r.End
	}
	return TaskOf(r, k)
}

// TaskOf is a task for ranges of a region.
func TaskOf(r Region, ranges ...kv.KeyRange) plan.RegionTask {
	return plan.RegionTask{
		ID: r.ID, Epoch: &metapb.RegionEpoch{ConfVer: 1, Version: r.Version}, Peer: &metapb.Peer{Id: r.ID, StoreId: 1}, Ranges: ranges,
	}
}

// Source reads the regions of the store at addr.
func (c *Cluster) Source(addr string) server.ReaderSource { return source{c, addr} }

type source struct {
	c    *Cluster
	addr string
}

func (s source) OpenReader(_ context.Context, rc *kvrpcpb.Context, _ uint64, _ []kv.KeyRange) (server.Reader, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.regions {
		if r.ID != rc.RegionId || r.Addr != s.addr {
			continue
		}
		if r.Version != rc.RegionEpoch.GetVersion() {
			return nil, regionError(&errorpb.Error{Message: "epoch not match", EpochNotMatch: &errorpb.EpochNotMatch{}})
		}
		c.open++
		return &reader{c: c, r: r, rc: rc, rows: slices.Clone(c.rows)}, nil
	}
	return nil, regionError(&errorpb.Error{Message: "region not found", RegionNotFound: &errorpb.RegionNotFound{RegionId: rc.RegionId}})
}

func regionError(e *errorpb.Error) error { return &kv.RegionError{Err: e} }

// NotLeader is a region error.
func NotLeader(id uint64) error {
	return regionError(&errorpb.Error{Message: "not leader", NotLeader: &errorpb.NotLeader{RegionId: id}})
}

type reader struct {
	c    *Cluster
	r    Region
	rc   *kvrpcpb.Context
	rows []pair
	read int
}

func (r *reader) Close() error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.open--
	return nil
}

func (r *reader) Rows(k kv.KeyRange, desc, _ bool) (server.Rows, error) {
	if len(r.r.Start) > 0 && bytes.Compare(k.Start, r.r.Start) < 0 || len(r.r.End) > 0 && (len(k.End) == 0 || bytes.Compare(k.End, r.r.End) > 0) {
		return nil, regionError(&errorpb.Error{Message: "key not in region", KeyNotInRegion: &errorpb.KeyNotInRegion{RegionId: r.r.ID}})
	}
	it := &rows{r: r}
	for _, p := range r.rows {
		if bytes.Compare(p.key, k.Start) >= 0 && (len(k.End) == 0 || bytes.Compare(p.key, k.End) < 0) {
			it.rest = append(it.rest, p)
		}
	}
	if desc {
		slices.Reverse(it.rest)
	}
	return it, nil
}

type rows struct {
	r    *reader
	rest []pair
}

func (it *rows) Close() error { return nil }

func (it *rows) Next() (key, value []byte, ok bool, err error) {
	c := it.r.c
	c.mu.Lock()
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		if err := fail(it.r.r, it.r.read); err != nil {
			return nil, nil, false, err
		}
	}
	if len(it.rest) == 0 {
		return nil, nil, false, nil
	}
	p := it.rest[0]
	c.mu.Lock()
	ts, locked := c.locks[string(p.key)]
	c.mu.Unlock()
	if locked && !slices.Contains(it.r.rc.ResolvedLocks, ts) && !slices.Contains(it.r.rc.CommittedLocks, ts) {
		return nil, nil, false, &txn.LockedError{Info: &kvrpcpb.LockInfo{Key: p.key, PrimaryLock: p.key, LockVersion: ts}}
	}
	it.rest = it.rest[1:]
	it.r.read++
	return p.key, p.value, true, nil
}

// Scan is a plan's scan of the whole table.
func Scan(desc bool) *plan.TableScan {
	id := plan.Column{ID: 1, Type: sqltypes.Int4}
	return &plan.TableScan{
		TableID: TableID, Desc: desc, KeyColumns: []plan.Column{id},
		Columns: []plan.Column{id, {ID: 2, Type: sqltypes.Int4}, {ID: 3, Type: sqltypes.Text}},
	}
}

// Plan is a plan over the table's three columns.
func Plan(nodes ...plan.Node) *plan.Plan {
	return &plan.Plan{Nodes: append([]plan.Node{Scan(false)}, nodes...)}
}

// Col is a column of the scan.
func Col(i int) *expr.Column {
	return &expr.Column{Index: i, Typ: []sqltypes.Type{sqltypes.Int4, sqltypes.Int4, sqltypes.Text}[i]}
}

// CountByGroup is SELECT grp, count(*) GROUP BY grp, in parts.
func CountByGroup() *plan.Aggregation {
	return &plan.Aggregation{GroupBy: []expr.Expr{Col(1)}, Aggs: []plan.AggCall{{Name: "count", Type: sqltypes.Int8}}}
}

// Pairs are the rows in key order: keys with the prefix, and values.
func (c *Cluster) Pairs() (keys, values [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.rows {
		keys, values = append(keys, p.key), append(values, p.value)
	}
	return keys, values
}
