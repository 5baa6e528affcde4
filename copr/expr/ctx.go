package expr

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/copradb/copra/internal/sqltypes"
)

// Ctx is what an evaluation depends on besides its input. It is read only and
// may be shared by evaluations of one statement; the zero Ctx is usable for
// expressions that need none of it.
type Ctx struct {
	Params   []sqltypes.Datum
	Now      time.Time      // start of the statement
	TxnNow   time.Time      // start of the transaction
	TimeZone *time.Location // nil = UTC
	// Clock is the wall clock of clock_timestamp(); nil = time.Now.
	Clock func() time.Time
	// Rand is the source of random(); nil = the runtime's.
	Rand func() float64
	// Session answers what only a SQL session knows; nil on a coprocessor,
	// where functions that need it are refused.
	Session Session
	// Context cancels long evaluations of subqueries; nil = never.
	Context context.Context
}

// Session is what functions ask of a SQL session. The catalog's functions
// that need more get it by asserting Ctx.Session to their own interface.
type Session interface {
	CurrentUser() string
	SessionUser() string
	CurrentDatabase() string
	// SearchPath is current_schemas(implicit).
	SearchPath(implicit bool) []string
	// Setting is current_setting's answer.
	Setting(name string) (string, bool)
	// RegOID resolves a name as regclass, regtype, regproc, regnamespace or
	// regrole input does; its errors are PostgreSQL's.
	RegOID(t sqltypes.Type, name string) (uint32, error)
	// RegName is how an oid of that type prints; ok is false for an oid that
	// names nothing (it prints as a number).
	RegName(t sqltypes.Type, oid uint32) (string, bool)
}

func (c *Ctx) zone() *time.Location {
	if c == nil || c.TimeZone == nil {
		return time.UTC
	}
	return c.TimeZone
}

func (c *Ctx) now() time.Time {
	if c == nil || c.Now.IsZero() {
		return time.Now()
	}
	return c.Now
}

func (c *Ctx) txnNow() time.Time {
	if c == nil || c.TxnNow.IsZero() {
		return c.now()
	}
	return c.TxnNow
}

func (c *Ctx) clock() time.Time {
	if c == nil || c.Clock == nil {
		return time.Now()
	}
	return c.Clock()
}

func (c *Ctx) random() float64 {
	if c == nil || c.Rand == nil {
		return rand.Float64()
	}
	return c.Rand()
}

func (c *Ctx) parseOptions() *sqltypes.ParseOptions {
	return &sqltypes.ParseOptions{TimeZone: c.zone(), Now: c.txnNow()}
}
