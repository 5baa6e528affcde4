package sqlfront

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/settings"
)

// started is pg_postmaster_start_time's answer.
var started = time.Now()

// The functions about the session itself.
func init() {
	session := func(name string, ret sqltypes.Type, fn func(e *exprSession) sqltypes.Datum) {
		expr.RegisterFunc(expr.Def{Name: name, Ret: ret, Volatility: expr.Stable, Session: true,
			Eval: func(ctx *expr.Ctx, _ []sqltypes.Datum) (sqltypes.Datum, error) {
				e, err := sessionOf(ctx)
				if err != nil {
					return sqltypes.Null, err
				}
				return fn(e), nil
			}})
	}
	for _, name := range []string{"current_user", "session_user", "user", "current_role"} {
		session(name, sqltypes.Name, func(e *exprSession) sqltypes.Datum { return sqltypes.NewString(e.s.user) })
	}
	for _, name := range []string{"current_database", "current_catalog"} {
		session(name, sqltypes.Name, func(*exprSession) sqltypes.Datum { return sqltypes.NewString(catalog.Database) })
	}
	session("current_schema", sqltypes.Name, func(e *exprSession) sqltypes.Datum {
		if path := e.view.Path(); len(path) > 0 {
			return sqltypes.NewString(path[0])
		}
		return sqltypes.Null
	})
	session("version", sqltypes.Text, func(*exprSession) sqltypes.Datum {
		return sqltypes.NewString(fmt.Sprintf("PostgreSQL %s (copra) on %s-%s, compiled by %s, 64-bit", settings.ServerVersion, runtime.GOARCH, runtime.GOOS, runtime.Version()))
	})
	session("pg_client_encoding", sqltypes.Name, func(*exprSession) sqltypes.Datum { return sqltypes.NewString("UTF8") })
	session("pg_postmaster_start_time", sqltypes.Timestamptz, func(*exprSession) sqltypes.Datum { return sqltypes.NewInt(started.UnixMicro()) })
	session("pg_my_temp_schema", sqltypes.Oid, func(*exprSession) sqltypes.Datum { return sqltypes.NewInt(0) })
	registerSettings()
	registerOthers()
	registerNames()
	registerTransactions()
}

// registerSettings registers current_setting and set_config.
func registerSettings() {
	text, boolean := sqltypes.Text, sqltypes.Bool
	current := func(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
		e, err := sessionOf(ctx)
		if err != nil {
			return sqltypes.Null, err
		}
		_, v, err := e.s.show(strings.ToLower(a[0].Str()))
		if err != nil && len(a) > 1 && a[1].Bool() {
			return sqltypes.Null, nil
		}
		return sqltypes.NewString(v), err
	}
	for _, args := range [][]sqltypes.Type{{text}, {text, boolean}} {
		expr.RegisterFunc(expr.Def{Name: "current_setting", Args: args, Ret: text, Strict: true, Volatility: expr.Stable, Session: true, Eval: current})
	}
	expr.RegisterFunc(expr.Def{Name: "set_config", Args: []sqltypes.Type{text, text, boolean}, Ret: text, Volatility: expr.Volatile, Session: true,
		Eval: setConfig})
}

func setConfig(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	e, err := sessionOf(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	if a[0].IsNull() {
		return sqltypes.Null, pgerror.New(pgerror.NullValueNotAllowed, "SET requires parameter name")
	}
	name, local := a[0].Str(), a[2].Bool()
	var values []string
	if !a[1].IsNull() {
		values = []string{a[1].Str()}
		if strings.EqualFold(name, "search_path") {
			values = settings.SplitNames(a[1].Str())
		}
	}
	if err := e.s.settings.Set(name, values, local); err != nil {
		return sqltypes.Null, err
	}
	v, _ := e.s.settings.Get(name)
	return sqltypes.NewString(v), nil
}

func registerOthers() {
	expr.RegisterFunc(expr.Def{Name: "current_schemas", Args: []sqltypes.Type{sqltypes.Bool}, Ret: sqltypes.Type{OID: sqltypes.OIDNameArray},
		Strict: true, Volatility: expr.Stable, Session: true, Eval: func(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
			path := ctx.Session.SearchPath(a[0].Bool())
			for i, p := range path {
				path[i] = quoteIdent(p)
			}
			return sqltypes.NewString("{" + strings.Join(path, ",") + "}"), nil
		}})
	expr.RegisterFunc(expr.Def{Name: "pg_is_other_temp_schema", Args: []sqltypes.Type{sqltypes.Oid}, Ret: sqltypes.Bool, Strict: true, Volatility: expr.Stable, Session: true,
		Eval: func(*expr.Ctx, []sqltypes.Datum) (sqltypes.Datum, error) { return sqltypes.NewBool(false), nil }})
	expr.RegisterFunc(expr.Def{Name: "gen_random_uuid", Ret: sqltypes.Type{OID: sqltypes.OIDUUID}, Volatility: expr.Volatile,
		Eval: func(*expr.Ctx, []sqltypes.Datum) (sqltypes.Datum, error) { return randomUUID() }})
	expr.RegisterFunc(expr.Def{Name: "pg_sleep", Args: []sqltypes.Type{sqltypes.Float8}, Ret: sqltypes.Void, Strict: true, Volatility: expr.Volatile, Session: true, Eval: sleep})
}

// randomUUID is a version 4 UUID (RFC 9562).
func randomUUID() (sqltypes.Datum, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return sqltypes.Null, err
	}
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return sqltypes.NewString(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])), nil
}

// sleep is pg_sleep; cancelling the statement ends it.
func sleep(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
	d := time.Duration(a[0].Float() * float64(time.Second))
	if d <= 0 || ctx.Context == nil {
		return sqltypes.NewString(""), nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Context.Done():
		return sqltypes.Null, cancelError(ctx.Context)
	case <-timer.C:
		return sqltypes.NewString(""), nil
	}
}
