package columnar_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

var (
	idColumn  = plan.Column{ID: 1, Type: sqltypes.Int8}
	sumColumn = plan.Column{ID: 2, Type: sqltypes.Int8}
	numbers   = &plan.Plan{Nodes: []plan.Node{&plan.TableScan{
		TableID: tableID, KeyColumns: []plan.Column{idColumn}, Columns: []plan.Column{idColumn, sumColumn},
	}}}
)

// number is the row id → v of numbers.
func number(id, v int64) mutation {
	h, err := tablecodec.AppendHandle(nil, []sqltypes.Type{sqltypes.Int8}, []sqltypes.Datum{sqltypes.NewInt(id)})
	if err != nil {
		panic(err)
	}
	row, err := rowcodec.NewEncoder([]rowcodec.Column{{ID: 2, Type: sqltypes.Int8}}).Encode([]byte{}, []sqltypes.Datum{sqltypes.NewInt(v)})
	if err != nil {
		panic(err)
	}
	return mutation{tablecodec.AppendRowKey(nil, tableID, h), row}
}

// Readers that build, rebuild and read blocks while others write see at every
// timestamp what rows show.
func TestConcurrentWriters(t *testing.T) {
	const keys, writers, readers, reads = 400, 4, 3, 100
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	var tso atomic.Uint64
	tso.Store(1000)
	var all []mutation
	for i := range int64(keys) {
		all = append(all, number(i, i))
	}
	w.put(tso.Add(1), tso.Add(1), all...)
	stop := make(chan struct{})
	var gate sync.RWMutex // writers share it; a reader that meets locks again and again takes it
	var writing, reading sync.WaitGroup
	for n := range writers {
		rng := rand.New(rand.NewPCG(uint64(n), 1))
		writing.Go(func() {
			for v := int64(0); ; v++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := write(w, &gate, &tso, rng, keys, v); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var served, compared atomic.Uint64
	for range readers {
		reading.Go(func() {
			for range reads {
				ts := tso.Add(1)
				r := request(numbers, w.e.Context(all[0].key), ts, true, tableRange(tableID))
				cols, ok := readPast(t, w, &gate, r)
				if !ok {
					return
				}
				served.Add(cols.end.Stats.ColumnRows)
				r.Columnar = false
				rows, ok := readPast(t, w, &gate, r)
				if !ok {
					return
				}
				compared.Add(1)
				if !slices.Equal(rows.rows, cols.rows) {
					t.Errorf("at %d: %s", ts, diff(rows.rows, cols.rows))
					return
				}
			}
		})
	}
	reading.Wait()
	close(stop)
	writing.Wait()
	if served.Load() == 0 || compared.Load() != readers*reads {
		t.Errorf("%d reads were compared, %d rows came from columns", compared.Load(), served.Load())
	}
	t.Logf("%d rows came from columns in %d reads", served.Load(), compared.Load())
}

// write commits or rolls back a transaction on some of the keys.
func write(w *world, gate *sync.RWMutex, tso *atomic.Uint64, rng *rand.Rand, keys, v int64) error {
	gate.RLock()
	defer gate.RUnlock()
	start := tso.Add(1)
	var ms []mutation
	at := rng.Int64N(keys)
	for i := range 1 + rng.Int64N(5) {
		m := number((at+i*7)%keys, v)
		if rng.IntN(4) == 0 {
			m.value = nil
		}
		ms = append(ms, m)
	}
	if err := w.prewrite(start, ms); err == nil && rng.IntN(5) > 0 {
		return w.commit(start, tso.Add(1), keysOf(ms)...)
	} else if err != nil && err != errConflict {
		return err
	}
	return w.rollback(start, keysOf(ms)...)
}

// readPast reads until no lock is in the way: the writers end by themselves.
func readPast(t *testing.T, w *world, gate *sync.RWMutex, r *plan.Request) (*answer, bool) {
	for try := 0; ; try++ {
		if try == 5 {
			gate.Lock()
			defer gate.Unlock()
		}
		a, err := run(w.s, r)
		if err != nil || a.end.Err != nil || a.end.RegionError != nil {
			t.Errorf("%v, %+v", err, a.end)
			return nil, false
		}
		if len(a.locks) == 0 {
			return a, true
		}
	}
}

// A write between a scan's snapshot and its blocks is not lost.
func TestWriteWhileBuilding(t *testing.T) {
	w := newWorld(t, columnar.Options{BlockRowsMax: 4, BuildRowsMin: -1})
	defer w.close()
	var all []mutation
	for i := range int64(20) {
		all = append(all, number(i, i))
	}
	w.put(10, 11, all...)
	rc := w.e.Context(all[0].key)
	w.read(request(numbers, rc, 20, true, tableRange(tableID)))

	// The feed is held back: the scan's snapshot is before this write, its blocks
	// are made behind it.
	first := true
	r := request(numbers, rc, 30, true, tableRange(tableID))
	_, err := runEach(w.s, r, func() {
		if first {
			first = false
			w.put(40, 41, number(2, 1000), number(18, 1000))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if served := w.compare(t, request(numbers, rc, 50, true, tableRange(tableID))); served != 18 {
		t.Errorf("%d of 20 rows came from columns, not the 18 that were not written since", served)
	}
	if served := w.compare(t, request(numbers, rc, 35, true, tableRange(tableID))); served != 18 {
		t.Errorf("before the write: %d rows came from columns", served)
	}
}

// A region that lost a part to another one and got it back, changed, by a merge
// does not serve what it had of it.
func TestSplitAndMergedBack(t *testing.T) {
	w := newWorld(t, columnar.Options{BlockRowsMax: 4, BuildRowsMin: -1})
	defer w.close()
	var all []mutation
	for i := range int64(20) {
		all = append(all, number(i, i))
	}
	w.put(10, 11, all...)
	rc := w.e.Context(all[0].key)
	for range 2 {
		w.compare(t, request(numbers, rc, 20, true, tableRange(tableID)))
	}
	before := *rc
	merged := w.e.Split(all[10].key)
	w.put(30, 31, number(12, 1000)) // in the other region
	w.e.Merge(rc.RegionId, merged)
	rc = w.e.Context(all[0].key)
	if rc.RegionEpoch.Version <= before.RegionEpoch.Version {
		t.Fatal("the merge made no new version")
	}
	r := request(numbers, rc, 40, true, tableRange(tableID))
	r.Columnar = true
	for range 3 {
		w.compare(t, r)
	}
	if a := w.read(request(numbers, rc, 40, true, []kv.KeyRange{tablecodec.RecordRange(tableID)})); a.rows[12] != rowText(12, 1000) {
		t.Errorf("row 12 is %q", a.rows[12])
	}
}

func rowText(id, v int64) string {
	return show(sqltypes.NewInt(id)) + "|" + show(sqltypes.NewInt(v)) + "|"
}
