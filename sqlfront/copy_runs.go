package sqlfront

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
)

// removedStore is a store that holds nothing any more.
const removedStore = metapb.NodeState_Removed

// bulkIngestStall is how long ingestion may go on without a single table going
// in before it gives up.
const bulkIngestStall = time.Minute

// errRegionUnknown: a region has just split, and PD has not heard of all parts.
var errRegionUnknown = errors.New("PD knows no region for a key of a table")

// sortRun sorts a run by key; of equal keys the first in the input comes first.
func sortRun(run []entry) {
	slices.SortStableFunc(run, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
}

// disjoint returns the tables of all spaces, in order and without overlap.
func (b *bulkCopy) disjoint() ([]bulkload.Table, error) {
	var out []bulkload.Table
	names := make([]string, 0, len(b.spaces))
	for name := range b.spaces {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		sp := b.spaces[name]
		slices.SortFunc(sp.samples, bytes.Compare)
		for _, cluster := range clusters(sp.tables) {
			if len(cluster) == 1 {
				out = append(out, cluster...)
				continue
			}
			merged, err := b.merge(cluster, sp.samples)
			if err != nil {
				return nil, b.duplicate(err)
			}
			out = append(out, merged...)
		}
	}
	sortTables(out)
	return out, nil
}

func sortTables(list []bulkload.Table) {
	slices.SortFunc(list, func(a, b bulkload.Table) int { return bytes.Compare(a.First, b.First) })
}

// clusters groups tables that overlap, in order.
func clusters(tables []bulkload.Table) [][]bulkload.Table {
	sortTables(tables)
	var out [][]bulkload.Table
	var last []byte
	for _, t := range tables {
		if n := len(out); n > 0 && bytes.Compare(t.First, last) <= 0 {
			out[n-1] = append(out[n-1], t)
			if bytes.Compare(t.Last, last) > 0 {
				last = t.Last
			}
			continue
		}
		out, last = append(out, []bulkload.Table{t}), t.Last
	}
	return out
}

// merge makes overlapping tables disjoint. Very many are merged in groups first,
// whose results overlap less.
func (b *bulkCopy) merge(tables []bulkload.Table, samples [][]byte) ([]bulkload.Table, error) {
	if len(tables) > bulkMergeTablesMax {
		var grouped []bulkload.Table
		for group := range slices.Chunk(tables, bulkMergeTablesMax) {
			part, err := b.mergeParts(group, samples)
			if err != nil {
				return nil, err
			}
			grouped = append(grouped, part...)
		}
		tables = grouped
	}
	return b.mergeParts(tables, samples)
}

// mergeParts merges the parts between bounds in parallel.
func (b *bulkCopy) mergeParts(tables []bulkload.Table, samples [][]byte) ([]bulkload.Table, error) {
	bounds := mergeBounds(tables, samples, b.runBytes)
	parts := make([][]bulkload.Table, len(bounds)+1)
	g, ctx := errgroup.WithContext(b.c.ctx)
	g.SetLimit(bulkMergersMax)
	for i := range parts {
		var lower, upper []byte
		if i > 0 {
			lower = bounds[i-1]
		}
		if i < len(bounds) {
			upper = bounds[i]
		}
		in := slices.DeleteFunc(slices.Clone(tables), func(t bulkload.Table) bool {
			return lower != nil && bytes.Compare(t.Last, lower) < 0 || upper != nil && bytes.Compare(t.First, upper) >= 0
		})
		g.Go(func() (err error) {
			parts[i], err = b.job.Merge(ctx, in, lower, upper, b.runBytes)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	b.job.Drop(tables)
	return slices.Concat(parts...), nil
}

// mergeBounds cuts the keys of tables into parts of about partBytes.
func mergeBounds(tables []bulkload.Table, samples [][]byte, partBytes int64) [][]byte {
	var total int64
	first, last := tables[0].First, tables[0].Last
	for _, t := range tables {
		total += t.Bytes
		if bytes.Compare(t.Last, last) > 0 {
			last = t.Last
		}
	}
	inside := slices.DeleteFunc(slices.Clone(samples), func(k []byte) bool {
		return bytes.Compare(k, first) <= 0 || bytes.Compare(k, last) > 0
	})
	inside = slices.CompactFunc(inside, bytes.Equal)
	parts := int(total/partBytes) + 1
	var out [][]byte
	for i := 1; i < parts; i++ {
		if at := i * len(inside) / parts; at > 0 && (len(out) == 0 || !bytes.Equal(out[len(out)-1], inside[at])) {
			out = append(out, inside[at])
		}
	}
	return out
}

// splitKeys are where the regions of the new table begin, and its end.
func (b *bulkCopy) splitKeys(tables []bulkload.Table) [][]byte {
	r := tablecodec.TableRange(b.target.tableID)
	keys := [][]byte{r.Start}
	var size int64
	for _, t := range tables {
		if size > 0 && size+t.Bytes/2 > bulkRegionBytes {
			keys, size = append(keys, t.First[len(b.keyspace):]), 0
		}
		size += t.Bytes
	}
	return append(keys, r.End)
}

// ingest gives the tables to the regions.
func (b *bulkCopy) ingest(tables []bulkload.Table) error {
	db := b.c.s.db
	id := b.target.tableID
	if _, err := db.kv.SplitRegions(b.c.ctx, b.splitKeys(tables), true, &id); err != nil {
		db.log.Warn("splitting the regions of a table failed; COPY goes on in those that there are", "table", b.c.table.Name, "error", err)
	}
	moved := time.Now()
	for try := 0; len(tables) > 0; try++ {
		left, some, err := b.ingestOnce(tables)
		switch {
		case some:
			moved, try = time.Now(), 0
		case err != nil && kv.AsRegionError(err) == nil && !errors.Is(err, errRegionUnknown):
			return err
		case time.Since(moved) > bulkIngestStall:
			return pgerror.New(pgerror.ObjectNotInPrerequisiteState, "COPY could not load into its regions for %s: %v", bulkIngestStall, err).
				WithHint("See with \"copra ctl region\" why the regions have no leader, or why replicas keep moving.")
		}
		tables = left
		if len(tables) > 0 {
			if err := pause(b.c.ctx, try+3); err != nil {
				return err
			}
		}
	}
	return nil
}

// regionTables are tables for one region.
type regionTables struct {
	region *metapb.Region
	tables []bulkload.Table
}

// ingestOnce tries all tables once and returns those that did not go in, whether
// some did, and the last reason.
func (b *bulkCopy) ingestOnce(tables []bulkload.Table) (left []bulkload.Table, some bool, err error) {
	groups, tables, err := b.locate(tables, b.regionOf)
	if err != nil {
		return tables, false, err
	}
	errs := make([]error, len(groups))
	g, ctx := errgroup.WithContext(b.c.ctx)
	g.SetLimit(bulkMergersMax)
	for i, group := range groups {
		g.Go(func() error {
			errs[i] = b.job.Ingest(ctx, group.region, group.tables)
			if errs[i] != nil && kv.AsRegionError(errs[i]) == nil {
				return errs[i]
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return tables, false, err
	}
	for i, group := range groups {
		if errs[i] != nil {
			left = append(left, group.tables...)
			err = errs[i]
		} else {
			b.job.Drop(group.tables)
			some = true
		}
	}
	return left, some, err
}

// regionOf asks PD for the region of a key.
func (b *bulkCopy) regionOf(key []byte) (*metapb.Region, error) {
	r, err := b.c.s.db.kv.GetPDClient().GetRegion(b.c.ctx, key)
	if err == nil && (r == nil || r.Meta == nil) {
		err = errRegionUnknown
	}
	if err != nil {
		return nil, err
	}
	return r.Meta, nil
}

// locate groups tables, which are in order, by region. A table that lies in more
// than one is cut: all are the tables as they are then, also after an error.
func (b *bulkCopy) locate(tables []bulkload.Table, regionOf func(key []byte) (*metapb.Region, error)) (out []regionTables, all []bulkload.Table, err error) {
	all = slices.Clone(tables)
	for done := 0; done < len(all); {
		rest := all[done:]
		region, err := regionOf(rest[0].First[len(b.keyspace):])
		if err != nil {
			return nil, all, err
		}
		end := region.GetEndKey()
		fits := 0
		for fits < len(rest) && (len(end) == 0 || string(rest[fits].Last[len(b.keyspace):]) < string(end)) {
			fits++
		}
		if fits == 0 {
			cut, err := b.cutFirst(b.c.ctx, rest, append(slices.Clone(b.keyspace), end...))
			if err != nil {
				return nil, all, err
			}
			all = slices.Concat(all[:done], cut)
			continue
		}
		out = append(out, regionTables{region, slices.Clone(rest[:fits])})
		done += fits
	}
	return out, all, nil
}

// cutFirst cuts the first table at a key.
func (b *bulkCopy) cutFirst(ctx context.Context, list []bulkload.Table, at []byte) ([]bulkload.Table, error) {
	left, err := b.job.Merge(ctx, list[:1], nil, at, b.runBytes)
	if err != nil {
		return nil, err
	}
	right, err := b.job.Merge(ctx, list[:1], at, nil, b.runBytes)
	if err != nil {
		return nil, err
	}
	b.job.Drop(list[:1])
	return slices.Concat(left, right, list[1:]), nil
}
