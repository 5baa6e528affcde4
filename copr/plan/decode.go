package plan

import (
	"time"
	"unicode/utf8"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/proto/coprpb"
)

// Decode turns a message back into a plan that can be run. Whatever the
// message holds, the error is ErrInvalid.
func Decode(p *coprpb.Plan) (*Plan, error) {
	if n := len(p.GetNodes()); n == 0 || n > NodesMax {
		return nil, invalid("it has %d nodes", n)
	}
	out := &Plan{TimeZone: p.TimeZone, Now: timeOf(p.NowUs), TxnNow: timeOf(p.TxnNowUs)}
	d := &decoder{}
	for _, n := range p.Nodes {
		node, err := d.node(n)
		if err != nil {
			return nil, err
		}
		out.Nodes = append(out.Nodes, node)
	}
	return out, out.Check()
}

func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// decoder counts what it makes, so that a small message cannot make much.
type decoder struct{ nodes int }

func (d *decoder) node(n *coprpb.Node) (Node, error) {
	switch n := n.GetNode().(type) {
	case *coprpb.Node_TableScan:
		return d.tableScan(n.TableScan)
	case *coprpb.Node_IndexScan:
		return d.indexScan(n.IndexScan)
	case *coprpb.Node_Selection:
		conds, err := d.exprs(n.Selection.GetConds(), 0)
		return &Selection{Conds: conds}, err
	case *coprpb.Node_Projection:
		es, err := d.exprs(n.Projection.GetExprs(), 0)
		return &Projection{Exprs: es}, err
	case *coprpb.Node_Aggregation:
		return d.aggregation(n.Aggregation)
	case *coprpb.Node_TopN:
		out := &TopN{N: n.TopN.GetN()}
		for _, k := range n.TopN.GetKeys() {
			e, err := d.expr(k.GetExpr(), 0)
			if err != nil {
				return nil, err
			}
			out.Keys = append(out.Keys, SortKey{Expr: e, Desc: k.Desc, NullsFirst: k.NullsFirst})
		}
		return out, nil
	case *coprpb.Node_Limit:
		return &Limit{N: n.Limit.GetN()}, nil
	}
	return nil, invalid("a node is of no known kind")
}

func (d *decoder) tableScan(s *coprpb.TableScan) (Node, error) {
	out := &TableScan{TableID: s.GetTableId(), Handle: s.GetHandle(), Desc: s.GetDesc()}
	var err error
	if out.KeyColumns, err = columns(s.GetKeyColumns()); err != nil {
		return nil, err
	}
	out.Columns, err = columns(s.GetColumns())
	return out, err
}

func (d *decoder) indexScan(s *coprpb.IndexScan) (Node, error) {
	out := &IndexScan{TableID: s.GetTableId(), IndexID: s.GetIndexId(), Unique: s.GetUnique(), Handle: s.GetHandle(), Desc: s.GetDesc()}
	for _, c := range s.GetIndexColumns() {
		col, err := column(c.GetColumn())
		if err != nil {
			return nil, err
		}
		out.IndexColumns = append(out.IndexColumns, IndexColumn{Column: col, Desc: c.Desc})
	}
	var err error
	if out.KeyColumns, err = columns(s.GetKeyColumns()); err != nil {
		return nil, err
	}
	out.Columns, err = columns(s.GetColumns())
	return out, err
}

func (d *decoder) aggregation(a *coprpb.Aggregation) (Node, error) {
	out := &Aggregation{}
	var err error
	if out.GroupBy, err = d.exprs(a.GetGroupBy(), 0); err != nil {
		return nil, err
	}
	for _, c := range a.GetAggs() {
		call := AggCall{Name: c.GetName(), Distinct: c.GetDistinct(), Type: decodeType(c.GetType())}
		if call.Args, err = d.exprs(c.GetArgs(), 0); err != nil {
			return nil, err
		}
		if c.GetFilter() != nil {
			if call.Filter, err = d.expr(c.Filter, 0); err != nil {
				return nil, err
			}
		}
		out.Aggs = append(out.Aggs, call)
	}
	return out, nil
}

func columns(cs []*coprpb.Column) ([]Column, error) {
	out := make([]Column, len(cs))
	for i, c := range cs {
		col, err := column(c)
		if err != nil {
			return nil, err
		}
		out[i] = col
	}
	return out, nil
}

func column(c *coprpb.Column) (Column, error) {
	def, err := decodeDatum(c.GetDefault())
	return Column{ID: c.GetId(), Type: decodeType(c.GetType()), Default: def}, err
}

func decodeType(t *coprpb.Type) sqltypes.Type {
	return sqltypes.Type{OID: t.GetOid(), Precision: t.GetPrecision(), Scale: t.GetScale()}
}

func decodeDatum(d *coprpb.Datum) (sqltypes.Datum, error) {
	switch v := d.GetValue().(type) {
	case nil:
		return sqltypes.Null, nil
	case *coprpb.Datum_Bool:
		return sqltypes.NewBool(v.Bool), nil
	case *coprpb.Datum_Int:
		return sqltypes.NewInt(v.Int), nil
	case *coprpb.Datum_Float:
		return sqltypes.NewFloat(v.Float), nil
	case *coprpb.Datum_Decimal:
		x, err := sqltypes.ParseNumeric(v.Decimal)
		if err != nil {
			return sqltypes.Null, invalid("a constant: %v", err)
		}
		return sqltypes.NewDecimal(x), nil
	case *coprpb.Datum_Text:
		if !utf8.Valid(v.Text) {
			return sqltypes.Null, invalid("a text constant is not UTF-8")
		}
		return sqltypes.NewString(string(v.Text)), nil
	case *coprpb.Datum_Bytes:
		return sqltypes.NewBytes(v.Bytes), nil
	case *coprpb.Datum_Interval:
		iv := v.Interval
		return sqltypes.NewInterval(sqltypes.IntervalValue{Months: iv.GetMonths(), Days: iv.GetDays(), Micros: iv.GetMicros()}), nil
	}
	return sqltypes.Null, invalid("a constant is of no known kind")
}

func (d *decoder) exprs(es []*coprpb.Expr, depth int) ([]expr.Expr, error) {
	out := make([]expr.Expr, len(es))
	for i, e := range es {
		x, err := d.expr(e, depth)
		if err != nil {
			return nil, err
		}
		out[i] = x
	}
	return out, nil
}

func (d *decoder) expr(e *coprpb.Expr, depth int) (expr.Expr, error) {
	if d.nodes++; depth > ExprDepthMax || d.nodes > ExprNodesMax {
		return nil, invalid("an expression is too deep, or the expressions are too many")
	}
	switch n := e.GetNode().(type) {
	case *coprpb.Expr_Column:
		c := n.Column
		if c.GetIndex() >= ColumnsMax {
			return nil, invalid("column reference %d does not fit its input", c.GetIndex())
		}
		return &expr.Column{Index: int(c.GetIndex()), Typ: decodeType(c.GetType()), Name: c.GetName()}, nil
	case *coprpb.Expr_Const:
		v, err := decodeDatum(n.Const.GetValue())
		return &expr.Const{Value: v, Typ: decodeType(n.Const.GetType())}, err
	case *coprpb.Expr_Call:
		return d.call(n.Call, depth)
	case *coprpb.Expr_Logic:
		args, err := d.exprs(n.Logic.GetArgs(), depth+1)
		return &expr.Logic{Or: n.Logic.GetOr(), Args: args}, err
	case *coprpb.Expr_Case:
		return d.caseExpr(n.Case, depth)
	case *coprpb.Expr_Coalesce:
		args, err := d.exprs(n.Coalesce.GetArgs(), depth+1)
		return &expr.Coalesce{Args: args, Typ: decodeType(n.Coalesce.GetType())}, err
	case *coprpb.Expr_In:
		return d.in(n.In, depth)
	case *coprpb.Expr_KeyFilter:
		return d.keyFilter(n.KeyFilter, depth)
	}
	return nil, invalid("an expression is of no known kind")
}

func (d *decoder) call(c *coprpb.Call, depth int) (expr.Expr, error) {
	f, ok := expr.FuncBySig(c.GetSig())
	if !ok {
		return nil, invalid("function %q is unknown here", c.GetSig())
	}
	args, err := d.exprs(c.GetArgs(), depth+1)
	return &expr.Call{Fn: f, Args: args, Typ: decodeType(c.GetType())}, err
}

func (d *decoder) caseExpr(c *coprpb.Case, depth int) (expr.Expr, error) {
	out := &expr.Case{Typ: decodeType(c.GetType())}
	var err error
	if out.Conds, err = d.exprs(c.GetConds(), depth+1); err != nil {
		return nil, err
	}
	if out.Results, err = d.exprs(c.GetResults(), depth+1); err != nil {
		return nil, err
	}
	if c.GetElse() != nil {
		if out.Else, err = d.expr(c.Else, depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d *decoder) in(in *coprpb.In, depth int) (expr.Expr, error) {
	x, err := d.expr(in.GetX(), depth+1)
	if err != nil {
		return nil, err
	}
	out := &expr.In{X: x, Not: in.GetNot(), Values: make([]sqltypes.Datum, len(in.GetValues()))}
	if d.nodes += len(out.Values); d.nodes > ExprNodesMax {
		return nil, invalid("IN has %d values", len(out.Values))
	}
	for i, v := range in.GetValues() {
		if out.Values[i], err = decodeDatum(v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keyFilter decodes a filter; Check looks at its sizes.
func (d *decoder) keyFilter(f *coprpb.KeyFilter, depth int) (expr.Expr, error) {
	x, err := d.expr(f.GetX(), depth+1)
	if err != nil {
		return nil, err
	}
	col, ok := x.(*expr.Column)
	if !ok {
		return nil, invalid("a key filter is on no column")
	}
	return &expr.KeyFilter{X: col, Lo: f.GetLo(), Hi: f.GetHi(), Bits: f.GetBits(), Bloom: f.GetBloom(), Keys: f.GetKeys()}, nil
}
