package colvec

import (
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/copradb/copra/internal/sqltypes"
)

// A builder may be used again with or without Reserve, and the columns it gave
// out stay as they are.
func TestBuilderIsReused(t *testing.T) {
	b := NewBuilder(sqltypes.Text, 1)
	var columns []*array.Binary
	for round := range 4 {
		if round%2 == 1 {
			b.Reserve(2)
		}
		b.AppendString([]string{"zero", "one", "two", "three"}[round])
		b.AppendNull()
		b.Reserve(100) // too late, and without effect
		a, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		columns = append(columns, array.NewBinaryData(a.Data()))
	}
	for i, want := range []string{"zero", "one", "two", "three"} {
		if c := columns[i]; c.Len() != 2 || string(c.Value(0)) != want || !c.IsNull(1) {
			t.Errorf("column %d is %v", i, c)
		}
	}
	if a, err := b.Finish(); err != nil || a.Len() != 0 {
		t.Errorf("the empty column is %v (%v)", a, err)
	}
}

// TestAllocationsOfOneValue: the columns of a point read have one value each.
func TestAllocationsOfOneValue(t *testing.T) {
	types := []sqltypes.Type{sqltypes.Text, sqltypes.Text, sqltypes.Text, sqltypes.Text}
	value := []byte("a value")
	got := testing.AllocsPerRun(100, func() {
		builders := NewBuilders(types, 1)
		for _, b := range builders {
			b.AppendBytes(value)
		}
		if _, err := FinishAll(builders); err != nil {
			t.Fatal(err)
		}
	})
	// A column: offsets, bytes, buffers, Arrow's data and its array; 3 for all.
	if most := float64(5*len(types) + 3); got > most {
		t.Errorf("%d columns take %v allocations, %v are enough", len(types), got, most)
	}
}
