package schedule

import (
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/placement"
)

// BenchmarkFit is what one region costs each round of the patrol.
func BenchmarkFit(b *testing.B) {
	for _, labels := range [][]string{nil, {"zone", "rack", "host"}} {
		b.Run(fmt.Sprintf("labels=%d", len(labels)), func(b *testing.B) {
			s := newSim(b)
			for i := 1; i <= 200; i++ {
				s.addStore(uint64(i))
				s.stores.Get(uint64(i)).Meta.Labels = []*metapb.StoreLabel{{Key: "zone", Value: fmt.Sprint(i % 5)},
					{Key: "rack", Value: fmt.Sprint(i % 20)}, {Key: "host", Value: fmt.Sprint(i)}}
			}
			if err := s.rules.SetDefault(b.Context(), 3, labels, ""); err != nil {
				b.Fatal(err)
			}
			s.addRegion(1, "", "", []uint64{1, 2, 3})
			s.report(1)
			r := s.regions.ByID(1)
			b.ReportAllocs()
			for b.Loop() {
				if fit := s.rules.Fit(s.stores, r, placement.When{Now: s.now, MaxDown: defaultMaxStoreDownTime}); !fit.Satisfied() {
					b.Fatal("not satisfied")
				}
			}
		})
	}
}

// BenchmarkCheck is all that the patrol does for a region that needs nothing.
func BenchmarkCheck(b *testing.B) {
	s := newSim(b)
	for i := 1; i <= 3; i++ {
		s.addStore(uint64(i))
	}
	s.addRegion(1, "", "", []uint64{1, 2, 3})
	s.report(1)
	s.now = s.now.Add(2 * defaultSplitMergeInterval)
	s.round()
	r := s.regions.ByID(1)
	b.ReportAllocs()
	for b.Loop() {
		if ops := s.ctl.check(b.Context(), r, s.ctl.Fit(r)); ops != nil {
			b.Fatal(ops)
		}
	}
}
