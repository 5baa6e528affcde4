package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

const microsPerDay = 24 * 60 * 60 * 1_000_000

// datesForMidnights makes a date of a timestamp at midnight that a date column
// is compared with, which date '1994-01-01' + interval '1' year is: the two
// comparisons are the same, but only one of date with date gives key ranges.
func datesForMidnights(e expr.Expr) expr.Expr {
	return mapExpr(e, func(x expr.Expr) expr.Expr {
		c, ok := x.(*expr.Call)
		if !ok || len(c.Args) != 2 || !comparison(opName(c)) && opName(c) != "<>" {
			return nil
		}
		l, r := midnight(c.Args[1], c.Args[0]), midnight(c.Args[0], c.Args[1])
		switch {
		case l != nil:
			r = c.Args[1]
		case r != nil:
			l = c.Args[0]
		default:
			return nil
		}
		out, err := expr.NewOperator(opName(c), l, r)
		if err != nil {
			return nil
		}
		return out
	})
}

// midnight is the date of the constant ts, if that is a finite timestamp at
// midnight beside a date.
func midnight(date, ts expr.Expr) expr.Expr {
	k, ok := ts.(*expr.Const)
	if !ok || k.Typ.OID != sqltypes.OIDTimestamp || date.Type().OID != sqltypes.OIDDate || k.Value.IsNull() {
		return nil
	}
	us := k.Value.Int()
	if us%microsPerDay != 0 || !sqltypes.TimestampInRange(us) {
		return nil
	}
	return &expr.Const{Value: sqltypes.NewInt(us / microsPerDay), Typ: sqltypes.Date}
}
