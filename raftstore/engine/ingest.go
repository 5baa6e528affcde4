package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/copradb/copra/internal/kv"
)

// MetaPut is a write of a meta key; a nil Value deletes it.
type MetaPut struct{ Key, Value []byte }

// scratchDir holds the tombstone and meta tables of an ingest until Pebble has
// taken them.
const scratchDir = "ingest"

// ingestCount names scratch files.
var ingestCount atomic.Uint64

// IngestReplace replaces the data of [start, end) (empty end: unbounded) of
// all families by the content of files, and writes meta, in one atomic step
// that is durable when it returns. Files come from ExportRange, of any store;
// they are consumed. After an error nothing has changed and the files are
// still there.
//
// Every file carries a range tombstone over its own span. The gaps between
// them get tombstone tables of their own, so the tables of one ingest never
// overlap, as Pebble demands, and together cover the range in every family.
func (e *Engine) IngestReplace(start, end []byte, files []string, meta []MetaPut) error {
	return e.IngestReplaceRanges([]kv.KeyRange{{Start: start, End: end}}, files, meta)
}

// IngestReplaceRanges is IngestReplace of several ranges, which may overlap.
// What lies between them stays.
func (e *Engine) IngestReplaceRanges(ranges []kv.KeyRange, files []string, meta []MetaPut) (err error) {
	ranges, err = normalRanges(ranges)
	if err != nil {
		return err
	}
	spans, err := e.readSpans(ranges, files)
	if err != nil {
		return err
	}
	scratch := e.fs.PathJoin(e.dir, scratchDir, fmt.Sprintf("%d", ingestCount.Add(1)))
	if err := e.fs.MkdirAll(scratch, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", scratch, err)
	}
	defer func() {
		// No error of the ingest, which may have happened: the next start removes it.
		if err := e.fs.RemoveAll(scratch); err != nil {
			e.opts.Logger.Errorf("remove %s: %v", scratch, err)
		}
	}()
	paths := slices.Clone(files)
	for i, gap := range gaps(ranges, spans) {
		path := e.fs.PathJoin(scratch, fmt.Sprintf("gap_%d.sst", i))
		if err := e.writeTombstone(path, gap); err != nil {
			return err
		}
		paths = append(paths, path)
	}
	if len(meta) > 0 {
		path := e.fs.PathJoin(scratch, "meta.sst")
		if err := e.writeMeta(path, meta); err != nil {
			return err
		}
		paths = append(paths, path)
	}
	err = e.db.Ingest(context.Background(), paths)
	e.changed()
	if err != nil {
		return fmt.Errorf("ingest %d tables into %d ranges from %x on: %w", len(paths), len(ranges), ranges[0].Start, err)
	}
	return nil
}

// DestroyRange deletes [start, end) of all families and writes meta, in one
// atomic step that is durable when it returns.
func (e *Engine) DestroyRange(start, end []byte, meta []MetaPut) error {
	return e.IngestReplace(start, end, nil, meta)
}

// clearScratch removes what a crash left of an ingest that did not happen.
func (e *Engine) clearScratch() error {
	return e.fs.RemoveAll(e.fs.PathJoin(e.dir, scratchDir))
}

// span is [start, end) in disk keys.
type span struct {
	start, end []byte
	path       string
}

// readSpans returns the tombstone span of every file, in order, after checking
// that the files fit into the range and don't overlap.
func (e *Engine) readSpans(ranges []kv.KeyRange, files []string) ([]span, error) {
	spans := make([]span, 0, len(files))
	for _, path := range files {
		s, err := e.readSpan(path)
		if err != nil {
			return nil, fmt.Errorf("read table %s: %w", path, err)
		}
		inside := func(r kv.KeyRange) bool { return s.inside(r) }
		if !kv.CF(s.start[0]).Valid() || !slices.ContainsFunc(ranges, inside) {
			return nil, fmt.Errorf("table %s covers [%x, %x), which is not inside [%x, %x) of one family", path, s.start, s.end, ranges[0].Start, ranges[len(ranges)-1].End)
		}
		spans = append(spans, s)
	}
	slices.SortFunc(spans, func(a, b span) int { return bytes.Compare(a.start, b.start) })
	for i := 1; i < len(spans); i++ {
		if bytes.Compare(spans[i-1].end, spans[i].start) > 0 {
			return nil, fmt.Errorf("tables %s and %s overlap at %x", spans[i-1].path, spans[i].path, spans[i].start)
		}
	}
	return spans, nil
}

// readSpan checks that the file has exactly one range tombstone and no key
// outside it.
func (e *Engine) readSpan(path string) (s span, err error) {
	f, err := e.fs.Open(path)
	if err != nil {
		return s, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return s, errors.Join(err, f.Close())
	}
	ctx := context.Background()
	r, err := sstable.NewReader(ctx, readable, e.opts.MakeReaderOptions())
	if err != nil {
		return s, errors.Join(err, readable.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	dels, err := r.NewRawRangeDelIter(ctx, sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil {
		return s, err
	}
	if dels == nil {
		return s, errors.New("it has no range tombstone over its span: not written by ExportRange")
	}
	defer dels.Close()
	first, err := dels.First()
	if err != nil {
		return s, err
	}
	s = span{start: slices.Clone(first.Start), end: slices.Clone(first.End), path: path}
	if second, err := dels.Next(); err != nil || second != nil {
		return s, errors.Join(err, errors.New("it has more than one range tombstone: not written by ExportRange"))
	}
	return s, checkPoints(r, s)
}

func checkPoints(r *sstable.Reader, s span) (err error) {
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if first := it.First(); first != nil && bytes.Compare(first.K.UserKey, s.start) < 0 {
		return fmt.Errorf("its first key %x is before its tombstone [%x, %x)", first.K.UserKey, s.start, s.end)
	}
	if last := it.Last(); last != nil && bytes.Compare(last.K.UserKey, s.end) >= 0 {
		return fmt.Errorf("its last key %x is behind its tombstone [%x, %x)", last.K.UserKey, s.start, s.end)
	}
	return it.Error()
}

// gaps returns the parts of the ranges, in every family, that no span covers.
func gaps(ranges []kv.KeyRange, spans []span) []span {
	var out []span
	for _, cf := range kv.CFs {
		for _, r := range ranges {
			from, to := cfKey(nil, cf, r.Start), cfEnd(nil, cf, r.End)
			for _, s := range spans {
				if s.start[0] != byte(cf) || !s.inside(r) {
					continue
				}
				if bytes.Compare(from, s.start) < 0 {
					out = append(out, span{start: from, end: s.start})
				}
				from = s.end
			}
			if bytes.Compare(from, to) < 0 {
				out = append(out, span{start: from, end: to})
			}
		}
	}
	return out
}

// inside reports whether the span is in a range of its own family.
func (s *span) inside(r kv.KeyRange) bool {
	cf := kv.CF(s.start[0])
	return bytes.Compare(s.start, cfKey(nil, cf, r.Start)) >= 0 && bytes.Compare(s.end, cfEnd(nil, cf, r.End)) <= 0
}

// normalRanges sorts ranges and joins those that overlap or touch.
func normalRanges(ranges []kv.KeyRange) ([]kv.KeyRange, error) {
	for _, r := range ranges {
		if len(r.End) > 0 && bytes.Compare(r.Start, r.End) >= 0 {
			return nil, fmt.Errorf("ingest into empty range [%x, %x)", r.Start, r.End)
		}
	}
	if len(ranges) == 0 {
		return nil, errors.New("ingest into no range")
	}
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b kv.KeyRange) int { return bytes.Compare(a.Start, b.Start) })
	out := ranges[:1]
	for _, r := range ranges[1:] {
		last := &out[len(out)-1]
		if len(last.End) > 0 && bytes.Compare(last.End, r.Start) < 0 {
			out = append(out, r)
		} else if len(last.End) > 0 && (len(r.End) == 0 || bytes.Compare(r.End, last.End) > 0) {
			last.End = r.End
		}
	}
	return out, nil
}

func (e *Engine) writeTombstone(path string, s span) error {
	w, err := e.newSST(path)
	if err != nil {
		return err
	}
	if err := errors.Join(w.DeleteRange(s.start, s.end), w.Close()); err != nil {
		return fmt.Errorf("write tombstone table %s: %w", path, err)
	}
	return nil
}

func (e *Engine) writeMeta(path string, meta []MetaPut) error {
	meta = slices.Clone(meta)
	slices.SortFunc(meta, func(a, b MetaPut) int { return bytes.Compare(a.Key, b.Key) })
	w, err := e.newSST(path)
	if err != nil {
		return err
	}
	for _, m := range meta {
		if m.Value == nil {
			err = errors.Join(err, w.Delete(metaKey(m.Key)))
		} else {
			err = errors.Join(err, w.Set(metaKey(m.Key), m.Value))
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write meta table %s: %w", path, err)
	}
	return nil
}
