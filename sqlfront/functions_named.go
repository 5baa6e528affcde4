package sqlfront

import (
	"fmt"
	"math/big"
	"strconv"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// registerNames registers to_regclass and its kind, which are NULL for a name
// that names nothing, and pg_size_pretty.
func registerNames() {
	for name, t := range map[string]sqltypes.Type{
		"to_regclass": sqltypes.Regclass, "to_regtype": sqltypes.Regtype, "to_regproc": sqltypes.TypeOf(sqltypes.OIDRegproc),
		"to_regnamespace": sqltypes.TypeOf(sqltypes.OIDRegnamespace), "to_regrole": sqltypes.TypeOf(sqltypes.OIDRegrole),
	} {
		expr.RegisterFunc(expr.Def{Name: name, Args: []sqltypes.Type{sqltypes.Text}, Ret: t, Strict: true, Volatility: expr.Stable, Session: true,
			Eval: func(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
				oid, err := ctx.Session.RegOID(t, a[0].Str())
				if err != nil {
					return sqltypes.Null, nil
				}
				return sqltypes.NewInt(int64(oid)), nil
			}})
	}
	expr.RegisterFunc(expr.Def{Name: "pg_size_pretty", Args: []sqltypes.Type{sqltypes.Int8}, Ret: sqltypes.Text, Strict: true,
		Eval: func(_ *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
			return sqltypes.NewString(sizePretty(big.NewInt(a[0].Int()), strconv.FormatInt(a[0].Int(), 10))), nil
		}})
	expr.RegisterFunc(expr.Def{Name: "pg_size_pretty", Args: []sqltypes.Type{sqltypes.Numeric}, Ret: sqltypes.Text, Strict: true,
		Eval: func(_ *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
			text := sqltypes.Format(sqltypes.Numeric, a[0])
			f, ok := new(big.Rat).SetString(text)
			if !ok { // NaN and infinities have no unit
				return sqltypes.NewString(text + " bytes"), nil
			}
			return sqltypes.NewString(sizePretty(new(big.Int).Quo(f.Num(), f.Denom()), text)), nil
		}})
}

// sizePretty prints bytes as PostgreSQL does: up to 10240 of a unit, halves
// rounded away from zero. Below that the number stays as it was written.
func sizePretty(n *big.Int, text string) string {
	abs := new(big.Int).Abs(n)
	if abs.Cmp(big.NewInt(10*1024)) < 0 {
		return text + " bytes"
	}
	sign := map[bool]string{true: "-"}[n.Sign() < 0]
	units := []string{"kB", "MB", "GB", "TB", "PB"}
	half := new(big.Int).Rsh(abs, 9) // halves of the unit
	for i, u := range units {
		if half.Cmp(big.NewInt(20*1024-1)) < 0 || i == len(units)-1 {
			return fmt.Sprintf("%s%d %s", sign, half.Rsh(half.Add(half, big.NewInt(1)), 1), u)
		}
		half.Rsh(half, 10)
	}
	return ""
}

// registerTransactions registers the functions about the transaction: its
// number is its start timestamp.
func registerTransactions() {
	current := func(ctx *expr.Ctx, _ []sqltypes.Datum) (sqltypes.Datum, error) {
		e, err := sessionOf(ctx)
		if err != nil {
			return sqltypes.Null, err
		}
		t := e.s.txn
		if t == nil {
			ts, err := e.s.db.timestamp(ctx.Context)
			return sqltypes.NewInt(int64(ts)), err
		}
		ts, err := t.readTS(ctx.Context)
		if err != nil {
			return sqltypes.Null, err
		}
		tx, err := t.store(ts)
		if err != nil {
			return sqltypes.Null, err
		}
		return sqltypes.NewInt(int64(tx.StartTS())), nil
	}
	assigned := func(ctx *expr.Ctx, a []sqltypes.Datum) (sqltypes.Datum, error) {
		e, err := sessionOf(ctx)
		if err != nil || e.s.txn == nil || e.s.txn.kv == nil {
			return sqltypes.Null, err
		}
		return current(ctx, a)
	}
	for _, name := range []string{"txid_current", "pg_current_xact_id"} {
		expr.RegisterFunc(expr.Def{Name: name, Ret: sqltypes.Int8, Strict: true, Volatility: expr.Stable, Session: true, Eval: current})
		expr.RegisterFunc(expr.Def{Name: name + "_if_assigned", Ret: sqltypes.Int8, Strict: true, Volatility: expr.Stable, Session: true, Eval: assigned})
	}
}
