package exec

import (
	"time"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/pgerror"
)

// RowSource yields the rows that a plan's scan reads, in its order.
type RowSource = scan.RowSource

// EvalCtx is the context in which the plan's expressions are evaluated where
// there is no session: in a region.
func EvalCtx(p *plan.Plan) (*expr.Ctx, error) {
	zone := time.UTC
	if p.TimeZone != "" {
		var err error
		if zone, err = time.LoadLocation(p.TimeZone); err != nil {
			return nil, pgerror.New(pgerror.InvalidParameterValue, "time zone %q is unknown here: %v", p.TimeZone, err)
		}
	}
	return &expr.Ctx{TimeZone: zone, Now: p.Now, TxnNow: p.TxnNow}, nil
}

// Build makes the operators of a plan over rows in memory or in a region: an
// aggregation is partial, as it is in a region.
func Build(p *plan.Plan, src RowSource) (Operator, error) {
	sc, err := scan.New(p.Nodes[0], src, scan.Options{})
	if err != nil {
		return nil, err
	}
	return BuildOn(p, NewSource(scanName(p), sc.Types(), func(*Ctx) (Source, error) { return sc, nil }))
}

func scanName(p *plan.Plan) string {
	if _, ok := p.Nodes[0].(*plan.IndexScan); ok {
		return "Index Scan"
	}
	return "Table Scan"
}

// BuildOn makes the operators of the plan's nodes behind its scan, over an
// operator in the scan's place.
func BuildOn(p *plan.Plan, op Operator) (Operator, error) {
	var err error
	for _, n := range p.Nodes[1:] {
		switch n := n.(type) {
		case *plan.Selection:
			op, err = NewFilter(op, n.Conds)
		case *plan.Projection:
			op, err = NewProject(op, n.Exprs)
		case *plan.Aggregation:
			op, err = NewHashAgg(op, PartialAgg, n.GroupBy, n.Aggs)
		case *plan.TopN:
			op, err = NewTopN(op, n.Keys, n.N, 0)
		case *plan.Limit:
			op = NewLimit(op, n.N, 0)
		default:
			err = pgerror.New(pgerror.InternalError, "a plan has a %T behind its scan", n)
		}
		if err != nil {
			return nil, err
		}
	}
	return op, nil
}
