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
