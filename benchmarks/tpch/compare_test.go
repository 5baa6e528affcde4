package tpch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fake answers every query with its rows.
type fake struct {
	name  string
	fails string // queries with this text
	took  time.Duration
	asked []string
}

func (f *fake) Name() string { return f.name }
func (f *fake) PID() int     { return os.Getpid() }
func (f *fake) Close() error { return nil }
func (f *fake) Load(context.Context, LoadOptions) ([]Loaded, error) {
	return []Loaded{{Table: "region", Rows: 5, Elapsed: f.took}}, nil
}

func (f *fake) Query(_ context.Context, sql string) ([]string, time.Duration, error) {
	f.asked = append(f.asked, sql)
	if f.fails != "" && strings.Contains(sql, f.fails) {
		return nil, 0, errors.New("no")
	}
	return []string{"1|a"}, f.took, nil
}

func TestCompare(t *testing.T) {
	a, b := &fake{name: "a", took: 20 * time.Millisecond, fails: "l_shipmode in ('MAIL', 'SHIP')"}, &fake{name: "b", took: 10 * time.Millisecond}
	var progress strings.Builder
	all, err := Compare(context.Background(), []System{a, b}, LoadOptions{Dir: t.TempDir(), Progress: &progress}, true, []int{1, 12}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.asked) != 6 || len(a.asked) != 4 {
		t.Errorf("asked %d and %d times, want 4 (one failure) and 6", len(a.asked), len(b.asked))
	}
	if got := Failures(all); len(got) != 1 || got[0] != "a, query 12: no" {
		t.Errorf("failures: %q", got)
	}
	if all[0].PeakRSS == 0 {
		t.Error("this process has no memory")
	}
	var out strings.Builder
	if err := PrintCompared(&out, all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"load, s a b / b", "region 0.02 0.01 2.00", "1 20.0 10.0 2.00", "12 0.0 10.0 0.00", "sum 20.0 20.0 1.00"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct {
		got, want []string
		diff      string
	}{
		{[]string{"a", "b"}, []string{"a", "b"}, ""},
		{[]string{"a"}, []string{"a", "b"}, "row 2 is missing: b"},
		{[]string{"a", "b"}, []string{"a"}, "row 2 is too many: b"},
		{[]string{"a", "x"}, []string{"a", "b"}, `row 2 is "x", expected "b"`},
	} {
		if d := difference(c.got, c.want); d != c.diff {
			t.Errorf("%v and %v: %q, want %q", c.got, c.want, d, c.diff)
		}
	}
}

// What a data folder lacks, the program has; what it has, counts.
func TestTexts(t *testing.T) {
	dir := t.TempDir()
	for q := 1; q <= 22; q++ {
		if s, err := queryText(dir, q); err != nil || !strings.Contains(s, "select") {
			t.Errorf("query %d: %q, %v", q, s, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "indexes.sql"), []byte("create index a on b (c);\n;create index d on e (f)"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := statements(dir, "indexes.sql")
	if err != nil || len(got) != 2 || got[1] != "create index d on e (f)" {
		t.Errorf("statements %q, %v", got, err)
	}
	if _, _, err := tablePath(dir, "region"); err == nil || !strings.Contains(err.Error(), "--generate") {
		t.Errorf("a missing table: %v", err)
	}
}

// Tables appear when they are complete, without go-tpc's quotes.
func TestTableFile(t *testing.T) {
	dir := t.TempDir()
	for _, complete := range []bool{false, true} {
		f, err := newTableFile(dir, "nation")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Write([]byte("0|A|\" b\"\n")); n != 9 || err != nil {
			t.Fatal(n, err)
		}
		if err := f.finish(complete); err != nil {
			t.Fatal(err)
		}
		files, _ := os.ReadDir(dir)
		if len(files) != map[bool]int{true: 1}[complete] {
			t.Errorf("complete %v: %v", complete, files)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "nation.tbl")); err != nil || string(b) != "0|A| b\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := Generate(dir, 0); err == nil {
		t.Error("scale 0 was taken")
	}
}
