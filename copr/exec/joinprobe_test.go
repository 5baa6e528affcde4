package exec_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// rawOp returns a table's rows in encoded columns, selected out of batches that
// also have rows of junk.
type rawOp struct {
	exec.Operator
	raws []exec.Raw
	at   int
}

func (r *rawOp) Open(ctx *exec.Ctx) error { r.at = 0; return r.Operator.Open(ctx) }

func (r *rawOp) NextRaw() (exec.Raw, error) {
	if r.at == len(r.raws) {
		return exec.Raw{}, nil
	}
	r.at++
	return r.raws[r.at-1], nil
}

// raw is op as encoded columns and selections, drawn at random.
func (tb *table) raw(t *rapid.T) exec.Operator {
	out := &rawOp{Operator: exec.NewBatches(tb.types)}
	dicts := map[int]arrow.Array{}
	for lo := 0; lo < len(tb.rows); {
		n := min(rapid.IntRange(1, 8).Draw(t, "rows"), len(tb.rows)-lo)
		var all [][]sqltypes.Datum
		var sel []int32
		for _, r := range tb.rows[lo : lo+n] {
			for rapid.IntRange(0, 3).Draw(t, "junk") == 0 {
				all = append(all, tb.rows[rapid.IntRange(0, len(tb.rows)-1).Draw(t, "row")])
			}
			sel = append(sel, int32(len(all)))
			all = append(all, r)
		}
		if len(all) == n {
			sel = nil
		}
		whole := (&table{types: tb.types, rows: all}).batch(t, 0, len(all))
		for c := range whole.Cols {
			if rapid.Bool().Draw(t, "encoded") {
				whole.Cols[c] = encode(whole.Cols[c], tb.types[c], dicts, c)
			}
		}
		out.raws = append(out.raws, exec.Raw{Batch: whole, Sel: sel})
		lo += n
	}
	return out
}

// encode encodes a column if it can be; columns may share a dictionary.
func encode(a arrow.Array, typ sqltypes.Type, dicts map[int]arrow.Array, c int) arrow.Array {
	v := colvec.Open(a, typ)
	valid := make([]byte, (v.N+7)/8)
	for i := range v.N {
		if !v.IsNull(i) {
			valid[i>>3] |= 1 << (i & 7)
		}
	}
	switch v.Kind {
	case colvec.Decimal:
		vals := make([]int64, v.N)
		for i := range vals {
			d, ok := colvec.ToDec64(v.Dec[i])
			if !ok && !v.IsNull(i) {
				return a
			}
			vals[i] = d
		}
		return colvec.NewDec64(vals, valid, v.Nulls)
	case colvec.String, colvec.Binary:
		codes := make([]int32, v.N)
		if dict := dicts[c]; dict != nil && codesOf(&v, dict, typ, codes) {
			return colvec.NewDict(dict, codes, valid, v.Nulls)
		}
		b := colvec.NewBuilder(typ, v.N)
		have := map[string]bool{}
		for i := range v.N {
			if s := string(v.BytesAt(i)); !v.IsNull(i) && !have[s] {
				have[s] = true
				b.AppendFrom(&v, i)
			}
		}
		dict, err := b.Finish()
		if err != nil {
			panic(err)
		}
		dicts[c] = dict
		codesOf(&v, dict, typ, codes)
		return colvec.NewDict(dict, codes, valid, v.Nulls)
	}
	return a
}

func codesOf(v *colvec.Vec, dict arrow.Array, typ sqltypes.Type, codes []int32) bool {
	at := map[string]int32{}
	d := colvec.Open(dict, typ)
	for i := range d.N {
		at[string(d.BytesAt(i))] = int32(i)
	}
	for i := range codes {
		if v.IsNull(i) {
			continue
		}
		code, ok := at[string(v.BytesAt(i))]
		if !ok {
			return false
		}
		codes[i] = code
	}
	return true
}

// runProbes runs several probes of one table, each by a goroutine, and collects
// what all of them return.
func runProbes(t *rapid.T, c *exec.Ctx, probes []exec.Operator, done func()) []string {
	outs, errs := make([][]string, len(probes)), make([]error, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() {
			bs, err := exec.Collect(c, p)
			outs[i], errs[i] = texts(bs, p.Types()), err
		})
	}
	wg.Wait()
	done()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.Mem.Used() != 0 {
		t.Fatal("memory still charged after Close:", c.Mem.Used())
	}
	return slices.Concat(outs...)
}

// Joins of encoded columns and selections, with any of their columns returned,
// by one probe or several, are joins by definition.
func TestHashJoinOfRawRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.IntRange(1, 3).Draw(t, "keys")
		types := append(drawTypes(t, keys+1), sqltypes.Int4)
		all := drawTable(t, types, 40)
		cut := rapid.IntRange(0, len(all.rows)).Draw(t, "cut")
		r := &table{types: types, rows: all.rows[cut:]}
		l := &table{types: types, rows: all.rows[:cut]}
		kind := rapid.SampledFrom(joinKinds).Draw(t, "kind")
		spec := exec.JoinTableSpec{Kind: kind, Right: r.raw(t), LeftTypes: types, Workers: 2}
		for c := range keys {
			spec.LeftKeys, spec.RightKeys = append(spec.LeftKeys, l.col(c)), append(spec.RightKeys, r.col(c))
		}
		last := len(types) - 1
		residual := rapid.Bool().Draw(t, "residual")
		if residual {
			e, err := expr.NewOperator("<", l.col(last), &expr.Column{Index: len(types) + last, Typ: types[last]})
			if err != nil {
				t.Fatal(err)
			}
			spec.Residual = []expr.Expr{e}
		} else if kind == exec.AntiJoin && keys == 1 {
			spec.NullAware = rapid.Bool().Draw(t, "null aware")
		}
		match := matchOf(types, keys, last, residual)
		first, end := 0, 2*len(types)
		switch kind {
		case exec.SemiJoin, exec.AntiJoin:
			end = len(types)
		case exec.RightSemiJoin, exec.RightAntiJoin:
			first = len(types)
		}
		var out []int
		for c := first; c < end; c++ {
			if rapid.Bool().Draw(t, "out") {
				out = append(out, c)
			}
		}
		if len(out) == 0 || rapid.Bool().Draw(t, "all") {
			out = nil
		}
		spec.Out = out
		table, err := exec.NewJoinTable(spec)
		if err != nil {
			t.Fatal(err)
		}
		var probes []exec.Operator
		n := rapid.IntRange(1, 3).Draw(t, "probes")
		for i := range n {
			part := *l
			part.rows = l.rows[len(l.rows)*i/n : len(l.rows)*(i+1)/n]
			probes = append(probes, exec.NewHashProbe(part.raw(t), table))
		}
		want := sorted(naiveJoinOut(kind, l, r, spec.NullAware, match, out))
		d := newDisk(t, vfs.NewMem(), 0)
		defer d.close(t)
		for i, c := range []*exec.Ctx{ctx(), d.tiny(rapid.Int64Range(8, 3000).Draw(t, "memory")), ctx()} { // a table can be built again
			what := fmt.Sprintf("hash join %d by %d probes, run %d", kind, n, i)
			got := runProbes(t, c, probes, func() {
				if err := table.Close(); err != nil {
					t.Fatal(err)
				}
			})
			equal(t, what, sorted(got), want)
		}
	})
}

// naiveJoinOut is naiveJoin with some of the columns only.
func naiveJoinOut(kind exec.JoinKind, l, r *table, nullAware bool, match func(a, b []sqltypes.Datum) truth, out []int) []string {
	if out == nil {
		return naiveJoin(kind, l, r, nullAware, match)
	}
	rows, first := naiveJoinRows(kind, l, r, nullAware, match), 0
	if kind >= exec.RightSemiJoin {
		first = len(l.types)
	}
	types := slices.Concat(l.types, r.types)
	var texts []string
	for _, row := range rows {
		var part []sqltypes.Datum
		var some []sqltypes.Type
		for _, c := range out {
			part, some = append(part, row[c-first]), append(some, types[c])
		}
		texts = append(texts, rowText(some, part))
	}
	return texts
}

// A probe that waits for another one's table gives up when it is cancelled.
func TestJoinTableBuildFails(t *testing.T) {
	l, r := ints(1), ints(1)
	bad := exec.NewSource("bad", r.types, func(*exec.Ctx) (exec.Source, error) { return nil, context.Canceled })
	table, err := exec.NewJoinTable(exec.JoinTableSpec{Right: bad, LeftTypes: l.types,
		LeftKeys: []expr.Expr{l.col(0)}, RightKeys: []expr.Expr{r.col(0)}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := exec.NewHashProbe(plain(l, t), table)
		if _, err := exec.Collect(ctx(), p); err == nil {
			t.Error("a table that could not be built was probed")
		}
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
}
