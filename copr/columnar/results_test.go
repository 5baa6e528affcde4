package columnar_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
)

// sums are aggregations over numbers that stores may keep the answers of.
var sums = func() (out []*plan.Plan) {
	id, v := &expr.Column{Index: 0, Typ: sqltypes.Int8}, &expr.Column{Index: 1, Typ: sqltypes.Int8}
	for _, a := range []*plan.Aggregation{
		{Aggs: []plan.AggCall{{Name: "count", Type: sqltypes.Int8}, {Name: "sum", Args: []expr.Expr{v}, Type: sqltypes.Numeric}}},
		{GroupBy: []expr.Expr{v}, Aggs: []plan.AggCall{{Name: "max", Args: []expr.Expr{id}, Type: sqltypes.Int8}}},
	} {
		out = append(out, &plan.Plan{Nodes: []plan.Node{numbers.Nodes[0], a}})
	}
	return out
}()

// TestResultsAreKeptOnlyWhileTheyHold: whatever happens to a region between two
// requests, at whatever timestamps they read, the answer with the result cache is
// the one of the rows.
func TestResultsAreKeptOnlyWhileTheyHold(t *testing.T) {
	const keys, steps = 60, 1500
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	rng := rand.New(rand.NewPCG(5, 6))
	ts := uint64(1000)
	next := func() uint64 { ts += 10; return ts }
	type open struct {
		start uint64
		ms    []mutation
	}
	var txns []open
	var hits, locked uint64
	var all []mutation
	for i := range int64(keys) {
		all = append(all, number(i, i%5))
	}
	w.put(next(), next(), all...)
	check := func() {
		at := ts + 1
		switch rng.IntN(4) {
		case 0:
			at = 1001 + rng.Uint64N(ts-1000) // the past
			if rng.IntN(2) == 0 {
				at = max(ts-rng.Uint64N(50), at)
			}
		case 1:
			at = ts + 1000 // locks of the future are met
		}
		ranges := tableRange(tableID)
		if rng.IntN(3) == 0 {
			ranges[0].Start = all[rng.IntN(keys/4)].key
		}
		r := request(sums[rng.IntN(len(sums))], w.e.Context(all[0].key), at, true, ranges)
		r.ResultCache = true
		cached := w.read(r)
		hits += cached.end.Stats.CachedRegions
		r.Columnar, r.ResultCache = false, false
		rows := w.read(r)
		slices.Sort(cached.rows)
		slices.Sort(rows.rows)
		if len(rows.locks) > 0 {
			locked++
		}
		if (len(rows.locks) > 0) != (len(cached.locks) > 0) || len(rows.locks) == 0 && !slices.Equal(rows.rows, cached.rows) {
			t.Fatalf("at %d (now %d): locks %q, with the cache %q (%+v): %s", at, ts, rows.locks, cached.locks, cached.end.Stats, diff(rows.rows, cached.rows))
		}
	}
	for range steps {
		switch op := rng.IntN(80); {
		case op >= 70: // blocks without dirty keys come after this
			w.cache.DropRange(nil, nil)
		case op < 2:
			start, m := next(), number(rng.Int64N(keys), rng.Int64N(9))
			if w.prewrite(start, []mutation{m}) != nil { // locked
				break
			}
			if err := w.commit(start, next(), m.key); err != nil {
				t.Fatal(err)
			}
		case op < 3: // a lock that stays
			o := open{start: next(), ms: []mutation{number(rng.Int64N(keys), rng.Int64N(9))}}
			if rng.IntN(3) == 0 {
				o.ms[0].value = nil
			}
			if w.prewrite(o.start, o.ms) == nil {
				txns = append(txns, o)
			}
		case op < 9 && len(txns) > 0:
			o := txns[0]
			txns = txns[1:]
			end := w.rollback
			if rng.IntN(2) == 0 {
				end = func(start uint64, keys ...[]byte) error { return w.commit(start, next(), keys...) }
			}
			if err := end(o.start, keysOf(o.ms)...); err != nil {
				t.Fatal(err)
			}
		}
		check()
	}
	if hits < steps/20 || locked == 0 {
		t.Errorf("%d answers came from the result cache, %d reads met locks", hits, locked)
	}
	t.Logf("%d answers came from the result cache, %d reads met locks", hits, locked)
}

// TestResultsKnowLaterLocks: one that the first read need not mind.
func TestResultsKnowLaterLocks(t *testing.T) {
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	m := number(1, 1)
	w.put(10, 11, m, number(2, 2))
	r := request(sums[0], w.e.Context(m.key), 20, true, tableRange(tableID))
	r.ResultCache = true
	for range 3 {
		w.read(r)
	}
	if err := w.prewrite(30, []mutation{m}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if a := w.read(r); len(a.locks) > 0 {
			t.Fatalf("at 20: locks %q", a.locks)
		}
	}
	if r.ReadTS = 40; len(w.read(r).locks) != 1 {
		t.Error("at 40: the lock of 30 is not met")
	}
}

// TestResultsEndWithDropRange: data that changes past the log is behind it.
func TestResultsEndWithDropRange(t *testing.T) {
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	var all []mutation
	for i := range int64(50) {
		all = append(all, number(i, i))
	}
	w.put(10, 11, all...)
	r := request(sums[0], w.e.Context(all[0].key), 20, true, tableRange(tableID))
	r.ResultCache = true
	hit := func() bool { return w.read(r).end.Stats.CachedRegions > 0 }
	for range 3 {
		hit()
	}
	if !hit() {
		t.Fatal("the answer is not kept")
	}
	for name, change := range map[string]func(){
		"DropRange": func() { w.cache.DropRange(nil, nil) },
		"Drop":      func() { w.cache.Drop(r.Regions[0].ID) },
		"principal": func() { r.Principal += "x" },
		"timestamp": func() { r.ReadTS = 10 },
	} {
		change()
		if hit() {
			t.Errorf("%s: the old answer serves", name)
		}
		if r.ReadTS = 20; name == "timestamp" {
			continue
		}
		hit()
		hit()
		if !hit() {
			t.Errorf("%s: no new answer is kept", name)
		}
	}
	r.ResultCache = false
	if hit() {
		t.Error("it serves who does not want it")
	}
}

// TestResultsAreKeptWithChangedRows: blocks with dirty keys have an answer, too,
// for reads that see all changes.
func TestResultsAreKeptWithChangedRows(t *testing.T) {
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	var all []mutation
	for i := range int64(50) {
		all = append(all, number(i, i))
	}
	w.put(10, 11, all...)
	r := request(sums[0], w.e.Context(all[0].key), 20, true, tableRange(tableID))
	r.ResultCache = true
	for range 3 {
		w.read(r)
	}
	w.put(30, 31, number(7, 1000))
	hit := func(ts uint64) bool { r.ReadTS = ts; return w.read(r).end.Stats.CachedRegions > 0 }
	if hit(25) || hit(26) {
		t.Error("an answer is kept that later reads would not get")
	}
	if hit(31) || !hit(31) || !hit(40) {
		t.Error("the answer with the changed row is not kept")
	}
	if hit(30) {
		t.Error("the answer of 31 serves a read at 30")
	}
}

// TestDirtyKeysWearOut: what every scan would read again is put into the block.
func TestDirtyKeysWearOut(t *testing.T) {
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	var all []mutation
	for i := range int64(50) {
		all = append(all, number(i, i))
	}
	w.put(10, 11, all...)
	r := request(numbers, w.e.Context(all[0].key), 40, true, tableRange(tableID))
	for range 3 {
		w.read(r)
	}
	w.put(30, 31, number(7, 1000))
	fromColumns := func() uint64 { return w.read(r).end.Stats.ColumnRows }
	if n := fromColumns(); n != 49 {
		t.Fatalf("%d rows from columns, one of 50 has changed", n)
	}
	for range 70 {
		w.read(r)
	}
	if n := fromColumns(); n != 50 {
		t.Errorf("%d rows from columns after many scans", n)
	}
}
