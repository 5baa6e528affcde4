package columnar_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/txn"
)

// forksOf opens a scan that may come in any order, and its forks.
func (w *world) forksOf(tb failer, r *plan.Request, forks int, do func([]*columnar.Scan) error) (ok bool) {
	tb.Helper()
	g := &r.Regions[0]
	n := r.Plan.Nodes[0].(*plan.TableScan)
	v := w.cache.Visit(g.ID, n, nil)
	defer v.Close()
	reader, err := w.store.OpenReader(context.Background(), r.Context(0), txn.ReaderOptions{TS: r.ReadTS, Ranges: g.Ranges})
	if err != nil {
		tb.Fatal(err)
	}
	defer reader.Close()
	sc, err := v.Open(context.Background(), n, readerSource{reader}, g.Ranges, columnar.ScanOptions{Unordered: true, Transient: true})
	if err != nil {
		tb.Fatal(err)
	}
	if sc == nil {
		return false
	}
	all := []*columnar.Scan{sc}
	for range forks {
		all = append(all, sc.Fork())
	}
	defer func() {
		for _, s := range all {
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
		}
	}()
	var locked *txn.LockedError
	if err := do(all); errors.As(err, &locked) {
		return false
	} else if err != nil {
		tb.Fatal(err)
	}
	return true
}

// nextTexts is the next rows of a scan, nil at its end.
func nextTexts(s *columnar.Scan) ([]string, error) {
	raw, err := s.NextRaw()
	if err != nil || raw.Batch == nil {
		return nil, err
	}
	b, err := raw.Gathered(s.Types())
	if err != nil {
		return nil, err
	}
	b = exec.PlainBatch(b, s.Types())
	cols := colvec.OpenAll(b.Cols, s.Types())
	rows := make([]string, b.N)
	for i := range rows {
		for c := range cols {
			rows[i] += show(cols[c].At(i, s.Types()[c])) + "|"
		}
	}
	return rows, nil
}

// compareForks reads by some forks in turns that pick chooses, and compares with
// rows. It returns how many rows came from blocks.
func (w *world) compareForks(tb failer, r *plan.Request, pick func(n int) int) (served uint64) {
	tb.Helper()
	var got []string
	ok := w.forksOf(tb, r, pick(4), func(live []*columnar.Scan) error {
		live = slices.Clone(live)
		for len(live) > 0 {
			i := pick(len(live))
			rows, err := nextTexts(live[i])
			if err != nil {
				return err
			}
			got = append(got, rows...)
			if rows == nil {
				served += live[i].ColumnRows()
				live = slices.Delete(live, i, i+1)
			}
		}
		return nil
	})
	if !ok {
		return 0
	}
	r.Columnar = false
	want := w.read(r)
	slices.Sort(got)
	slices.Sort(want.rows)
	if !slices.Equal(got, want.rows) {
		tb.Fatalf("rows and forks differ\n%s", diff(want.rows, got))
	}
	return served
}

// compareSets is compare for answers in no order. Where there are several locks,
// which are met first depends on which worker of the store comes to its own first.
func (w *world) compareSets(tb failer, r *plan.Request) {
	tb.Helper()
	var answers [2]*answer
	for i := range answers {
		r.Columnar = i == 1
		a, err := run(w.s, r)
		if err != nil {
			tb.Fatal(err)
		}
		slices.Sort(a.rows)
		answers[i] = a
	}
	if len(answers[0].locks) > 0 && len(answers[1].locks) > 0 {
		return
	}
	sameAnswer(tb, answers[0], answers[1])
}

// Forks that run beside each other while others write see what rows show at the
// scan's timestamp, in the forms of columns that share their memory.
func TestForksBesideWriters(t *testing.T) {
	columnar.Spoil(t)
	w := newWorld(t, columnar.Options{BlockRowsMax: 16, BuildRowsMin: -1})
	defer w.close()
	const keys = 300
	var all []mutation
	for i := range int64(keys) {
		all = append(all, number(i, i%7))
	}
	w.put(10, 11, all...)
	served := uint64(0)
	for ts := uint64(20); ts < 500; ts += 20 {
		var some []mutation
		for i := range int64(5) {
			some = append(some, number((int64(ts)*13+i*i*31)%keys, int64(ts)))
		}
		r := request(numbers, w.e.Context(all[0].key), ts+1, true, tableRange(tableID))
		var mu sync.Mutex
		var got []string
		var columns uint64
		w.forksOf(t, r, 0, func(first []*columnar.Scan) error {
			var wg sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				wg.Go(func() {
					f := first[0]
					if i > 0 { // while the first one runs
						f = f.Fork()
						defer func() { errs[i] = errors.Join(errs[i], f.Close()) }()
					}
					for {
						rows, err := nextTexts(f)
						if err != nil || rows == nil {
							errs[i] = err
							mu.Lock()
							columns += f.ColumnRows()
							mu.Unlock()
							return
						}
						mu.Lock()
						got = append(got, rows...)
						mu.Unlock()
					}
				})
			}
			wg.Go(func() { w.put(ts+5, ts+6, some...) })
			wg.Wait()
			return errors.Join(errs...)
		})
		served += columns
		r.Columnar = false
		want := w.read(r)
		slices.Sort(got)
		slices.Sort(want.rows)
		if !slices.Equal(got, want.rows) {
			t.Fatalf("at %d: %s", ts, diff(want.rows, got))
		}
	}
	if served == 0 {
		t.Error("no row came from columns")
	}
}
