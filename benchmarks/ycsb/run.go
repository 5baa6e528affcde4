package ycsb

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/copradb/copra/benchmarks"
)

// FieldCount is the number of fields of a record, as in YCSB.
const FieldCount = 10

// scanLengthMax is YCSB's default for workload E.
const scanLengthMax = 100

// DB is a system under test. Methods are called from many goroutines, each
// with its own worker number.
type DB interface {
	// Prepare makes the table, if the system has such a thing.
	Prepare(ctx context.Context) error
	Read(ctx context.Context, worker int, key string) error
	Scan(ctx context.Context, worker int, key string, count int) error
	// Update writes the one field where the system has fields, else all of them.
	Update(ctx context.Context, worker int, key string, field int, fields [][]byte) error
	Insert(ctx context.Context, worker int, key string, fields [][]byte) error
	Close() error
}

// Options of a run.
type Options struct {
	// Records is how many to load, or how many there are.
	Records int64
	// Loaded is how many there are before Load, which adds the rest.
	Loaded     int64
	Operations int64
	// Duration, if not 0, ends a phase before its operations are done.
	Duration    time.Duration
	Threads     int
	RecordBytes int
	Uniform     bool
	Seed        uint64
	Progress    io.Writer
}

// Result is what one phase measured.
type Result struct {
	Name    string
	Elapsed time.Duration
	Records int64 // that exist now
	Errors  int64
	First   error // the first error
	Ops     [opCount]*benchmarks.Histogram
}

// All has the durations of all operations.
func (r *Result) All() *benchmarks.Histogram {
	all := &benchmarks.Histogram{}
	for _, h := range r.Ops {
		all.Merge(h)
	}
	return all
}

// PerSecond is the rate of successful operations.
func (r *Result) PerSecond() float64 {
	var n int64
	for _, h := range r.Ops {
		n += h.Count()
	}
	return float64(n) / r.Elapsed.Seconds()
}

func newResult(name string) *Result {
	r := &Result{Name: name}
	for i := range r.Ops {
		r.Ops[i] = &benchmarks.Histogram{}
	}
	return r
}

// Load inserts records, from number o.Loaded to o.Records.
func Load(ctx context.Context, db DB, o Options) (*Result, error) {
	result := newResult("load")
	var inserted atomic.Int64
	err := drive(ctx, o, o.Records-o.Loaded, result, func(ctx context.Context, worker int, n int64, r *rand.Rand) (Op, error) {
		inserted.Add(1)
		return OpInsert, db.Insert(ctx, worker, keyName(o.Loaded+n), fields(r, o.RecordBytes))
	})
	result.Records = o.Loaded + inserted.Load()
	return result, err
}

// Run runs a workload over loaded records.
func Run(ctx context.Context, db DB, w Workload, o Options) (*Result, error) {
	result := newResult(w.Name)
	k := newKeys(o.Records, o.Uniform, w.Latest)
	err := drive(ctx, o, o.Operations, result, func(ctx context.Context, worker int, _ int64, r *rand.Rand) (Op, error) {
		op := w.next(r)
		return op, one(ctx, db, k, op, worker, r, o)
	})
	result.Records = k.records.Load()
	return result, err
}

func one(ctx context.Context, db DB, k *keys, op Op, worker int, r *rand.Rand, o Options) error {
	switch op {
	case OpRead:
		return db.Read(ctx, worker, keyName(k.choose(r)))
	case OpUpdate:
		return db.Update(ctx, worker, keyName(k.choose(r)), r.IntN(FieldCount), fields(r, o.RecordBytes))
	case OpInsert:
		return db.Insert(ctx, worker, keyName(k.insert()), fields(r, o.RecordBytes))
	case OpScan:
		return db.Scan(ctx, worker, keyName(k.choose(r)), 1+r.IntN(scanLengthMax))
	default:
		key := keyName(k.choose(r))
		if err := db.Read(ctx, worker, key); err != nil {
			return err
		}
		return db.Update(ctx, worker, key, r.IntN(FieldCount), fields(r, o.RecordBytes))
	}
}

func fields(r *rand.Rand, recordBytes int) [][]byte {
	out := make([][]byte, FieldCount)
	for i := range out {
		out[i] = value(r, recordBytes/FieldCount)
	}
	return out
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

const lettersPerDraw = 10 // of 6 bits each

func value(r *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := 0; i < n; {
		for bits, end := r.Uint64(), min(i+lettersPerDraw, n); i < end; i++ {
			out[i] = letters[bits&63]
			bits >>= 6
		}
	}
	return out
}

// drive spreads total operations over the threads and measures each.
func drive(ctx context.Context, o Options, total int64, result *Result, do func(ctx context.Context, worker int, n int64, r *rand.Rand) (Op, error)) error {
	var (
		next, done atomic.Int64
		wg         sync.WaitGroup
		once       sync.Once
	)
	bar := benchmarks.StartProgress(o.Progress, "ycsb "+result.Name, total, done.Load)
	started := time.Now()
	over := func() bool { return o.Duration > 0 && time.Since(started) >= o.Duration }
	for worker := range o.Threads {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(o.Seed, uint64(worker)))
			for ctx.Err() == nil && !over() {
				n := next.Add(1) - 1
				if n >= total {
					return
				}
				t := time.Now()
				op, err := do(ctx, worker, n, r)
				if err == nil {
					result.Ops[op].Record(time.Since(t))
				} else if ctx.Err() == nil {
					atomic.AddInt64(&result.Errors, 1)
					once.Do(func() { result.First = fmt.Errorf("%s: %w", op, err) })
				}
				done.Add(1)
			}
		}()
	}
	wg.Wait()
	result.Elapsed = time.Since(started)
	bar.Done()
	return ctx.Err()
}

// Print writes a table: a line per operation with its percentiles.
func (r *Result) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "workload\toperation\tcount\tops/s\tmean\tp50\tp95\tp99\tp99.9\tmax\t\n")
	for op, h := range r.Ops {
		if h.Count() == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Name, Op(op), h.Count(), float64(h.Count())/r.Elapsed.Seconds(),
			ms(h.Mean()), ms(h.Percentile(50)), ms(h.Percentile(95)), ms(h.Percentile(99)), ms(h.Percentile(99.9)), ms(h.Max()))
	}
	fmt.Fprintf(t, "%s\tall\t\t%.0f\t\t\t\t\t\t\t\n", r.Name, r.PerSecond())
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Errors > 0 {
		_, err := fmt.Fprintf(w, "%d operations failed; the first: %v\n", r.Errors, r.First)
		return err
	}
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2fms", float64(d)/float64(time.Millisecond)) }
