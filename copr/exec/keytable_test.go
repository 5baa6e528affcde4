package exec

import (
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// keyBatch is some rows of key columns, plain and perhaps encoded.
type keyBatch struct {
	plain, cols []colvec.Vec
	sel         []int32
	n           int
}

// drawKeys draws batches of keys of few distinct values, often the same ones in
// a row, now and then in batches large enough for the shortcuts.
func drawKeys(t *rapid.T, types []sqltypes.Type, batches int) []keyBatch {
	pools := make([][]sqltypes.Datum, len(types))
	for c, typ := range types {
		pools[c] = []sqltypes.Datum{sqltypes.Null}
		for range rapid.IntRange(1, 5).Draw(t, "pool") {
			pools[c] = append(pools[c], coltest.Value(t, typ))
		}
	}
	out := make([]keyBatch, batches)
	var kept []arrow.Array
	for b := range out {
		rows := rapid.SampledFrom([]int{1, 7, 40, 300}).Draw(t, "rows")
		repeat := rapid.SampledFrom([]int{1, 1, 4}).Draw(t, "repeat")
		pick := rapid.SliceOfN(rapid.IntRange(0, 1<<20), 16, 16).Draw(t, "pick")
		nulls := rapid.Bool().Draw(t, "nulls")
		cols := make([]arrow.Array, len(types))
		for c := range types {
			vals := make([]sqltypes.Datum, rows)
			for i := range vals {
				p := pick[(i/repeat)%len(pick)]*(c+3) + i/repeat/len(pick)
				vals[i] = pools[c][1+p%(len(pools[c])-1)]
				if nulls && p%7 == 0 {
					vals[i] = sqltypes.Null
				}
			}
			cols[c] = coltest.Array(t, types[c], vals)
		}
		out[b].plain = colvec.OpenAll(cols, types)
		for c := range cols {
			cols[c] = coltest.Encoded(t, cols[c], types[c])
		}
		out[b].cols = colvec.OpenAllEncoded(cols, types)
		kept = append(kept, cols...)
		out[b].n = rows
		if rapid.Bool().Draw(t, "select") {
			out[b].sel = []int32{}
			for i := range rows {
				if pick[i%len(pick)]%3 != 0 {
					out[b].sel = append(out[b].sel, int32(i))
				}
			}
			out[b].n = len(out[b].sel)
		}
	}
	_ = kept
	return out
}

// refKeys is a keyTable by definition.
type refKeys struct {
	types []sqltypes.Type
	ids   map[string]int32
}

func (r *refKeys) find(t *rapid.T, b *keyBatch, insert bool) []int32 {
	var out []int32
	for k := range b.n {
		var key []byte
		for c := range r.types {
			var err error
			if key, err = appendEqualKey(key, r.types[c], &b.plain[c], rowAt(b.sel, k)); err != nil {
				t.Fatal(err)
			}
		}
		id, ok := r.ids[string(key)]
		if !ok && insert {
			id = int32(len(r.ids))
			r.ids[string(key)] = id
		} else if !ok {
			id = -1
		}
		out = append(out, id)
	}
	return out
}

func TestKeyTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 1, 2, 2, 3, 40}).Draw(t, "columns")
		types := make([]sqltypes.Type, n)
		for c := range types {
			types[c] = coltest.Type(t)
		}
		table, ref := newKeyTable(types), &refKeys{types, map[string]int32{}}
		for i, b := range drawKeys(t, types, rapid.IntRange(1, 6).Draw(t, "batches")) {
			insert := rapid.IntRange(0, 3).Draw(t, "insert") > 0
			before := table.Len()
			want := ref.find(t, &b, insert)
			var got []int32
			var err error
			if insert {
				got, err = table.InsertRows(b.cols, b.sel, b.n, nil)
			} else {
				got, err = table.FindRows(b.cols, b.sel, b.n, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("batch %d of %v, insert %v:\ngot  %v\nwant %v", i, types, insert, got, want)
			}
			if table.Len() != len(ref.ids) {
				t.Fatalf("%d keys, want %d", table.Len(), len(ref.ids))
			}
			if insert {
				checkFresh(t, table, got, before)
			}
		}
		checkPartitions(t, table)
	})
}

// checkFresh expects that the rows called fresh are the first of each new key.
func checkFresh(t *rapid.T, table *keyTable, ids []int32, before int) {
	var want []int32
	next := int32(before)
	for k, id := range ids {
		if id == next {
			want = append(want, int32(k))
			next++
		}
	}
	if len(ids) > 0 && !slices.Equal(want, slices.Clone(table.fresh)) && len(want)+len(table.fresh) > 0 {
		t.Fatalf("fresh rows %v, want %v", table.fresh, want)
	}
}

func checkPartitions(t *rapid.T, table *keyTable) {
	bits := rapid.IntRange(1, 5).Draw(t, "bits")
	ids, ends := table.partition(bits)
	at := int32(0)
	for p, end := range ends {
		for _, id := range ids[at:end] {
			if int(table.hashes[id]>>(64-bits)) != p {
				t.Fatalf("key %d is in partition %d", id, p)
			}
		}
		if !slices.IsSorted(ids[at:end]) {
			t.Fatal("a partition is not in order")
		}
		at = end
	}
	if int(at) != table.Len() || len(ids) != table.Len() {
		t.Fatalf("%d keys of %d in partitions", at, table.Len())
	}
}

// Keys hash alike in every table of their types, whatever came before them and
// however their columns are encoded: partitions of different tables fit.
func TestKeyHashesAreOfValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := []sqltypes.Type{coltest.Type(t), coltest.Type(t)}
		bs := drawKeys(t, types, 3)
		warm, cold := newKeyTable(types), newKeyTable(types)
		for _, b := range bs {
			if _, err := warm.InsertRows(b.cols, b.sel, b.n, nil); err != nil {
				t.Fatal(err)
			}
		}
		b := bs[2]
		ids, err := cold.InsertRows(b.plain, b.sel, b.n, nil)
		if err != nil {
			t.Fatal(err)
		}
		other, err := warm.FindRows(b.cols, b.sel, b.n, nil)
		if err != nil {
			t.Fatal(err)
		}
		cold.unorder()
		for k := range ids {
			if cold.hashes[ids[k]] != warm.hashes[other[k]] {
				t.Fatalf("row %d hashes to %x and to %x", k, cold.hashes[ids[k]], warm.hashes[other[k]])
			}
		}
	})
}

func TestKeyTableLimit(t *testing.T) {
	table := newKeyTable([]sqltypes.Type{sqltypes.Int8})
	table.n = KeysMax
	v := colvec.Vec{Kind: colvec.Int64, N: 1, I64: []int64{1}}
	if _, err := table.Insert([]colvec.Vec{v}, 1, nil); err == nil {
		t.Error("a full table took a key")
	}
}

// Keys that ascend, then do not, with equal neighbours and without.
func TestKeysInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := []sqltypes.Type{sqltypes.Int8}
		table, ref := newKeyTable(types), &refKeys{types, map[string]int32{}}
		next := int64(rapid.IntRange(-3, 3).Draw(t, "from"))
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			repeat, step := rapid.IntRange(1, 4).Draw(t, "repeat"), int64(rapid.SampledFrom([]int{1, 1 << 20}).Draw(t, "step"))
			if rapid.IntRange(0, 4).Draw(t, "jump") == 0 {
				next -= 5 * step
			}
			v := colvec.Vec{Kind: colvec.Int64, N: 300, I64: make([]int64, 300)}
			for i := range v.I64 {
				v.I64[i] = next
				if (i+1)%repeat == 0 {
					next += step
				}
			}
			b := keyBatch{plain: []colvec.Vec{v}, n: v.N}
			want, before := ref.find(t, &b, true), table.Len()
			got, err := table.Insert(b.plain, b.n, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("got  %v\nwant %v", got, want)
			}
			checkFresh(t, table, got, before)
		}
		checkPartitions(t, table)
	})
}
