package columnar_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/txn/mvcc"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

const tableID = 9

// model is a table with a random schema and the transactions under way.
type model struct {
	*world
	t       *rapid.T
	keyCols []plan.Column
	cols    []plan.Column // of the newest schema
	nextID  uint32
	rows    [][]sqltypes.Datum // key values that rows may have
	keys    [][]byte
	now     uint64
	safe    uint64
	open    []*open
	done    []*open // committed at their primary, not yet elsewhere
	ended   []uint64
	served  uint64
	forked  uint64
}

type open struct {
	start, commit uint64
	ms            []mutation
}

func (m *model) tick() uint64 { m.now += 10; return m.now }

func (m *model) schema() {
	t := m.t
	for i := range rapid.IntRange(1, 2).Draw(t, "keys") {
		m.keyCols = append(m.keyCols, plan.Column{ID: uint32(i + 1), Type: coltest.Type(t)})
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "columns") {
		m.cols = append(m.cols, plan.Column{ID: uint32(i + 5), Type: coltest.Type(t)})
	}
	m.nextID = 10
	var types []sqltypes.Type
	for _, c := range m.keyCols {
		types = append(types, c.Type)
	}
	for range rapid.IntRange(1, 24).Draw(t, "key count") {
		var vals []sqltypes.Datum
		for _, c := range m.keyCols {
			vals = append(vals, coltest.Value(t, c.Type))
		}
		h, err := tablecodec.AppendHandle(nil, types, vals)
		if err != nil {
			t.Fatal(err)
		}
		key := tablecodec.AppendRowKey(nil, tableID, h)
		if !slices.ContainsFunc(m.keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			m.rows, m.keys = append(m.rows, vals), append(m.keys, key)
		}
	}
}

// row encodes a row as DML does.
func (m *model) row(i int) []byte {
	var stored []rowcodec.Column
	var vals []sqltypes.Datum
	for k, c := range m.keyCols {
		if tablecodec.Lossy(c.Type) {
			stored, vals = append(stored, rowcodec.Column{ID: c.ID, Type: c.Type}), append(vals, m.rows[i][k])
		}
	}
	for _, c := range m.cols {
		stored, vals = append(stored, rowcodec.Column{ID: c.ID, Type: c.Type}), append(vals, coltest.Nullable(m.t, c.Type))
	}
	v, err := rowcodec.NewEncoder(stored).Encode([]byte{}, vals)
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}

// write begins a transaction on keys of one region.
func (m *model) write() {
	tx := &open{start: m.tick()}
	used := map[int]bool{}
	region := uint64(0)
	for range rapid.IntRange(1, 6).Draw(m.t, "mutations") {
		i := rapid.IntRange(0, len(m.keys)-1).Draw(m.t, "key")
		rc := m.e.Context(m.keys[i])
		if used[i] || region != 0 && rc.RegionId != region {
			continue
		}
		used[i], region = true, rc.RegionId
		mu := mutation{key: m.keys[i]}
		if rapid.IntRange(0, 3).Draw(m.t, "delete") > 0 {
			mu.value = m.row(i)
		}
		tx.ms = append(tx.ms, mu)
	}
	if err := m.prewrite(tx.start, tx.ms); err == errConflict {
		if err := m.rollback(tx.start, keysOf(tx.ms)...); err != nil {
			m.t.Fatal(err)
		}
		return
	} else if err != nil {
		m.t.Fatal(err)
	}
	m.open = append(m.open, tx)
	if rapid.IntRange(0, 2).Draw(m.t, "leave open") > 0 {
		m.finish(len(m.open) - 1)
	}
}

// finish commits or rolls back an open transaction; a commit may get no further
// than the primary.
func (m *model) finish(i int) {
	tx := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	var err error
	switch rapid.IntRange(0, 4).Draw(m.t, "how") {
	case 0:
		err = m.rollback(tx.start, keysOf(tx.ms)...)
		m.ended = append(m.ended, tx.start)
	case 1:
		tx.commit = m.tick()
		err = m.commit(tx.start, tx.commit, tx.ms[0].key)
		if tx.ms = tx.ms[1:]; len(tx.ms) > 0 {
			m.done = append(m.done, tx)
		}
	default:
		err = m.commit(tx.start, m.tick(), keysOf(tx.ms)...)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// step does one thing to the table.
func (m *model) step() {
	t := m.t
	switch rapid.SampledFrom([]string{"write", "write", "write", "finish", "secondaries", "read", "read", "read", "read", "alter", "gc", "split", "rare"}).Draw(t, "step") {
	case "write":
		m.write()
	case "finish":
		if len(m.open) > 0 {
			m.finish(rapid.IntRange(0, len(m.open)-1).Draw(t, "transaction"))
		}
	case "secondaries":
		if len(m.done) > 0 {
			tx := m.done[0]
			m.done = m.done[1:]
			for _, mu := range tx.ms { // a split may have come between
				if err := m.commit(tx.start, tx.commit, mu.key); err != nil {
					t.Fatal(err)
				}
			}
		}
	case "read":
		m.check()
	case "alter":
		m.alter()
	case "gc":
		m.collect()
	case "split":
		if len(m.open)+len(m.done) == 0 && rapid.IntRange(0, 3).Draw(t, "really") == 0 {
			m.split(m.keys[rapid.IntRange(0, len(m.keys)-1).Draw(t, "at")])
		}
	case "rare":
		m.rare()
	}
}

// split is applied as an entry, as raftstore's are.
func (m *model) split(at []byte) {
	rc := m.e.Context(at)
	left, right, ok := m.bounds(rc)
	if !ok || bytes.Compare(at, left) <= 0 || len(right) > 0 && bytes.Compare(at, right) >= 0 {
		return
	}
	m.e.Split(at)
}

func (m *model) bounds(rc *kvrpcpb.Context) (start, end []byte, ok bool) {
	snap, err := m.e.Snapshot(context.Background(), rc, kv.SnapshotOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	if s := snap.Region().StartKey; len(s) > 0 {
		if start, _, err = codec.DecodeBytes(nil, s); err != nil {
			m.t.Fatal(err)
		}
	}
	if e := snap.Region().EndKey; len(e) > 0 {
		if end, _, err = codec.DecodeBytes(nil, e); err != nil {
			m.t.Fatal(err)
		}
	}
	return start, end, true
}

// alter adds a column with a default, or drops one.
func (m *model) alter() {
	if len(m.cols) > 0 && rapid.Bool().Draw(m.t, "drop") {
		i := rapid.IntRange(0, len(m.cols)-1).Draw(m.t, "column")
		m.cols = slices.Delete(slices.Clone(m.cols), i, i+1)
		return
	}
	typ := coltest.Type(m.t)
	m.cols = append(slices.Clone(m.cols), plan.Column{ID: m.nextID, Type: typ, Default: coltest.Nullable(m.t, typ)})
	m.nextID++
}

// collect drops what is garbage at a safe point below every open lock.
func (m *model) collect() {
	safe := m.now
	for _, tx := range append(slices.Clone(m.open), m.done...) {
		safe = min(safe, tx.start-1)
	}
	if safe <= m.safe {
		return
	}
	m.safe = safe
	m.store.SafePoints().Raise(safe, nil)
	for _, k := range m.keys {
		if _, err := m.store.Collect(context.Background(), m.e.Context(k), safe, [][]byte{codec.EncodeBytes(nil, k)}); err != nil {
			m.t.Fatal(err)
		}
	}
}

// appendPut is a commit record with its value.
func appendPut(value []byte, start uint64) []byte {
	return mvcc.AppendWrite(nil, &mvcc.Write{Type: mvcc.WritePut, StartTS: start, HasShort: true, ShortValue: value})
}

// rare is what drops blocks.
func (m *model) rare() {
	key := m.keys[0]
	rc := m.e.Context(key)
	switch rapid.IntRange(0, 4).Draw(m.t, "rare") {
	case 0:
		m.cache.Drop(rc.RegionId)
	case 1:
		m.cache.DropRange(nil, nil)
	case 2:
		if len(m.open)+len(m.done) == 0 {
			if r, err := m.store.KvDeleteRange(context.Background(), &kvrpcpb.DeleteRangeRequest{Context: rc, StartKey: key, EndKey: append(bytes.Clone(key), 0)}); err != nil || r.RegionError != nil || r.Error != "" {
				m.t.Fatal(r, err)
			}
		}
	case 3: // data that came with a snapshot of Raft's: the feed knows nothing of it
		var b kv.Batch
		if len(m.open)+len(m.done) > 0 {
			return
		}
		for i, k := range m.keys {
			if m.e.Context(k).RegionId == rc.RegionId {
				w := appendPut(m.row(i), m.now)
				b.Put(kv.CFWrite, codec.EncodeTS(codec.EncodeBytes(nil, k), m.now+1), w)
			}
		}
		m.tick()
		if err := m.e.Engine.Write(context.Background(), rc, &b); err != nil {
			m.t.Fatal(err)
		}
		m.e.index[rc.RegionId]++
		if rapid.Bool().Draw(m.t, "next entry") {
			m.e.index[rc.RegionId]++
			if err := m.e.Engine.Write(context.Background(), rc, &kv.Batch{}); err != nil {
				m.t.Fatal(err)
			}
			if err := m.cache.Advanced(rc.RegionId, m.e.index[rc.RegionId]-1, m.e.index[rc.RegionId], one(1, nil)); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// filter is some comparisons of columns with constants.
func (m *model) filter(cols []plan.Column) (out []expr.Expr) {
	if len(cols) == 0 {
		return nil
	}
	for range rapid.IntRange(0, 2).Draw(m.t, "conditions") {
		i := rapid.IntRange(0, len(cols)-1).Draw(m.t, "compared")
		typ := cols[i].Type
		e, err := expr.NewOperator(rapid.SampledFrom([]string{"<", "<=", ">", ">=", "=", "<>"}).Draw(m.t, "op"),
			&expr.Column{Index: i, Typ: typ}, &expr.Const{Value: coltest.Nullable(m.t, typ), Typ: typ})
		if err == nil {
			out = append(out, e)
		}
	}
	return out
}

// check reads every region, in some way.
func (m *model) check() {
	t := m.t
	n := &plan.TableScan{TableID: tableID, KeyColumns: m.keyCols, Handle: rapid.Bool().Draw(t, "handle")}
	for _, c := range append(slices.Clone(m.keyCols), m.cols...) {
		if rapid.IntRange(0, 3).Draw(t, "wanted") > 0 {
			n.Columns = append(n.Columns, c)
		}
	}
	p := &plan.Plan{Nodes: []plan.Node{n}}
	if conds := m.filter(n.Columns); len(conds) > 0 {
		p.Nodes = append(p.Nodes, &plan.Selection{Conds: conds})
	}
	ts := m.tick()
	if rapid.IntRange(0, 3).Draw(t, "old") == 0 {
		ts = max(m.safe, uint64(rapid.IntRange(1, int(m.now)).Draw(t, "ts")))
	}
	whole := tablecodec.RecordRange(tableID)
	ranges := []kv.KeyRange{whole}
	if rapid.IntRange(0, 3).Draw(t, "part") == 0 {
		sorted := slices.Clone(m.keys)
		slices.SortFunc(sorted, bytes.Compare)
		i := rapid.IntRange(0, len(sorted)-1).Draw(t, "from")
		j := rapid.IntRange(i, len(sorted)-1).Draw(t, "to")
		ranges = []kv.KeyRange{{Start: whole.Start, End: sorted[i]}, {Start: append(bytes.Clone(sorted[i]), 0), End: append(bytes.Clone(sorted[j]), 0)}, {Start: append(bytes.Clone(sorted[j]), 0), End: whole.End}}
		ranges = ranges[rapid.IntRange(0, 1).Draw(t, "first"):]
	}
	var bypass, access []uint64
	for _, tx := range m.open {
		if rapid.Bool().Draw(t, "bypass") {
			bypass = append(bypass, tx.start) // as if resolved as not committed at ts
		}
	}
	for _, tx := range m.done {
		switch {
		case tx.commit > ts:
			bypass = append(bypass, tx.start)
		case rapid.Bool().Draw(t, "access"):
			access = append(access, tx.start)
		}
	}
	seen := map[uint64]bool{}
	for _, k := range m.keys {
		rc := m.e.Context(k)
		if seen[rc.RegionId] {
			continue
		}
		seen[rc.RegionId] = true
		r := request(p, rc, ts, true, ranges)
		r.ResolvedLocks, r.CommittedLocks = bypass, access
		r.BatchBytesMax = rapid.SampledFrom([]int{0, 40}).Draw(t, "batch bytes")
		m.served += m.compare(t, r)
		if rapid.IntRange(0, 2).Draw(t, "forks") == 0 {
			r.Plan = &plan.Plan{Nodes: []plan.Node{n}}
			m.forked += m.compareForks(t, r, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "fork") })
		}
		if agg := m.aggregation(n); agg != nil {
			r.Plan = &plan.Plan{Nodes: append(slices.Clone(p.Nodes), agg)}
			m.compareSets(t, r)
		}
	}
}

// aggregation groups by one column, if its order cannot be seen.
func (m *model) aggregation(n *plan.TableScan) *plan.Aggregation {
	if len(n.Columns) == 0 || rapid.Bool().Draw(m.t, "no aggregation") {
		return nil
	}
	column := func() expr.Expr {
		i := rapid.IntRange(0, len(n.Columns)-1).Draw(m.t, "aggregated")
		return &expr.Column{Index: i, Typ: n.Columns[i].Type}
	}
	by, of := column(), column()
	a := &plan.Aggregation{GroupBy: []expr.Expr{by}, Aggs: []plan.AggCall{
		{Name: "count", Type: sqltypes.Int8}, {Name: "count", Args: []expr.Expr{of}, Type: sqltypes.Int8},
	}}
	p := &plan.Plan{Nodes: []plan.Node{n, a}}
	if _, err := p.OutputTypes(); err != nil || !p.Unordered() {
		return nil
	}
	a.Aggs = append(a.Aggs, plan.AggCall{Name: "max", Args: []expr.Expr{of}, Type: of.Type()})
	if _, err := p.OutputTypes(); err != nil || !p.Unordered() {
		a.Aggs = a.Aggs[:2]
	}
	return a
}

// Whatever is done to a table, with any schema, a scan by columns is the scan by
// rows: the same rows in the same order, the same locks.
func TestColumnsAreRows(t *testing.T) {
	columnar.Spoil(t)
	served, forked := uint64(0), uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, columnar.Options{BlockRowsMax: rapid.IntRange(1, 8).Draw(t, "block rows"), BuildRowsMin: -1})
		defer w.close()
		m := &model{world: w, t: t, now: 100}
		m.schema()
		for range rapid.IntRange(10, 80).Draw(t, "steps") {
			m.step()
		}
		m.check()
		m.check()
		served += m.served
		forked += m.forked
	})
	if served == 0 || forked == 0 {
		t.Error("columns never served a row")
	}
	t.Logf("%d rows came from columns, %d by forks", served, forked)
}
