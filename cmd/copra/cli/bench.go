package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	tikvlog "github.com/pingcap/log"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/copradb/copra/benchmarks/ycsb"
	"github.com/copradb/copra/internal/config"
)

const defaultDSN = "host=127.0.0.1 port=5433 user=root dbname=copra"

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Load generators: YCSB and TPC-H, against copra or another Postgres or TiKV server",
		Long: `Load generators that speak public protocols only, so that the same load runs against copra
and against others: compare figures of one run on one machine.`,
	}
	cmd.AddCommand(newBenchYCSB(), newBenchTPCH())
	return cmd
}

func newBenchYCSB() *cobra.Command {
	var (
		configFile, workloads, distribution string
		to                                  benchTarget
		o                                   = ycsb.Options{Seed: 42}
		load                                bool
	)
	cmd := &cobra.Command{
		Use:   "ycsb",
		Short: "Run YCSB's core workloads A to F over raw KV, transactions or SQL",
		Long: `Loads records and runs YCSB's core workloads.

  copra bench ycsb --target raw                       raw KV through TiKV's client
  copra bench ycsb --target txn --threads 64          transactions (async commit, 1PC)
  copra bench ycsb --target sql --workloads a,b,c     prepared statements over SQL
  copra bench ycsb --target sql --dsn 'host=/tmp …'   another Postgres server
  copra bench ycsb --target etcd --etcd host:port     etcd, reads linearizable

make bench compares raw KV with etcd, side by side.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Records < 1 || o.Operations < 1 || o.Threads < 1 || o.RecordBytes < ycsb.FieldCount {
				return fmt.Errorf("--records, --operations and --threads must be at least 1, --record-bytes at least %d", ycsb.FieldCount)
			}
			switch distribution {
			case "zipfian":
			case "uniform":
				o.Uniform = true
			default:
				return fmt.Errorf("--distribution %q: want zipfian or uniform", distribution)
			}
			list, err := workloadList(workloads)
			if err != nil {
				return err
			}
			o.Progress = progressWriter(cmd)
			quietClientLogs()
			return runYCSB(cmd, to, list, load, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&configFile, config.FileFlag, "", "TOML file with settings, by flag name")
	f.StringVar(&to.kind, "target", "sql", "raw, txn, sql or etcd")
	f.StringVar(&to.pd, "pd", "127.0.0.1:2379", "placement drivers, for raw and txn")
	f.StringVar(&to.dsn, "dsn", defaultDSN, "Postgres server, for sql")
	f.StringVar(&to.etcd, "etcd", "127.0.0.1:2379", "members of an etcd cluster, comma separated, for etcd")
	f.StringVar(&workloads, "workloads", "a,b,c,d,e,f", "which workloads to run, in order")
	f.StringVar(&distribution, "distribution", "zipfian", "zipfian or uniform")
	f.BoolVar(&load, "load", true, "load the records first")
	f.Int64Var(&o.Records, "records", 100_000, "records to load")
	f.Int64Var(&o.Operations, "operations", 100_000, "operations per workload")
	f.IntVar(&o.Threads, "threads", 16, "concurrent clients")
	f.IntVar(&o.RecordBytes, "record-bytes", 1000, "size of a record")
	return cmd
}

func workloadList(text string) ([]ycsb.Workload, error) {
	var out []ycsb.Workload
	for _, name := range splitList(text) {
		w, ok := ycsb.Workloads[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("--workloads %q: %q is not one of a to f", text, name)
		}
		out = append(out, w)
	}
	return out, nil
}

// benchTarget is what a workload runs on.
type benchTarget struct{ kind, pd, dsn, etcd string }

// etcdConnections is how many the clients share, to each member: as many as
// client-go has to each store.
const etcdConnections = 4

func (t benchTarget) open(ctx context.Context, threads int) (ycsb.DB, error) {
	switch t.kind {
	case "raw", "txn":
		pds, err := endpoints(t.pd)
		if err != nil {
			return nil, err
		}
		if t.kind == "raw" {
			return ycsb.OpenRaw(ctx, pds)
		}
		return ycsb.OpenTxn(pds)
	case "sql":
		return ycsb.OpenSQL(ctx, t.dsn, threads)
	case "etcd":
		return ycsb.OpenEtcd(ctx, ycsb.EtcdOptions{Endpoints: splitList(t.etcd), Connections: etcdConnections})
	}
	return nil, fmt.Errorf("--target %q: want raw, txn, sql or etcd", t.kind)
}

func runYCSB(cmd *cobra.Command, to benchTarget, list []ycsb.Workload, load bool, o ycsb.Options) (err error) {
	ctx := cmd.Context()
	db, err := to.open(ctx, o.Threads)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Prepare(ctx); err != nil {
		return err
	}
	var failed int64
	report := func(r *ycsb.Result, err error) error {
		if err != nil {
			return err
		}
		failed += r.Errors
		return r.Print(cmd.OutOrStdout())
	}
	if load {
		if err := report(ycsb.Load(ctx, db, o)); err != nil {
			return err
		}
	}
	for _, w := range list {
		r, err := ycsb.Run(ctx, db, w, o)
		if err := report(r, err); err != nil {
			return err
		}
		o.Records = r.Records // with what the workload inserted
	}
	if failed > 0 {
		return fmt.Errorf("%d operations failed", failed)
	}
	return nil
}

// queryList reads 1,3,5-7.
func queryList(text string) ([]int, error) {
	var out []int
	for _, part := range splitList(text) {
		lo, hi, isRange := strings.Cut(part, "-")
		from, err1 := strconv.Atoi(lo)
		to, err2 := from, error(nil)
		if isRange {
			to, err2 = strconv.Atoi(hi)
		}
		if err1 != nil || err2 != nil || from < 1 || to > 22 || from > to {
			return nil, fmt.Errorf("--queries %q: want numbers from 1 to 22, like 1,3,5-7", text)
		}
		for q := from; q <= to; q++ {
			out = append(out, q)
		}
	}
	return out, nil
}

// progressWriter draws on a terminal only.
func progressWriter(cmd *cobra.Command) io.Writer {
	if f, ok := cmd.ErrOrStderr().(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return f
		}
	}
	return io.Discard
}

// quietClientLogs keeps client-go's log lines out of the tables.
func quietClientLogs() {
	tikvlog.ReplaceGlobals(zap.NewNop(), &tikvlog.ZapProperties{Level: zap.NewAtomicLevelAt(zap.ErrorLevel)})
}
