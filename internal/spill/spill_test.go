package spill_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

func open(t interface{ Fatal(...any) }, o spill.Options) *spill.Manager {
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	if o.Dir == "" {
		o.Dir = "temp"
	}
	m, err := spill.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What is written is what is read, whatever the columns and however they are
// sliced, any number of times.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := open(t, spill.Options{})
		s := m.NewSpace(0)
		types := make([]sqltypes.Type, rapid.IntRange(0, 4).Draw(t, "columns"))
		for i := range types {
			types[i] = coltest.Type(t)
		}
		w, err := s.Create(types)
		if err != nil {
			t.Fatal(err)
		}
		var want [][]arrow.Array
		rows := int64(0)
		for range rapid.IntRange(0, 3).Draw(t, "batches") {
			n := rapid.IntRange(1, 40).Draw(t, "rows")
			lo := rapid.IntRange(0, n-1).Draw(t, "from")
			hi := rapid.IntRange(lo+1, n).Draw(t, "to")
			cols := make([]arrow.Array, len(types))
			for c, typ := range types {
				vals := make([]sqltypes.Datum, n)
				for i := range vals {
					vals[i] = coltest.Nullable(t, typ)
				}
				cols[c] = array.NewSlice(coltest.Array(t, typ, vals), int64(lo), int64(hi))
			}
			if err := w.Write(cols, hi-lo); err != nil {
				t.Fatal(err)
			}
			want, rows = append(want, cols), rows+int64(hi-lo)
		}
		run, err := w.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if run.Rows != rows || s.Stats().Rows != rows || s.Stats().Bytes != run.Bytes || m.UsedBytes() != run.Bytes {
			t.Fatalf("counted %d rows of %d, %+v, %d bytes of %d", run.Rows, rows, s.Stats(), m.UsedBytes(), run.Bytes)
		}
		for range 2 {
			compare(t, run, types, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if m.UsedBytes() != 0 {
			t.Fatal("bytes are still counted")
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func compare(t *rapid.T, run *spill.Run, types []sqltypes.Type, want [][]arrow.Array) {
	r, err := run.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, cols := range want {
		got, n, err := r.Next()
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		for c := range cols {
			if cols[c].Len() != n || !array.ApproxEqual(got[c], cols[c], array.WithNaNsEqual(true)) {
				t.Fatalf("column %d of %s is %v, want %v", c, types[c].Name(), got[c], cols[c])
			}
		}
	}
	if _, n, err := r.Next(); n != 0 || err != nil {
		t.Fatal("behind the end", n, err)
	}
}

func column(t testing.TB, rows int) []arrow.Array {
	b := colvec.NewBuilder(sqltypes.Text, rows)
	for i := range rows {
		b.AppendString(strings.Repeat(string(rune('a'+i%26)), 1+i%50))
	}
	a, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return []arrow.Array{a}
}

// Encoded columns come back as values.
func TestEncodedColumns(t *testing.T) {
	m := open(t, spill.Options{})
	s := m.NewSpace(0)
	dict := column(t, 3)[0]
	num := sqltypes.NumericOf(15, 2)
	types := []sqltypes.Type{sqltypes.Text, num}
	cols := []arrow.Array{colvec.NewDict(dict, []int32{2, 0, 2, 1}, nil, 0), colvec.NewDec64([]int64{5, -7, 0, 1 << 60}, []byte{0b1011}, 1)}
	w, err := s.Create(types)
	if err != nil {
		t.Fatal(err)
	}
	sliced := []arrow.Array{array.NewSlice(cols[0], 1, 4), array.NewSlice(cols[1], 1, 4)}
	if err := w.Write(sliced, 3); err != nil {
		t.Fatal(err)
	}
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	r, err := run.Open()
	if err != nil {
		t.Fatal(err)
	}
	got, n, err := r.Next()
	if err != nil || n != 3 {
		t.Fatal(n, err)
	}
	for c, typ := range types {
		if a, b := colvec.Plain(got[c], typ), colvec.Plain(sliced[c], typ); !array.Equal(a, b) {
			t.Errorf("column %d is %v, want %v", c, a, b)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Any byte changed, any byte missing is an error, never other rows.
func TestDamage(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, spill.Options{FS: mem})
	s := m.NewSpace(0)
	w, err := s.Create([]sqltypes.Type{sqltypes.Text})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.Write(column(t, 20), 20); err != nil {
			t.Fatal(err)
		}
	}
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	names, err := mem.List(m.Dir())
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	path := mem.PathJoin(m.Dir(), names[slices.IndexFunc(names, func(n string) bool { return n != "LOCK" })])
	whole := read(t, mem, path)
	all := func() error {
		r, err := run.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		for {
			if _, n, err := r.Next(); n == 0 || err != nil {
				return err
			}
		}
	}
	if err := all(); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := slices.Clone(whole)
		bad[i] ^= 0x10
		write(t, mem, path, bad)
		if err := all(); pgerror.Code(err) != pgerror.DataCorrupted {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		write(t, mem, path, whole[:i])
		if err := all(); pgerror.Code(err) != pgerror.DataCorrupted {
			t.Fatalf("cut off at byte %d: %v", i, err)
		}
	}
	frame := len(whole) / 3
	write(t, mem, path, slices.Concat(whole[frame:2*frame], whole[:frame], whole[2*frame:]))
	if err := all(); pgerror.Code(err) != pgerror.DataCorrupted {
		t.Fatalf("frames exchanged: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, fs vfs.FS, path string) []byte {
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, fs vfs.FS, path string, b []byte) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A limit is kept by all statements together, and by each.
func TestLimits(t *testing.T) {
	m := open(t, spill.Options{BytesMax: 1 << 20})
	fill := func(s *spill.Space) error {
		w, err := s.Create([]sqltypes.Type{sqltypes.Text})
		if err != nil {
			return err
		}
		for range 1000 {
			if err := w.Write(column(t, 1000), 1000); err != nil {
				_, ferr := w.Finish()
				if ferr == nil {
					t.Error("a file that failed was finished")
				}
				return err
			}
		}
		_, err = w.Finish()
		return err
	}
	a, b := m.NewSpace(0), m.NewSpace(300<<10)
	err := fill(b)
	if pgerror.Code(err) != pgerror.ConfigurationLimitExceeded || !strings.Contains(err.Error(), "temporary file size exceeds temp_file_limit (300kB)") {
		t.Error(err)
	}
	err = fill(a)
	if pgerror.Code(err) != pgerror.ConfigurationLimitExceeded || !strings.Contains(err.Error(), "temporary file size exceeds the SQL node's limit") {
		t.Error(err)
	}
	if n := m.UsedBytes(); n != 0 {
		t.Errorf("%d bytes of files that failed are counted", n)
	}
	for _, s := range []*spill.Space{a, b} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Closing a Space under writers and readers ends them with an error.
func TestCloseUnderUse(t *testing.T) {
	m := open(t, spill.Options{})
	s := m.NewSpace(0)
	var wg sync.WaitGroup
	col := column(t, 1000)
	begun := make(chan bool, 4)
	for range 4 {
		wg.Go(func() {
			for once := true; ; once = false {
				w, err := s.Create([]sqltypes.Type{sqltypes.Text})
				if err != nil {
					return
				}
				if w.Write(col, 1000) != nil {
					return
				}
				run, err := w.Finish()
				if err != nil {
					return
				}
				r, err := run.Open()
				if err != nil {
					return
				}
				if once {
					begun <- true
				}
				_, _, _ = r.Next()
				_ = r.Close()
				if run.Remove() != nil {
					return
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if m.UsedBytes() != 0 {
		t.Error("bytes are still counted")
	}
}

// A Manager removes what dead ones left, and nothing of the living.
func TestDeadFolders(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "copra-temp-1-0")
	other := filepath.Join(dir, "notes")
	for _, d := range []string{dead, other} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "1.rows"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewRegistry()
	a := open(t, spill.Options{FS: vfs.Default, Dir: dir, Registerer: reg})
	b := open(t, spill.Options{FS: vfs.Default, Dir: dir})
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Error("the folder of a dead process is still there", err)
	}
	for _, d := range []string{other, a.Dir(), b.Dir()} {
		if _, err := os.Stat(d); err != nil {
			t.Error(err)
		}
	}
	if a.Dir() == b.Dir() {
		t.Error("two managers share a folder")
	}
	if got, err := reg.Gather(); err != nil || len(got) == 0 {
		t.Error("no metrics", err)
	}
	for _, m := range []*spill.Manager{a, b} {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(m.Dir()); !os.IsNotExist(err) {
			t.Error("the folder is still there", err)
		}
	}
	again := open(t, spill.Options{FS: vfs.Default, Dir: dir, Registerer: reg})
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
