package exec

import (
	"errors"
	"sync"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	// spillParts is into how many files the rows of a hash table are divided that
	// does not fit in memory: spillPartBits of their hash.
	spillPartBits = 4
	spillParts    = 1 << spillPartBits
	// spillDepthMax is how often a part is divided again.
	spillDepthMax = 8
	// partRowsMax and partBytesMax are what is gathered of a part before it is
	// written.
	partRowsMax  = 1024
	partBytesMax = 64 << 10
)

// partFilesBytes is about what the buffers of a partFiles take.
const partFilesBytes = spillParts * (spill.WriterBytes + partBytesMax)

// partFiles divides rows among files by the hash of their keys, those of equal
// keys into the same one. Files are divided again by other bits: depth says how
// often they were. Safe for concurrent use.
//
//	rows ──hash──► part 0 … part 15 ──► runs
type partFiles struct {
	ctx   *Ctx
	types []sqltypes.Type
	depth int

	mu    sync.Mutex
	mem   memUser
	parts [spillParts]partFile
	runs  [spillParts]*spill.Run // after finish; nil = no rows
	rows  int64
	stats SpillStats
}

type partFile struct {
	w  *spill.Writer // nil until there are rows
	bs []*colvec.Builder
	n  int
}

func newPartFiles(ctx *Ctx, types []sqltypes.Type, depth int) (*partFiles, error) {
	p := &partFiles{ctx: ctx, types: types, depth: depth, mem: memUser{acct: ctx.Mem}}
	p.stats.Partitions = spillParts
	return p, p.mem.growAnyway(partFilesBytes)
}

// partOf is the part of a row: other bits of its hash at each depth.
func partOf(hash uint64, depth int) int {
	return int(hashWord(hash+uint64(depth)*hashStep) >> (64 - spillPartBits))
}

// add takes the rows sel (nil = all n) of the columns; hashes are parallel to
// sel.
func (p *partFiles) add(cols []colvec.Vec, n int, sel []int32, hashes []uint64) error {
	if sel != nil {
		n = len(sel)
	}
	var rows [spillParts][]int32
	for k := range n {
		part := partOf(hashes[k], p.depth)
		rows[part] = append(rows[part], int32(rowAt(sel, k)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range rows {
		if err := p.append(&p.parts[i], cols, rows[i]); err != nil {
			return err
		}
	}
	p.rows += int64(n)
	return nil
}

func (p *partFiles) append(f *partFile, cols []colvec.Vec, rows []int32) error {
	for len(rows) > 0 {
		some := rows[:min(len(rows), partRowsMax)]
		rows = rows[len(some):]
		if f.bs == nil {
			f.bs = colvec.NewBuilders(p.types, 0)
		}
		bytes := 0
		for c, b := range f.bs {
			b.AppendSelected(&cols[c], some)
			bytes += b.Bytes()
		}
		if f.n += len(some); f.n >= partRowsMax || bytes >= partBytesMax {
			if err := p.write(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes what is gathered of a part.
func (p *partFiles) write(f *partFile) error {
	if f.n == 0 {
		return nil
	}
	if f.w == nil {
		w, err := p.ctx.Spill.Create(p.types)
		if err != nil {
			return err
		}
		f.w = w
	}
	cols, err := colvec.FinishAll(f.bs)
	if err != nil {
		return err
	}
	n := f.n
	f.n = 0
	return f.w.Write(cols, n)
}

// finish ends all files.
func (p *partFiles) finish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.parts {
		f := &p.parts[i]
		if err := p.write(f); err != nil {
			return err
		}
		f.bs = nil
		if f.w == nil {
			continue
		}
		w := f.w
		f.w = nil
		run, err := finishRun(w, &p.stats)
		if err != nil {
			return err
		}
		p.runs[i] = run
	}
	p.mem.free()
	return nil
}

// take hands a part's run over to the caller, nil if it has no rows.
func (p *partFiles) take(i int) *spill.Run {
	run := p.runs[i]
	p.runs[i] = nil
	return run
}

// free removes the files that were not taken.
func (p *partFiles) free() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for i := range p.parts {
		if w := p.parts[i].w; w != nil {
			errs = append(errs, w.Discard())
		}
		p.parts[i] = partFile{}
		if r := p.take(i); r != nil {
			errs = append(errs, r.Remove())
		}
	}
	p.mem.free()
	return errors.Join(errs...)
}
