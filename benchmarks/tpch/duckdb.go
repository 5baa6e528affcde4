package tpch

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed duckdb.js
var duckdbProgram string

// duckdbLineBytesMax bounds one answer of the program.
const duckdbLineBytesMax = 256 << 20

// DuckDB is a System that runs in a process of node.
type DuckDB struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	dir  string // of the database, removed at the end
	data string
}

// NewDuckDB starts DuckDB on a fresh database file. modules is a folder in
// which `npm install @duckdb/node-api` has been run, data the folder of tables.
func NewDuckDB(modules, data string, threads int) (*DuckDB, error) {
	modules, err := filepath.Abs(modules)
	if err != nil {
		return nil, err
	}
	if data, err = filepath.Abs(data); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "copra-duckdb-*")
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "duckdb.js")
	if err := os.WriteFile(program, []byte(duckdbProgram), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	d := &DuckDB{dir: dir, data: data, cmd: exec.Command("node", program, filepath.Join(dir, "tpch.duckdb"), modules, strconv.Itoa(threads))}
	d.cmd.Stderr = os.Stderr
	in, err1 := d.cmd.StdinPipe()
	out, err2 := d.cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	d.in, d.out = in, bufio.NewScanner(out)
	d.out.Buffer(nil, duckdbLineBytesMax)
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start node for DuckDB: %w", err), os.RemoveAll(dir))
	}
	return d, nil
}

// Name implements System.
func (d *DuckDB) Name() string { return "duckdb" }

// PID implements System.
func (d *DuckDB) PID() int { return d.cmd.Process.Pid }

// Close ends the process and removes the database.
func (d *DuckDB) Close() error {
	_ = d.in.Close()
	return errors.Join(d.cmd.Wait(), os.RemoveAll(d.dir))
}

type duckdbAnswer struct {
	Error string
	NS    int64
	Count int
	Rows  [][]string
}

func (d *DuckDB) ask(sql string, rows bool) (*duckdbAnswer, error) {
	q, err := json.Marshal(map[string]any{"sql": sql, "rows": rows})
	if err != nil {
		return nil, err
	}
	if _, err := d.in.Write(append(q, '\n')); err != nil {
		return nil, fmt.Errorf("DuckDB's process: %w", err)
	}
	if !d.out.Scan() {
		if err := d.out.Err(); err != nil {
			return nil, fmt.Errorf("DuckDB's process: %w", err)
		}
		return nil, errors.New("DuckDB's process ended; is @duckdb/node-api installed in the folder of --duckdb?")
	}
	var a duckdbAnswer
	if err := json.Unmarshal(d.out.Bytes(), &a); err != nil {
		return nil, fmt.Errorf("DuckDB's process answered %q: %w", d.out.Text(), err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return &a, nil
}

// Load implements System: primary keys only, as DuckDB's own advice is.
func (d *DuckDB) Load(_ context.Context, o LoadOptions) ([]Loaded, error) {
	stmts, err := statements(d.data, "schema.sql")
	if err != nil {
		return nil, err
	}
	for _, s := range stmts {
		if _, err := d.ask(s, false); err != nil {
			return nil, err
		}
	}
	var out []Loaded
	for _, t := range Tables {
		path, size, err := tablePath(d.data, t)
		if err != nil {
			return out, err
		}
		a, err := d.ask(fmt.Sprintf("COPY %s FROM '%s' (DELIMITER '|', HEADER false, QUOTE '')", t, strings.ReplaceAll(path, "'", "''")), true)
		if err != nil {
			return out, fmt.Errorf("load %s: %w", t, err)
		}
		l := Loaded{Table: t, Bytes: size, Elapsed: time.Duration(a.NS)}
		if len(a.Rows) == 1 {
			l.Rows, _ = strconv.ParseInt(a.Rows[0][0], 10, 64) // what it reports, for the table only
		}
		out = append(out, l)
	}
	_, err = d.ask("ANALYZE", false)
	return out, err
}

// Query implements System. The time is that inside of node, without the
// conversion of rows to text.
func (d *DuckDB) Query(_ context.Context, sql string) ([]string, time.Duration, error) {
	a, err := d.ask(sql, true)
	if err != nil {
		return nil, 0, err
	}
	rows := make([]string, len(a.Rows))
	for i, r := range a.Rows {
		rows[i] = strings.Join(r, "|")
	}
	return rows, time.Duration(a.NS), nil
}
