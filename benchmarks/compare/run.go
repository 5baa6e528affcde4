package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/copradb/copra/benchmarks/ycsb"
)

// loadThreads load the records that are there before anything is measured.
const loadThreads = 64

// cell is what is measured: by whom, what, with how many clients.
type cell struct {
	system   string
	workload string
	threads  int
}

// figures of one repetition, or their medians.
type figures struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // of the servers, by operation
	disk      float64       // bytes that a node had written to the disk for each byte of a written record
	perSync   float64       // written records by sync of one node's log; 0: nothing was written
}

type run struct {
	o       *options
	systems []*system
	results map[cell][]figures
}

func newRun(o *options, systems []*system) *run {
	return &run{o: o, systems: systems, results: make(map[cell][]figures)}
}

// measure loads all systems and runs all cells.
func (r *run) measure(ctx context.Context) error {
	for _, s := range r.systems {
		o := r.o.ycsbOptions(loadThreads, 1)
		o.Records, o.Duration, o.Progress = r.o.records, 0, io.Discard
		res, err := ycsb.Load(ctx, s.db, o)
		if err := failed(s, res, err); err != nil {
			return err
		}
		s.records = res.Records
		r.tell("%s: %d records loaded, %.0f/s", s.name, s.records, res.PerSecond())
	}
	for i := range r.o.repeat {
		for _, threads := range r.o.threads {
			if err := r.round(ctx, i, threads); err != nil {
				return err
			}
		}
	}
	return nil
}

// round runs all workloads once; each repetition begins with another system.
func (r *run) round(ctx context.Context, repetition, threads int) error {
	order := slices.Clone(r.systems)
	for range repetition % len(order) {
		order = append(order[1:], order[0])
	}
	if r.o.has("ycsb") {
		for _, w := range r.o.workloads {
			for _, s := range order {
				if err := r.one(ctx, s, s.db, s.name, w, threads, uint64(repetition)); err != nil {
					return err
				}
			}
		}
	}
	if !r.o.has("get") {
		return nil
	}
	for _, s := range order {
		if err := r.one(ctx, s, s.db, s.name, pointGet, threads, uint64(repetition)); err != nil {
			return err
		}
		if s.stale != nil {
			if err := r.one(ctx, s, s.stale, s.name+serializable, pointGet, threads, uint64(repetition)); err != nil {
				return err
			}
		}
	}
	return nil
}

// pointGet is a workload of single reads, of uniformly chosen records.
const (
	pointGet     = "get"
	serializable = ", serializable"
)

func (r *run) one(ctx context.Context, s *system, db ycsb.DB, name, workload string, threads int, seed uint64) error {
	time.Sleep(r.o.settle)
	before, err := s.syncCount(ctx)
	if err != nil {
		return err
	}
	cpuBefore, diskBefore := s.cpu(), s.written()
	o := r.o.ycsbOptions(threads, seed+2)
	o.Records, o.Loaded, o.Progress = s.records, s.records, io.Discard
	var res *ycsb.Result
	switch workload {
	case "load":
		o.Records = math.MaxInt64
		res, err = ycsb.Load(ctx, db, o)
	case pointGet:
		o.Uniform = true
		res, err = ycsb.Run(ctx, db, ycsb.Workloads["c"], o)
	default:
		res, err = ycsb.Run(ctx, db, ycsb.Workloads[workload], o)
	}
	if err := failed(s, res, err); err != nil {
		return err
	}
	cpu, disk := s.cpu()-cpuBefore, s.written()-diskBefore
	s.records = res.Records
	after, err := s.syncCount(ctx)
	if err != nil {
		return err
	}
	all := res.All()
	f := figures{perSecond: res.PerSecond(), p50: all.Percentile(50), p99: all.Percentile(99)}
	f.cpu = cpu / time.Duration(max(all.Count(), 1))
	writes := res.Ops[ycsb.OpInsert].Count() + res.Ops[ycsb.OpUpdate].Count() + res.Ops[ycsb.OpReadModifyWrite].Count()
	if writes > 0 {
		f.disk = disk / float64(s.nodes) / float64(writes) / float64(r.o.recordBytes)
	}
	if syncs := (after - before) / float64(s.nodes); writes > 0 && syncs > 0 {
		f.perSync = float64(writes) / syncs
	}
	c := cell{name, workload, threads}
	r.results[c] = append(r.results[c], f)
	r.tell("%-24s %-5s %3d clients %9.0f/s  p50 %s  p99 %s  cpu %.1f us  %.1f writes/sync", name, workload, threads, f.perSecond, ms(f.p50), ms(f.p99), us(f.cpu), f.perSync)
	return nil
}

func (r *run) tell(format string, args ...any) {
	if r.o.verbose {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}

func failed(s *system, res *ycsb.Result, err error) error {
	if err != nil {
		return fmt.Errorf("%s, %s: %w", s.name, res.Name, err)
	}
	if res.Errors > 0 {
		return fmt.Errorf("%s, %s: %d operations failed; the first: %w", s.name, res.Name, res.Errors, res.First)
	}
	return nil
}

// medians of each figure by itself.
func medians(list []figures) figures {
	return figures{
		perSecond: median(list, func(f figures) float64 { return f.perSecond }),
		p50:       median(list, func(f figures) time.Duration { return f.p50 }),
		p99:       median(list, func(f figures) time.Duration { return f.p99 }),
		cpu:       median(list, func(f figures) time.Duration { return f.cpu }),
		disk:      median(list, func(f figures) float64 { return f.disk }),
		perSync:   median(list, func(f figures) float64 { return f.perSync }),
	}
}

// median of a list that is not empty; of an even number the lower one.
func median[T cmp.Ordered](list []figures, of func(figures) T) T {
	values := make([]T, len(list))
	for i, f := range list {
		values[i] = of(f)
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
