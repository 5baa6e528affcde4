package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/copradb/copra/sqlfront/catalog"
)

// tpchRows are the tables' sizes at scale 0.1.
var tpchRows = map[string]int64{"region": 5, "nation": 25, "supplier": 1000, "customer": 15000, "part": 20000,
	"partsupp": 80000, "orders": 150000, "lineitem": 600572}

// tpchDistinct are the distinct counts of columns that joins and filters use.
var tpchDistinct = map[string]int64{
	"n_regionkey": 5, "s_nationkey": 25, "c_nationkey": 25, "c_mktsegment": 5, "p_brand": 25, "p_container": 40, "p_type": 150,
	"p_size": 50, "ps_partkey": 20000, "ps_suppkey": 1000, "o_custkey": 10000, "o_orderstatus": 3, "o_orderdate": 2406,
	"l_orderkey": 150000, "l_partkey": 20000, "l_suppkey": 1000, "l_returnflag": 3, "l_linestatus": 2, "l_shipmode": 7,
	"l_shipdate": 2526, "l_quantity": 50, "r_name": 5, "n_name": 25, "l_shipinstruct": 4, "o_orderpriority": 5,
}

func tpchLab(t *testing.T) *lab {
	t.Helper()
	l := newLab()
	ddl, err := os.ReadFile("testdata/tpch/schema.ddl")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ddl(string(ddl)); err != nil {
		t.Fatal(err)
	}
	for name, rows := range tpchRows {
		tab := l.tables[name]
		s := catalog.Stats{Rows: rows, Distinct: map[uint32]int64{}}
		for _, c := range tab.Columns {
			if d := tpchDistinct[c.Name]; d > 0 {
				s.Distinct[c.ID] = d
			}
		}
		l.stats[tab.ID] = s
	}
	return l
}

func tpchQueries(t *testing.T) (names []string, text map[string]string) {
	t.Helper()
	files, err := filepath.Glob("testdata/tpch/*.sql")
	if err != nil || len(files) != 22 {
		t.Fatalf("%d queries, %v", len(files), err)
	}
	text = map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".sql")
		names, text[name] = append(names, name), string(b)
	}
	sort.Strings(names)
	return names, text
}

// TestTPCHPlans holds the plans of all 22 queries.
func TestTPCHPlans(t *testing.T) {
	l := tpchLab(t)
	_, text := tpchQueries(t)
	datadriven.RunTest(t, "testdata/tpch/plans.txt", func(t *testing.T, d *datadriven.TestData) string {
		p, err := l.selectPlan(text[d.CmdArgs[0].Key], true)
		if err != nil {
			return errorText(err)
		}
		return strings.Join(Explain(p, ExplainOptions{Costs: true}, nil), "\n") + "\n"
	})
}

// TestTPCHRuns runs all queries over a few thousand rows made up here, with and
// without pushdown.
func TestTPCHRuns(t *testing.T) {
	l := tpchLab(t)
	fillTPCH(t, l)
	_, text := tpchQueries(t)
	datadriven.RunTest(t, "testdata/tpch/rows.txt", func(t *testing.T, d *datadriven.TestData) string {
		out, err := l.both(text[d.CmdArgs[0].Key], true)
		if err != nil {
			return errorText(err)
		}
		return out
	})
}

// fillTPCH makes rows that every query finds some of.
func fillTPCH(t *testing.T, l *lab) {
	t.Helper()
	pick := func(i int, list ...string) string { return list[i%len(list)] }
	insert := func(table string, rows []string) {
		if err := l.insert("insert into " + table + " values " + strings.Join(rows, ", ")); err != nil {
			t.Fatalf("%s: %v", table, err)
		}
	}
	var rows []string
	for i, r := range []string{"AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"} {
		rows = append(rows, fmt.Sprintf("(%d, '%s', '')", i, r))
	}
	insert("region", rows)
	rows = nil
	for i, n := range []string{"BRAZIL", "CANADA", "FRANCE", "GERMANY", "SAUDI ARABIA", "CHINA"} {
		rows = append(rows, fmt.Sprintf("(%d, '%s', %d, '')", i, n, []int{1, 1, 3, 3, 4, 2}[i]))
	}
	insert("nation", rows)
	rows = nil
	for i := range 24 {
		rows = append(rows, fmt.Sprintf("(%d, 'Supplier%d', 'a%d', %d, '%d-555', %d.50, '%s')", i, i, i, i%6, 10+i, 100+i,
			pick(i, "", "x Customer y Complaints", "fine")))
	}
	insert("supplier", rows)
	rows = nil
	for i := range 60 {
		rows = append(rows, fmt.Sprintf("(%d, 'Customer%d', 'a', %d, '%d-555', %d.25, '%s', '')", i, i, i%6,
			[]int{13, 31, 23, 29, 30, 18, 17, 40}[i%8], i*7-20, pick(i, "BUILDING", "MACHINERY")))
	}
	insert("customer", rows)
	rows = nil
	for i := range 80 {
		rows = append(rows, fmt.Sprintf("(%d, '%s part %d', 'M', '%s', '%s', %d, '%s', %d.00, '')", i, pick(i, "forest green", "green", "plum"), i,
			pick(i, "Brand#12", "Brand#23", "Brand#34", "Brand#45"), pick(i, "ECONOMY ANODIZED STEEL", "PROMO BRASS", "MEDIUM POLISHED TIN"),
			[]int{15, 3, 1, 49, 5}[i%5], pick(i/4, "MED BOX", "SM CASE", "LG BOX"), 900+i))
	}
	insert("part", rows)
	rows = nil
	for i := range 80 {
		for k := range 3 {
			rows = append(rows, fmt.Sprintf("(%d, %d, %d, %d.10, '')", i, (i+k*7)%24, 10+i*k, 5+(i*k)%11))
		}
	}
	insert("partsupp", rows)
	var lines []string
	rows = nil
	for i := range 300 {
		date := fmt.Sprintf("199%d-%02d-%02d", 2+i%6, 1+i%12, 1+i%28)
		rows = append(rows, fmt.Sprintf("(%d, %d, '%s', %d.00, '%s', '%s', 'clerk', 0, '%s')", i, (i*7)%55, pick(i, "F", "O"), 1000+i, date,
			pick(i, "1-URGENT", "2-HIGH", "3-MEDIUM"), pick(i, "", "special xx requests")))
		for k := range 1 + i%5 {
			part := (i*3 + k) % 80
			lines = append(lines, fmt.Sprintf("(%d, %d, %d, %d, %d, %d.50, 0.0%d, 0.02, '%s', '%s', date '%s' + %d, date '%s' + %d, date '%s' + %d, '%s', '%s', '')",
				i, part, (part+(k%3)*7)%24, k, 5+(i*k*13)%95, 100+i, (i+k)%9, pick(i, "R", "A", "N"), pick(k, "O", "F"),
				date, k+1, date, 5+k%3, date, 4+(i+k)%6, pick(k, "DELIVER IN PERSON", "NONE"), pick(i, "AIR", "MAIL", "SHIP", "AIR REG")))
		}
	}
	insert("orders", rows)
	insert("lineitem", lines)
}
