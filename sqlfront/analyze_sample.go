package sqlfront

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

const (
	// sampleRows is how many rows ANALYZE looks at closely.
	sampleRows = 12_800
	// sampleValueBytesMax bounds a value in the statistics; a column with longer
	// ones in the sample has none.
	sampleValueBytesMax = 128
	// statsCommonMax and statsValuesMax are the most frequent values and quantiles
	// that are kept of a column.
	statsCommonMax = 32
	statsValuesMax = 128
	// commonTimesMin is how often a value must be in the sample, and
	// commonOverAverage how much more often than the average one, to count as a
	// frequent one.
	commonTimesMin    = 4
	commonOverAverage = 1.25
)

// rowSample draws rows uniformly (Vitter's reservoir with Li's skips, "algorithm
// L"), and keeps their values as keys.
type rowSample struct {
	table *catalog.Table
	rnd   *rand.Rand
	rows  int
	next  int64   // the next row to take
	w     float64 // of algorithm L
	keys  [][][]byte
	long  []bool
}

func newRowSample(t *catalog.Table) *rowSample {
	return &rowSample{
		table: t, rnd: rand.New(rand.NewPCG(uint64(t.ID), sampleRows)), w: 1,
		keys: make([][][]byte, len(t.Columns)), long: make([]bool, len(t.Columns)),
	}
}

// add takes those of n rows, the first of which is row first, that are drawn.
func (s *rowSample) add(cols []arrow.Array, first int64, n int) error {
	var vecs []colvec.Vec
	for s.next < first+int64(n) {
		if vecs == nil {
			vecs = make([]colvec.Vec, len(s.keys))
			for c := range vecs {
				vecs[c] = colvec.Open(cols[c], s.table.Columns[c].Type)
			}
		}
		at := s.rows
		if at == sampleRows {
			at = s.rnd.IntN(sampleRows)
		} else {
			s.rows++
		}
		if err := s.take(vecs, int(s.next-first), at); err != nil {
			return err
		}
		s.skip()
	}
	return nil
}

// skip finds the next row to take.
func (s *rowSample) skip() {
	s.next++
	if s.rows < sampleRows {
		return
	}
	s.w *= math.Exp(math.Log(1-s.rnd.Float64()) / sampleRows)
	s.next += int64(math.Log(1-s.rnd.Float64()) / math.Log1p(-s.w))
}

func (s *rowSample) take(vecs []colvec.Vec, row, at int) error {
	for c := range vecs {
		var key []byte
		if !vecs[c].IsNull(row) && !s.long[c] {
			var err error
			if key, err = tablecodec.AppendVec(nil, tablecodec.IndexColumn(s.table.Columns[c].Type, false), &vecs[c], row); err != nil {
				return err
			}
			s.long[c] = len(key) > sampleValueBytesMax
		}
		if at == len(s.keys[c]) {
			s.keys[c] = append(s.keys[c], key)
		} else {
			s.keys[c][at] = key
		}
	}
	return nil
}

// stats sums the sample up. It may be called once.
func (s *rowSample) stats() map[uint32]*catalog.ColumnStats {
	out := map[uint32]*catalog.ColumnStats{}
	for c, keys := range s.keys {
		if !s.long[c] && len(keys) > 0 {
			out[s.table.Columns[c].ID] = columnStats(keys)
		}
	}
	return out
}

// columnStats sorts keys, nil ones being NULL.
func columnStats(keys [][]byte) *catalog.ColumnStats {
	all := float64(len(keys))
	keys = slices.DeleteFunc(keys, func(k []byte) bool { return k == nil })
	slices.SortFunc(keys, bytes.Compare)
	st := &catalog.ColumnStats{NullFrac: (all - float64(len(keys))) / all}
	type run struct{ from, to int }
	var runs []run
	for i := 0; i < len(keys); {
		j := i + 1
		for j < len(keys) && bytes.Equal(keys[j], keys[i]) {
			j++
		}
		runs = append(runs, run{i, j})
		i = j
	}
	average := float64(len(keys)) / float64(max(len(runs), 1))
	often := slices.Clone(runs)
	slices.SortStableFunc(often, func(a, b run) int { return (b.to - b.from) - (a.to - a.from) })
	if len(often) > statsCommonMax {
		often = often[:statsCommonMax]
		often = slices.DeleteFunc(often, func(r run) bool {
			n := r.to - r.from
			return n < commonTimesMin || float64(n) < commonOverAverage*average
		})
	} else {
		often = slices.DeleteFunc(often, func(r run) bool { return r.to-r.from < commonTimesMin })
	}
	common := map[int]bool{}
	for _, r := range often {
		st.Common = append(st.Common, catalog.CommonValue{Key: keys[r.from], Frac: float64(r.to-r.from) / all})
		common[r.from] = true
	}
	var rest [][]byte
	for _, r := range runs {
		if !common[r.from] {
			rest = append(rest, keys[r.from:r.to]...)
		}
	}
	n := min(len(rest), statsValuesMax)
	for i := range n {
		st.Values = append(st.Values, rest[(2*i+1)*len(rest)/(2*n)])
	}
	return st
}
