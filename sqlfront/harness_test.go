package sqlfront

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/tikv"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// newTestKV is client-go over its own in-memory store, which knows Percolator
// and pessimistic locks but no coprocessor: plans run here.
func newTestKV(t testing.TB) *tikv.KVStore {
	t.Helper()
	client, cluster, pdClient, err := testutils.NewMockTiKV("", nil)
	if err != nil {
		t.Fatal(err)
	}
	testutils.BootstrapWithSingleStore(cluster)
	store, err := tikv.NewTestTiKVStore(client, pdClient, nil, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func newTestDB(t testing.TB, o Options) *DB {
	t.Helper()
	if o.KV == nil {
		o.KV = newTestKV(t)
	}
	db, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// testClient drives a session as pgwire does.
type testClient struct {
	t *testing.T
	s Session
}

func (db *DB) client(t *testing.T) *testClient {
	t.Helper()
	s, err := db.NewSession(context.Background(), SessionOptions{User: RootUser, Database: "copra"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &testClient{t, s}
}

// simple runs a query string as a simple query and prints what a client sees.
// data is for COPY FROM STDIN.
func (c *testClient) simple(sql, data string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var b strings.Builder
	err := c.runAll(ctx, sql, data, &b)
	for _, n := range c.s.Notices() {
		fmt.Fprintf(&b, "%s: %s\n", n.Severity, n.Message)
	}
	if err != nil {
		c.s.Fail()
		b.WriteString(formatError(err))
	}
	return b.String()
}

func (c *testClient) runAll(ctx context.Context, sql, data string, b *strings.Builder) error {
	stmts, err := c.s.Parse(ctx, sql)
	if err != nil {
		return err
	}
	if len(stmts) > 1 {
		if err := c.s.BeginImplicit(ctx); err != nil {
			return err
		}
	}
	for _, st := range stmts {
		p, err := c.s.Prepare(ctx, st, nil)
		if err == nil {
			err = c.execute(ctx, p, nil, data, b)
		}
		if err != nil {
			if len(stmts) > 1 {
				err = errors.Join(err, c.s.EndImplicit(ctx, false))
			}
			return err
		}
	}
	if len(stmts) > 1 {
		return c.s.EndImplicit(ctx, true)
	}
	return nil
}

func (c *testClient) execute(ctx context.Context, p Prepared, params []sqltypes.Datum, data string, b *strings.Builder) (err error) {
	r, err := c.s.Execute(ctx, p, params)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	switch r.Kind() {
	case ResultRows:
		if err := printRows(ctx, r, b); err != nil {
			return err
		}
	case ResultCopyIn:
		if err := r.CopyFrom(ctx, strings.NewReader(data)); err != nil {
			return err
		}
	case ResultCopyOut:
		var out bytes.Buffer
		if err := r.CopyTo(ctx, &out); err != nil {
			return err
		}
		b.Write(out.Bytes())
	}
	fmt.Fprintf(b, "%s\n", r.Tag())
	return nil
}

func printRows(ctx context.Context, r Result, b *strings.Builder) error {
	var head []string
	for _, c := range r.Columns() {
		head = append(head, c.Name)
	}
	fmt.Fprintf(b, "%s\n", strings.Join(head, " | "))
	for {
		rec, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range int(rec.NumRows()) {
			var cells []string
			for c, col := range r.Columns() {
				if rec.Column(c).IsNull(i) {
					cells = append(cells, "NULL")
				} else {
					cells = append(cells, string(sqltypes.AppendArrowText(nil, col.Type, rec.Column(c), i, nil)))
				}
			}
			fmt.Fprintf(b, "%s\n", strings.Join(cells, " | "))
		}
	}
}

func formatError(err error) string {
	e := pgerror.From(err)
	out := fmt.Sprintf("ERROR %s: %s", e.Code, e.Message)
	if e.Position > 0 {
		out += fmt.Sprintf(" @%d", e.Position)
	}
	for _, x := range []struct{ name, text string }{{"DETAIL", e.Detail}, {"HINT", e.Hint}, {"WHERE", e.Where}} {
		if x.text != "" {
			out += fmt.Sprintf("\n%s: %s", x.name, x.text)
		}
	}
	return out + "\n"
}

// sorted sorts the lines of an output, for answers without an order.
func sorted(out string) string {
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	sort.Strings(lines)
	return strings.Join(lines, "\n") + "\n"
}
