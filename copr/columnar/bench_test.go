package columnar_test

import (
	"testing"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// BenchmarkFeed is what apply pays for one committed key of a table whose
// columns are kept.
func BenchmarkFeed(b *testing.B) {
	w := newWorld(b, columnar.Options{BuildRowsMin: -1})
	defer w.close()
	const rows = 20_000
	var ms []mutation
	for i := range int64(rows) {
		ms = append(ms, number(i, i))
	}
	w.put(10, 11, ms...)
	rc := w.e.Context(ms[0].key)
	for range 3 {
		w.read(request(numbers, rc, 20, true, tableRange(tableID)))
	}
	batches := make([][]byte, rows)
	for i, m := range ms {
		var kb kv.Batch
		kb.Put(kv.CFWrite, codec.EncodeTS(codec.EncodeBytes(nil, m.key), 31), appendPut(m.value, 30))
		batches[i] = kb.Bytes()
	}
	index := w.e.index[rc.RegionId]
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if err := w.cache.Advanced(rc.RegionId, index, index+1, one(index+1, batches[i*7919%rows])); err != nil {
			b.Fatal(err)
		}
		index++
	}
}

// BenchmarkScan reads a region of 20000 rows by rows, by columns, and by columns
// of which one row in a hundred is dirty.
func BenchmarkScan(b *testing.B) {
	for _, how := range []string{"rows", "columns", "dirty"} {
		b.Run(how, func(b *testing.B) {
			w := newWorld(b, columnar.Options{BuildRowsMin: -1})
			defer w.close()
			const rows = 20_000
			var ms, some []mutation
			for i := range int64(rows) {
				ms = append(ms, number(i, i))
				if i%100 == 0 {
					some = append(some, number(i, -i))
				}
			}
			w.put(10, 11, ms...)
			r := request(numbers, w.e.Context(ms[0].key), 20, how != "rows", tableRange(tableID))
			for range 3 {
				w.read(r)
			}
			b.ResetTimer()
			for i := range b.N {
				if how == "dirty" && i%4 == 0 { // before the blocks are made anew
					b.StopTimer()
					w.cache.DropRange(nil, nil)
					for range 2 {
						w.read(r)
					}
					w.put(r.ReadTS+10, r.ReadTS+11, some...)
					r.ReadTS += 20
					b.StartTimer()
				}
				if err := w.s.Run(b.Context(), r, func(*plan.Event) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
