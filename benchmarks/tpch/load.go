package tpch

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/copradb/copra/benchmarks"
)

// Tables in the order in which they load.
var Tables = []string{"region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"}

// LoadOptions say what to load where.
type LoadOptions struct {
	Dir      string
	Replace  bool // drop the tables first
	Indexes  bool // run indexes.sql
	Analyze  bool
	Progress io.Writer
}

// Loaded is what one table took.
type Loaded struct {
	Table   string
	Rows    int64
	Bytes   int64
	Elapsed time.Duration
}

// Load creates and fills the tables.
func Load(ctx context.Context, conn *pgx.Conn, o LoadOptions) ([]Loaded, error) {
	if o.Replace {
		for _, t := range Tables {
			if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS "+t); err != nil {
				return nil, err
			}
		}
	}
	if err := runFile(ctx, conn, o.Dir, "schema.sql"); err != nil {
		return nil, err
	}
	var out []Loaded
	for _, t := range Tables {
		l, err := loadTable(ctx, conn, t, o)
		if err != nil {
			return out, fmt.Errorf("load %s: %w", t, err)
		}
		out = append(out, l)
	}
	if o.Indexes {
		if err := runFile(ctx, conn, o.Dir, "indexes.sql"); err != nil {
			return out, err
		}
	}
	if o.Analyze {
		for _, t := range Tables {
			if _, err := conn.Exec(ctx, "ANALYZE "+t); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func runFile(ctx context.Context, conn *pgx.Conn, dir, name string) error {
	stmts, err := statements(dir, name)
	if err != nil {
		return err
	}
	for _, stmt := range stmts {
		if _, err := conn.Exec(ctx, stmt, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%s: %w in %q", name, err, stmt)
		}
	}
	return nil
}

// counted counts the compressed bytes that were read.
type counted struct {
	r io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func loadTable(ctx context.Context, conn *pgx.Conn, table string, o LoadOptions) (Loaded, error) {
	path, size, err := tablePath(o.Dir, table)
	if err != nil {
		return Loaded{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return Loaded{}, err
	}
	defer func() { _ = f.Close() }()
	in := &counted{r: f}
	var data io.Reader = in
	if strings.HasSuffix(path, ".gz") {
		if data, err = gzip.NewReader(in); err != nil {
			return Loaded{}, err
		}
	}
	bar := benchmarks.StartProgress(o.Progress, table, size, in.n.Load)
	started := time.Now()
	tag, err := conn.PgConn().CopyFrom(ctx, data, "COPY "+table+" FROM STDIN WITH (DELIMITER '|')")
	elapsed := time.Since(started)
	bar.Done()
	return Loaded{Table: table, Rows: tag.RowsAffected(), Bytes: size, Elapsed: elapsed}, err
}

// tablePath is the file of a table in a data folder, and its size in bytes.
func tablePath(dir, table string) (path string, size int64, err error) {
	path = filepath.Join(dir, table+".tbl")
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		path += ".gz"
		info, err = os.Stat(path)
	}
	if err != nil {
		return "", 0, fmt.Errorf("table %s: %w (copra bench tpch --generate makes the data)", table, err)
	}
	return path, info.Size(), nil
}
