package tpch

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// Measured is one query's times and whether its answer was right.
type Measured struct {
	Query   int
	Times   []time.Duration // first run first
	Rows    int
	Err     error
	Checked bool // there was an expected answer
	Diff    string
}

// Median of the runs after the first, or the only run.
func (m Measured) Median() time.Duration {
	times := slices.Clone(m.Times)
	if len(times) > 1 {
		times = times[1:]
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// OK reports whether the query ran and gave the expected answer, if any.
func (m Measured) OK() bool { return m.Err == nil && m.Diff == "" }

// Run runs the queries, each 1 + repeat times.
func Run(ctx context.Context, conn *pgx.Conn, dir string, queries []int, repeat int, progress io.Writer) ([]Measured, error) {
	var out []Measured
	for _, q := range queries {
		text, err := queryText(dir, q)
		if err != nil {
			return out, err
		}
		m := Measured{Query: q}
		for range repeat + 1 {
			started := time.Now()
			answer, err := query(ctx, conn, text)
			if m.Err = err; err != nil {
				break
			}
			m.Times = append(m.Times, time.Since(started))
			m.Rows = len(answer)
			if m.Diff, m.Checked, err = compare(dir, q, answer); err != nil {
				return out, err
			}
		}
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		fmt.Fprintf(progress, "Q%-2d %10.1f ms  %s\n", q, float64(m.Median().Microseconds())/1000, m.verdict())
		out = append(out, m)
	}
	return out, nil
}

func (m Measured) verdict() string {
	switch {
	case m.Err != nil:
		return m.Err.Error()
	case m.Diff != "":
		return "WRONG: " + m.Diff
	case !m.Checked:
		return fmt.Sprintf("%d rows", m.Rows)
	}
	return fmt.Sprintf("%d rows, as expected", m.Rows)
}

// query returns the rows as psql -At -F '|' prints them.
func query(ctx context.Context, conn *pgx.Conn, sql string) ([]string, error) {
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range results {
		for _, row := range r.Rows {
			cells := make([]string, len(row))
			for i, cell := range row {
				cells[i] = string(cell)
			}
			out = append(out, strings.Join(cells, "|"))
		}
	}
	return out, nil
}

func compare(dir string, q int, got []string) (diff string, checked bool, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "answers", fmt.Sprintf("%02d.txt", q)))
	if os.IsNotExist(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	want := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	if len(raw) == 0 {
		want = nil
	}
	return difference(got, want), true, nil
}

// difference is the first row in which two answers differ, "" if there is none.
func difference(got, want []string) string {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("row %d is missing: %s", i+1, want[i])
		case i >= len(want):
			return fmt.Sprintf("row %d is too many: %s", i+1, got[i])
		case got[i] != want[i]:
			return fmt.Sprintf("row %d is %q, expected %q", i+1, got[i], want[i])
		}
	}
	return ""
}

// PrintRun writes the table of a run.
func PrintRun(w io.Writer, results []Measured) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "query\tfirst ms\tmedian ms\trows\tanswer\t\n")
	var sum time.Duration
	for _, m := range results {
		first, answer := 0.0, "right"
		if len(m.Times) > 0 {
			first = float64(m.Times[0].Microseconds()) / 1000
		}
		switch {
		case m.Err != nil:
			answer = "failed"
		case m.Diff != "":
			answer = "WRONG"
		case !m.Checked:
			answer = "not checked"
		}
		sum += m.Median()
		fmt.Fprintf(t, "%d\t%.1f\t%.1f\t%d\t%s\t\n", m.Query, first, float64(m.Median().Microseconds())/1000, m.Rows, answer)
	}
	fmt.Fprintf(t, "sum\t\t%.1f\t\t\t\n", float64(sum.Microseconds())/1000)
	return t.Flush()
}

// PrintLoad writes the table of a load.
func PrintLoad(w io.Writer, tables []Loaded) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "table\trows\tseconds\trows/s\t\n")
	var sum time.Duration
	for _, l := range tables {
		sum += l.Elapsed
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.0f\t\n", l.Table, l.Rows, l.Elapsed.Seconds(), float64(l.Rows)/max(l.Elapsed.Seconds(), 1e-9))
	}
	fmt.Fprintf(t, "sum\t\t%.2f\t\t\n", sum.Seconds())
	return t.Flush()
}
