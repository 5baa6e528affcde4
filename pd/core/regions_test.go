package core

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"pgregory.net/rapid"
)

func region(id, version, confVer uint64, start, end string, stores ...uint64) *Region {
	m := &metapb.Region{Id: id, StartKey: []byte(start), EndKey: []byte(end),
		RegionEpoch: &metapb.RegionEpoch{Version: version, ConfVer: confVer}}
	for _, s := range stores {
		m.Peers = append(m.Peers, &metapb.Peer{Id: id*100 + s, StoreId: s})
	}
	r := &Region{Meta: m}
	if len(m.Peers) > 0 {
		r.Leader = m.Peers[0]
	}
	return r
}

func TestPutSplitAndStale(t *testing.T) {
	rs := NewRegions()
	put := func(r *Region) Change {
		t.Helper()
		ch, err := rs.Put(r)
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	put(region(1, 1, 1, "", "", 1))
	if ch := put(region(2, 2, 1, "m", "", 1)); !slices.Equal(ch.Removed, []uint64{1}) {
		t.Fatalf("the right half removed %v", ch.Removed)
	}
	if rs.ByKey([]byte("a")) != nil {
		t.Fatal("the left half is not reported yet")
	}
	if _, err := rs.Put(region(1, 1, 9, "", "", 1)); !errors.Is(err, ErrStale) {
		t.Fatalf("the region before the split came back: %v", err)
	}
	put(region(1, 2, 1, "", "m", 1))
	if rs.ByKey([]byte("a")).ID() != 1 || rs.ByKey([]byte("m")).ID() != 2 {
		t.Fatal("lookup after the split")
	}
	if p := rs.Prev([]byte("z")); p == nil || p.ID() != 1 {
		t.Fatalf("prev of region 2 is %v", p)
	}
	if rs.Prev([]byte("a")) != nil {
		t.Fatal("the first region has no prev")
	}
	if _, err := rs.Put(region(2, 2, 0, "m", "", 1)); !errors.Is(err, ErrStale) {
		t.Fatalf("an older conf_ver: %v", err)
	}
	if ch := put(region(2, 2, 1, "m", "", 1)); ch.Meta || ch.Leader {
		t.Fatalf("nothing changed, but: %+v", ch)
	}
	if ch := put(region(2, 2, 2, "m", "", 2, 1)); !ch.Meta || !ch.Leader {
		t.Fatalf("peers and leader changed, but: %+v", ch)
	}
	if n := rs.StoreCounts(2); n.Leaders != 1 || n.Peers != 1 {
		t.Fatalf("store 2: %+v", n)
	}
}

// TestRegionsAgainstAModel puts random reports; the tree never has overlaps,
// agrees with a scan over all regions, and the counts agree with the regions.
func TestRegionsAgainstAModel(t *testing.T) {
	keys := []string{"", "b", "c", "d", "e", "f", "g", "h"}
	rapid.Check(t, func(t *rapid.T) {
		rs := NewRegions()
		for i := range rapid.IntRange(1, 80).Draw(t, "puts") {
			a := rapid.IntRange(0, len(keys)-1).Draw(t, "start")
			b := rapid.IntRange(a+1, len(keys)).Draw(t, "end")
			end := ""
			if b < len(keys) {
				end = keys[b]
			}
			r := region(rapid.Uint64Range(1, 6).Draw(t, "id"), rapid.Uint64Range(1, 10).Draw(t, "version"),
				rapid.Uint64Range(1, 3).Draw(t, "conf"), keys[a], end, rapid.SampledFrom([][]uint64{{1}, {1, 2}, {3, 2, 1}}).Draw(t, "stores")...)
			r.SizeBytes = uint64(rapid.IntRange(0, 3).Draw(t, "size")) << 20
			r.Leader = rapid.SampledFrom(r.Meta.Peers).Draw(t, "leader")
			if rapid.Bool().Draw(t, "pending") {
				r.Pending = r.Meta.Peers[:1]
			}
			if rapid.Bool().Draw(t, "reported") {
				r.ReportedAt = time.Unix(1, 0)
			}
			before := rs.Scan(nil, nil, 0)
			ch, err := rs.Put(r)
			if err != nil {
				if !errors.Is(err, ErrStale) || !slices.Equal(before, rs.Scan(nil, nil, 0)) {
					t.Fatalf("put %d: %v", i, err)
				}
				continue
			}
			for _, id := range ch.Removed {
				if rs.ByID(id) != nil {
					t.Fatalf("put %d: region %d was removed and is there", i, id)
				}
			}
			checkRegions(t, rs)
		}
	})
}

type fataler interface{ Fatalf(string, ...any) }

func checkRegions(t fataler, rs *Regions) {
	all := rs.Scan(nil, nil, 0)
	if len(all) != rs.Len() {
		t.Fatalf("%d in the tree, %d by id", len(all), rs.Len())
	}
	counts, reported := map[uint64]Counts{}, 0
	for i, r := range all {
		if !r.ReportedAt.IsZero() {
			reported++
		}
		if rs.ByID(r.ID()) != r || rs.ByKey(r.Meta.StartKey) != r {
			t.Fatalf("region %d is not found", r.ID())
		}
		if i > 0 {
			prev := all[i-1].Meta
			if len(prev.EndKey) == 0 || bytes.Compare(prev.EndKey, r.Meta.StartKey) > 0 {
				t.Fatalf("%v overlaps %v", prev, r.Meta)
			}
		}
		for _, p := range r.Meta.Peers {
			c := counts[p.StoreId]
			c.Peers++
			c.PeerBytes += max(r.SizeBytes, regionBytesMin)
			if r.IsPending(p.Id) {
				c.Pending++
			}
			if r.Leader.Id == p.Id {
				c.Leaders++
				c.LeaderBytes += max(r.SizeBytes, regionBytesMin)
			}
			counts[p.StoreId] = c
		}
	}
	for s := uint64(1); s <= 3; s++ {
		if got := rs.StoreCounts(s); got != counts[s] {
			t.Fatalf("store %d: counted %+v, is %+v", s, got, counts[s])
		}
		if n := len(rs.StoreRegions(s)); n != counts[s].Peers {
			t.Fatalf("store %d: %d regions are listed, %d are there", s, n, counts[s].Peers)
		}
		if n := len(rs.StoreLeaders(s)); n != counts[s].Leaders {
			t.Fatalf("store %d: %d leaders are listed, %d are there", s, n, counts[s].Leaders)
		}
		for _, r := range rs.Sample(s, Leaders, 3, rand.New(rand.NewPCG(1, s))) {
			if r.Leader.StoreId != s {
				t.Fatalf("store %d leads region %d by its list, store %d by the region", s, r.ID(), r.Leader.StoreId)
			}
		}
	}
	if rs.Reported() != reported {
		t.Fatalf("%d regions are counted as reported, %d were", rs.Reported(), reported)
	}
}

// TestConcurrentReports lets reports of all kinds and readers meet; afterwards
// tree, lists and figures agree.
func TestConcurrentReports(t *testing.T) {
	rs := NewRegions()
	const ids, workers, puts = 40, 4, 4000
	var wg sync.WaitGroup
	for w := range uint64(workers) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, w))
			for i := range uint64(puts) {
				id := 1 + rnd.Uint64N(ids)
				// Regions change their ranges, peers, leaders and sizes as they like; mostly
				// sizes.
				version := 1 + i/50
				start, end := (id+version)%ids, (id+version)%ids+1+rnd.Uint64N(40)/39
				r := region(id, version, version, fmt.Sprintf("%04d", start), fmt.Sprintf("%04d", end), 1+version%2, 3+(id+version)%2)
				r.SizeBytes, r.Leader = rnd.Uint64N(1<<30), r.Meta.Peers[rnd.IntN(100)/99]
				if rnd.IntN(2) == 0 {
					r.Pending = r.Meta.Peers[:1]
				}
				if _, err := rs.Put(r); err != nil && !errors.Is(err, ErrStale) {
					t.Error(err)
				}
				rs.ByKey(r.Meta.StartKey)
				rs.Sample(1, Peers, 2, rnd)
				rs.Scan(nil, nil, 10)
				rs.StoreCounts(1)
			}
		})
	}
	wg.Wait()
	if rs.Len() == 0 {
		t.Fatal("no region is left")
	}
	checkRegions(t, rs)
}

// TestScanLong scans more than one chunk.
func TestScanLong(t *testing.T) {
	rs := NewRegions()
	const n = 2*scanChunkRegionsMax + 10
	key := func(i int) string { return fmt.Sprintf("%06d", i) }
	for i := range n {
		if _, err := rs.Put(region(uint64(i+1), 1, 1, key(i), key(i+1), 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ from, to, limit, want int }{
		{0, n, 0, n}, {5, n, 0, n - 5}, {5, scanChunkRegionsMax + 5, 0, scanChunkRegionsMax},
		{5, scanChunkRegionsMax + 6, 0, scanChunkRegionsMax + 1}, {0, n, scanChunkRegionsMax, scanChunkRegionsMax},
		{0, n, scanChunkRegionsMax + 1, scanChunkRegionsMax + 1}, {7, 8, 0, 1},
	} {
		got := rs.Scan([]byte(key(c.from)), []byte(key(c.to)), c.limit)
		if len(got) != c.want || string(got[0].Meta.StartKey) != key(c.from) {
			t.Errorf("%+v: %d regions from %q on", c, len(got), got[0].Meta.StartKey)
		}
		for i, r := range got {
			if string(r.Meta.StartKey) != key(c.from+i) {
				t.Fatalf("%+v: region %d starts at %q", c, i, r.Meta.StartKey)
			}
		}
	}
}

// TestRefreshSharesMeta keeps one copy of what does not change.
func TestRefreshSharesMeta(t *testing.T) {
	rs := NewRegions()
	first := region(1, 1, 1, "a", "b", 1, 2, 3)
	if _, err := rs.Put(first); err != nil {
		t.Fatal(err)
	}
	meta := first.Meta
	again := region(1, 1, 1, "a", "b", 1, 2, 3)
	again.SizeBytes = 7 << 20
	if ch, err := rs.Put(again); err != nil || ch.Meta || ch.Leader {
		t.Fatal(ch, err)
	}
	if got := rs.ByID(1); got.Meta != meta || got.SizeBytes != 7<<20 || rs.StoreCounts(2).PeerBytes != 7<<20 {
		t.Fatalf("%+v", got)
	}
}

func TestRegionScore(t *testing.T) {
	for _, c := range []struct {
		why                         string
		sizeA, capA, freeA, weightA float64
		sizeB, capB, freeB, weightB float64
		less                        bool
	}{
		{"more data scores more", 100, 1000, 900, 1, 200, 1000, 800, 1, true},
		{"no capacity known: by size", 100, 0, 0, 1, 200, 0, 0, 1, true},
		{"a larger disk takes more", 1000, 2000, 1500, 1, 1000, 1000, 500, 1, true},
		{"little space beats any size", 1 << 20, 4000, 2000, 1, 1000, 1000, 20, 1, true},
		{"a weight of 2 takes twice as much", 199, 1000, 900, 2, 100, 1000, 900, 1, true},
		{"a weight of 2 takes not more than twice as much", 201, 1000, 900, 2, 100, 1000, 900, 1, false},
		{"a small disk that is half full is not low on space", 10, 20, 10, 1, 20, 20, 9.9, 1, true},
		{"stores that share a full disk are told apart by size", 10, 100, 10.3, 1, 20, 100, 10.7, 1, true},
	} {
		a, b := RegionScore(c.sizeA, c.capA, c.freeA, c.weightA), RegionScore(c.sizeB, c.capB, c.freeB, c.weightB)
		if (a < b) != c.less {
			t.Errorf("%s: %g and %g", c.why, a, b)
		}
	}
	// Two points of PD's own formula, by hand.
	if got := RegionScore(1000, 1000, 900, 1); math.Abs(got-(1+256*(math.Log(1000)-math.Log(851))/149)*1000) > 1e-6 {
		t.Errorf("much space: %g", got)
	}
	if got := RegionScore(1000, 1000, 30, 1); math.Abs(got-((1+256*math.Log(1000)/1000)*1000+1e7*20/50)) > 1e-6 {
		t.Errorf("low space: %g", got)
	}
	if LeaderScore(10, 2) != 5 || LeaderScore(10, 0) != 10 {
		t.Error("leader score")
	}
}

func TestPauseLeadersOutlivesReports(t *testing.T) {
	ss := NewStores()
	if ss.PauseLeaders(1, LeadersIn) {
		t.Fatal("an unknown store was paused")
	}
	ss.Put(&Store{Meta: &metapb.Store{Id: 1}})
	ss.PauseLeaders(1, LeadersIn)
	ss.Put(&Store{Meta: &metapb.Store{Id: 1}})
	if !ss.Get(1).LeadersPaused(LeadersIn) || ss.Get(1).LeadersPaused(LeadersOut) {
		t.Fatal("the pause is gone with a report")
	}
	ss.ResumeLeaders(1, LeadersIn)
	if ss.Get(1).LeadersPaused(LeadersIn) {
		t.Fatal("still paused")
	}
}

func TestCheckMeta(t *testing.T) {
	bad := []*metapb.Region{
		nil, {}, {Id: 1}, {Id: 1, RegionEpoch: &metapb.RegionEpoch{}},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{nil}},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{{Id: 1}}},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{{Id: 1, StoreId: 1}}, StartKey: []byte("b"), EndKey: []byte("a")},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{{Id: 1, StoreId: 1}, {Id: 2, StoreId: 1}}},
		{Id: 1, RegionEpoch: &metapb.RegionEpoch{}, Peers: []*metapb.Peer{{Id: 1, StoreId: 1}, {Id: 1, StoreId: 2}}},
	}
	for i, m := range bad {
		if CheckMeta(m) == nil {
			t.Errorf("case %d: %v was taken", i, m)
		}
	}
}

// TestReportWithoutFigures has a split told after the new region's own first
// heartbeat.
func TestReportWithoutFigures(t *testing.T) {
	rs := NewRegions()
	hb := region(1, 2, 1, "a", "b", 1, 2, 3)
	hb.SizeBytes, hb.ReportedAt = 9<<20, time.Unix(1, 0)
	for _, r := range []*Region{hb, region(1, 2, 1, "a", "b", 1, 2, 3)} {
		if _, err := rs.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := rs.ByID(1); got.SizeBytes != 9<<20 || rs.Reported() != 1 || rs.StoreCounts(1).PeerBytes != 9<<20 {
		t.Fatalf("%+v", got)
	}
}

// TestSizeThatIsNotKnown: a new leader has not measured its region yet, and
// reports 0. What is known stays, as long as the range does.
func TestSizeThatIsNotKnown(t *testing.T) {
	rs := NewRegions()
	put := func(version, leader, size uint64, want uint64) {
		t.Helper()
		r := &Region{ReportedAt: time.Unix(1, 0), SizeBytes: size, Leader: &metapb.Peer{Id: leader, StoreId: leader},
			Meta: &metapb.Region{Id: 1, RegionEpoch: &metapb.RegionEpoch{Version: version, ConfVer: 1},
				Peers: []*metapb.Peer{{Id: 1, StoreId: 1}, {Id: 2, StoreId: 2}}}}
		if _, err := rs.Put(r); err != nil {
			t.Fatal(err)
		}
		if got := rs.ByID(1).SizeBytes; got != want {
			t.Fatalf("size %d, want %d", got, want)
		}
		n := uint64(0)
		for id := uint64(1); id <= 2; id++ {
			n += rs.StoreCounts(id).PeerBytes
		}
		if n != 2*rs.ByID(1).ScoreBytes() {
			t.Fatalf("the stores have %d bytes", n)
		}
	}
	put(1, 1, 0, 0)
	put(1, 1, 50<<20, 50<<20)
	put(1, 1, 0, 50<<20)
	put(1, 2, 0, 50<<20)
	put(2, 2, 0, 0) // split or merged: it has another range
	put(2, 2, 7<<20, 7<<20)
}
