package exec

import (
	"slices"
	"sync"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Repartition sends the rows of some pipelines on to others, those with equal
// keys to the same one, so that each can group its share by itself:
//
//	pipe 0 ─┬─► reader 0 ──► HashAgg
//	pipe 1 ─┤
//	pipe 2 ─┴─► reader 1 ──► HashAgg
type Repartition struct {
	p     Pipelines
	keys  int
	types []sqltypes.Type
	parts int

	mu    sync.Mutex
	crew  *crew
	lanes []lane
}

// NewRepartition divides by the first keys columns into parts.
func NewRepartition(p Pipelines, keys, parts int) *Repartition {
	return &Repartition{p: p, keys: keys, types: p.Pipes[0].Types(), parts: parts}
}

// Reader is a leaf that reads part i. All parts must be read at the same time.
func (r *Repartition) Reader(i int) Operator {
	return newOperator("Repartition", &partReader{r: r, i: i}, r.types)
}

type partReader struct {
	r   *Repartition
	i   int
	ctx *Ctx
}

func (p *partReader) open(ctx *Ctx) error {
	p.ctx = ctx
	p.r.open(ctx)
	return nil
}

func (p *partReader) close() error { return nil }

func (p *partReader) nextRaw() (Raw, error) { return p.r.lanes[p.i].receive(p.ctx, p.r.crew) }

func (r *Repartition) open(ctx *Ctx) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.crew != nil {
		return
	}
	out := make([]lane, r.parts)
	for i := range out {
		out[i] = make(lane, gatherBatchesMax)
	}
	ps := make([]partitioner, len(r.p.Pipes))
	for i := range ps {
		ps[i].keys = newKeyPacker(r.types[:r.keys])
	}
	r.lanes = out
	r.crew = startCrew(ctx, r.p, func(w *worker, i int, rows Raw) error {
		sels, err := ps[i].split(rows, r.parts)
		if err != nil {
			return err
		}
		for part, sel := range sels {
			if len(sel) == 0 {
				continue
			}
			if err := out[part].send(w, Raw{rows.Batch, sel}); err != nil {
				return err
			}
		}
		return nil
	}, func(_ int, last bool) {
		if last {
			for _, l := range out {
				close(l)
			}
		}
	})
}

func (r *Repartition) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.crew != nil {
		r.crew.stop()
		r.crew = nil
	}
	return nil
}

// partitioner divides rows by the hash of their keys.
type partitioner struct {
	keys *keyPacker
	part []int32
}

// split returns the rows of each part, as selections of their own.
func (p *partitioner) split(r Raw, parts int) ([][]int32, error) {
	n := r.Len()
	if err := p.keys.pack(colvec.OpenAllEncoded(r.Cols[:len(p.keys.types)], p.keys.types), r.Sel, n, false); err != nil {
		return nil, err
	}
	ends := make([]int32, parts+1)
	p.part = p.part[:0]
	for _, h := range p.keys.hashes[:n] {
		part := int32(h >> 32 * uint64(parts) >> 32)
		ends[part+1]++
		p.part = append(p.part, part)
	}
	for i := range parts {
		ends[i+1] += ends[i]
	}
	all, at := make([]int32, n), slices.Clone(ends)
	for i, part := range p.part {
		all[at[part]] = int32(rowAt(r.Sel, i))
		at[part]++
	}
	out := make([][]int32, parts)
	for i := range out {
		out[i] = all[ends[i]:ends[i+1]:ends[i+1]]
	}
	return out, nil
}
