package plan

import (
	"errors"
	"fmt"
	"time"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Limits of a plan.
const (
	NodesMax     = 32
	ColumnsMax   = 1664 // PostgreSQL's limit of a target list
	ExprDepthMax = 200
	ExprNodesMax = 1 << 17 // of the whole plan, constants of IN included
	TopNRowsMax  = 1 << 31
)

// ErrInvalid says that a plan cannot be run; a server answers InvalidArgument.
var ErrInvalid = errors.New("copr: invalid plan")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// OutputTypes are the types of the columns that p returns. It fails where
// Check would because of types; it does not look at everything Check does.
func (p *Plan) OutputTypes() ([]sqltypes.Type, error) {
	if len(p.Nodes) == 0 {
		return nil, invalid("it has no nodes")
	}
	var types []sqltypes.Type
	var err error
	for i, n := range p.Nodes {
		if types, err = nodeTypes(n, types, i == 0); err != nil {
			return nil, err
		}
	}
	return types, nil
}

func nodeTypes(n Node, in []sqltypes.Type, first bool) ([]sqltypes.Type, error) {
	switch n := n.(type) {
	case *TableScan:
		if !first {
			return nil, invalid("a scan is not its first node")
		}
		return scanTypes(n.Columns, n.Handle), nil
	case *IndexScan:
		if !first {
			return nil, invalid("a scan is not its first node")
		}
		return scanTypes(n.Columns, n.Handle), nil
	}
	if first {
		return nil, invalid("its first node is no scan")
	}
	switch n := n.(type) {
	case *Projection:
		out := make([]sqltypes.Type, len(n.Exprs))
		for i, e := range n.Exprs {
			out[i] = e.Type()
		}
		return out, nil
	case *Aggregation:
		return n.PartialTypes()
	}
	return in, nil
}

func scanTypes(cols []Column, handle bool) []sqltypes.Type {
	out := make([]sqltypes.Type, 0, len(cols)+1)
	for _, c := range cols {
		out = append(out, c.Type)
	}
	if handle {
		out = append(out, sqltypes.Bytea)
	}
	return out
}

// PartialTypes are the columns that an Aggregation returns: the group columns,
// then the states.
func (a *Aggregation) PartialTypes() ([]sqltypes.Type, error) {
	var out []sqltypes.Type
	for _, e := range a.GroupBy {
		out = append(out, e.Type())
	}
	for _, c := range a.Aggs {
		args := make([]sqltypes.Type, len(c.Args))
		for i, e := range c.Args {
			args[i] = e.Type()
		}
		_, state, err := agg.Resolve(c.Name, args)
		if err != nil {
			return nil, invalid("%v", err)
		}
		out = append(out, state...)
	}
	return out, nil
}

// Resumable reports whether the rows of a region can be taken in pieces: a run
// may stop behind any row and another go on there. Aggregations, top-N and
// limits look at all rows at once.
func (p *Plan) Resumable() bool {
	for _, n := range p.Nodes {
		switch n.(type) {
		case *Aggregation, *TopN, *Limit:
			return false
		}
	}
	return true
}

// Desc reports whether the plan's scan runs backwards.
func (p *Plan) Desc() bool {
	switch s := p.Nodes[0].(type) {
	case *TableScan:
		return s.Desc
	case *IndexScan:
		return s.Desc
	}
	return false
}

// Check reports whether the plan can be run, as ErrInvalid.
func (p *Plan) Check() error {
	if len(p.Nodes) == 0 || len(p.Nodes) > NodesMax {
		return invalid("it has %d nodes", len(p.Nodes))
	}
	if p.TimeZone != "" {
		if _, err := time.LoadLocation(p.TimeZone); err != nil {
			return invalid("its time zone: %v", err)
		}
	}
	c := &checker{}
	var err error
	for i, n := range p.Nodes {
		if err := c.node(n); err != nil {
			return err
		}
		if c.in, err = nodeTypes(n, c.in, i == 0); err != nil {
			return err
		}
		if len(c.in) > ColumnsMax {
			return invalid("node %d has %d columns", i, len(c.in))
		}
	}
	return nil
}

// checker walks a plan; in are the columns that the node at hand reads.
type checker struct {
	in    []sqltypes.Type
	nodes int
}

func (c *checker) node(n Node) error {
	switch n := n.(type) {
	case *TableScan:
		return checkScan(n.KeyColumns, n.Columns)
	case *IndexScan:
		return checkIndexScan(n)
	case *Selection:
		return c.bools(n.Conds)
	case *Projection:
		return c.exprs(n.Exprs)
	case *Aggregation:
		return c.aggregation(n)
	case *TopN:
		if n.N > TopNRowsMax {
			return invalid("its top-N wants %d rows", n.N)
		}
		for _, k := range n.Keys {
			if err := c.expr(k.Expr, 0); err != nil {
				return err
			}
		}
		return nil
	case *Limit:
		return nil
	}
	return invalid("it has a node of type %T", n)
}

func checkScan(keys, cols []Column) error {
	if len(keys) == 0 {
		return invalid("its scan names no key column")
	}
	for _, list := range [][]Column{keys, cols} {
		if len(list) > ColumnsMax {
			return invalid("its scan has %d columns", len(list))
		}
		for _, c := range list {
			if err := checkColumn(c); err != nil {
				return err
			}
		}
	}
	return checkKeyColumns(keys, cols)
}

// checkKeyColumns: a key's column is decoded as the key's type, and once.
func checkKeyColumns(keys, cols []Column) error {
	types, read := make(map[uint32]sqltypes.Type, len(keys)), map[uint32]bool{}
	for _, k := range keys {
		if _, twice := types[k.ID]; twice {
			return invalid("key column %d is named twice", k.ID)
		}
		types[k.ID] = k.Type
	}
	for _, c := range cols {
		t, ok := types[c.ID]
		switch {
		case !ok:
		case t != c.Type:
			return invalid("key column %d is of type %s, and read as %s", c.ID, t.Name(), c.Type.Name())
		case read[c.ID]:
			return invalid("key column %d is read twice", c.ID)
		}
		read[c.ID] = true
	}
	return nil
}

func checkColumn(c Column) error {
	if err := checkType(c.Type); err != nil {
		return err
	}
	return checkDatum(c.Default, c.Type)
}

func checkIndexScan(n *IndexScan) error {
	if err := checkScan(n.KeyColumns, n.Columns); err != nil {
		return err
	}
	if len(n.IndexColumns) == 0 || len(n.IndexColumns) > ColumnsMax {
		return invalid("its index has %d columns", len(n.IndexColumns))
	}
	have := map[uint32]sqltypes.Type{}
	for _, c := range n.IndexColumns {
		if err := checkColumn(c.Column); err != nil {
			return err
		}
		have[c.ID] = c.Type
	}
	for _, c := range n.KeyColumns {
		have[c.ID] = c.Type
	}
	for _, c := range n.Columns {
		if t, ok := have[c.ID]; !ok || t != c.Type {
			return invalid("column %d is not in the index, or read twice", c.ID)
		}
		delete(have, c.ID)
	}
	return nil
}

func (c *checker) aggregation(n *Aggregation) error {
	if err := c.exprs(n.GroupBy); err != nil {
		return err
	}
	if len(n.GroupBy)+len(n.Aggs) == 0 {
		return invalid("its aggregation computes nothing")
	}
	for _, a := range n.Aggs {
		if a.Distinct {
			return invalid("%s(DISTINCT …) cannot be computed in parts", a.Name)
		}
		if err := c.exprs(a.Args); err != nil {
			return err
		}
		if a.Filter != nil {
			if err := c.bools([]expr.Expr{a.Filter}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) bools(es []expr.Expr) error {
	for _, e := range es {
		if err := c.expr(e, 0); err != nil {
			return err
		}
		if e.Type().OID != sqltypes.OIDBool {
			return invalid("a condition is of type %s", e.Type().Name())
		}
	}
	return nil
}

func (c *checker) exprs(es []expr.Expr) error {
	if len(es) > ColumnsMax {
		return invalid("a node has %d expressions", len(es))
	}
	for _, e := range es {
		if err := c.expr(e, 0); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) expr(e expr.Expr, depth int) error {
	c.nodes++
	if depth > ExprDepthMax || c.nodes > ExprNodesMax {
		return invalid("an expression is too deep, or the expressions are too many")
	}
	all := func(es ...expr.Expr) error {
		for _, x := range es {
			if err := c.expr(x, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	switch e := e.(type) {
	case *expr.Column:
		if e.Index < 0 || e.Index >= len(c.in) || c.in[e.Index] != e.Typ {
			return invalid("column reference %d does not fit its input", e.Index)
		}
		return nil
	case *expr.Const:
		if err := checkType(e.Typ); err != nil {
			return err
		}
		return checkDatum(e.Value, e.Typ)
	case *expr.Call:
		if err := all(e.Args...); err != nil {
			return err
		}
		return checkCall(e)
	case *expr.Logic:
		if len(e.Args) == 0 {
			return invalid("AND or OR of nothing")
		}
		return c.nested(e.Args, depth)
	case *expr.Case:
		return c.caseExpr(e, depth)
	case *expr.Coalesce:
		if len(e.Args) == 0 {
			return invalid("COALESCE of nothing")
		}
		if err := sameLayout(e.Typ, e.Args...); err != nil {
			return err
		}
		return all(e.Args...)
	case *expr.KeyFilter:
		if err := e.Check(); err != nil {
			return invalid("%v", err)
		}
		return all(e.X)
	case *expr.In:
		c.nodes += len(e.Values)
		if err := all(e.X); err != nil {
			return err
		}
		for _, d := range e.Values {
			if err := checkDatum(d, e.X.Type()); err != nil {
				return err
			}
		}
		return nil
	}
	return invalid("an expression of type %T cannot be pushed down", e)
}

func (c *checker) nested(es []expr.Expr, depth int) error {
	for _, e := range es {
		if err := c.expr(e, depth+1); err != nil {
			return err
		}
		if e.Type().OID != sqltypes.OIDBool {
			return invalid("a condition is of type %s", e.Type().Name())
		}
	}
	return nil
}

func (c *checker) caseExpr(e *expr.Case, depth int) error {
	if len(e.Conds) == 0 || len(e.Conds) != len(e.Results) {
		return invalid("CASE has %d conditions and %d results", len(e.Conds), len(e.Results))
	}
	if err := checkType(e.Typ); err != nil {
		return err
	}
	if err := c.nested(e.Conds, depth); err != nil {
		return err
	}
	results := e.Results
	if e.Else != nil {
		results = append(results[:len(results):len(results)], e.Else)
	}
	for _, r := range results {
		if err := c.expr(r, depth+1); err != nil {
			return err
		}
	}
	return sameLayout(e.Typ, results...)
}

func sameLayout(t sqltypes.Type, es ...expr.Expr) error {
	if err := checkType(t); err != nil {
		return err
	}
	for _, e := range es {
		if x := e.Type(); colvec.KindOf(x) != colvec.KindOf(t) || x.FixedScale() && x.Scale != t.Scale {
			return invalid("an argument of type %s stands for a %s", x.Name(), t.Name())
		}
	}
	return nil
}

// checkCall holds the arguments and the result of a call against the
// declaration of its function: the kernels rely on the layouts.
func checkCall(e *expr.Call) error {
	f := e.Fn
	if f == nil {
		return invalid("a call names no function")
	}
	if f.Session || f.Volatility == expr.Volatile {
		return invalid("function %s cannot be pushed down", f.Sig)
	}
	n := len(f.ArgTypes)
	if len(e.Args) != n && !(f.Variadic && n > 0 && len(e.Args) >= n) {
		return invalid("function %s has %d arguments", f.Sig, len(e.Args))
	}
	types := make([]sqltypes.Type, len(e.Args))
	for i, a := range e.Args {
		types[i] = a.Type()
		if !fits(types[i], f.ArgTypes[min(i, n-1)]) {
			return invalid("argument %d of %s is of type %s", i+1, f.Sig, types[i].Name())
		}
	}
	if err := checkType(e.Typ); err != nil {
		return err
	}
	if f.Kind == expr.KindCast {
		if !fits(e.Typ, f.ReturnType) {
			return invalid("%s gives no %s", f.Sig, e.Typ.Name())
		}
		return nil
	}
	if r := f.Result(types); colvec.KindOf(r) != colvec.KindOf(e.Typ) || r.Scale != e.Typ.Scale {
		return invalid("%s gives %s, not %s", f.Sig, r.Name(), e.Typ.Name())
	}
	return nil
}

// fits reports whether a value of type t may be passed where declared is
// expected: numerics of any scale are one type to a kernel.
func fits(t, declared sqltypes.Type) bool {
	if declared.Category() == 'P' || t.OID == declared.OID {
		return true
	}
	k := colvec.KindOf(t)
	return k != colvec.Decimal && k != colvec.NumericText && k == colvec.KindOf(declared)
}

func checkType(t sqltypes.Type) error {
	if !t.Known() {
		return invalid("type OID %d is unknown", t.OID)
	}
	if t.OID == sqltypes.OIDNumeric && (t.Precision < 0 || t.Precision > 1000 || t.Scale < -1000 || t.Scale > 1000) {
		return invalid("numeric(%d,%d) is no type", t.Precision, t.Scale)
	}
	return nil
}

// checkDatum reports whether d is NULL or a value of type t.
func checkDatum(d sqltypes.Datum, t sqltypes.Type) error {
	if d.IsNull() {
		return nil
	}
	if err := colvec.NewBuilder(t, 1).AppendDatum(d); err != nil {
		return invalid("a constant is no %s: %v", t.Name(), err)
	}
	return nil
}
