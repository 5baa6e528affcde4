package exec_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

type fataler interface{ Fatal(...any) }

// disk is a place for temporary files and what a test asks of it.
type disk struct {
	fs vfs.FS
	m  *spill.Manager
}

func newDisk(t fataler, fs vfs.FS, bytesMax int64) *disk {
	m, err := spill.Open(spill.Options{FS: fs, Dir: "temp", BytesMax: bytesMax})
	if err != nil {
		t.Fatal(err)
	}
	return &disk{fs, m}
}

// close checks that nothing is left.
func (d *disk) close(t fataler) {
	names, err := d.fs.List(d.m.Dir())
	if err != nil || !slices.Equal(names, []string{"LOCK"}) {
		t.Fatal("temporary files are left: ", names, err)
	}
	if n := d.m.UsedBytes(); n != 0 {
		t.Fatal("bytes of temporary files are still counted: ", n)
	}
	if err := d.m.Close(); err != nil {
		t.Fatal(err)
	}
}

// tiny is a context in which operators spill from bytes on.
func (d *disk) tiny(bytes int64) *exec.Ctx {
	c := &exec.Ctx{Context: context.Background(), Eval: &expr.Ctx{}, Mem: exec.NewMemAccount(1<<30, nil), Spill: d.m.NewSpace(0)}
	c.Mem.SetSpillBytes(bytes)
	return c
}

// spilled runs op with little memory and returns its rows and what it wrote. All
// memory and files must be given back by Close, before the Space is closed.
func spilled(t fataler, op exec.Operator, bytes int64) ([]string, exec.SpillStats) {
	d := newDisk(t, vfs.NewMem(), 0)
	defer d.close(t)
	c := d.tiny(bytes)
	bs, err := exec.Collect(c, op)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mem.Used() != 0 {
		t.Fatal("memory still charged after Close:", c.Mem.Used())
	}
	return texts(bs, op.Types()), op.Stats().Spill
}

func TestSortSpills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := drawTable(t, drawTypes(t, 2), 120)
		keys := drawKeys(t, tb)
		want := tb.sortBy(keys).texts()
		bytes := rapid.Int64Range(8, 4000).Draw(t, "memory")
		op := mustOp(t)(exec.NewSort(tb.op(t), keys))
		got, st := spilled(t, op, bytes)
		equal(t, "sort", got, want)
		if bytes < 64 && len(want) > 30 && st.Files < 2 {
			t.Fatalf("%d rows were sorted with %d files and %d bytes of memory", len(want), st.Files, bytes)
		}

		n, offset := rapid.IntRange(0, 130).Draw(t, "n"), rapid.IntRange(0, 30).Draw(t, "offset")
		lo := min(offset, len(want))
		part := want[lo:min(lo+n, len(want))]
		if len(part) == 0 {
			part = nil
		}
		got, _ = spilled(t, mustOp(t)(exec.NewTopN(tb.op(t), keys, uint64(n), uint64(offset))), bytes)
		equal(t, "top-n", got, part)
	})
}

// manyInts has rows in an order that is none, every value about twice.
func manyInts(t fataler, rows, batch int) (*table, exec.Operator) {
	tb := ints()
	x := uint32(1)
	for range rows {
		x = x*1664525 + 1013904223
		tb.rows = append(tb.rows, []sqltypes.Datum{sqltypes.NewInt(int64(x>>8) % int64(rows/2))})
	}
	var bs []*expr.Batch
	for lo := 0; lo < rows; lo += batch {
		bs = append(bs, tb.batch(t, lo, min(rows, lo+batch)))
	}
	return tb, exec.NewBatches(tb.types, bs...)
}

// More runs than are merged at a time.
func TestSortMergesInPasses(t *testing.T) {
	tb, in := manyInts(t, 30_000, 100)
	keys := []plan.SortKey{{Expr: tb.col(0), Desc: true}}
	op := mustOp(t)(exec.NewSort(in, keys))
	got, st := spilled(t, op, 1000)
	if !slices.Equal(got, tb.sortBy(keys).texts()) {
		t.Error("the order is wrong")
	}
	if st.Rows <= int64(len(tb.rows)) {
		t.Errorf("%+v: no intermediate merges", st)
	}
	lines := op.(interface{ Details() []string }).Details()
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "Sort Method: external merge  Disk: ") || !strings.Contains(lines[0], "Intermediate merges") {
		t.Errorf("EXPLAIN says %q", lines)
	}
}

// A key that is computed is computed once, and is none of the columns.
func TestSortByExpressionSpills(t *testing.T) {
	tb, in := manyInts(t, 3000, 100)
	neg := call(t, "-", intConst(0), tb.col(0))
	got, _ := spilled(t, mustOp(t)(exec.NewSort(in, []plan.SortKey{{Expr: neg}, {Expr: tb.col(0)}})), 1000)
	if !slices.Equal(got, tb.sortBy([]plan.SortKey{{Expr: tb.col(0), Desc: true}}).texts()) {
		t.Error("the order is wrong")
	}
}

func TestWithoutTroubleNothingSpills(t *testing.T) {
	tb, in := manyInts(t, 3000, 100)
	op := mustOp(t)(exec.NewSort(in, []plan.SortKey{{Expr: tb.col(0)}}))
	_, st := spilled(t, op, 1<<20)
	if st != (exec.SpillStats{}) {
		t.Errorf("spilled %+v", st)
	}
	if lines := op.(interface{ Details() []string }).Details(); len(lines) != 1 || !strings.HasPrefix(lines[0], "Sort Method: quicksort  Memory: ") {
		t.Errorf("EXPLAIN says %q", lines)
	}
}

// spillers are operators over many rows that cannot hold them in memory.
func spillers(t testing.TB) map[string]func() exec.Operator {
	tb, _ := manyInts(t, 10, 100)
	in := func() exec.Operator { _, op := manyInts(t, 20_000, 500); return op }
	return map[string]func() exec.Operator{
		"sort": func() exec.Operator { return mustOp(t)(exec.NewSort(in(), []plan.SortKey{{Expr: tb.col(0)}})) },
		"top-n": func() exec.Operator {
			return mustOp(t)(exec.NewTopN(in(), []plan.SortKey{{Expr: tb.col(0)}}, 15_000, 0))
		},
		"aggregate": func() exec.Operator {
			return mustOp(t)(exec.NewHashAgg(in(), exec.CompleteAgg, []expr.Expr{tb.col(0)}, []plan.AggCall{{Name: "count"}}))
		},
		"count distinct": func() exec.Operator {
			return mustOp(t)(exec.NewHashAgg(in(), exec.CompleteAgg, []expr.Expr{call(t, "/", tb.col(0), intConst(5000))},
				[]plan.AggCall{{Name: "count", Args: []expr.Expr{tb.col(0)}, Distinct: true}}))
		},
		"distinct": func() exec.Operator { return exec.NewDistinct(in()) },
		"except":   func() exec.Operator { return exec.NewSetOp(exec.Except, true, in(), exec.NewLimit(in(), 10_000, 0)) },
		"hash join": func() exec.Operator {
			return mustOp(t)(exec.NewHashJoin(exec.HashJoinSpec{Kind: exec.FullJoin, Left: in(), Right: in(),
				LeftKeys: []expr.Expr{tb.col(0)}, RightKeys: []expr.Expr{tb.col(0)}}))
		},
	}
}

// failsWith runs op over a disk that does what it does and expects an error. All
// files must be gone behind it.
func failsWith(t *testing.T, name string, fs vfs.FS, bytesMax int64, op exec.Operator, code string) {
	t.Helper()
	d := newDisk(t, fs, bytesMax)
	c := d.tiny(20_000)
	_, err := exec.Collect(c, op)
	if pgerror.Code(err) != code {
		t.Errorf("%s: %v, want SQLSTATE %s", name, err, code)
	}
	if c.Mem.Used() != 0 {
		t.Errorf("%s: %d bytes still charged", name, c.Mem.Used())
	}
	d.close(t)
}

func TestSpillLimit(t *testing.T) {
	for name, op := range spillers(t) {
		failsWith(t, name, vfs.NewMem(), 30_000, op(), pgerror.ConfigurationLimitExceeded)
	}
}

func TestSpillDiskFull(t *testing.T) {
	for name, op := range spillers(t) {
		full := errorfs.InjectorFunc(func(o errorfs.Op) error {
			if o.Kind == errorfs.OpFileWrite && !strings.HasSuffix(o.Path, "LOCK") {
				return syscall.ENOSPC
			}
			return nil
		})
		failsWith(t, name, errorfs.Wrap(vfs.NewMem(), full), 0, op(), pgerror.DiskFull)
	}
}

func TestSpillReadError(t *testing.T) {
	for name, op := range spillers(t) {
		broken := errorfs.InjectorFunc(func(o errorfs.Op) error {
			if o.Kind == errorfs.OpFileRead {
				return syscall.EIO
			}
			return nil
		})
		failsWith(t, name, errorfs.Wrap(vfs.NewMem(), broken), 0, op(), pgerror.IOError)
	}
}

// A statement that is cancelled, or left half-read, removes its files on Close.
func TestSpillCancel(t *testing.T) {
	for name, op := range spillers(t) {
		d := newDisk(t, vfs.NewMem(), 0)
		c := d.tiny(20_000)
		ctx, cancel := context.WithCancel(context.Background())
		c.Context = ctx
		o := op()
		if err := o.Open(c); err != nil {
			t.Fatal(err)
		}
		for c.Spill.Stats().Files == 0 {
			if b, err := o.Next(); err != nil || b == nil {
				t.Fatalf("%s: nothing was spilled, %v", name, err)
			}
		}
		cancel()
		if _, err := o.Next(); pgerror.Code(err) != pgerror.QueryCanceled {
			t.Errorf("%s: %v", name, err)
		}
		if err := o.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		d.close(t)
	}
}

// A Space takes the files along whatever happened to those who made them.
func TestSpaceCloseRemovesAll(t *testing.T) {
	for name, op := range spillers(t) {
		d := newDisk(t, vfs.NewMem(), 0)
		c := d.tiny(20_000)
		o := op()
		if err := errors.Join(o.Open(c), func() error { _, err := o.Next(); return err }()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Spill.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := o.Close(); err != nil {
			t.Errorf("%s: closed after its files: %v", name, err)
		}
		d.close(t)
	}
}

// A statement spills because the others have taken the node's memory.
func TestNodeMemorySpills(t *testing.T) {
	node := exec.NewMemAccount(10<<20, nil)
	others := exec.NewMemAccount(0, node)
	if err := others.Grow(7 << 20); err != nil {
		t.Fatal(err)
	}
	tb, in := manyInts(t, 60_000, 4000)
	keys := []plan.SortKey{{Expr: tb.col(0)}}
	d := newDisk(t, vfs.NewMem(), 0)
	defer d.close(t)
	c := d.tiny(1 << 30)
	c.Mem = exec.NewMemAccount(1<<30, node)
	op := mustOp(t)(exec.NewSort(in, keys))
	bs, err := exec.Collect(c, op)
	if err != nil || !slices.Equal(texts(bs, op.Types()), tb.sortBy(keys).texts()) {
		t.Error("the order is wrong", err)
	}
	if op.Stats().Spill.Files == 0 || node.Peak() > 10<<20 {
		t.Errorf("%+v, %d bytes of the node", op.Stats().Spill, node.Peak())
	}
	if node.Used() != others.Used() {
		t.Errorf("%d bytes are still charged", c.Mem.Used())
	}
}
