package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	tikvlog "github.com/pingcap/log"
	"go.uber.org/zap"

	"github.com/copradb/copra/benchmarks/ycsb"
)

type options struct {
	copra, etcd, old string
	dir              string
	systems          []string
	workloads        []string
	threads          []int
	parts            []string
	records          int64
	recordBytes      int
	cell, settle     time.Duration
	repeat, cacheMiB int
	verbose          bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = compare(ctx, o)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.StringVar(&o.copra, "copra", "bin/copra", "the copra binary")
	f.StringVar(&o.etcd, "etcd", "bin/etcdnode", "the etcd binary")
	f.StringVar(&o.old, "old", "", "the copra binary of an earlier build, for the systems old1 and old3")
	f.StringVar(&o.dir, "dir", "", "where the data lives (default a new temporary folder, removed at the end)")
	systems := f.String("systems", "copra1,etcd1,copra3,etcd3,playground", "which systems to measure")
	workloads := f.String("workloads", "load,a,b,c,e,f", "which workloads")
	parts := f.String("parts", "ycsb,get", "which parts: ycsb, get (point gets)")
	threads := f.String("threads", "1,16,64", "numbers of clients")
	f.Int64Var(&o.records, "records", 100_000, "records that are loaded first")
	f.IntVar(&o.recordBytes, "record-bytes", 1000, "size of a record")
	f.DurationVar(&o.cell, "cell", 1500*time.Millisecond, "how long a cell is measured")
	f.DurationVar(&o.settle, "settle", 100*time.Millisecond, "pause between two cells")
	f.IntVar(&o.repeat, "repeat", 3, "repetitions of each cell; the median counts")
	f.IntVar(&o.cacheMiB, "cache-mib", 1024, "block cache of a copra store (etcd uses the page cache)")
	f.BoolVar(&o.verbose, "v", false, "print every single measurement to stderr")
	short := f.Bool("short", false, "a quick look: 20,000 records, one repetition of 1 s")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *short {
		o.records, o.cell, o.repeat = 20_000, time.Second, 1
	}
	if o.records < 1 || o.repeat < 1 || o.cell <= 0 || o.recordBytes < ycsb.FieldCount || o.cacheMiB < 1 {
		return nil, fmt.Errorf("-records, -repeat, -cell and -cache-mib must be more than 0, -record-bytes at least %d", ycsb.FieldCount)
	}
	o.systems, o.workloads, o.parts = strings.Split(*systems, ","), strings.Split(*workloads, ","), strings.Split(*parts, ",")
	for _, s := range o.systems {
		if starters[s] == nil {
			return nil, fmt.Errorf("-systems: %q is not one of copra1, copra3, playground, etcd1, etcd3, old1, old3", s)
		}
		if strings.HasPrefix(s, "old") && o.old == "" {
			return nil, fmt.Errorf("-systems %s needs -old", s)
		}
	}
	for _, w := range o.workloads {
		if _, ok := ycsb.Workloads[w]; !ok && w != "load" {
			return nil, fmt.Errorf("-workloads: %q is not load or one of a to f", w)
		}
	}
	for _, p := range o.parts {
		if p != "ycsb" && p != "get" {
			return nil, fmt.Errorf("-parts: %q is not ycsb or get", p)
		}
	}
	for _, t := range strings.Split(*threads, ",") {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-threads: %q is not a number of clients", t)
		}
		o.threads = append(o.threads, n)
	}
	return o, nil
}

func compare(ctx context.Context, o *options) (err error) {
	tikvlog.ReplaceGlobals(zap.NewNop(), &tikvlog.ZapProperties{Level: zap.NewAtomicLevelAt(zap.ErrorLevel)})
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "copra-compare-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	for _, path := range []*string{&o.copra, &o.etcd, &o.old, &o.dir} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	var systems []*system
	defer func() {
		for _, s := range systems {
			err = errors.Join(err, s.close())
		}
	}()
	for _, name := range o.systems {
		s, err := startSystem(ctx, o, name)
		if err != nil {
			return err
		}
		systems = append(systems, s)
	}
	began := loadAverage()
	r := newRun(o, systems)
	if err := r.measure(ctx); err != nil {
		return err
	}
	fmt.Printf("%d records of %d bytes, cells of %s, medians of %d; load average %s at the start, %s at the end\n\n", o.records, o.recordBytes, o.cell, o.repeat, began, loadAverage())
	return r.print(os.Stdout)
}

// loadAverage is that of the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func (o *options) has(part string) bool {
	for _, p := range o.parts {
		if p == part {
			return true
		}
	}
	return false
}

// ycsbOptions are those of a timed cell.
func (o *options) ycsbOptions(threads int, seed uint64) ycsb.Options {
	return ycsb.Options{Operations: math.MaxInt64, Duration: o.cell, Threads: threads, RecordBytes: o.recordBytes, Seed: seed}
}
