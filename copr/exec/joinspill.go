package exec

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

// joinSpill is a hash join whose right side does not fit in memory: both sides
// are divided into files by the hash of their keys, and the files are joined
// pair by pair. A pair that does not fit is divided again, by the same means;
// one that cannot be divided, as most rows have one key, is joined block by
// block (blockJoin).
//
//	right ──hash──► R0 … R15          R0 ⋈ L0 ─┐
//	left  ──hash──► L0 … L15          R1 ⋈ L1 ─┴─► any probe, one pair at a time
//
// All probes write their left rows first; when the last one has, each takes
// pairs until there are none.
type joinSpill struct {
	t           *JoinTable
	right, left *partFiles
	next        atomic.Int32 // next pair
	arrived     atomic.Int32 // probes that have written all of their rows
	all         chan struct{}
	err         error       // of finishing the left files, set before all is closed
	reported    atomic.Bool // stats have been added to a probe's

	mu    sync.Mutex
	stats SpillStats
}

// spillable reports whether a table may divide its rows.
func (t *JoinTable) spillable(ctx *Ctx) bool { return ctx.Spill != nil && t.depth < spillDepthMax }

// tooLarge reports whether the rows so far had better go to disk: they are
// copied when the table is made, and indexed.
func (b *joinBuilder) tooLarge() bool {
	return b.t.spillable(b.ctx) && b.rows > 0 && b.t.mem.full(b.held+16*int64(b.rows))
}

// spill divides what was read so far and what is still to come.
func (b *joinBuilder) spill(in Operator) error {
	t := b.t
	right, err := newPartFiles(b.ctx, t.spec.Right.Types(), t.depth)
	if err != nil {
		return err
	}
	s := &joinSpill{t: t, right: right, all: make(chan struct{})}
	t.spilled = s
	b.codes = nil
	hash := newKeyPacker(t.keyTypes)
	for i, r := range b.parts {
		b.parts[i] = Raw{}
		if err := b.divide(s, hash, r); err != nil {
			return err
		}
	}
	b.parts = nil
	t.keys.reset()
	if err := t.mem.set(0); err != nil {
		return err
	}
	for {
		r, err := NextRaw(in)
		if err != nil {
			return err
		}
		if r.Batch == nil {
			break
		}
		if err := b.divide(s, hash, r); err != nil {
			return err
		}
	}
	if err := right.finish(); err != nil {
		return err
	}
	s.stats.add(right.stats)
	s.left, err = newPartFiles(b.ctx, t.spec.LeftTypes, t.depth)
	return err
}

// divide writes rows of the right side.
func (b *joinBuilder) divide(s *joinSpill, hash *keyPacker, r Raw) error {
	t := b.t
	t.any = true
	vecs, err := b.side.eval(b.ctx, r)
	if err != nil {
		return err
	}
	keyed, sel := withoutNulls(vecs, r.N, r.Sel, b.sel)
	b.sel = sel
	t.nullKey = t.nullKey || keyed != nil && len(keyed) < r.Len()
	if !t.spec.Kind.keepsRight() {
		r.Sel = keyed
	}
	return writeParts(s.right, hash, vecs, r)
}

// writeParts writes rows by the hashes of their keys.
func writeParts(to *partFiles, hash *keyPacker, keys []colvec.Vec, r Raw) error {
	n := r.Len()
	if n == 0 {
		return nil
	}
	if err := hash.pack(keys, r.Sel, n, false); err != nil {
		return err
	}
	b, err := r.Gathered(to.types) // the others may be no values
	if err != nil {
		return err
	}
	return to.add(colvec.OpenAll(b.Cols, to.types), n, nil, hash.hashes[:n])
}

// free removes all files.
func (s *joinSpill) free() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.right.free(), s.left.free())
}

// arrive says that one more probe has written all of its rows.
func (s *joinSpill) arrive() {
	if int(s.arrived.Add(1)) == s.t.probes {
		s.err = s.left.finish()
		s.mu.Lock()
		s.stats.add(s.left.stats)
		s.mu.Unlock()
		close(s.all)
	}
}

// spilledProbe is a probe of a joinSpill.
type spilledProbe struct {
	s       *joinSpill
	written bool
	waited  bool
	pair    Operator   // being joined
	stats   SpillStats // of its pairs; of the files of all, if it was the first to end
}

// nextSpilled returns rows of the pairs that this probe joins.
func (p *hashProbe) nextSpilled() (Raw, error) {
	s := p.disk.s
	if p.t.spec.NullAware && p.t.nullKey {
		return Raw{}, nil
	}
	if !p.disk.written {
		if err := p.writeLeft(); err != nil {
			return Raw{}, err
		}
		p.disk.written = true
		s.arrive()
	}
	if !p.disk.waited {
		if err := p.waitForAll(); err != nil {
			return Raw{}, err
		}
		p.disk.waited = true
	}
	for {
		if p.disk.pair == nil {
			op, err := p.nextPair()
			if err != nil || op == nil {
				return Raw{}, err
			}
			p.disk.pair = op
			if err := op.Open(p.ctx); err != nil {
				return Raw{}, err
			}
		}
		r, err := NextRaw(p.disk.pair)
		if err != nil || r.Batch != nil {
			return r, err
		}
		if err := p.closePair(); err != nil {
			return Raw{}, err
		}
	}
}

func (p *hashProbe) closePair() error {
	op := p.disk.pair
	if op == nil {
		return nil
	}
	p.disk.pair = nil
	err := op.Close()
	p.disk.stats.add(op.Stats().Spill)
	return err
}

// closeSpilled ends this probe's part. Probes that wait for its rows wait no
// longer: it has none to come.
func (p *hashProbe) closeSpilled() error {
	s := p.disk.s
	if s == nil {
		return nil
	}
	err := p.closePair()
	if !p.disk.written {
		p.disk.written = true
		s.arrive()
	}
	if s.reported.CompareAndSwap(false, true) {
		s.mu.Lock()
		p.disk.stats.add(s.stats)
		s.mu.Unlock()
	}
	p.disk.s = nil
	return err
}

// writeLeft divides the left rows of this probe.
func (p *hashProbe) writeLeft() error {
	kind, hash := p.t.spec.Kind, newKeyPacker(p.t.keyTypes)
	for {
		r, err := NextRaw(p.left)
		if err != nil || r.Batch == nil {
			return err
		}
		vecs, err := p.side.eval(p.ctx, r)
		if err != nil {
			return err
		}
		// NULL NOT IN (…) is NULL, and who has no key is nobody's match.
		if p.t.spec.NullAware || !kind.keepsLeft() && kind != AntiJoin {
			r.Sel, p.sel = withoutNulls(vecs, r.N, r.Sel, p.sel)
		}
		if err := writeParts(p.disk.s.left, hash, vecs, r); err != nil {
			return err
		}
		if err := p.ctx.check(); err != nil {
			return err
		}
	}
}

// waitForAll waits until all probes have written their rows.
func (p *hashProbe) waitForAll() error {
	s := p.disk.s
	select {
	case <-s.all:
		return s.err
	default:
	}
	p.ctx.worker.wait()
	select {
	case <-s.all:
	case <-p.ctx.Done():
		return p.ctx.check()
	}
	if err := p.ctx.worker.work(); err != nil {
		return err
	}
	return s.err
}

// nextPair makes the join of the next pair of files that rows can come of, nil
// behind the last one.
func (p *hashProbe) nextPair() (Operator, error) {
	s, t := p.disk.s, p.t
	for {
		i := int(s.next.Add(1)) - 1
		if i >= spillParts {
			return nil, nil
		}
		r, l := s.right.take(i), s.left.take(i)
		kind := t.spec.Kind
		if l == nil && (r == nil || !kind.keepsRight()) || r == nil && !kind.keepsLeft() && kind != AntiJoin {
			if err := removeRuns(r, l); err != nil {
				return nil, err
			}
			continue
		}
		pair := joinPair{t: t, left: l, right: r}
		if r != nil && r.Rows > s.right.rows/4*3 && t.depth > 0 || t.depth+1 >= spillDepthMax {
			return newBlockJoin(pair), nil
		}
		op, err := pair.join(kind, pair.read(l, t.spec.LeftTypes, false), pair.read(r, t.spec.Right.Types(), false), t.spec.Out, t.depth+1)
		if err != nil {
			return nil, errors.Join(err, removeRuns(r, l))
		}
		return &pairJoin{Operator: op, pair: pair}, nil
	}
}

func removeRuns(runs ...*spill.Run) error {
	var errs []error
	for _, r := range runs {
		if r != nil {
			errs = append(errs, r.Remove())
		}
	}
	return errors.Join(errs...)
}

// joinPair is a file of each side.
type joinPair struct {
	t           *JoinTable
	left, right *spill.Run // nil = no rows
}

// read is an operator over one of the files.
func (joinPair) read(run *spill.Run, types []sqltypes.Type, keep bool) Operator {
	if run == nil {
		return NewBatches(types)
	}
	return newRunOperator("Spilled", types, run, keep)
}

// join joins two inputs as the table's spec says, but for the kind. NULL keys
// that would matter to NOT IN are no longer there.
func (p joinPair) join(kind JoinKind, left, right Operator, out []int, depth int) (Operator, error) {
	s := p.t.spec
	return newHashJoin(HashJoinSpec{
		Kind: kind, Left: left, Right: right, LeftKeys: s.LeftKeys, RightKeys: s.RightKeys, Residual: s.Residual, Out: out,
	}, depth)
}

// pairJoin removes the files of a pair that it did not get to read.
type pairJoin struct {
	Operator
	pair joinPair
}

func (j *pairJoin) NextRaw() (Raw, error) { return NextRaw(j.Operator) }

func (j *pairJoin) Close() error {
	return errors.Join(j.Operator.Close(), removeRuns(j.pair.left, j.pair.right))
}

// blockJoin joins a pair whose right file has too many rows of one key: it
// takes as many of them as fit, reads all of the left file for these, and so on.
// The left rows that found no match so far are kept in a file of their own where
// the kind of the join wants to know.
//
//	for each block of R:   out += L ⋈ block        (inner, left, right, full; right semi and anti as they are)
//	                       out += rest ⋉ block     (semi)
//	                       rest = rest ▷ block     (left, full, semi, anti)
//	at the end:            out += rest             (left, full: with NULLs; anti)
type blockJoin struct {
	pair  joinPair
	ctx   *Ctx
	in    *runReader // of the right file, nil = at its end
	block []*expr.Batch
	rest  *spill.Run // left rows without a match, the left file at first
	cur   Operator
	step  blockStep
	stats SpillStats
}

type blockStep uint8

const (
	readBlock blockStep = iota
	emitMatches
	dropMatches
	emitRest
	blockEnd
)

func newBlockJoin(p joinPair) Operator {
	return newOperator("Block Join", &blockJoin{pair: p}, p.t.outTypes)
}

func (j *blockJoin) spillStats() SpillStats { return j.stats }

func (j *blockJoin) open(ctx *Ctx) (err error) {
	j.ctx, j.rest, j.step = ctx, j.pair.left, readBlock
	if j.pair.right != nil {
		j.in, err = openRun(j.pair.right)
	}
	return err
}

func (j *blockJoin) close() error {
	errs := []error{j.closeCur()}
	if j.in != nil {
		errs = append(errs, j.in.r.Close())
	}
	errs = append(errs, removeRuns(j.pair.right, j.pair.left, j.rest))
	j.in, j.block = nil, nil
	return errors.Join(errs...)
}

func (j *blockJoin) closeCur() error {
	if j.cur == nil {
		return nil
	}
	err := j.cur.Close()
	j.cur = nil
	return err
}

func (j *blockJoin) nextRaw() (Raw, error) {
	for {
		if j.cur != nil {
			r, err := NextRaw(j.cur)
			if err != nil || r.Batch != nil {
				return r, err
			}
			if err := j.closeCur(); err != nil {
				return Raw{}, err
			}
		}
		if j.step == blockEnd {
			return Raw{}, nil
		}
		if err := j.advance(); err != nil {
			return Raw{}, err
		}
	}
}

// advance does the next step; what is to be returned is in cur then.
func (j *blockJoin) advance() error {
	kind := j.pair.t.spec.Kind
	switch j.step {
	case readBlock:
		if err := j.read(); err != nil {
			return err
		}
		j.step = emitMatches
		if len(j.block) == 0 {
			j.step = emitRest
		}
		return nil
	case emitMatches:
		j.step = dropMatches
		from := j.pair.left
		switch kind {
		case AntiJoin:
			return nil
		case SemiJoin:
			from = j.rest
		case LeftJoin:
			kind = InnerJoin
		case FullJoin:
			kind = RightJoin
		}
		return j.start(kind, from, j.block, j.pair.t.spec.Out)
	case dropMatches:
		j.step = readBlock
		if !kind.keepsLeft() && !kind.leftOnly() {
			return nil
		}
		return j.withoutMatches()
	}
	j.step = blockEnd
	switch kind {
	case AntiJoin, LeftJoin:
		return j.start(kind, j.rest, nil, j.pair.t.spec.Out)
	case FullJoin:
		return j.start(LeftJoin, j.rest, nil, j.pair.t.spec.Out)
	}
	return nil
}

// start begins to return a join of left rows with a block.
func (j *blockJoin) start(kind JoinKind, left *spill.Run, block []*expr.Batch, out []int) error {
	t := j.pair.t
	op, err := j.pair.join(kind, j.pair.read(left, t.spec.LeftTypes, true), NewBatches(t.spec.Right.Types(), block...), out, spillDepthMax)
	if err != nil {
		return err
	}
	j.cur = op
	return op.Open(j.ctx)
}

// read reads the next block: a quarter of what may be kept before it spills.
func (j *blockJoin) read() error {
	j.block = nil
	if j.in == nil {
		return nil
	}
	room := j.ctx.Mem.spillRoom() / 4
	for bytes := int64(0); bytes == 0 || bytes < room; {
		b, err := j.in.next()
		if err != nil {
			return err
		}
		if b == nil {
			err := j.in.r.Close()
			j.in = nil
			return err
		}
		j.block = append(j.block, b)
		bytes += batchBytes(b)
	}
	return nil
}

// withoutMatches writes the rows of rest that the block has no match for.
func (j *blockJoin) withoutMatches() (err error) {
	t := j.pair.t
	if err := j.start(AntiJoin, j.rest, j.block, nil); err != nil {
		return err
	}
	w, err := j.ctx.Spill.Create(t.spec.LeftTypes)
	if err != nil {
		return err
	}
	for {
		b, err := j.cur.Next()
		if err == nil && b != nil {
			err = w.Write(b.Cols, b.N)
		}
		if err != nil {
			return errors.Join(err, w.Discard())
		}
		if b == nil {
			break
		}
	}
	old := j.rest
	if j.rest, err = finishRun(w, &j.stats); err != nil {
		j.rest = nil
		return err
	}
	if old != nil && old != j.pair.left {
		err = old.Remove()
	}
	return errors.Join(err, j.closeCur())
}
