package server

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
)

// tableScan is what a task reads its rows with.
type tableScan interface {
	Types() []sqltypes.Type
	Next() (*expr.Batch, error)
	LastKey() []byte
	Stats() scan.Stats
	Close() error
}

// snapshotReader is a Reader whose rows the columnar cache can stand in for.
type snapshotReader interface {
	Reader
	Snapshot() kv.Snapshot
	TS() uint64
	Get(key []byte) (value []byte, ok bool, err error)
}

// columnSource is a snapshotReader as package columnar wants it.
type columnSource struct{ snapshotReader }

func (c columnSource) Rows(r kv.KeyRange, keyOnly bool) (columnar.Rows, error) {
	return c.snapshotReader.Rows(r, false, keyOnly)
}

// visit begins a scan that the columnar cache may serve: a plain read of a
// table's rows from the first to the last. Short ones are not worth it.
func (t *task) visit() *columnar.Visit {
	r := t.r
	n, ok := r.Plan.Nodes[0].(*plan.TableScan)
	if t.s.o.Columns == nil || !r.Columnar || !ok || n.Desc || r.Isolation != kvrpcpb.IsolationLevel_SI || r.BatchRowsMax > 0 {
		return nil
	}
	g := &r.Regions[t.i]
	if len(g.Ranges) > columnar.ScanRangesMax || isPoint(g.Ranges[0]) {
		return nil
	}
	return t.s.o.Columns.Visit(g.ID, n, r.KeyPrefix())
}

func isPoint(r kv.KeyRange) bool {
	return len(r.End) == len(r.Start)+1 && r.End[len(r.Start)] == 0 && string(r.End[:len(r.Start)]) == string(r.Start)
}

// columns opens the scan over the cache; nil: rows are to be read.
func (t *task) columns(ctx context.Context, v *columnar.Visit, reader Reader) (*columnar.Scan, error) {
	sr, ok := reader.(snapshotReader)
	if v == nil || !ok {
		return nil, nil
	}
	p := t.r.Plan
	o := columnar.ScanOptions{
		BatchBytesMax: t.r.BatchBytesMax, KeyPrefix: t.r.KeyPrefix(),
		Unordered: p.Unordered(), Transient: transient(p),
	}
	if len(p.Nodes) > 1 {
		if f, ok := p.Nodes[1].(*plan.Selection); ok {
			eval, err := exec.EvalCtx(p)
			if err != nil {
				return nil, err
			}
			o.Filter, o.Eval = f.Conds, eval
		}
	}
	return v.Open(ctx, p.Nodes[0].(*plan.TableScan), columnSource{sr}, t.r.Regions[t.i].Ranges, o)
}

// transient reports whether columns of the scan are seldom kept: an aggregation
// takes from a batch what it needs before it asks for the next one, and of rows
// that a filter leaves over copies are returned. (If it leaves all, the pipeline
// tells the scan.)
func transient(p *plan.Plan) bool {
	filtered := false
	for _, n := range p.Nodes[1:] {
		switch n.(type) {
		case *plan.Selection:
			filtered = true
		case *plan.Projection:
		case *plan.Aggregation:
			return true
		default:
			return false
		}
	}
	return filtered
}
