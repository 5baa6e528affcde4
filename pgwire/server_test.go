package pgwire

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func start(t *testing.T, f *fakeFrontend) *Server {
	t.Helper()
	s, err := Start(Options{Frontend: f, Addr: "127.0.0.1:0", ConnectionsMax: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func connect(t *testing.T, s *Server, params string) *pgx.Conn {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.Addr())
	c, err := pgx.Connect(context.Background(), "host="+host+" port="+port+" user=root dbname=copra sslmode=prefer "+params)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func sqlstate(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestExtendedQuery(t *testing.T) {
	f := &fakeFrontend{}
	c := connect(t, start(t, f), "")
	var n int32
	var text *string
	if err := c.QueryRow(context.Background(), "echo", int32(42), "hello").Scan(&n, &text); err != nil {
		t.Fatal(err)
	}
	if n != 42 || text == nil || *text != "hello" {
		t.Errorf("echo returned %d, %v", n, text)
	}
	if err := c.QueryRow(context.Background(), "echo", nil, nil).Scan(new(*int32), &text); err != nil || text != nil {
		t.Errorf("nulls came back as %v, %v", text, err)
	}
	if got := f.taken(); !reflect.DeepEqual(got, []string{"execute echo", "execute echo"}) {
		t.Errorf("a lone Execute must stay in autocommit: %q", got)
	}
}

func TestSimpleQueryManyStatements(t *testing.T) {
	f := &fakeFrontend{}
	c := connect(t, start(t, f), "")
	results, err := c.PgConn().Exec(context.Background(), "rows 2; notice; rows 1").ReadAll()
	if err != nil || len(results) != 3 || len(results[0].Rows) != 2 || string(results[0].Rows[1][1]) != "row 1" {
		t.Fatalf("%v, %d results", err, len(results))
	}
	want := []string{"begin implicit", "execute rows 2", "execute notice", "execute rows 1", "end implicit true"}
	if got := f.taken(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = c.PgConn().Exec(context.Background(), "rows 1; fails; rows 1").ReadAll()
	if sqlstate(err) != "23505" {
		t.Errorf("error %v", err)
	}
	want = []string{"begin implicit", "execute rows 1", "execute fails", "end implicit false"}
	if got := f.taken(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestErrorsKeepTheConnection(t *testing.T) {
	c := connect(t, start(t, &fakeFrontend{}), "")
	for _, tc := range []struct{ sql, code string }{
		{"bad", "42601"}, {"fails", "23505"}, {"fails late", "22012"}, {"fails at commit", "40001"},
	} {
		if _, err := c.Exec(context.Background(), tc.sql, pgx.QueryExecModeSimpleProtocol); sqlstate(err) != tc.code {
			t.Errorf("simple %q: %v, want %s", tc.sql, err, tc.code)
		}
		rows, err := c.Query(context.Background(), tc.sql)
		if err == nil {
			for rows.Next() {
			}
			err = rows.Err()
		}
		if sqlstate(err) != tc.code {
			t.Errorf("extended %q: %v, want %s", tc.sql, err, tc.code)
		}
	}
	if _, err := c.Exec(context.Background(), "rows 1"); err != nil {
		t.Errorf("the connection is broken: %v", err)
	}
}

func TestPipelineIsOneTransaction(t *testing.T) {
	f := &fakeFrontend{}
	c := connect(t, start(t, f), "")
	batch := &pgx.Batch{}
	batch.Queue("rows 1")
	batch.Queue("rows 2")
	if err := c.SendBatch(context.Background(), batch).Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"begin implicit", "execute rows 1", "execute rows 2", "end implicit true"}
	if got := f.taken(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTransactionStatus(t *testing.T) {
	c := connect(t, start(t, &fakeFrontend{}), "")
	ctx := context.Background()
	for _, step := range []struct {
		sql  string
		want byte
	}{{"begin", 'T'}, {"fails", 'E'}, {"commit", 'I'}} {
		_, _ = c.Exec(ctx, step.sql, pgx.QueryExecModeSimpleProtocol)
		if got := c.PgConn().TxStatus(); got != step.want {
			t.Errorf("after %q the status is %c, want %c", step.sql, got, step.want)
		}
	}
}

func TestCopy(t *testing.T) {
	c := connect(t, start(t, &fakeFrontend{}), "")
	ctx := context.Background()
	big := strings.Repeat("1\tx\n", 100_000)
	tag, err := c.PgConn().CopyFrom(ctx, strings.NewReader(big), "copy in")
	if err != nil || tag.String() != "COPY 100000" {
		t.Errorf("copy in: %v, %v", tag, err)
	}
	if _, err := c.PgConn().CopyFrom(ctx, strings.NewReader(big), "copy in strict"); sqlstate(err) != "22P04" {
		t.Errorf("copy in strict: %v", err)
	}
	if _, err := c.PgConn().CopyFrom(ctx, io.MultiReader(strings.NewReader("1\tx\n"), failingReader{}), "copy in"); err == nil {
		t.Error("a COPY that the client gave up succeeded")
	}
	var out strings.Builder
	if tag, err = c.PgConn().CopyTo(ctx, &out, "copy out"); err != nil || out.String() != "0\tx\n1\tx\n2\tx\n" {
		t.Errorf("copy out: %v, %v, %q", tag, err, out.String())
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errFake }

func TestCancel(t *testing.T) {
	f := &fakeFrontend{}
	c := connect(t, start(t, f), "")
	done := make(chan error, 1)
	go func() {
		_, err := c.PgConn().Exec(context.Background(), "wait").ReadAll()
		done <- err
	}()
	host := c.PgConn()
	for {
		if err := host.CancelRequest(context.Background()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if sqlstate(err) != "57014" {
				t.Errorf("cancelled statement: %v", err)
			}
			return
		default:
		}
	}
}

func TestScram(t *testing.T) {
	verifier, err := NewVerifier("secret", []byte("0123456789abcdef"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, &fakeFrontend{verifier: verifier})
	connect(t, s, "password=secret")
	host, port, _ := net.SplitHostPort(s.Addr())
	for _, password := range []string{"wrong", ""} {
		_, err := pgx.Connect(context.Background(), "host="+host+" port="+port+" user=root dbname=copra password='"+password+"'")
		if err == nil {
			t.Errorf("password %q was accepted", password)
		} else if code := sqlstate(err); code != "28P01" && password != "" {
			t.Errorf("password %q: %v", password, err)
		}
	}
}

func TestStartupRefusals(t *testing.T) {
	s := start(t, &fakeFrontend{})
	host, port, _ := net.SplitHostPort(s.Addr())
	for _, tc := range []struct{ dsn, code string }{
		{"user=nobody dbname=copra", "28000"}, {"user=root dbname=other", "3D000"},
		{"user=root dbname=copra replication=database", "0A000"}, {"user=root dbname=copra sslmode=require", ""},
	} {
		_, err := pgx.Connect(context.Background(), "host="+host+" port="+port+" "+tc.dsn)
		if err == nil || sqlstate(err) != tc.code {
			t.Errorf("%s: %v, want SQLSTATE %q", tc.dsn, err, tc.code)
		}
	}
}

// suspended portals: two cursors read in turns, the first one buffered.
func TestPortalsInTurns(t *testing.T) {
	f := &fakeFrontend{}
	s := start(t, f)
	c := connect(t, s, "")
	fe := c.PgConn().Frontend()
	portal := func(name, sql string) {
		fe.Send(&pgproto3.Parse{Name: name, Query: sql})
		fe.Send(&pgproto3.Bind{DestinationPortal: name, PreparedStatement: name})
	}
	portal("a", "rows 3")
	portal("b", "rows 2")
	for _, name := range []string{"a", "b", "a", "b", "a", "a"} {
		fe.Send(&pgproto3.Execute{Portal: name, MaxRows: 1})
	}
	fe.Send(&pgproto3.Sync{})
	if err := fe.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		msg, err := fe.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			got = append(got, string(m.Values[1]))
		case *pgproto3.PortalSuspended:
			got = append(got, "suspended")
		case *pgproto3.CommandComplete:
			got = append(got, string(m.CommandTag))
		case *pgproto3.ErrorResponse:
			t.Fatalf("error %s %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			want := []string{"row 0", "suspended", "row 0", "suspended", "row 1", "suspended", "row 1", "suspended", "row 2", "suspended", "SELECT 3"}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
			return
		}
	}
}

// FuzzFrames feeds arbitrary bytes after a valid startup: the server must
// neither panic nor hang, whatever comes.
func FuzzFrames(f *testing.F) {
	query, _ := (&pgproto3.Query{String: "rows 1"}).Encode(nil)
	parse, _ := (&pgproto3.Parse{Name: "x", Query: "echo"}).Encode(nil)
	f.Add(query)
	f.Add(append(parse, "B\x00\x00\x00\x05\xff"...))
	f.Add([]byte("Q\xff\xff\xff\xff"))
	f.Add([]byte("X\x00\x00\x00\x04"))
	f.Add([]byte("d\x00\x00\x00\x04E\x00\x00\x00\x09\x00\x00\x00\x00\x00"))
	s, err := Start(Options{Frontend: &fakeFrontend{}, Addr: "127.0.0.1:0", ConnectionsMax: 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Stop)
	startup, _ := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "root", "database": "copra"}}).Encode(nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "wait") {
			return // blocks by design until it is cancelled
		}
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write(append(append([]byte(nil), startup...), data...)); err != nil {
			return
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatal(err)
		}
	})
}
