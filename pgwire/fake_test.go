package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
	"github.com/copradb/copra/sqlfront/ast"
)

// fakeFrontend understands a handful of statements, enough to drive the
// protocol, and records what reached it.
type fakeFrontend struct {
	verifier string

	mu  sync.Mutex
	log []string
}

func (f *fakeFrontend) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

func (f *fakeFrontend) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.log
	f.log = nil
	return out
}

func (f *fakeFrontend) Credentials(_ context.Context, user string) (sqlfront.Credentials, error) {
	if user == "nobody" {
		return sqlfront.Credentials{}, pgerror.New(pgerror.InvalidAuthorization, "role %q does not exist", user)
	}
	return sqlfront.Credentials{User: user, Verifier: f.verifier}, nil
}

func (f *fakeFrontend) NewSession(_ context.Context, o sqlfront.SessionOptions) (sqlfront.Session, error) {
	if o.Database != "copra" {
		return nil, pgerror.New(pgerror.InvalidCatalogName, "database %q does not exist", o.Database)
	}
	return &fakeSession{f: f, status: sqlfront.TxIdle, cancelled: make(chan struct{}, 1)}, nil
}

type fakeSession struct {
	f         *fakeFrontend
	status    sqlfront.TxStatus
	cancelled chan struct{}
	notices   []*pgerror.Error
}

// RegName knows one type.
func (s *fakeSession) RegName(t sqltypes.Type, oid uint32) (string, bool) {
	return "integer", t.OID == sqltypes.OIDRegtype && oid == sqltypes.OIDInt4
}

type fakePrepared struct {
	st     *ast.Statement
	params []sqltypes.Type
	cols   []sqlfront.Column
}

func (p *fakePrepared) Statement() *ast.Statement { return p.st }
func (p *fakePrepared) Params() []sqltypes.Type   { return p.params }
func (p *fakePrepared) Columns() []sqlfront.Column {
	return p.cols
}

func (s *fakeSession) Parse(_ context.Context, sql string) ([]*ast.Statement, error) {
	var out []*ast.Statement
	for _, part := range strings.Split(sql, ";") {
		part = strings.TrimSpace(part)
		switch {
		case part == "":
		case strings.HasPrefix(part, "bad"):
			return nil, pgerror.New(pgerror.SyntaxError, "syntax error at or near %q", part).At(1)
		case part == "begin":
			out = append(out, &ast.Statement{Stmt: &ast.Begin{}, Text: part})
		case part == "commit":
			out = append(out, &ast.Statement{Stmt: &ast.Commit{}, Text: part})
		default:
			out = append(out, &ast.Statement{Stmt: &ast.Show{Name: part}, Text: part})
		}
	}
	return out, nil
}

func (s *fakeSession) Prepare(_ context.Context, st *ast.Statement, _ []uint32) (sqlfront.Prepared, error) {
	p := &fakePrepared{st: st}
	number := sqlfront.Column{Name: "n", Type: sqltypes.Int4}
	switch {
	case strings.HasPrefix(st.Text, "rows"), st.Text == "wait", st.Text == "fails late":
		p.cols = []sqlfront.Column{number, {Name: "t", Type: sqltypes.Text}}
	case strings.HasPrefix(st.Text, "echo"):
		p.params = []sqltypes.Type{sqltypes.Int4, sqltypes.Text}
		p.cols = []sqlfront.Column{number, {Name: "t", Type: sqltypes.Text}}
	}
	return p, nil
}

func (s *fakeSession) Execute(_ context.Context, prepared sqlfront.Prepared, params []sqltypes.Datum) (sqlfront.Result, error) {
	p := prepared.(*fakePrepared)
	s.f.note("execute %s", p.st.Text)
	r := &fakeResult{s: s, text: p.st.Text, cols: p.cols, kind: sqlfront.ResultDone}
	switch text := p.st.Text; {
	case text == "begin":
		s.status = sqlfront.TxActive
	case text == "commit":
		s.status = sqlfront.TxIdle
	case text == "fails":
		return nil, pgerror.New(pgerror.UniqueViolation, "duplicate key").WithDetail("Key (a)=(1) already exists.")
	case text == "notice":
		s.notices = append(s.notices, &pgerror.Error{Severity: "WARNING", Code: "01000", Message: "careful"})
	case strings.HasPrefix(text, "copy in"):
		r.kind = sqlfront.ResultCopyIn
	case text == "copy out":
		r.kind = sqlfront.ResultCopyOut
	case strings.HasPrefix(text, "echo"):
		r.kind = sqlfront.ResultRows
		r.batches = append(r.batches, record(params))
	case strings.HasPrefix(text, "rows"):
		r.kind = sqlfront.ResultRows
		var n int
		if _, err := fmt.Sscanf(text, "rows %d", &n); err != nil {
			return nil, err
		}
		for i := range n {
			r.batches = append(r.batches, record([]sqltypes.Datum{sqltypes.NewInt(int64(i)), sqltypes.NewString(fmt.Sprint("row ", i))}))
		}
	case text == "wait", text == "fails late":
		r.kind = sqlfront.ResultRows
	}
	return r, nil
}

func record(values []sqltypes.Datum) arrow.Record {
	n, t := sqltypes.ArrayOf(sqltypes.Int4, values[:1]), sqltypes.ArrayOf(sqltypes.Text, values[1:])
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: n.DataType(), Nullable: true}, {Name: "t", Type: t.DataType(), Nullable: true}}, nil)
	return array.NewRecord(schema, []arrow.Array{n, t}, 1)
}

func (s *fakeSession) BeginImplicit(context.Context) error { s.f.note("begin implicit"); return nil }
func (s *fakeSession) EndImplicit(_ context.Context, ok bool) error {
	s.f.note("end implicit %v", ok)
	return nil
}
func (s *fakeSession) Fail() {
	if s.status == sqlfront.TxActive {
		s.status = sqlfront.TxFailed
	}
}
func (s *fakeSession) TxStatus() sqlfront.TxStatus     { return s.status }
func (s *fakeSession) Setting(string) (string, bool)   { return "", false }
func (s *fakeSession) Close() error                    { s.f.note("close"); return nil }
func (s *fakeSession) Notices() (out []*pgerror.Error) { out, s.notices = s.notices, nil; return out }
func (s *fakeSession) Reported() (map[string]string, bool) {
	return map[string]string{"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}, false
}
func (s *fakeSession) Cancel() {
	select {
	case s.cancelled <- struct{}{}:
	default:
	}
}

type fakeResult struct {
	s       *fakeSession
	text    string
	kind    sqlfront.ResultKind
	cols    []sqlfront.Column
	batches []arrow.Record
	sent    int
	copied  int
}

func (r *fakeResult) Kind() sqlfront.ResultKind       { return r.kind }
func (r *fakeResult) Columns() []sqlfront.Column      { return r.cols }
func (r *fakeResult) CopyFormat() sqlfront.CopyFormat { return sqlfront.CopyFormat{Columns: 2} }
func (r *fakeResult) Next(ctx context.Context) (arrow.Record, error) {
	switch r.text {
	case "wait":
		select {
		case <-r.s.cancelled:
			return nil, pgerror.New(pgerror.QueryCanceled, "canceling statement due to user request")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "fails late":
		if r.sent > 0 {
			return nil, pgerror.New(pgerror.DivisionByZero, "division by zero")
		}
		r.sent++
		return record([]sqltypes.Datum{sqltypes.NewInt(1), sqltypes.Null}), nil
	}
	if r.sent == len(r.batches) {
		return nil, io.EOF
	}
	r.sent++
	return r.batches[r.sent-1], nil
}

func (r *fakeResult) CopyFrom(_ context.Context, in io.Reader) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if strings.Contains(r.text, "strict") {
		return pgerror.New(pgerror.BadCopyFileFormat, "missing data for column")
	}
	r.copied = strings.Count(string(data), "\n")
	return nil
}

func (r *fakeResult) CopyTo(_ context.Context, w io.Writer) error {
	for i := range 3 {
		if _, err := fmt.Fprintf(w, "%d\tx\n", i); err != nil {
			return err
		}
	}
	r.copied = 3
	return nil
}

func (r *fakeResult) Tag() string {
	switch r.kind {
	case sqlfront.ResultCopyIn, sqlfront.ResultCopyOut:
		return fmt.Sprintf("COPY %d", r.copied)
	case sqlfront.ResultRows:
		return fmt.Sprintf("SELECT %d", r.sent)
	}
	return strings.ToUpper(r.text)
}

func (r *fakeResult) Close() error {
	if r.text == "fails at commit" {
		return pgerror.New(pgerror.SerializationFailure, "write conflict")
	}
	return nil
}

var errFake = errors.New("fake")
