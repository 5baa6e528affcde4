package sqlfront

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/settings"
)

// noticesMax bounds the notices kept for the client.
const noticesMax = 64

// session implements Session.
type session struct {
	db       *DB
	id       uint64
	user     string
	settings *settings.Settings
	txn      *txn // nil when idle
	frees    bool // the statement that runs frees room on disks
	// prepared are SQL-level PREPARE's statements, cursors DECLARE's.
	prepared map[string]*prepared
	cursors  map[string]*cursor
	notices  []*pgerror.Error
	lastVal  map[int64]int64 // currval by sequence

	costs     *costs        // of the statement that runs; nil: it is not logged
	parseTime time.Duration // of what was parsed and not executed yet

	zoneName string
	zone     *time.Location

	mu     sync.Mutex // guards cancel, which Cancel calls from outside
	cancel context.CancelCauseFunc
	closed bool
}

func newSession(db *DB, o SessionOptions) (*session, error) {
	s := &session{
		db: db, id: db.nextID.Add(1), user: o.User, settings: settings.New(),
		prepared: map[string]*prepared{}, cursors: map[string]*cursor{}, lastVal: map[int64]int64{},
	}
	s.settings.SetInternal("session_authorization", o.User)
	if d := db.o.SlowQueryThreshold; d != 0 {
		if err := s.settings.SetStart(slowSetting, slowValue(d)); err != nil {
			return nil, err
		}
	}
	for name, value := range o.Settings {
		if name == "options" {
			continue
		}
		if err := s.settings.SetStart(name, value); err != nil {
			return nil, err
		}
	}
	for _, opt := range startOptions(o.Settings["options"]) {
		name, value, _ := strings.Cut(opt, "=")
		if err := s.settings.SetStart(strings.ReplaceAll(name, "-", "_"), value); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// startOptions takes the startup packet's "-c name=value --name=value" apart;
// a backslash keeps a blank.
func startOptions(text string) []string {
	var words []string
	var word strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
		case text[i] == ' ':
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(text[i])
		}
	}
	words = append(words, word.String())
	var out []string
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "-c" && i+1 < len(words):
			i++
			out = append(out, words[i])
		case strings.HasPrefix(w, "-c"):
			out = append(out, w[2:])
		case strings.HasPrefix(w, "--"):
			out = append(out, w[2:])
		}
	}
	return out
}

// Parse implements Session.
func (s *session) Parse(_ context.Context, sql string) ([]*ast.Statement, error) {
	began := time.Now()
	defer func() { s.parseTime = time.Since(began) }()
	return s.db.cache.Parse(sql)
}

// TxStatus implements Session.
func (s *session) TxStatus() TxStatus {
	switch {
	case s.txn == nil || !s.txn.explicit:
		return TxIdle
	case s.txn.failed:
		return TxFailed
	}
	return TxActive
}

// Fail implements Session.
func (s *session) Fail() {
	if s.txn != nil {
		s.txn.failed = true
	}
}

// Setting implements Session.
func (s *session) Setting(name string) (string, bool) { return s.settings.Get(name) }

// Reported implements Session.
func (s *session) Reported() (map[string]string, bool) { return s.settings.Reported() }

// Notices implements Session.
func (s *session) Notices() []*pgerror.Error {
	out := s.notices
	s.notices = nil
	return out
}

// notice raises a notice or warning for the client.
func (s *session) notice(severity, code, format string, args ...any) {
	if len(s.notices) < noticesMax {
		e := pgerror.New(code, format, args...)
		e.Severity = severity
		s.notices = append(s.notices, e)
	}
}

// Cancel implements Session.
func (s *session) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(pgerror.New(pgerror.QueryCanceled, "canceling statement due to user request"))
	}
}

// begin makes the context of a statement: cancelled by Cancel, the client's
// own context and statement_timeout. The function it returns ends it.
func (s *session) statementContext(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ctx, held := s.db.withHold(ctx)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	var timer *time.Timer
	if d := s.settings.Millis("statement_timeout"); d > 0 {
		timer = time.AfterFunc(d, func() {
			cancel(pgerror.New(pgerror.QueryCanceled, "canceling statement due to statement timeout"))
		})
	}
	return ctx, func() {
		held.release()
		if timer != nil {
			timer.Stop()
		}
		s.mu.Lock()
		s.cancel = nil
		s.mu.Unlock()
		cancel(nil)
	}
}

// Close implements Session.
func (s *session) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.closeCursors()
	if s.txn != nil {
		s.rollback()
	}
	s.db.sessions.Add(-1)
	s.db.metrics.sessions.Dec()
	return nil
}

// timeZone is the session's.
func (s *session) timeZone() *time.Location {
	name := s.settings.Text("TimeZone")
	if s.zone == nil || s.zoneName != name {
		loc, err := sqltypes.LoadZone(name)
		if err != nil {
			loc = time.UTC // SET has checked it; the zone data went away
		}
		s.zone, s.zoneName = loc, name
	}
	return s.zone
}

// searchPath is the setting with "$user" replaced.
func (s *session) searchPath() []string {
	path := s.settings.Names("search_path")
	for i, p := range path {
		if p == "$user" {
			path[i] = s.user
		}
	}
	return path
}

// env is how the session looks to the catalog.
func (s *session) env() catalog.Env {
	return catalog.Env{User: s.user, SearchPath: s.searchPath(), Settings: func() []catalog.Setting {
		var out []catalog.Setting
		for _, r := range s.settings.All() {
			out = append(out, catalog.Setting{Name: r.Name, Value: r.Value, Description: r.Description, Default: r.Default})
		}
		return out
	}}
}

// at moves an error's position from a statement's text to its query string.
func at(stmt *ast.Statement, err error) error {
	if err == nil || stmt == nil || stmt.Offset == 0 {
		return err
	}
	e := *pgerror.From(err)
	if e.Position > 0 {
		e.Position += stmt.Offset
	}
	return &e
}

func (s *session) String() string { return fmt.Sprintf("session %d", s.id) }
