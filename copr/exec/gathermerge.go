package exec

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
)

type gatherMergeOp struct {
	p     Pipelines
	ctx   *Ctx
	crew  *crew
	lanes []lane
	merge Operator // of the lanes
}

// NewGatherMerge is NewGather of pipelines that are each in the order of keys,
// as is what it hands out.
func NewGatherMerge(p Pipelines, keys []plan.SortKey) (Operator, error) {
	g := &gatherMergeOp{p: p, lanes: make([]lane, len(p.Pipes))}
	types := p.Pipes[0].Types()
	ins := make([]Operator, len(p.Pipes))
	for i := range ins {
		ins[i] = NewSource("Worker", types, func(*Ctx) (Source, error) { return &laneSource{g, i, types}, nil })
	}
	var err error
	if g.merge, err = NewMerge(ins, keys); err != nil {
		return nil, err
	}
	return newOperator("Gather Merge", g, types), nil
}

// laneSource is what one worker sends.
type laneSource struct {
	g     *gatherMergeOp
	i     int
	types []sqltypes.Type
}

func (s *laneSource) NextRaw() (Raw, error) { return s.g.lanes[s.i].receive(s.g.ctx, s.g.crew) }

func (s *laneSource) Next() (*expr.Batch, error) {
	r, err := s.NextRaw()
	if err != nil {
		return nil, err
	}
	return r.plain(s.types)
}

func (s *laneSource) Close() error { return nil }

func (g *gatherMergeOp) open(ctx *Ctx) error {
	out := make([]lane, len(g.p.Pipes))
	for i := range out {
		out[i] = make(lane, gatherBatchesMax)
	}
	g.ctx, g.lanes = ctx, out
	g.crew = startCrew(ctx, g.p, func(w *worker, i int, r Raw) error {
		return out[i].send(w, r.own())
	}, func(i int, _ bool) { close(out[i]) })
	return g.merge.Open(ctx)
}

func (g *gatherMergeOp) next() (*expr.Batch, error) { return g.merge.Next() }

func (g *gatherMergeOp) close() error {
	if g.crew != nil {
		g.crew.stop()
		g.crew = nil
	}
	return g.merge.Close()
}
