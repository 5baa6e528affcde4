package plan

import (
	"time"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/proto/coprpb"
)

// Encode turns the plan into its message. It checks the plan first: what
// cannot be run elsewhere (parameters, subqueries) is ErrInvalid.
func (p *Plan) Encode() (*coprpb.Plan, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	out := &coprpb.Plan{TimeZone: p.TimeZone, NowUs: micros(p.Now), TxnNowUs: micros(p.TxnNow)}
	for _, n := range p.Nodes {
		out.Nodes = append(out.Nodes, encodeNode(n))
	}
	return out, nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func encodeNode(n Node) *coprpb.Node {
	switch n := n.(type) {
	case *TableScan:
		return &coprpb.Node{Node: &coprpb.Node_TableScan{TableScan: &coprpb.TableScan{
			TableId: n.TableID, KeyColumns: encodeColumns(n.KeyColumns), Columns: encodeColumns(n.Columns),
			Handle: n.Handle, Desc: n.Desc,
		}}}
	case *IndexScan:
		s := &coprpb.IndexScan{
			TableId: n.TableID, IndexId: n.IndexID, Unique: n.Unique, Handle: n.Handle, Desc: n.Desc,
			KeyColumns: encodeColumns(n.KeyColumns), Columns: encodeColumns(n.Columns),
		}
		for _, c := range n.IndexColumns {
			s.IndexColumns = append(s.IndexColumns, &coprpb.IndexColumn{Column: encodeColumn(c.Column), Desc: c.Desc})
		}
		return &coprpb.Node{Node: &coprpb.Node_IndexScan{IndexScan: s}}
	case *Selection:
		return &coprpb.Node{Node: &coprpb.Node_Selection{Selection: &coprpb.Selection{Conds: encodeExprs(n.Conds)}}}
	case *Projection:
		return &coprpb.Node{Node: &coprpb.Node_Projection{Projection: &coprpb.Projection{Exprs: encodeExprs(n.Exprs)}}}
	case *Aggregation:
		a := &coprpb.Aggregation{GroupBy: encodeExprs(n.GroupBy)}
		for _, c := range n.Aggs {
			a.Aggs = append(a.Aggs, &coprpb.AggCall{
				Name: c.Name, Args: encodeExprs(c.Args), Distinct: c.Distinct, Filter: encodeExpr(c.Filter), Type: encodeType(c.Type),
			})
		}
		return &coprpb.Node{Node: &coprpb.Node_Aggregation{Aggregation: a}}
	case *TopN:
		t := &coprpb.TopN{N: n.N}
		for _, k := range n.Keys {
			t.Keys = append(t.Keys, &coprpb.SortKey{Expr: encodeExpr(k.Expr), Desc: k.Desc, NullsFirst: k.NullsFirst})
		}
		return &coprpb.Node{Node: &coprpb.Node_TopN{TopN: t}}
	case *Limit:
		return &coprpb.Node{Node: &coprpb.Node_Limit{Limit: &coprpb.Limit{N: n.N}}}
	}
	panic("plan: Check let an unknown node pass")
}

func encodeColumns(cols []Column) []*coprpb.Column {
	out := make([]*coprpb.Column, len(cols))
	for i, c := range cols {
		out[i] = encodeColumn(c)
	}
	return out
}

func encodeColumn(c Column) *coprpb.Column {
	return &coprpb.Column{Id: c.ID, Type: encodeType(c.Type), Default: encodeDatum(c.Default)}
}

func encodeType(t sqltypes.Type) *coprpb.Type {
	return &coprpb.Type{Oid: t.OID, Precision: t.Precision, Scale: t.Scale}
}

func encodeDatum(d sqltypes.Datum) *coprpb.Datum {
	switch d.Kind() {
	case sqltypes.KindBool:
		return &coprpb.Datum{Value: &coprpb.Datum_Bool{Bool: d.Bool()}}
	case sqltypes.KindInt:
		return &coprpb.Datum{Value: &coprpb.Datum_Int{Int: d.Int()}}
	case sqltypes.KindFloat:
		return &coprpb.Datum{Value: &coprpb.Datum_Float{Float: d.Float()}}
	case sqltypes.KindDecimal:
		return &coprpb.Datum{Value: &coprpb.Datum_Decimal{Decimal: string(sqltypes.AppendNumeric(nil, d.Decimal()))}}
	case sqltypes.KindString:
		return &coprpb.Datum{Value: &coprpb.Datum_Text{Text: []byte(d.Str())}}
	case sqltypes.KindBytes:
		return &coprpb.Datum{Value: &coprpb.Datum_Bytes{Bytes: d.Bytes()}}
	case sqltypes.KindInterval:
		iv := d.Interval()
		return &coprpb.Datum{Value: &coprpb.Datum_Interval{Interval: &coprpb.Interval{Months: iv.Months, Days: iv.Days, Micros: iv.Micros}}}
	}
	return nil
}

func encodeExprs(es []expr.Expr) []*coprpb.Expr {
	out := make([]*coprpb.Expr, len(es))
	for i, e := range es {
		out[i] = encodeExpr(e)
	}
	return out
}

func encodeExpr(e expr.Expr) *coprpb.Expr {
	switch e := e.(type) {
	case nil:
		return nil
	case *expr.Column:
		return &coprpb.Expr{Node: &coprpb.Expr_Column{Column: &coprpb.ColumnRef{Index: uint32(e.Index), Type: encodeType(e.Typ), Name: e.Name}}}
	case *expr.Const:
		return &coprpb.Expr{Node: &coprpb.Expr_Const{Const: &coprpb.Const{Value: encodeDatum(e.Value), Type: encodeType(e.Typ)}}}
	case *expr.Call:
		return &coprpb.Expr{Node: &coprpb.Expr_Call{Call: &coprpb.Call{Sig: e.Fn.Sig, Args: encodeExprs(e.Args), Type: encodeType(e.Typ)}}}
	case *expr.Logic:
		return &coprpb.Expr{Node: &coprpb.Expr_Logic{Logic: &coprpb.Logic{Or: e.Or, Args: encodeExprs(e.Args)}}}
	case *expr.Case:
		return &coprpb.Expr{Node: &coprpb.Expr_Case{Case: &coprpb.Case{
			Conds: encodeExprs(e.Conds), Results: encodeExprs(e.Results), Else: encodeExpr(e.Else), Type: encodeType(e.Typ),
		}}}
	case *expr.Coalesce:
		return &coprpb.Expr{Node: &coprpb.Expr_Coalesce{Coalesce: &coprpb.Coalesce{Args: encodeExprs(e.Args), Type: encodeType(e.Typ)}}}
	case *expr.KeyFilter:
		return &coprpb.Expr{Node: &coprpb.Expr_KeyFilter{KeyFilter: &coprpb.KeyFilter{
			X: encodeExpr(e.X), Lo: e.Lo, Hi: e.Hi, Bits: e.Bits, Bloom: e.Bloom, Keys: e.Keys,
		}}}
	case *expr.In:
		in := &coprpb.In{X: encodeExpr(e.X), Not: e.Not}
		for _, d := range e.Values {
			v := encodeDatum(d)
			if v == nil {
				v = &coprpb.Datum{}
			}
			in.Values = append(in.Values, v)
		}
		return &coprpb.Expr{Node: &coprpb.Expr_In{In: in}}
	}
	panic("plan: Check let an unknown expression pass")
}
