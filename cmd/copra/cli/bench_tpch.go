package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/copradb/copra/benchmarks/tpch"
	"github.com/copradb/copra/internal/config"
)

// benchTPCH is what copra bench tpch was asked for.
type benchTPCH struct {
	dsn, dir, queries, postgres, duckdb string
	set                                 []string
	generate                            int64
	repeat                              int
	load, run                           bool
	o                                   tpch.LoadOptions
}

func newBenchTPCH() *cobra.Command {
	var configFile string
	var b benchTPCH
	cmd := &cobra.Command{
		Use:   "tpch",
		Short: "Load TPC-H with COPY, run the queries, compare answers and other systems",
		Long: `Generates TPC-H data, loads it from a folder with <table>.tbl[.gz], runs the 22 queries and compares
the rows with the folder's answers/NN.txt, where it has them. A wrong answer makes the command fail.

  copra bench tpch --generate 1 --data /tmp/sf1                    write the data of scale factor 1
  copra bench tpch --data /tmp/sf1                                 load it and run all queries
  copra bench tpch --data /tmp/sf1 --load=false --queries 1,6      run some again
  copra bench tpch --data /tmp/sf1 --dsn 'host=/tmp dbname=x'      another Postgres server

Side by side with others, every query on each system in turn (medians, load times, peak memory):

  copra bench tpch --data /tmp/sf1 --postgres 'host=127.0.0.1 dbname=postgres' --duckdb ~/duck

--postgres is another Postgres server, which gets the indexes on foreign keys, too, and whose answers
copra's must equal. --duckdb is a folder in which "npm install @duckdb/node-api" has been run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if b.dir == "" {
				return errors.New("--data is required: the folder with the tables")
			}
			b.o.Dir, b.o.Progress = b.dir, progressWriter(cmd)
			if b.generate != 0 {
				return tpch.Generate(b.dir, b.generate)
			}
			list, err := queryList(b.queries)
			if err != nil {
				return err
			}
			if b.postgres != "" || b.duckdb != "" {
				return b.compare(cmd.Context(), cmd.OutOrStdout(), list)
			}
			return b.alone(cmd, list)
		},
	}
	f := cmd.Flags()
	f.StringVar(&configFile, config.FileFlag, "", "TOML file with settings, by flag name")
	f.StringVar(&b.dsn, "dsn", defaultDSN, "the Postgres server")
	f.StringSliceVar(&b.set, "set", []string{"copra.result_cache=off"}, "session settings of the server, name=value; a query is asked several times and is to be computed each time")
	f.StringVar(&b.dir, "data", "", "folder with the data")
	f.Int64Var(&b.generate, "generate", 0, "write the data of this scale factor (1 = 1 GB) to --data, and end")
	f.StringVar(&b.queries, "queries", "1-22", "which queries, as 1,3,5-7")
	f.IntVar(&b.repeat, "repeat", 3, "runs after the first; the median of them counts")
	f.BoolVar(&b.load, "load", true, "load the tables")
	f.BoolVar(&b.run, "run", true, "run the queries")
	f.BoolVar(&b.o.Replace, "replace", true, "drop the tables before the load")
	f.BoolVar(&b.o.Indexes, "indexes", false, "create the indexes of indexes.sql")
	f.BoolVar(&b.o.Analyze, "analyze", true, "ANALYZE after the load")
	f.StringVar(&b.postgres, "postgres", "", "DSN of a PostgreSQL to compare with")
	f.StringVar(&b.duckdb, "duckdb", "", "folder with node_modules/@duckdb/node-api, to compare with DuckDB")
	return cmd
}

// alone runs against one server.
func (b *benchTPCH) alone(cmd *cobra.Command, queries []int) error {
	conn, err := pgx.Connect(cmd.Context(), b.dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(cmd.Context()) }()
	if err := tpch.Set(cmd.Context(), conn, b.set); err != nil {
		return err
	}
	if b.load {
		tables, err := tpch.Load(cmd.Context(), conn, b.o)
		if err != nil {
			return err
		}
		if err := tpch.PrintLoad(cmd.OutOrStdout(), tables); err != nil {
			return err
		}
	}
	if !b.run {
		return nil
	}
	results, err := tpch.Run(cmd.Context(), conn, b.dir, queries, b.repeat, b.o.Progress)
	if err != nil {
		return err
	}
	if err := tpch.PrintRun(cmd.OutOrStdout(), results); err != nil {
		return err
	}
	return failed(tpch.Failures([]tpch.Compared{{System: "the server", Runs: results}}), len(results))
}

// compare runs against several systems.
func (b *benchTPCH) compare(ctx context.Context, out io.Writer, queries []int) (err error) {
	var systems []tpch.System
	defer func() {
		for _, s := range systems {
			err = errors.Join(err, s.Close())
		}
	}()
	ours, err := tpch.NewPostgres(ctx, "copra", b.dsn, b.o.Indexes, b.set...)
	if err != nil {
		return err
	}
	systems = append(systems, ours)
	if b.postgres != "" {
		pg, err := tpch.NewPostgres(ctx, "postgres", b.postgres, true)
		if err != nil {
			return err
		}
		systems = append(systems, pg)
	}
	if b.duckdb != "" {
		duck, err := tpch.NewDuckDB(b.duckdb, b.dir, runtime.GOMAXPROCS(0))
		if err != nil {
			return err
		}
		systems = append(systems, duck)
	}
	if !b.run {
		queries = nil
	}
	all, err := tpch.Compare(ctx, systems, b.o, b.load, queries, b.repeat)
	if err != nil {
		return err
	}
	if err := tpch.PrintCompared(out, all); err != nil {
		return err
	}
	return failed(tpch.Failures(all), len(queries)*len(systems))
}

func failed(failures []string, of int) error {
	if len(failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d queries failed or gave a wrong answer:\n  %s", len(failures), of, strings.Join(failures, "\n  "))
}
