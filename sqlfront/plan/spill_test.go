package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/internal/spill"
)

// spillLab runs statements with so little memory that everything goes to disk.
type spillLab struct {
	*lab
	t     *testing.T
	m     *spill.Manager
	files int64
	notes string // EXPLAIN ANALYZE of all of them
}

func newSpillLab(t *testing.T, l *lab) *spillLab {
	m, err := spill.Open(spill.Options{FS: vfs.NewMem(), Dir: "temp"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return &spillLab{lab: l, t: t, m: m}
}

// check runs sql in memory, and on disk by one worker and by three.
func (l *spillLab) check(name, sql string) {
	for _, pushdown := range []bool{true, false} {
		p, err := l.selectPlan(sql, pushdown)
		if err != nil {
			l.t.Fatalf("%s: %v", name, err)
		}
		want, _, err := l.run(p, nil)
		if err != nil {
			l.t.Fatalf("%s: %v", name, err)
		}
		slices.Sort(want)
		for _, workers := range []int{1, 3} {
			mem, space := exec.NewMemAccount(1<<30, nil), l.m.NewSpace(0)
			mem.SetSpillBytes(2000)
			got, r, err := l.runIn(p, nil, workers, mem, space)
			if err != nil {
				l.t.Fatalf("%s, pushdown %v, %d workers: %v", name, pushdown, workers, err)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				l.t.Errorf("%s, pushdown %v, %d workers:\n%s\nwant\n%s", name, pushdown, workers, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if mem.Used() != 0 || l.m.UsedBytes() != 0 {
				l.t.Errorf("%s, %d workers: %d bytes of memory and %d of files were not given back", name, workers, mem.Used(), l.m.UsedBytes())
			}
			l.files += r.Spilled().Files
			l.notes += strings.Join(Explain(p, ExplainOptions{}, r), "\n") + "\n"
		}
	}
}

// TestTPCHSpills runs all queries on disk: the answers are those of memory.
func TestTPCHSpills(t *testing.T) {
	base := tpchLab(t)
	fillTPCH(t, base)
	l := newSpillLab(t, base)
	names, text := tpchQueries(t)
	for _, name := range names {
		l.check(name, text[name])
	}
	if l.files < 1000 {
		t.Errorf("only %d files were written", l.files)
	}
	for _, note := range []string{"Sort Method: external merge  Disk: ", "Disk Usage: ", "Partitions: ", "Worker 1:  "} {
		if !strings.Contains(l.notes, note) {
			t.Errorf("EXPLAIN ANALYZE never says %q", note)
		}
	}
}

// What else keeps rows: WITH, windows, set operations, subqueries.
func TestStatementsSpill(t *testing.T) {
	base := tpchLab(t)
	fillTPCH(t, base)
	l := newSpillLab(t, base)
	for _, sql := range []string{
		"with x as materialized (select l_orderkey, l_quantity from lineitem) select a.l_orderkey, count(*) from x a join x b on a.l_orderkey = b.l_orderkey group by 1",
		"with recursive t(n) as (select 1 union all select n + 1 from t where n < 400) select count(*), sum(n) from t",
		"with recursive t(n) as (select o_orderkey from orders union select (n * 7 + 1) % 1000 from t) select n from t",
		"select l_orderkey, row_number() over (partition by l_orderkey order by l_linenumber), sum(l_quantity) over (partition by l_orderkey) from lineitem",
		"select l_orderkey, rank() over (order by l_orderkey) from lineitem",
		"select l_orderkey from lineitem intersect all select o_orderkey from orders",
		"select o_orderkey from orders except select l_orderkey from lineitem where l_quantity > 50",
		"select l_partkey from lineitem union select p_partkey from part",
		"select distinct on (l_orderkey) l_orderkey, l_linenumber from lineitem order by l_orderkey, l_linenumber desc",
		"select count(distinct l_partkey), count(distinct l_comment), sum(distinct l_quantity) from lineitem",
		"select l_suppkey, count(distinct l_orderkey) from lineitem group by 1",
		"select o_orderkey from orders where o_orderkey not in (select l_orderkey from lineitem where l_quantity > 80)",
		"select a.o_orderkey, b.o_orderkey from orders a full join orders b on a.o_orderkey = b.o_custkey and a.o_totalprice < b.o_totalprice",
		"select o_orderkey, (select count(*) from (with y as materialized (select l_quantity from lineitem where l_orderkey = o_orderkey) select * from y union all select * from y) z) from orders where o_orderkey < 20",
		"select c_name, o_orderkey from customer left join orders on o_custkey < c_custkey and o_orderkey < 10",
		"select l_orderkey, l_linenumber, l_comment from lineitem order by l_shipmode desc, l_quantity, l_orderkey, l_linenumber limit 900 offset 7",
	} {
		l.check(sql, sql)
	}
}
