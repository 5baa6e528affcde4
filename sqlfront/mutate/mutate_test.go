package mutate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// fakeBuffer is a transaction's buffer over a map; nil values are tombstones.
type fakeBuffer struct {
	own      map[string][]byte
	presumed map[string]bool
}

func newBuffer() *fakeBuffer {
	return &fakeBuffer{own: map[string][]byte{}, presumed: map[string]bool{}}
}

func (b *fakeBuffer) GetLocal(_ context.Context, key []byte) ([]byte, error) {
	v, ok := b.own[string(key)]
	if !ok {
		return nil, tikverr.ErrNotExist
	}
	return v, nil
}

func (b *fakeBuffer) Set(key, value []byte) error {
	b.own[string(key)] = bytes.Clone(value)
	return nil
}

func (b *fakeBuffer) SetWithFlags(key, value []byte, _ ...kv.FlagsOp) error {
	b.presumed[string(key)] = true
	return b.Set(key, value)
}

func (b *fakeBuffer) Delete(key []byte) error {
	b.own[string(key)] = nil
	return nil
}

// keys are the keys that exist afterwards.
func (b *fakeBuffer) keys() []string {
	var out []string
	for k, v := range b.own {
		if v != nil {
			out = append(out, fmt.Sprintf("%x=%x", k, v))
		}
	}
	sort.Strings(out)
	return out
}

func table(states ...catalog.State) *catalog.Table {
	t := &catalog.Table{
		ID: 20, Schema: "public", Name: "t",
		Columns: []catalog.Column{
			{ID: 1, Name: "a", Type: sqltypes.Int8, NotNull: true}, {ID: 2, Name: "b", Type: sqltypes.Int4}, {ID: 3, Name: "c", Type: sqltypes.Text},
		},
		PrimaryKey: &catalog.Index{Name: "t_pkey", Unique: true, Primary: true, Columns: []catalog.IndexColumn{{Column: 0}}},
	}
	for i, s := range states {
		t.Indexes = append(t.Indexes, &catalog.Index{ID: int64(i + 1), Name: fmt.Sprintf("t_%d", i), Unique: i%2 == 0, Columns: []catalog.IndexColumn{{Column: 1}}, State: s})
	}
	return t
}

func row(a, b int64, c string) []sqltypes.Datum {
	r := []sqltypes.Datum{sqltypes.NewInt(a), sqltypes.Null, sqltypes.NewString(c)}
	if b >= 0 {
		r[1] = sqltypes.NewInt(b)
	}
	return r
}

func handle(t *testing.T, m *Table, r []sqltypes.Datum) []byte {
	t.Helper()
	h, err := m.Handle(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestUniqueErrors(t *testing.T) {
	m := New(table(catalog.StatePublic))
	buf := newBuffer()
	w := NewWriter(context.Background(), m, buf)
	first := row(1, 7, "x")
	if err := w.Insert(first, handle(t, m, first)); err != nil {
		t.Fatal(err)
	}
	if len(w.Locks) != 2 || len(buf.presumed) != 2 {
		t.Errorf("an insert locks %d keys and presumes %d absent", len(w.Locks), len(buf.presumed))
	}
	for _, tc := range []struct {
		row              []sqltypes.Datum
		constraint, text string
	}{
		{row(1, 8, "y"), "t_pkey", "Key (a)=(1) already exists."},
		{row(2, 7, "y"), "t_0", "Key (b)=(7) already exists."},
	} {
		err := w.Insert(tc.row, handle(t, m, tc.row))
		var e *pgerror.Error
		if !errors.As(err, &e) || e.Code != pgerror.UniqueViolation || e.Constraint != tc.constraint || e.Detail != tc.text ||
			e.Message != `duplicate key value violates unique constraint "`+tc.constraint+`"` {
			t.Errorf("%v gives %v (%s)", tc.row, err, e.Detail)
		}
	}
	for i := range 2 { // NULLs are not equal
		r := row(int64(10+i), -1, "n")
		if err := w.Insert(r, handle(t, m, r)); err != nil {
			t.Error(err)
		}
	}
}

func TestConstraintErrors(t *testing.T) {
	tab := table()
	r := row(1, -1, strings.Repeat("ä", 60))
	if e := NotNullError(tab, 1, r); e.Code != pgerror.NotNullViolation || e.Column != "b" ||
		e.Detail != "Failing row contains (1, null, "+strings.Repeat("ä", 32)+"...)." {
		t.Errorf("%v: %s", e, e.Detail)
	}
	if e := CheckError(tab, "t_check", r); e.Code != pgerror.CheckViolation || e.Constraint != "t_check" {
		t.Error(e)
	}
}

// TestKeysFollowRows: whatever statements do to rows, the buffer holds exactly
// the keys of the rows that exist then, in every index state that writers
// maintain; and rows may exchange their keys.
func TestKeysFollowRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New(table(catalog.StatePublic, catalog.StatePublic, catalog.StateWriteOnly, catalog.StateWriteOnly))
		buf := newBuffer()
		w := NewWriter(context.Background(), m, buf)
		rows := map[int64][]sqltypes.Datum{}
		for a := range int64(6) {
			rows[a] = row(a, a*10, "x")
			h, _ := m.Handle(nil, rows[a])
			if err := w.Insert(rows[a], h); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 8).Draw(t, "statements") {
			if rapid.Bool().Draw(t, "update") {
				permute(t, m, w, rows)
				continue
			}
			a := rapid.Int64Range(0, 5).Draw(t, "delete")
			if r := rows[a]; r != nil {
				h, _ := m.Handle(nil, r)
				if err := w.Delete(r, h); err != nil {
					t.Fatal(err)
				}
				delete(rows, a)
			}
		}
		fresh := newBuffer()
		again := NewWriter(context.Background(), m, fresh)
		for _, r := range rows {
			h, _ := m.Handle(nil, r)
			if err := again.Insert(r, h); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := buf.keys(), fresh.keys(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("the buffer has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// permute gives the rows each other's primary keys and values in one statement.
func permute(t *rapid.T, m *Table, w *Writer, rows map[int64][]sqltypes.Datum) {
	var keys []int64
	for a := range rows {
		keys = append(keys, a)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i] < keys[j] })
	perm := rapid.Permutation(keys).Draw(t, "keys")
	bs := rapid.Permutation(keys).Draw(t, "values")
	var olds, news [][]sqltypes.Datum
	var handles [][]byte
	for i, a := range keys {
		h, _ := m.Handle(nil, rows[a])
		olds, handles = append(olds, rows[a]), append(handles, h)
		news = append(news, row(perm[i], bs[i]*10, "y"))
	}
	if err := w.Update(olds, news, handles); err != nil {
		t.Fatal(err)
	}
	for _, r := range news {
		rows[r[0].Int()] = r
	}
}

// TestIndexStates: an index that only deletes gets no entries but loses stale
// ones.
func TestIndexStates(t *testing.T) {
	m := New(table(catalog.StateDeleteOnly, catalog.StateDropped))
	buf := newBuffer()
	w := NewWriter(context.Background(), m, buf)
	r := row(1, 7, "x")
	h := handle(t, m, r)
	if err := w.Insert(r, h); err != nil {
		t.Fatal(err)
	}
	if got := buf.keys(); len(got) != 1 {
		t.Errorf("an insert wrote %q", got)
	}
	entry, _, _, err := m.IndexEntry(1, r, h)
	if err != nil {
		t.Fatal(err)
	}
	_ = buf.Set(entry, h)
	if err := w.Update([][]sqltypes.Datum{r}, [][]sqltypes.Datum{row(1, 7, "y")}, [][]byte{h}); err != nil {
		t.Fatal(err)
	}
	if got := buf.keys(); len(got) != 1 {
		t.Errorf("after an update there is %q", got)
	}
	if _, _, _, err := m.IndexEntry(2, r, h); pgerror.Code(err) != pgerror.UndefinedObject {
		t.Errorf("a dropped index: %v", err)
	}
}

func TestRowIDs(t *testing.T) {
	tab := table(catalog.StatePublic)
	tab.PrimaryKey = nil
	m := New(tab)
	buf := newBuffer()
	w := NewWriter(context.Background(), m, buf)
	if !m.HasRowID() {
		t.Fatal("no row id")
	}
	if err := w.Insert(row(1, 2, "x"), tablecodec.AppendRowID(nil, 5)); err != nil {
		t.Fatal(err)
	}
	if len(buf.presumed) != 1 {
		t.Errorf("%d keys are presumed absent", len(buf.presumed))
	}
}

func TestLimits(t *testing.T) {
	tab := table(catalog.StatePublic)
	tab.Indexes[0].Columns = []catalog.IndexColumn{{Column: 2}}
	m := New(tab)
	w := NewWriter(context.Background(), m, newBuffer())
	r := row(1, 2, strings.Repeat("x", catalog.IndexKeyBytesMax))
	if err := w.Insert(r, handle(t, m, r)); pgerror.Code(err) != pgerror.ProgramLimitExceeded {
		t.Errorf("a long index key: %v", err)
	}
}
