package tpch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/copradb/copra/benchmarks"
)

// System is a database under comparison.
type System interface {
	Name() string
	// PID is its process on this machine, 0 if it isn't known.
	PID() int
	Load(context.Context, LoadOptions) ([]Loaded, error)
	// Query returns the rows as text, and what the query took.
	Query(ctx context.Context, sql string) ([]string, time.Duration, error)
	Close() error
}

// Postgres is a System behind PostgreSQL's protocol: copra, or PostgreSQL.
type Postgres struct {
	name string
	pid  int
	conn *pgx.Conn
	opts LoadOptions // on top of the common ones
}

// NewPostgres connects and makes settings, see Set. indexes says whether to
// create those of indexes.sql.
func NewPostgres(ctx context.Context, name, dsn string, indexes bool, settings ...string) (*Postgres, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	if err := Set(ctx, conn, settings); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	c := conn.Config()
	return &Postgres{name: name, conn: conn, pid: benchmarks.ListenerPID(c.Host, c.Port), opts: LoadOptions{Indexes: indexes}}, nil
}

// Set makes session settings, each name=value. PostgreSQL takes those of copra,
// too: a name with a dot is an extension's.
func Set(ctx context.Context, conn *pgx.Conn, settings []string) error {
	for _, s := range settings {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("setting %q: want name=value", s)
		}
		if _, err := conn.Exec(ctx, "SELECT set_config($1, $2, false)", name, value); err != nil {
			return fmt.Errorf("setting %q: %w", s, err)
		}
	}
	return nil
}

// Name implements System.
func (p *Postgres) Name() string { return p.name }

// PID implements System.
func (p *Postgres) PID() int { return p.pid }

// Close implements System.
func (p *Postgres) Close() error { return p.conn.Close(context.Background()) }

// Load implements System.
func (p *Postgres) Load(ctx context.Context, o LoadOptions) ([]Loaded, error) {
	o.Indexes = p.opts.Indexes
	return Load(ctx, p.conn, o)
}

// Query implements System.
func (p *Postgres) Query(ctx context.Context, sql string) ([]string, time.Duration, error) {
	started := time.Now()
	rows, err := query(ctx, p.conn, sql)
	return rows, time.Since(started), err
}

// Compared is what one system did.
type Compared struct {
	System  string
	Loaded  []Loaded
	Runs    []Measured
	PeakRSS int64 // bytes, 0 = unknown
}

// Compare loads the systems one after the other and then runs every query on
// each of them in turn. The first system's answers are compared with the second
// one's, if that one speaks PostgreSQL's protocol, too.
func Compare(ctx context.Context, systems []System, o LoadOptions, load bool, queries []int, repeat int) ([]Compared, error) {
	out := make([]Compared, len(systems))
	for i, s := range systems {
		out[i].System = s.Name()
		watch := benchmarks.WatchMemory(s.PID())
		defer watch.Stop()
		defer func() { out[i].PeakRSS = watch.Stop() }()
		if _, fresh := s.(*DuckDB); !load && !fresh {
			continue
		}
		fmt.Fprintf(o.Progress, "loading %s\n", s.Name())
		tables, err := s.Load(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", s.Name(), err)
		}
		out[i].Loaded = tables
	}
	for _, q := range queries {
		text, err := queryText(o.Dir, q)
		if err != nil {
			return nil, err
		}
		var answers [][]string
		for i, s := range systems {
			m, rows := measure(ctx, s, text, repeat)
			if m.Query = q; ctx.Err() != nil {
				return nil, ctx.Err()
			}
			answers = append(answers, rows)
			out[i].Runs = append(out[i].Runs, m)
			fmt.Fprintf(o.Progress, "Q%-2d %-10s %10.1f ms\n", q, s.Name(), ms(m.Median()))
		}
		judge(out, systems, answers)
	}
	return out, nil
}

func measure(ctx context.Context, s System, text string, repeat int) (m Measured, rows []string) {
	for range repeat + 1 {
		var took time.Duration
		if rows, took, m.Err = s.Query(ctx, text); m.Err != nil {
			break
		}
		m.Times, m.Rows = append(m.Times, took), len(rows)
	}
	return m, rows
}

// judge compares the answers to the last query.
func judge(out []Compared, systems []System, answers [][]string) {
	if len(systems) < 2 {
		return
	}
	if _, ok := systems[1].(*Postgres); !ok {
		return
	}
	mine, theirs := out[0].Runs, out[1].Runs
	if m := &mine[len(mine)-1]; m.Err == nil && theirs[len(theirs)-1].Err == nil {
		m.Checked = true
		m.Diff = difference(answers[0], answers[1])
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// PrintCompared writes the tables: loads, queries with the first system's ratios
// to the others, memory.
func PrintCompared(w io.Writer, all []Compared) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(first string, cell func(i int, c Compared) string, ratio func(i int) string) {
		fmt.Fprint(t, first, "\t")
		for i, c := range all {
			fmt.Fprint(t, cell(i, c), "\t")
		}
		for i := 1; i < len(all); i++ {
			fmt.Fprint(t, ratio(i), "\t")
		}
		fmt.Fprintln(t)
	}
	head := func(first string) {
		line(first, func(_ int, c Compared) string { return c.System }, func(i int) string { return "/ " + all[i].System })
	}
	row := func(first, format string, value func(c Compared) float64) {
		line(first, func(_ int, c Compared) string { return fmt.Sprintf(format, value(c)) }, func(i int) string {
			if value(all[i]) == 0 {
				return ""
			}
			return fmt.Sprintf("%.2f", value(all[0])/value(all[i]))
		})
	}
	if len(all[0].Loaded) > 0 {
		head("load, s")
		for k, l := range all[0].Loaded {
			row(l.Table, "%.2f", func(c Compared) float64 { return c.Loaded[k].Elapsed.Seconds() })
		}
		row("all tables", "%.2f", func(c Compared) float64 {
			sum := time.Duration(0)
			for _, l := range c.Loaded {
				sum += l.Elapsed
			}
			return sum.Seconds()
		})
		fmt.Fprintln(t)
	}
	head("query, ms")
	for k, m := range all[0].Runs {
		row(fmt.Sprint(m.Query), "%.1f", func(c Compared) float64 { return ms(c.Runs[k].Median()) })
	}
	row("sum", "%.1f", func(c Compared) float64 {
		sum := time.Duration(0)
		for _, m := range c.Runs {
			sum += m.Median()
		}
		return ms(sum)
	})
	row("first runs", "%.1f", func(c Compared) float64 {
		sum := time.Duration(0)
		for _, m := range c.Runs {
			if len(m.Times) > 0 {
				sum += m.Times[0]
			}
		}
		return ms(sum)
	})
	fmt.Fprintln(t)
	head("memory, MB")
	row("peak", "%.0f", func(c Compared) float64 { return float64(c.PeakRSS) / 1e6 })
	return t.Flush()
}

// Failures are the queries that failed or gave a wrong answer, as text.
func Failures(all []Compared) []string {
	var out []string
	for _, c := range all {
		for _, m := range c.Runs {
			if !m.OK() {
				out = append(out, fmt.Sprintf("%s, query %d: %s", c.System, m.Query, m.verdict()))
			}
		}
	}
	return slices.Clip(out)
}
