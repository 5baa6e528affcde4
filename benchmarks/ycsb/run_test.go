package ycsb

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

// mapDB is a table in memory, which knows when it is asked for what isn't there.
type mapDB struct {
	mu   sync.Mutex
	rows map[string][]byte
}

func (d *mapDB) Prepare(context.Context) error { return nil }
func (d *mapDB) Close() error                  { return nil }

func (d *mapDB) Read(_ context.Context, _ int, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows[key] == nil {
		return fmt.Errorf("record %s not found", key)
	}
	return nil
}

func (d *mapDB) Scan(ctx context.Context, worker int, key string, _ int) error {
	return d.Read(ctx, worker, key)
}

func (d *mapDB) Update(ctx context.Context, worker int, key string, _ int, fields [][]byte) error {
	if err := d.Read(ctx, worker, key); err != nil {
		return err
	}
	return d.Insert(ctx, worker, key, fields)
}

func (d *mapDB) Insert(_ context.Context, _ int, key string, fields [][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[key] = bytes.Join(fields, nil)
	return nil
}

// Every record that a workload asks for has been loaded, and what it inserts
// comes behind the others.
func TestWorkloadsFindTheirRecords(t *testing.T) {
	ctx, db := context.Background(), &mapDB{rows: map[string][]byte{}}
	o := Options{Records: 500, Operations: 2000, Threads: 1, RecordBytes: 1000, Seed: 7, Progress: io.Discard}
	load := func() {
		r, err := Load(ctx, db, o)
		if err != nil || r.Errors > 0 || r.Records != o.Records || int64(len(db.rows)) != o.Records {
			t.Fatalf("load: %v, %+v, %d rows", err, r, len(db.rows))
		}
	}
	load()
	o.Loaded, o.Records = 500, 800
	load()
	for key, v := range db.rows {
		if len(v) != o.RecordBytes {
			t.Fatalf("record %s has %d bytes", key, len(v))
		}
	}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		r, err := Run(ctx, db, Workloads[name], o)
		if err != nil || r.Errors > 0 {
			t.Fatalf("workload %s: %v, %d errors: %v", name, err, r.Errors, r.First)
		}
		if r.All().Count() != o.Operations {
			t.Errorf("workload %s recorded %d operations", name, r.All().Count())
		}
		if o.Records = r.Records; int64(len(db.rows)) != o.Records {
			t.Errorf("workload %s leaves %d records and says %d", name, len(db.rows), o.Records)
		}
	}
}

func TestDurationEndsAPhase(t *testing.T) {
	db := &mapDB{rows: map[string][]byte{}}
	o := Options{Records: 1 << 40, Duration: time.Millisecond, Threads: 2, RecordBytes: 100, Progress: io.Discard}
	r, err := Load(context.Background(), db, o)
	if err != nil || r.Records != int64(len(db.rows)) || r.Elapsed < o.Duration {
		t.Errorf("load: %v, %d records of %d, in %s", err, r.Records, len(db.rows), r.Elapsed)
	}
}
