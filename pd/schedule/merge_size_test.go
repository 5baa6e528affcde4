package schedule

import (
	"context"
	"testing"
	"time"
)

// TestMergesStayBelowTheSplitSize: regions that stores would split again are not
// merged, though the settings know of larger ones; nor are those whose size
// nobody has measured.
func TestMergesStayBelowTheSplitSize(t *testing.T) {
	for _, c := range []struct {
		name        string
		sizes       [2]uint64 // MiB
		splitMiB    uint64    // what the stores say
		mergeMiB    int
		wantOperate bool
	}{
		{"small by the settings", [2]uint64{8, 8}, 0, 0, true},
		{"split again at once", [2]uint64{8, 8}, 12, 0, false},
		{"just below the size", [2]uint64{4, 7}, 12, 0, true},
		{"too large to be small", [2]uint64{5, 6}, 12, 0, false},
		{"stores with large regions", [2]uint64{50, 93}, 1024, 0, true},
		{"the settings still count", [2]uint64{50, 95}, 1024, 0, false},
		{"small by a setting alone", [2]uint64{70, 50}, 144, 80, true},
		{"source not measured", [2]uint64{0, 8}, 0, 0, false},
		{"target not measured", [2]uint64{8, 0}, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t)
			for id := uint64(1); id <= 3; id++ {
				s.addStore(id)
			}
			if c.mergeMiB > 0 {
				s.options.MaxMergeRegionMiB = c.mergeMiB
			}
			s.addRegion(1, "", "m", []uint64{1, 2, 3})
			s.addRegion(2, "m", "", []uint64{1, 2, 3})
			s.sizes[1], s.sizes[2] = c.sizes[0], c.sizes[1]
			s.now = s.now.Add(2 * time.Hour)
			s.report(1)
			s.report(2)
			s.ctl.LimitRegionBytes(c.splitMiB << 20)
			r := s.regions.ByID(1)
			if ops := s.ctl.checkMerge(context.Background(), r, s.ctl.Fit(r)); (len(ops) == 2) != c.wantOperate {
				t.Fatalf("operators %v", ops)
			}
		})
	}
}
